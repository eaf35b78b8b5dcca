package message

import (
	"slices"
	"strings"
)

// Tree finds the values whose filters match a topic, without trying every filter. It agrees with
// [Filter.Match]. The zero Tree is empty and ready. It is not safe for concurrent use, and it must
// not be changed from inside [Tree.Match] and [Tree.Any].
//
// It is a prefix tree over levels in which a node holds as many levels as possible, so a filter
// costs about one node however many levels it has, and a search visits a node at most once.
//
// Invariants: below the root every node has a value or at least two children; a child hangs under
// the first level of its path; a path that ends in # has no children; a pair is in the tree once.
type Tree[T comparable] struct {
	root node[T]
	n    int
}

// node is the end of a run of levels.
type node[T comparable] struct {
	path string              // the levels from the parent to here; its memory is shared with no filter
	vals []T                 // what is filed under exactly this filter
	at   map[T]int32         // vals' index, only while there are more than indexFrom of them
	one  *node[T]            // the only child …
	kids map[string]*node[T] // … or all children by first level, from the second on
}

// indexFrom is where searching a node's values one by one would begin to show: all members of a
// group have the same filter.
const indexFrom = 64

// Add files v under f. A pair that is there already stays there once.
func (t *Tree[T]) Add(f Filter, v T) {
	n, rest := &t.root, string(f)
	for {
		kid := n.kid(firstLevel(rest))
		if kid == nil {
			leaf := &node[T]{path: strings.Clone(rest), vals: []T{v}}
			n.put(leaf)
			t.n++
			return
		}
		shared := sharedLevels(kid.path, rest)
		if shared < len(kid.path) {
			kid = n.split(kid, shared)
		}
		n = kid
		if shared == len(rest) {
			if n.add(v) {
				t.n++
			}
			return
		}
		rest = rest[shared+1:]
	}
}

// Remove takes the pair out; nothing happens when it is not there.
func (t *Tree[T]) Remove(f Filter, v T) {
	var parent *node[T]
	n, rest := &t.root, string(f)
	for {
		kid := n.kid(firstLevel(rest))
		if kid == nil || sharedLevels(kid.path, rest) < len(kid.path) {
			return
		}
		parent, n = n, kid
		if len(rest) == len(kid.path) {
			break
		}
		rest = rest[len(kid.path)+1:]
	}
	if !n.remove(v) {
		return
	}
	t.n--
	switch {
	case len(n.vals) > 0:
	case n.one == nil && n.kids == nil:
		parent.drop(n)
		if parent != &t.root {
			parent.absorb()
		}
	default:
		n.absorb()
	}
}

// Len is the number of pairs in the tree.
func (t *Tree[T]) Len() int { return t.n }

// Match calls fn for every value filed under a filter that matches the topic, in no particular
// order; a value that is filed under several such filters comes several times. It allocates
// nothing. Its cost grows with the topic's length and with the number of filters that match a
// beginning of it, not with the number of filters.
func (t *Tree[T]) Match(topic Topic, fn func(v T)) {
	t.Any(topic, func(v T) bool { fn(v); return false })
}

// Any reports whether is holds for a value filed under a filter that matches the topic. It asks as
// [Tree.Match] calls, and asks no more after the first that holds.
func (t *Tree[T]) Any(topic Topic, is func(v T) bool) bool {
	n, s := &t.root, string(topic)
	if topic.Reserved() { // wildcards do not match a leading $ (MQTT 5.0 §4.7.2)
		kid := n.kid(firstLevel(s))
		return kid != nil && kid.match(s, is)
	}
	return n.below(s, is)
}

// match continues with the levels of topic, of which the first belongs to n's path. It returns to
// its caller only at a fork, so it is never deeper than there are filters that fork.
func (n *node[T]) match(topic string, is func(v T) bool) bool {
	rest, more, found := followPath(n.path, topic)
	switch {
	case !found:
		return false
	case more:
		return n.below(rest, is)
	case slices.ContainsFunc(n.vals, is):
		return true
	}
	all := n.kid("#") // "a/#" matches "a" itself (§4.7.1.2)
	return all != nil && slices.ContainsFunc(all.vals, is)
}

