package message

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// check walks the tree and holds its invariants against what must be in it.
func (t *Tree[T]) check(tb testing.TB, want map[Filter]map[T]bool) {
	tb.Helper()
	found, pairs := map[Filter]map[T]bool{}, 0
	var walk func(n *node[T], prefix string)
	walk = func(n *node[T], prefix string) {
		kids := map[string]*node[T]{}
		maps.Copy(kids, n.kids)
		if n.one != nil {
			if n.kids != nil {
				tb.Fatalf("node %q has both a single child and a map", prefix)
			}
			kids[firstLevel(n.one.path)] = n.one
		}
		if n.kids != nil && len(n.kids) < 2 {
			tb.Fatalf("node %q has a map of %d children", prefix, len(n.kids))
		}
		if n != &t.root {
			if len(n.vals) == 0 && len(kids) < 2 {
				tb.Fatalf("node %q is not needed", prefix)
			}
			if strings.HasSuffix(prefix, "#") && len(kids) > 0 {
				tb.Fatalf("node %q has children", prefix)
			}
		}
		if n.at != nil && len(n.at) != len(n.vals) {
			tb.Fatalf("node %q indexes %d of %d values", prefix, len(n.at), len(n.vals))
		}
		for i, v := range n.vals {
			if n.at != nil && int(n.at[v]) != i {
				tb.Fatalf("node %q: the index of %v is %d, not %d", prefix, v, n.at[v], i)
			}
			f := Filter(prefix)
			if found[f] == nil {
				found[f] = map[T]bool{}
			}
			if found[f][v] {
				tb.Fatalf("%q has %v twice", f, v)
			}
			found[f][v] = true
			pairs++
		}
		for level, k := range kids {
			if firstLevel(k.path) != level {
				tb.Fatalf("child %q hangs under %q", k.path, level)
			}
			below := prefix + "/" + k.path
			if n == &t.root {
				below = k.path
			}
			walk(k, below)
		}
	}
	walk(&t.root, "")
	if pairs != t.Len() {
		tb.Fatalf("Len is %d, found %d pairs", t.Len(), pairs)
	}
	total := 0
	for f, vs := range want {
		for v := range vs {
			total++
			if !found[f][v] {
				tb.Fatalf("%q has lost %v", f, v)
			}
		}
	}
	if total != pairs {
		tb.Fatalf("the tree has %d pairs, want %d", pairs, total)
	}
}

// found returns what Match calls with, and how often; it holds Any against that.
func (t *Tree[T]) found(tb testing.TB, topic Topic) map[T]int {
	tb.Helper()
	got, total := map[T]int{}, 0
	t.Match(topic, func(v T) { got[v]++; total++ })
	asked := 0
	if t.Any(topic, func(T) bool { asked++; return false }) || asked != total {
		tb.Fatalf("topic %q: Any asks for %d of %d values", topic, asked, total)
	}
	for v := range got {
		if !t.Any(topic, func(w T) bool { return v == w }) {
			tb.Fatalf("topic %q: Any does not find %v", topic, v)
		}
	}
	asked = 0
	if t.Any(topic, func(T) bool { asked++; return true }) != (total > 0) || asked != min(total, 1) {
		tb.Fatalf("topic %q: Any asks %d times for the first of %d values", topic, asked, total)
	}
	return got
}

func same(a, b map[int]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, n := range a {
		if b[k] != n {
			return false
		}
	}
	return true
}

var levelChoices = []string{"", "a", "b", "ab", "$x", "é", "in"}

func randomTopic(r *rand.Rand) Topic {
	for {
		levels := make([]string, 1+r.IntN(5))
		for i := range levels {
			levels[i] = levelChoices[r.IntN(len(levelChoices))]
		}
		if t, err := ParseTopic(strings.Join(levels, "/")); err == nil {
			return t
		}
	}
}

