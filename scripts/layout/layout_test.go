package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// list is `go list` over the whole module.
func list(t *testing.T) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []Package
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if !slices.ContainsFunc(pkgs, func(p Package) bool { return p.ImportPath == module+"/appliance/message" }) {
		t.Fatalf("go list did not see the module: %v", pkgs)
	}
	return pkgs
}

func report(t *testing.T, bad []string) {
	t.Helper()
	for _, b := range bad {
		t.Error(b)
	}
}

func TestImportsFollowThePlan(t *testing.T) { report(t, Imports(list(t))) }

func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range list(t) {
		sources := map[string][]byte{}
		for _, f := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			sources[f] = src
		}
		if len(sources) > 0 {
			report(t, PackageDoc(p.ImportPath, sources))
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "bin" && e.Name() != "data" { // made by make, ignored by git
			names = append(names, e.Name())
		}
	}
	report(t, TopLevel(names))
}

func TestFilesAreShort(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		seen++
		report(t, File(rel, src))
		return err
	})
	if err != nil || seen < 10 {
		t.Fatalf("saw %d files: %v", seen, err)
	}
}

// TestImportsNoticesViolations shows the check one made-up violation of every kind.
func TestImportsNoticesViolations(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"edgepost", "edgepost/appliance/cli", true},
		{"edgepost", "edgepost/appliance", false},
		{"edgepost/appliance/cli", "edgepost/appliance", true},
		{"edgepost/appliance", "edgepost/web", true},
		{"edgepost/appliance/listener/httpapi", "edgepost/web", false},
		{"edgepost/appliance/cli", "edgepost/appliance/listener/ws", false},
		{"edgepost/appliance", "edgepost/appliance/listener/ws", true},
		{"edgepost/appliance", "edgepost/appliance/cli", false},
		{"edgepost/appliance/message", "strings", true},
		{"edgepost/appliance/message", "sync", false},
		{"edgepost/appliance/message", "sync/atomic", false},
		{"edgepost/appliance/message", "edgepost/appliance/codec", false},
		{"edgepost/appliance/codec", "edgepost/appliance/message", true},
		{"edgepost/appliance/codec", "net/http", false},
		{"edgepost/appliance/codec", "edgepost/appliance/system", false},
		{"edgepost/appliance/delivery", "edgepost/appliance/message", true},
		{"edgepost/appliance/delivery", "context", false},
		{"edgepost/appliance/delivery", "os", false},
		{"edgepost/appliance/outbox", "edgepost/wal", true},
		{"edgepost/appliance/outbox", "edgepost/appliance/courier", false},
		{"edgepost/appliance/courier", "edgepost/appliance/outbox", true},
		{"edgepost/appliance/courier", "edgepost/wal", false},
		{"edgepost/appliance/courier", "edgepost/appliance/listener/httpapi", false},
		{"edgepost/appliance/listener/ws", "edgepost/appliance/courier", true},
		{"edgepost/appliance/listener/ws", "edgepost/appliance/outbox", false},
		{"edgepost/appliance/listener/ws", "edgepost/appliance/listener/sse", false},
		{"edgepost/appliance/listener/ws", "edgepost/wal", false},
		{"edgepost/appliance/listener/mqtt", "edgepost/appliance/listener/mqtt/packet", true},
		{"edgepost/appliance/listener/mqtt", "edgepost/appliance/courier", true},
		{"edgepost/appliance/listener/mqtt", "edgepost/appliance/listener/ws", false},
		{"edgepost/appliance/listener/ws", "edgepost/appliance/listener/mqtt/packet", false},
		{"edgepost/appliance/listener/mqtt/packet", "unicode/utf8", true},
		{"edgepost/appliance/listener/mqtt/packet", "edgepost/appliance/message", false},
		{"edgepost/appliance/listener/mqtt/packet", "net", false},
		{"edgepost/appliance/bridge/kafka", "edgepost/appliance/listener/mqtt", false},
		{"edgepost/appliance/bridge/kafka", "edgepost/appliance/bridge/mqtt", false},
		{"edgepost/appliance/guard", "edgepost/appliance/guard/auth", true},
		{"edgepost/appliance/guard/ids", "edgepost/appliance/courier", false},
		{"edgepost/appliance/registry", "edgepost/appliance/guard/auth", true},
		{"edgepost/appliance/registry", "edgepost/appliance/listener/ws", false},
		{"edgepost/appliance/tune", "edgepost/appliance/message", false},
		{"edgepost/appliance/system", "edgepost/appliance/outbox", false},
		{"edgepost/wal", "github.com/tidwall/wal", true},
		{"edgepost/wal", "edgepost/appliance/message", false},
		{"edgepost/web", "embed", true},
		{"edgepost/web", "edgepost/appliance/message", false},
		{"edgepost/appliance/courier", "edgepost/scripts/layout", false},
		{"edgepost/appliance/types", "strings", false},
	} {
		t.Run(fmt.Sprintf("%s imports %s", c.from, c.to), func(t *testing.T) {
			bad := Imports([]Package{{ImportPath: c.from, Imports: []string{c.to}}})
			if c.ok != (len(bad) == 0) {
				t.Errorf("allowed = %v, want %v: %q", !c.ok, c.ok, bad)
			}
		})
	}
}

