package delivery

import (
	"slices"
	"testing"
	"time"
)

// debt is what the model knows of one owed number.
type debt struct {
	urgent, cancel bool
	sends, fails   int
	phase          phase
	at             time.Time
}

// model is a State as simple as can be: one map, searched through every time.
type model struct {
	owed      map[uint64]*debt
	ended     map[uint64]string // every number that ended, and how
	open      bool
	window    int // asked for
	policy    Policy
	maybe     map[bool]uint64
	withdrawn []uint64
	now       time.Time
}

func newModel(p Policy, now time.Time) *model {
	return &model{owed: map[uint64]*debt{}, ended: map[uint64]string{}, policy: p, maybe: map[bool]uint64{}, now: now}
}

func (m *model) sorted(want func(seq uint64, d *debt) bool) []uint64 {
	var all []uint64
	for seq, d := range m.owed {
		if want(seq, d) {
			all = append(all, seq)
		}
	}
	slices.Sort(all)
	return all
}

func (m *model) flying() []uint64 {
	return m.sorted(func(_ uint64, d *debt) bool { return d.phase == flying })
}

func (m *model) size() int {
	if m.window > 0 {
		return m.window
	}
	return m.policy.Window
}

func (m *model) sends(seq uint64) int {
	d := m.owed[seq]
	if d.sends == 0 && seq <= m.maybe[d.urgent] {
		return 1
	}
	return d.sends
}

func (m *model) end(t *testing.T, seq uint64, how string) {
	t.Helper()
	if before, twice := m.ended[seq]; twice {
		t.Fatalf("%d ends as %s after it ended as %s", seq, how, before)
	}
	m.ended[seq] = how
	delete(m.owed, seq)
}

func (m *model) next() (c Candidate, ok bool) {
	if !m.open || len(m.flying()) >= m.size() {
		return c, false
	}
	due := m.sorted(func(_ uint64, d *debt) bool { return d.phase == waiting && !d.at.After(m.now) })
	for _, urgent := range []bool{true, false} {
		due = append(due, m.sorted(func(_ uint64, d *debt) bool { return d.phase == resting && d.urgent == urgent })...)
	}
	if len(due) == 0 {
		return c, false
	}
	return Candidate{Seq: due[0], Attempt: m.sends(due[0]) + 1, Urgent: m.owed[due[0]].urgent}, true
}

func (m *model) sent(seq uint64, deadline time.Time) {
	d := m.owed[seq]
	if !m.open || d == nil || d.phase != flying && len(m.flying()) >= m.size() {
		return
	}
	d.sends = m.sends(seq) + 1
	d.phase, d.at = flying, deadline
}

func (m *model) fail(t *testing.T, seq uint64, delay time.Duration) Verdict {
	t.Helper()
	d := m.owed[seq]
	if d == nil || d.phase != flying {
		return Ignored
	}
	if d.cancel {
		m.end(t, seq, "withdrawn")
		m.withdrawn = append(m.withdrawn, seq)
		return Withdrawn
	}
	d.fails++
	if d.fails >= m.policy.MaxAttempts {
		m.end(t, seq, "exhausted")
		return Exhausted
	}
	if delay <= 0 {
		delay = m.policy.Backoff.Delay(d.fails)
	}
	d.phase, d.at = waiting, m.now.Add(delay)
	return Retry
}

func (m *model) close(t *testing.T) {
	t.Helper()
	m.open, m.window = false, 0
	for _, seq := range m.flying() {
		if m.owed[seq].cancel {
			m.end(t, seq, "withdrawn")
			m.withdrawn = append(m.withdrawn, seq)
		} else {
			d := m.owed[seq]
			if d.phase = resting; d.sends == 1 && d.fails == 0 {
				d.sends, m.maybe[d.urgent] = 0, max(m.maybe[d.urgent], seq)
			}
		}
	}
}

// restart is what a State is after it was written and read.
func (m *model) restart() {
	m.open, m.window, m.withdrawn = false, 0, nil
	for seq, d := range m.owed {
		if d.sends > 0 {
			m.maybe[d.urgent] = max(m.maybe[d.urgent], seq)
		}
		*d = debt{urgent: d.urgent, fails: d.fails, sends: d.fails}
	}
}

func (m *model) wake() (at time.Time, ok bool) {
	for _, d := range m.owed {
		timed := d.phase == flying && !d.at.IsZero() || d.phase == waiting && m.open && d.at.After(m.now)
		if timed && (!ok || d.at.Before(at)) {
			at, ok = d.at, true
		}
	}
	return at, ok
}