func randomFilter(r *rand.Rand) Filter {
	for {
		levels := strings.Split(string(randomTopic(r)), "/")
		for i := range levels {
			if r.IntN(4) == 0 {
				levels[i] = "+"
			}
		}
		if r.IntN(3) == 0 {
			levels[len(levels)-1] = "#"
		}
		if f, err := ParseFilter(strings.Join(levels, "/")); err == nil {
			return f
		}
	}
}

func TestTreeAgreesWithFilterMatch(t *testing.T) {
	for seed := range uint64(seeds(300)) {
		r := rand.New(rand.NewPCG(seed, 1))
		var tree Tree[int]
		want := map[Filter]map[int]bool{}
		for range 300 {
			f, v := randomFilter(r), r.IntN(5)
			if len(want) > 0 && r.IntN(3) > 0 {
				for f = range want { // any one; map order is fine, the check is the same
					break
				}
			}
			if r.IntN(2) == 0 {
				tree.Add(f, v)
				if want[f] == nil {
					want[f] = map[int]bool{}
				}
				want[f][v] = true
			} else {
				tree.Remove(f, v)
				delete(want[f], v)
				if len(want[f]) == 0 {
					delete(want, f)
				}
			}
			topic := randomTopic(r)
			expect := map[int]int{}
			for f, vs := range want {
				if f.Match(topic) {
					for v := range vs {
						expect[v]++
					}
				}
			}
			if got := tree.found(t, topic); !same(got, expect) {
				t.Fatalf("seed %d, topic %q: got %v, want %v", seed, topic, got, expect)
			}
		}
		tree.check(t, want)
		for f, vs := range want {
			for v := range vs {
				tree.Remove(f, v)
			}
		}
		tree.check(t, nil)
		if tree.root.one != nil || tree.root.kids != nil {
			t.Fatalf("seed %d: nodes are left in an empty tree", seed)
		}
	}
}

// All members of a group file their values under the same filter.
func TestTreeManyValuesUnderOneFilter(t *testing.T) {
	var tree Tree[int]
	want := map[int]bool{}
	f := GroupInbox("hall")
	r := rand.New(rand.NewPCG(4, 4))
	for range 5000 {
		v := r.IntN(200)
		if r.IntN(5) < 3 {
			tree.Add(f, v)
			want[v] = true
		} else {
			tree.Remove(f, v)
			delete(want, v)
		}
	}
	tree.check(t, map[Filter]map[int]bool{f: want})
	for v := range 200 {
		tree.Remove(f, v)
		delete(want, v)
		tree.check(t, map[Filter]map[int]bool{f: want})
	}
}

func TestTreeRemoveOfWhatIsNotThere(t *testing.T) {
	var tree Tree[string]
	tree.Add("a/b", "v")
	for _, f := range []Filter{"a", "a/b/c", "a/c", "b", "#", "a/#", "+/b", "a/b/"} {
		tree.Remove(f, "v")
	}
	tree.Remove("a/b", "w")
	tree.check(t, map[Filter]map[string]bool{"a/b": {"v": true}})
}