// TestFileChecksNoticeViolations does the same for the checks of files.
func TestFileChecksNoticeViolations(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	for _, c := range []struct {
		what string
		bad  []string
		want string
	}{
		{"file of 500 lines", File("wal/log.go", []byte("package wal"+lines(500))), ""},
		{"file of 501 lines", File("wal/log.go", []byte("package wal"+lines(501))), "has 501 lines"},
		{"main.go of 41 lines", File("main.go", []byte("package main"+lines(41))), "the limit is 40"},
		{"generated file", File("wal/x.go", []byte("// Code generated by x. DO NOT EDIT.\n\npackage wal"+lines(600))), ""},
		{"function of 70 lines", File("wal/log.go", []byte("package wal\nfunc f() {\n"+lines(70)+"}")), ""},
		{"function of 71 lines", File("wal/log.go", []byte("package wal\nfunc f() {\n"+lines(71)+"}")), "f has 71 lines"},
		{"test with a table", File("wal/log_test.go", []byte("package wal\nfunc f() {\nvar _ = []int{\n"+strings.Repeat("1,\n", 80)+"}\n}")), ""},
		{"test without a table", File("wal/log_test.go", []byte("package wal\nfunc f() {\n"+lines(71)+"}")), "f has 71 lines"},
		{"init", File("wal/log.go", []byte("package wal\nfunc init() {}")), "init function"},
		{"clock in a pure package", File("appliance/delivery/a.go", []byte("package delivery\nimport \"time\"\nvar _ = time.Now")), "time.Now"},
		{"clock elsewhere", File("wal/log.go", []byte("package wal\nimport \"time\"\nvar _ = time.Now")), ""},
		{"no syntax", File("wal/log.go", []byte("pakage wal")), "expected 'package'"},
		{"extra name at the top", TopLevel(append(top(), "docs")), "docs does not belong"},
		{"missing name at the top", TopLevel(top()[1:]), "LICENSE is missing"},
		{"top as planned", TopLevel(append(top(), ".ci")), ""},
		{"no doc", PackageDoc("p", map[string][]byte{"a.go": []byte("package p")}), "no package comment"},
		{"one doc", PackageDoc("p", map[string][]byte{"a.go": []byte("package p"), "doc.go": []byte("// P.\npackage p")}), ""},
		{"two docs", PackageDoc("p", map[string][]byte{"a.go": []byte("// P.\npackage p"), "b.go": []byte("// P.\npackage p")}), "2 package comments"},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := strings.Join(c.bad, "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("reported %q, want %q", got, c.want)
			}
		})
	}
}

func top() []string {
	return []string{"LICENSE", "Makefile", "README.md", "appliance", "go.mod", "go.sum", "main.go", "scripts", "wal", "web"}
}