// check holds the invariants of State and live.
func (s *State) check(tb testing.TB) {
	tb.Helper()
	s.normal.Set.check(tb)
	if s.urgent != nil {
		s.urgent.Set.check(tb)
		s.urgent.Each(1, MaxSeq, func(first, last uint64) bool {
			if s.normal.CountIn(first, last) != 0 {
				tb.Fatalf("some of %d…%d are in both lanes", first, last)
			}
			return true
		})
	}
	l := s.live
	if l == nil {
		return
	}
	counts, prev := map[phase]int{}, uint64(0)
	for _, t := range l.tracks.all() {
		if t.seq <= prev {
			tb.Fatalf("track %d follows %d", t.seq, prev)
		}
		prev = t.seq
		counts[t.phase]++
		if lane := s.lane(t.urgent); lane == nil || !lane.Has(t.seq) {
			tb.Fatalf("%d is tracked and not owed in its lane", t.seq)
		}
		if t.phase == due != l.due.Has(t.seq) {
			tb.Fatalf("%d has phase %d, in the due set: %t", t.seq, t.phase, l.due.Has(t.seq))
		}
		timed := timer{t.at, t.seq}
		if t.phase == flying && t.at != 0 && (l.deadline == 0 || l.deadline > t.at) || t.phase == waiting && !slices.Contains(l.retries, timed) {
			tb.Fatalf("%d has phase %d and no timer", t.seq, t.phase)
		}
	}
	l.parked.Each(1, MaxSeq, func(first, last uint64) bool {
		for ; first <= last; first++ {
			if k := l.tracks.get(first); !s.open || !s.Owes(first) || k != nil && k.phase != resting {
				tb.Fatalf("%d is parked: link %t, owed %t, %+v", first, s.open, s.Owes(first), k)
			}
		}
		return true
	})
	if l.flying != counts[flying] || l.waiting != counts[waiting]+counts[due] || l.due.Len() != int64(counts[due]) {
		tb.Fatalf("counters %d, %d, %d; found %v", l.flying, l.waiting, l.due.Len(), counts)
	}
	if l.deadline != 0 && l.flying == 0 || len(l.retries) > 2*l.waiting+300 {
		tb.Fatalf("a deadline at %d for %d in flight, %d retries for %d", l.deadline, l.flying, len(l.retries), l.waiting)
	}
	if !s.open && l.flying > 0 {
		tb.Fatal("something is in flight without a link")
	}
	for i, urgent := range []bool{false, true} {
		if lane := s.lane(urgent); lane != nil {
			from := uint64(1)
			if !urgent && l.mark > 0 {
				l.passed(tb, lane, 1, l.old)
				from = l.mark + 1
			}
			l.passed(tb, lane, from, l.cursor[i])
		}
	}
}

// passed checks that what a cursor has passed is active.
func (l *live) passed(tb testing.TB, lane *lane, from, to uint64) {
	tb.Helper()
	lane.Each(from, to, func(first, last uint64) bool {
		for ; first <= last; first++ {
			if !l.active(first) {
				tb.Fatalf("%d is behind a cursor at %d and not active", first, to)
			}
		}
		return true
	})
}

func (m *model) compare(t *testing.T, s *State) {
	t.Helper()
	s.check(t)
	c, ok := s.Next(m.now)
	if want, wantOK := m.next(); c != want || ok != wantOK {
		t.Fatalf("Next is %+v, %t; want %+v, %t", c, ok, want, wantOK)
	}
	if again, _ := s.Next(m.now); again != c {
		t.Fatalf("Next changes from %+v to %+v by itself", c, again)
	}
	owed := m.sorted(func(uint64, *debt) bool { return true })
	if s.Depth() != int64(len(owed)) || s.InFlight() != len(m.flying()) {
		t.Fatalf("depth %d, in flight %d; want %d, %d", s.Depth(), s.InFlight(), len(owed), len(m.flying()))
	}
	if oldest, ok := s.Oldest(); ok != (len(owed) > 0) || ok && oldest != owed[0] {
		t.Fatalf("oldest is %d, %t", oldest, ok)
	}
	var each []uint64
	s.Each(1, MaxSeq, func(first, last uint64) bool {
		for ; first <= last; first++ {
			each = append(each, first)
		}
		return true
	})
	if slices.Sort(each); !slices.Equal(each, owed) || s.CountIn(1, MaxSeq) != int64(len(owed)) {
		t.Fatalf("owes %v, want %v", each, owed)
	}
	for seq, d := range m.owed {
		if sends, fails := s.Attempts(seq); sends != m.sends(seq) || fails != d.fails || !s.Owes(seq) {
			t.Fatalf("%d: %d sends, %d fails; want %d, %d", seq, sends, fails, m.sends(seq), d.fails)
		}
		if s.Flying(seq) != (d.phase == flying) {
			t.Fatalf("%d flies: %t", seq, s.Flying(seq))
		}
		if at, ok := s.RetryDue(seq); ok != (d.phase == waiting) || ok && !at.Equal(d.at) {
			t.Fatalf("%d: retry due %v, %t; want %v", seq, at, ok, d.at)
		}
	}
	if at, ok := s.Wake(); true {
		if want, wantOK := m.wake(); wantOK && (!ok || at.After(want)) || ok && !wantOK && s.InFlight() == 0 {
			t.Fatalf("Wake is %v, %t; want %v, %t (now %v)", at, ok, want, wantOK, m.now)
		}
	}
}
