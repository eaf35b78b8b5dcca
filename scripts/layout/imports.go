package layout

import (
	"fmt"
	"slices"
	"strings"
)

// module is the prefix of our own import paths.
const module = "edgepost"

// Package is the part of `go list -json` that the checks read.
type Package struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// house is one row of the plan. Its floor orders the plan: a package imports only what stands on a
// lower floor, or beside it where the row says so in with. never is beyond that order: what must
// not be imported although it is lower, or is not ours. by is who alone may import it. A trailing "/..." covers everything below.
type house struct {
	path  string
	floor int
	with  []string
	never []string
	by    []string
}

// world is what a pure package leaves alone: the operating system, the network, waiting.
var world = []string{"os/...", "net", "net/http/...", "syscall", "golang.org/x/sys/...", "context", "log/...", "edgepost/wal"}

// houses is the plan from the roof down.
func houses() []house {
	return []house{
		{path: ".", floor: 10, never: []string{"edgepost/appliance", "edgepost/wal", "edgepost/web"}},
		{path: "appliance/cli", floor: 9, never: ours("listener/...", "bridge/...")},
		{path: "appliance", floor: 8},
		{path: "appliance/listener/...", floor: 7, never: append(ours("outbox/...", "bridge/..."), "edgepost/wal")},
		{path: "appliance/listener/mqtt", floor: 7, with: ours("listener/mqtt/packet"), never: append(ours("outbox/...", "bridge/..."), "edgepost/wal")},
		{path: "appliance/listener/mqtt/packet", floor: 7, never: append(ours("..."), world...)}, // a codec: pure, and its listener's own
		{path: "appliance/listener/quiet", floor: 2},
		{path: "appliance/listener/trial", floor: 0, by: []string{"the listeners' tests"}}, // imports of tests are not in the list
		{path: "appliance/bridge/...", floor: 7, with: ours("bridge"), never: append(ours("outbox/...", "listener/..."), "edgepost/wal")},
		{path: "appliance/bridge/stomp", floor: 7, with: ours("bridge", "bridge/stomp/client"), never: append(ours("outbox/...", "listener/..."), "edgepost/wal")},
		{path: "appliance/bridge/stomp/client", floor: 7, never: ours("...")}, // a protocol: it knows nothing of ours
		{path: "appliance/bridge/mapping", floor: 2, never: append([]string{"sync/..."}, world...)},
		{path: "appliance/courier", floor: 6, never: []string{"edgepost/wal"}},
		{path: "appliance/outbox", floor: 5},
		{path: "appliance/registry", floor: 4},
		{path: "appliance/registry/profile", floor: 1, never: world},
		{path: "appliance/guard/...", floor: 3, with: ours("guard/...")},
		{path: "appliance/blob", floor: 3},
		{path: "appliance/delivery", floor: 2, never: append([]string{"sync/..."}, world...)},
		{path: "appliance/codec", floor: 1, never: world},
		{path: "appliance/system/...", floor: 2},
		{path: "appliance/tune", floor: 1, never: ours("message")},
		{path: "wal", floor: 1, never: ours("...")},
		{path: "appliance/message", floor: 0, never: append([]string{"sync/..."}, world...)},
		{path: "web", floor: 0, by: []string{"edgepost/appliance"}},
		{path: "scripts/...", floor: 11, with: []string{"edgepost/scripts/..."}},
	}
}

func ours(names ...string) []string {
	for i, n := range names {
		names[i] = module + "/appliance/" + n
	}
	return names
}

// pure are the packages that take the time as an argument.
var pure = []string{"appliance/message", "appliance/delivery", "appliance/codec", "appliance/blob", "appliance/listener/mqtt/packet", "appliance/bridge/mapping"}

// covers reports whether the pattern is the path, or "x/..." and the path is x or below it.
func covers(pattern, path string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	return path == base || tree && strings.HasPrefix(path, base+"/")
}

func coveredBy(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, path) })
}

// inModule is the path below the module, "." for its root; ok is false for a package of others.
func inModule(importPath string) (rel string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// houseOf finds the most exact row.
func houseOf(importPath string) (best house, ok bool) {
	rel, mine := inModule(importPath)
	for _, h := range houses() {
		if mine && covers(h.path, rel) && (!ok || len(h.path) > len(best.path)) {
			best, ok = h, true
		}
	}
	return best, ok
}

// Imports reports every import that goes against the plan.
func Imports(pkgs []Package) []string {
	var bad []string
	for _, p := range pkgs {
		from, ok := houseOf(p.ImportPath)
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is not in the plan; give it a row in scripts/layout", p.ImportPath))
			continue
		}
		for _, imp := range p.Imports {
			if why := against(from, imp); why != "" {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s", p.ImportPath, imp, why))
			}
		}
	}
	return bad
}

// against says why the import is not allowed, or "".
func against(from house, imp string) string {
	if coveredBy(from.never, imp) {
		return "the plan says never"
	}
	to, ok := houseOf(imp)
	switch {
	case ok && len(to.by) > 0 && !slices.Contains(to.by, module+"/"+from.path):
		return "only " + strings.Join(to.by, ", ") + " imports it"
	case !ok || to.floor < from.floor || coveredBy(from.with, imp):
		return ""
	case to.floor == from.floor:
		return "they stand on the same floor"
	default:
		return "arrows point down only"
	}
}
