package outbox

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// The bounds of a trail: a stretch has spanRecords records and says where they point in spanRuns intervals, so that it
// takes a few hundred bytes for about a megabyte of the log.
const (
	spanRecords = 4096
	spanRuns    = 16
	maxSpans    = 1024
)

// trail says which stretches of the log tell of a message, so that its trace reads those alone. It may name one too
// many, never one too few.
//
// Invariants: spans ascend and are disjoint; together they have every record behind since that speaks of a message.
type trail struct {
	spans []span
	since uint64 // records up to here are not in it
}

// span is a stretch of the log.
type span struct {
	first, last uint64
	ended       runs // places of which a record says how a debt ended, or that they were withdrawn
	moved       runs // messages of which it has a second copy
}

// runs is a set of numbers, and at most spanRuns intervals: the nearest grow together when there are more.
type runs []run

type run struct{ first, last uint64 }

func (r runs) has(n uint64) bool {
	i, _ := r.find(n)
	return i < len(r) && r[i].first <= n
}

// find returns the first interval that ends at n or behind it.
func (r runs) find(n uint64) (int, bool) {
	return slices.BinarySearchFunc(r, n, func(x run, n uint64) int { return cmp.Compare(x.last, n) })
}

func (r *runs) add(n uint64) {
	i, _ := r.find(n)
	s := *r
	switch {
	case i < len(s) && s[i].first <= n:
		return
	case i > 0 && s[i-1].last+1 == n:
		s[i-1].last = n
	case i < len(s) && s[i].first == n+1:
		s[i].first = n
	default:
		s = slices.Insert(s, i, run{n, n})
	}
	*r = s.shrink()
}

func (r runs) shrink() runs {
	for len(r) > spanRuns {
		at, gap := 0, uint64(math.MaxUint64)
		for i := 1; i < len(r); i++ {
			if d := r[i].first - r[i-1].last; d < gap {
				at, gap = i, d
			}
		}
		r[at-1].last = r[at].last
		r = slices.Delete(r, at, at+1)
	}
	return r
}

// note puts what a record tells of messages into the trail. Records come in the order of the log.
func (t *trail) note(e *Entry) {
	switch {
	case e.Kind == KindSettlement:
		s := t.at(e.Seq)
		for i := range e.Settled {
			s.ended.add(e.Settled[i].Seq)
		}
	case e.Kind == KindCancel:
		t.at(e.Seq).ended.add(e.Cancel)
	case e.Kind == KindMessage && e.origin != e.Seq && e.origin != 0:
		t.at(e.Seq).moved.add(e.origin)
	}
}

// at is the stretch that has the record: the last, or a new one.
func (t *trail) at(seq uint64) *span {
	if n := len(t.spans); n > 0 && seq-t.spans[n-1].first < spanRecords {
		t.spans[n-1].last = seq
		return &t.spans[n-1]
	}
	t.spans = append(t.spans, span{first: seq, last: seq})
	if len(t.spans) > maxSpans {
		t.merge()
	}
	return &t.spans[len(t.spans)-1]
}

// merge makes one of the two oldest: that costs a longer read and nothing else.
func (t *trail) merge() {
	a, b := t.spans[0], &t.spans[1]
	b.first = a.first
	b.ended, b.moved = slices.Concat(a.ended, b.ended).sorted(), slices.Concat(a.moved, b.moved).sorted()
	t.spans = slices.Delete(t.spans, 0, 1)
}

// sorted makes a set of intervals that overlap.
func (r runs) sorted() runs {
	slices.SortFunc(r, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	out := r[:0]
	for _, x := range r {
		if n := len(out); n > 0 && x.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, x.last)
		} else {
			out = append(out, x)
		}
	}
	return out.shrink()
}

// forget drops the stretches of which nothing is left, as kept says; the last may still grow.
func (t *trail) forget(kept func(s *span) bool) {
	if n := len(t.spans) - 1; n > 0 {
		last := t.spans[n]
		t.spans = append(slices.DeleteFunc(t.spans[:n], func(s span) bool { return !kept(&s) }), last)
	}
}

// next is the first stretch from pos on that may tell of the message or of its places; copies: it may have a second copy
// of it. applied is how far the trail goes: what lies behind is to be read.
func (t *trail) next(pos, id, applied uint64, places map[uint64]bool) (first, last uint64, copies bool) {
	if pos <= t.since {
		return pos, t.since, true
	}
	for i := range t.spans {
		s := &t.spans[i]
		if s.last < pos {
			continue
		}
		moved := s.moved.has(id)
		for p := range places {
			if moved || s.ended.has(p) {
				return max(s.first, pos), s.last, moved
			}
		}
	}
	return max(applied+1, pos), math.MaxUint64, true
}

// A section of a snapshot: the first and the last record of a stretch, and its two sets, each as a count of intervals and
// for each the distance from the end of the one before and its length.
func (s *span) section() []byte {
	b := binary.AppendUvarint([]byte{secTrail}, s.first)
	b = binary.AppendUvarint(b, s.last-s.first)
	for _, r := range [...]runs{s.ended, s.moved} {
		b = binary.AppendUvarint(b, uint64(len(r)))
		end := uint64(0)
		for _, x := range r {
			b = binary.AppendUvarint(b, x.first-end)
			b = binary.AppendUvarint(b, x.last-x.first)
			end = x.last
		}
	}
	return b
}

func decodeSpan(body []byte) (s span, err error) {
	r := reader{b: body}
	s.first = r.uvarint()
	s.last = s.first + r.uvarint()
	for _, set := range [...]*runs{&s.ended, &s.moved} {
		n := r.uvarint()
		if n > spanRuns {
			return s, errShort
		}
		end := uint64(0)
		for range n {
			x := run{first: end + r.uvarint()}
			x.last = x.first + r.uvarint()
			*set = append(*set, x)
			end = x.last
		}
	}
	return s, r.err
}