// below continues with the children for the levels of topic, of which there is at least one.
func (n *node[T]) below(topic string, is func(v T) bool) bool {
	level := firstLevel(topic)
	if n.one != nil {
		k := firstLevel(n.one.path)
		return (k == level || k == "+" || k == "#") && n.one.match(topic, is)
	}
	if n.kids == nil {
		return false
	}
	for _, k := range [...]string{"#", "+"} {
		if kid := n.kids[k]; kid != nil && k != level && kid.match(topic, is) {
			return true
		}
	}
	kid := n.kids[level]
	return kid != nil && kid.match(topic, is)
}

// followPath compares a path with the beginning of a topic. more says that rest, of at least one
// level, remains of the topic; a path that ends in # takes everything.
func followPath(path, topic string) (rest string, more, found bool) {
	for {
		p, prest, pmore := strings.Cut(path, "/")
		if p == "#" {
			return "", false, true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		switch {
		case p != "+" && p != t:
			return "", false, false
		case !pmore:
			return trest, tmore, true
		case !tmore:
			return "", false, prest == "#"
		}
		path, topic = prest, trest
	}
}

func (n *node[T]) kid(level string) *node[T] {
	if n.one == nil {
		return n.kids[level]
	}
	if firstLevel(n.one.path) == level {
		return n.one
	}
	return nil
}

// put hangs k under n, in the place of a child with the same first level if there is one.
func (n *node[T]) put(k *node[T]) {
	level := firstLevel(k.path)
	switch {
	case n.kids != nil:
		n.kids[level] = k
	case n.one == nil || firstLevel(n.one.path) == level:
		n.one = k
	default:
		n.kids = map[string]*node[T]{firstLevel(n.one.path): n.one, level: k}
		n.one = nil
	}
}

func (n *node[T]) drop(k *node[T]) {
	if n.one == k {
		n.one = nil
		return
	}
	delete(n.kids, firstLevel(k.path))
	if len(n.kids) == 1 {
		for _, last := range n.kids {
			n.one = last
		}
		n.kids = nil
	}
}

// split puts a new node above kid that holds the first bytes of its path, and returns it.
func (n *node[T]) split(kid *node[T], bytes int) *node[T] {
	upper := &node[T]{path: strings.Clone(kid.path[:bytes]), one: kid}
	n.put(upper)
	kid.path = strings.Clone(kid.path[bytes+1:])
	return upper
}

// absorb joins n with its only child when n has no value of its own.
func (n *node[T]) absorb() {
	if len(n.vals) > 0 || n.one == nil {
		return
	}
	k := n.one
	path := n.path + "/" + k.path
	*n = *k
	n.path = path
}

func (n *node[T]) add(v T) bool {
	if n.index(v) >= 0 {
		return false
	}
	n.vals = append(n.vals, v)
	switch {
	case n.at != nil:
		n.at[v] = int32(len(n.vals) - 1)
	case len(n.vals) > indexFrom:
		n.at = make(map[T]int32, len(n.vals)+1)
		for i, w := range n.vals {
			n.at[w] = int32(i)
		}
	}
	return true
}

func (n *node[T]) remove(v T) bool {
	i := n.index(v)
	if i < 0 {
		return false
	}
	last := len(n.vals) - 1
	if n.at != nil {
		n.at[n.vals[last]] = int32(i)
		delete(n.at, v)
	}
	n.vals[i] = n.vals[last]
	n.vals = slices.Delete(n.vals, last, last+1) // zeroes it, so that nothing is kept alive
	if len(n.vals) <= indexFrom/2 {
		n.at = nil
	}
	if len(n.vals) == 0 {
		n.vals = nil
	}
	return true
}

func (n *node[T]) index(v T) int {
	if n.at == nil {
		return slices.Index(n.vals, v)
	}
	if i, ok := n.at[v]; ok {
		return int(i)
	}
	return -1
}

func firstLevel(s string) string {
	level, _, _ := strings.Cut(s, "/")
	return level
}

// sharedLevels returns how many bytes of whole levels a and b have in common at their beginnings.
// The first levels must be equal.
func sharedLevels(a, b string) int {
	end := 0
	for i := 0; ; i++ {
		endA, endB := i == len(a), i == len(b)
		switch {
		case (endA || a[i] == '/') && (endB || b[i] == '/'):
			end = i
			if endA || endB {
				return end
			}
		case endA || endB || a[i] != b[i]:
			return end
		}
	}
}
