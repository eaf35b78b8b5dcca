package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// The lengths, in lines. A function's are those between its braces.
const (
	maxFile     = 500
	maxFunction = 70
	maxMain     = 40
)

// clock are the functions of package time that look at the clock or wait for it.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// TopLevel reports what the root of the repository holds beyond its fixed list. Names that start with a
// dot are free; what git ignores (bin, data) should not be passed.
func TopLevel(names []string) []string {
	want := []string{"LICENSE", "Makefile", "README.md", "appliance", "go.mod", "go.sum", "main.go", "scripts", "wal", "web"}
	var bad []string
	for _, n := range names {
		if !strings.HasPrefix(n, ".") && !slices.Contains(want, n) {
			bad = append(bad, n+" does not belong to the top level of the repository")
		}
	}
	for _, n := range want {
		if !slices.Contains(names, n) {
			bad = append(bad, n+" is missing from the top level of the repository")
		}
	}
	return bad
}

// File reports what is wrong with one Go file, whose name is relative to the root: lengths, an init
// function, and a look at the clock in a pure package. Generated files have no limit.
func File(name string, src []byte) []string {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	if ast.IsGenerated(f) {
		return nil
	}
	var bad []string
	limit := maxFile
	if name == "main.go" {
		limit = maxMain
	}
	if n := fset.File(f.Pos()).LineCount(); n > limit {
		bad = append(bad, fmt.Sprintf("%s has %d lines; the limit is %d", name, n, limit))
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			bad = append(bad, function(fset, fn, strings.HasSuffix(name, "_test.go"))...)
		}
	}
	dir := name[:max(strings.LastIndexByte(name, '/'), 0)]
	if slices.Contains(pure, dir) && !strings.HasSuffix(name, "_test.go") {
		bad = append(bad, clockReads(fset, f)...)
	}
	return bad
}

func function(fset *token.FileSet, fn *ast.FuncDecl, test bool) []string {
	var bad []string
	if fn.Body != nil {
		lines := fset.Position(fn.Body.Rbrace).Line - fset.Position(fn.Body.Lbrace).Line - 1
		if test {
			lines -= tableRows(fset, fn.Body)
		}
		if lines > maxFunction {
			bad = append(bad, fmt.Sprintf("%s: %s has %d lines; the limit is %d", fset.Position(fn.Pos()), fn.Name.Name, lines, maxFunction))
		}
	}
	if fn.Name.Name == "init" && fn.Recv == nil {
		bad = append(bad, fmt.Sprintf("%s: init function; make the caller ask for it", fset.Position(fn.Pos())))
	}
	return bad
}

// tableRows counts the lines of a test's tables: a table is data, however long it is.
func tableRows(fset *token.FileSet, body *ast.BlockStmt) (lines int) {
	ast.Inspect(body, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if _, list := lit.Type.(*ast.ArrayType); list || lit.Type != nil && len(lit.Elts) > 2 {
			lines += fset.Position(lit.Rbrace).Line - fset.Position(lit.Lbrace).Line
		}
		return false
	})
	return lines
}

func clockReads(fset *token.FileSet, f *ast.File) []string {
	var bad []string
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				bad = append(bad, fmt.Sprintf("%s: time.%s in a pure package; take the time as an argument", fset.Position(n.Pos()), sel.Sel.Name))
			}
		}
		return true
	})
	return bad
}

// PackageDoc reports a package without exactly one doc comment. sources are the package's files
// without tests, by name.
func PackageDoc(importPath string, sources map[string][]byte) []string {
	var with []string
	for name, src := range sources {
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.PackageClauseOnly|parser.ParseComments)
		if err == nil && f.Doc != nil {
			with = append(with, name)
		}
	}
	slices.Sort(with)
	switch len(with) {
	case 1:
		return nil
	case 0:
		return []string{importPath + " has no package comment"}
	default:
		return []string{fmt.Sprintf("%s has %d package comments: %s", importPath, len(with), strings.Join(with, ", "))}
	}
}