func TestTreeDeepTopicIsLinear(t *testing.T) {
	var tree Tree[int]
	deep := strings.Repeat("a/", MaxTopicBytes/2) + "a"
	plus := strings.Repeat("+/", MaxTopicBytes/2) + "+"
	want := map[int]int{}
	for i, f := range []string{
		deep, plus, "#", "a/#", deep[:40_000] + "#", plus[:60_000] + "#",
		plus[:20_000] + deep[20_000:], deep[:30_000] + plus[30_000:], // forks in the middle
		deep[:2] + plus[2:4] + deep[4:], deep[:60_001],
	} {
		filter, err := ParseFilter(f)
		if err != nil {
			t.Fatal(err)
		}
		tree.Add(filter, i)
		if filter.Match(Topic(deep)) {
			want[i]++
		}
	}
	if len(want) != 9 {
		t.Fatalf("%d filters match, want all but the last", len(want))
	}
	if got := tree.found(t, Topic(deep)); !same(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if visits := testing.AllocsPerRun(10, func() { tree.Match(Topic(deep), func(int) {}) }); visits != 0 {
		t.Fatalf("matching allocates %v times", visits)
	}
}

// Filters that fork at every level make a search visit every node, never a node twice: 2^20 paths
// would not end.
func TestTreeForksAreNotExponential(t *testing.T) {
	var tree Tree[int]
	level := [...]string{"a/", "+/"}
	for i := range 1 << 10 {
		var b strings.Builder
		for bit := range 10 {
			b.WriteString(level[i>>bit&1])
		}
		tree.Add(Filter(b.String()+strings.Repeat("+/", 100)+"z"), i)
	}
	calls := 0
	tree.Match(Topic(strings.Repeat("a/", 110)+"z"), func(int) { calls++ })
	if calls != 1<<10 {
		t.Fatalf("%d values, want %d", calls, 1<<10)
	}
}

func TestTreeMatchAllocatesNothing(t *testing.T) {
	var tree Tree[*int]
	v := new(int)
	for i := range 1000 {
		tree.Add(InboxOf(fmt.Sprint("lamp", i)), v)
	}
	for _, f := range []Filter{"#", "+/+/in/#", "device/+/in/set", "device/lamp7/in/set"} {
		tree.Add(f, v)
	}
	n := 0
	if a := testing.AllocsPerRun(100, func() { n = 0; tree.Match("device/lamp7/in/set", func(*int) { n++ }) }); a != 0 {
		t.Fatalf("Match allocates %v times", a)
	}
	if n != 5 {
		t.Fatalf("%d matches, want 5", n)
	}
	if a := testing.AllocsPerRun(100, func() { n = 0; tree.Any("device/lamp7/in/set", func(*int) bool { n++; return n == 3 }) }); a != 0 || n != 3 {
		t.Fatalf("Any asks %d times and allocates %v times", n, a)
	}
}

func FuzzTree(f *testing.F) {
	f.Add("a/b\na/#\n+/b\n#\n/\n//+\n$a/#", "a/b")
	f.Add("\n/a\n+\na\na/", "/a")
	f.Add("$x\n#\n+/y\n$x/#", "$x/y")
	f.Fuzz(func(t *testing.T, filters, topic string) {
		top, err := ParseTopic(topic)
		if err != nil {
			return
		}
		var tree Tree[int]
		all, expect := map[Filter]map[int]bool{}, map[int]int{}
		for i, s := range strings.Split(filters, "\n") {
			flt, err := ParseFilter(s)
			if err != nil {
				continue
			}
			tree.Add(flt, i)
			if all[flt] == nil {
				all[flt] = map[int]bool{}
			}
			all[flt][i] = true
			if flt.Match(top) {
				expect[i]++
			}
		}
		tree.check(t, all)
		if got := tree.found(t, top); !same(got, expect) {
			t.Fatalf("topic %q: got %v, want %v", top, got, expect)
		}
		for flt, vs := range all {
			for v := range vs {
				tree.Remove(flt, v)
			}
		}
		tree.check(t, nil)
	})
}

func BenchmarkTreeMatch(b *testing.B) {
	const devices = 10_000
	filters, topics := make([]Filter, devices), make([]Topic, devices)
	for i := range devices {
		filters[i] = InboxOf(fmt.Sprintf("lamp%05d", i))
		topics[i] = Topic(fmt.Sprintf("device/lamp%05d/in/set", i))
	}
	before := heap()
	var tree Tree[uint32]
	for i, f := range filters {
		tree.Add(f, uint32(i))
	}
	perFilter := float64(heap()-before) / devices
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for i := 0; b.Loop(); i++ {
		tree.Match(topics[i%devices], func(uint32) { n++ })
	}
	b.ReportMetric(perFilter, "heap-B/filter")
	runtime.KeepAlive(tree)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTreeValueOrderDoesNotMatter(t *testing.T) {
	var tree Tree[string]
	for _, f := range []Filter{"a", "a/#", "a/+", "#", "+"} {
		tree.Add(f, string(f))
	}
	var got []string
	tree.Match("a", func(v string) { got = append(got, v) })
	slices.Sort(got)
	if want := []string{"#", "+", "a", "a/#"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}
