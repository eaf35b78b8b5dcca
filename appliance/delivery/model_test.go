package delivery

import (
	"math/rand/v2"
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
			m.owed[seq].phase = resting
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
		if t.phase == flying && t.at != 0 && !slices.Contains(l.deadlines, timed) || t.phase == waiting && !slices.Contains(l.retries, timed) {
			tb.Fatalf("%d has phase %d and no timer", t.seq, t.phase)
		}
	}
	if l.flying != counts[flying] || l.waiting != counts[waiting]+counts[due] || l.due.Len() != int64(counts[due]) {
		tb.Fatalf("counters %d, %d, %d; found %v", l.flying, l.waiting, l.due.Len(), counts)
	}
	if len(l.deadlines) > 2*l.flying+64 && len(l.deadlines) > 300 || len(l.retries) > 2*l.waiting+300 {
		tb.Fatalf("%d deadlines for %d in flight, %d retries for %d", len(l.deadlines), l.flying, len(l.retries), l.waiting)
	}
	if !l.open && l.flying > 0 {
		tb.Fatal("something is in flight without a link")
	}
	for i, urgent := range []bool{false, true} {
		if lane := s.lane(urgent); lane != nil {
			lane.Each(1, l.cursor[i], func(first, last uint64) bool {
				for ; first <= last; first++ {
					if !l.active(first) {
						tb.Fatalf("%d is behind the cursor %d of lane %d and not active", first, l.cursor[i], i)
					}
				}
				return true
			})
		}
	}
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
		if at, ok := s.RetryDue(seq); ok != (d.phase == waiting) || ok && !at.Equal(d.at) {
			t.Fatalf("%d: retry due %v, %t; want %v", seq, at, ok, d.at)
		}
	}
	if at, ok := s.Wake(); true {
		if want, wantOK := m.wake(); ok != wantOK || ok && !at.Equal(want) {
			t.Fatalf("Wake is %v, %t; want %v, %t (now %v)", at, ok, want, wantOK, m.now)
		}
	}
}

// rig steps a State and its model through the same random events.
type rig struct {
	t      *testing.T
	r      *rand.Rand
	s      *State
	m      *model
	head   uint64
	first  map[bool]uint64 // highest first transmission, by lane
	policy Policy
}

// pick returns a number that is likely to be interesting.
func (g *rig) pick() uint64 {
	if all := g.m.flying(); len(all) > 0 && g.r.IntN(3) > 0 {
		return all[g.r.IntN(len(all))]
	}
	return 1 + g.r.Uint64N(g.head+5)
}

func (g *rig) owe() {
	urgent := g.r.IntN(5) == 0
	seq := g.head + 1 + g.r.Uint64N(3)
	if g.r.IntN(20) == 0 { // late: a transfer from a group
		seq = 1 + g.r.Uint64N(g.head+1)
	}
	if g.m.ended[seq] != "" {
		return // the log never gives a number twice
	}
	g.head = max(g.head, seq)
	g.s.Owe(seq, urgent)
	if g.m.owed[seq] == nil {
		g.m.owed[seq] = &debt{urgent: urgent}
		g.first[urgent] = min(g.first[urgent], seq-1)
	}
}

func (g *rig) send() {
	c, ok := g.s.Next(g.m.now)
	if !ok {
		return
	}
	if g.m.ended[c.Seq] != "" {
		g.t.Fatalf("%d is offered after it ended as %s", c.Seq, g.m.ended[c.Seq])
	}
	if c.Attempt == 1 {
		if c.Seq <= g.first[c.Urgent] {
			g.t.Fatalf("first transmission of %d after that of %d", c.Seq, g.first[c.Urgent])
		}
		g.first[c.Urgent] = c.Seq
	}
	var deadline time.Time
	if g.r.IntN(2) == 0 {
		deadline = g.m.now.Add(time.Duration(1+g.r.IntN(20)) * time.Second)
	}
	g.s.Sent(c.Seq, g.m.now, deadline)
	g.m.sent(c.Seq, deadline)
	if g.s.InFlight() > g.s.Window() && g.s.InFlight() > g.m.size() {
		g.t.Fatalf("%d in flight, the window is %d", g.s.InFlight(), g.s.Window())
	}
}

func (g *rig) ack() {
	seq := g.pick()
	d := g.m.owed[seq]
	want := d != nil && d.phase == flying
	if got := g.s.Ack(seq); got != want {
		g.t.Fatalf("Ack(%d) is %t", seq, got)
	}
	if want {
		g.m.end(g.t, seq, "delivered")
	}
}

func (g *rig) nack() {
	seq, delay := g.pick(), time.Duration(g.r.IntN(3))*time.Second
	got := g.s.Nack(seq, g.m.now, delay)
	if want := g.m.fail(g.t, seq, delay); got != want {
		g.t.Fatalf("Nack(%d) is %v, want %v", seq, got, want)
	}
}

func (g *rig) timeouts() {
	g.m.now = g.m.now.Add(time.Duration(g.r.IntN(5000)) * time.Millisecond)
	late := g.m.sorted(func(_ uint64, d *debt) bool {
		return d.phase == flying && !d.at.IsZero() && !d.at.After(g.m.now)
	})
	slices.SortStableFunc(late, func(a, b uint64) int { return g.m.owed[a].at.Compare(g.m.owed[b].at) })
	g.s.Timeouts(g.m.now, func(seq uint64, v Verdict) {
		if len(late) == 0 || seq != late[0] {
			g.t.Fatalf("%d times out, want %v", seq, late)
		}
		late = late[1:]
		if want := g.m.fail(g.t, seq, 0); v != want {
			g.t.Fatalf("timeout of %d is %v, want %v", seq, v, want)
		}
	})
	if len(late) > 0 {
		g.t.Fatalf("no timeout of %v", late)
	}
	if at, ok := g.s.Wake(); ok && !at.After(g.m.now) {
		g.t.Fatalf("Wake is %v after Timeouts at %v", at, g.m.now)
	}
}

func (g *rig) end() {
	seq := g.pick()
	d := g.m.owed[seq]
	flies := d != nil && d.phase == flying
	if g.r.IntN(2) == 0 {
		if was, ok := g.s.Drop(seq); was != flies || ok != (d != nil) {
			g.t.Fatalf("Drop(%d) is %t, %t", seq, was, ok)
		}
		if d != nil {
			g.m.end(g.t, seq, "dropped")
		}
		return
	}
	if got := g.s.Cancel(seq); got != (d != nil && !flies) {
		g.t.Fatalf("Cancel(%d) is %t", seq, got)
	}
	if flies {
		d.cancel = true
	} else if d != nil {
		g.m.end(g.t, seq, "cancelled")
	}
}

func (g *rig) link() {
	switch g.r.IntN(4) {
	case 0:
		g.s.Close()
		g.m.close(g.t)
	default:
		g.m.close(g.t)
		g.m.open, g.m.window = true, g.r.IntN(6)
		g.s.Open(g.m.window)
	}
}

func (g *rig) rare() {
	switch g.r.IntN(4) {
	case 0:
		n := g.r.IntN(10)
		g.s.MaybeSent(n)
		for _, urgent := range []bool{false, true} {
			lane := g.m.sorted(func(_ uint64, d *debt) bool { return d.urgent == urgent })
			if lane = lane[:min(n, len(lane))]; len(lane) > 0 {
				g.m.maybe[urgent] = max(g.m.maybe[urgent], lane[len(lane)-1])
			}
		}
	case 1:
		g.policy.Window, g.policy.MaxAttempts = 1+g.r.IntN(8), 2+g.r.IntN(3)
		g.s.SetPolicy(g.policy)
		g.m.policy = g.policy
	case 2: // a number that Next did not offer
		seq := g.pick()
		g.s.Sent(seq, g.m.now, time.Time{})
		g.m.sent(seq, time.Time{})
		if d := g.m.owed[seq]; d != nil && d.phase == flying { // it went ahead of its turn
			g.first = map[bool]uint64{}
		}
	default:
		g.withdrawn()
		b := g.s.AppendBinary(nil)
		s, rest, err := Decode(g.policy, append(b, 9))
		if err != nil || len(rest) != 1 {
			g.t.Fatalf("decode: %v, rest %v", err, rest)
		}
		g.s = s
		g.m.restart()
	}
}

func (g *rig) withdrawn() {
	got := g.s.Withdrawn()
	slices.Sort(got)
	slices.Sort(g.m.withdrawn)
	if !slices.Equal(got, g.m.withdrawn) {
		g.t.Fatalf("withdrawn are %v, want %v", got, g.m.withdrawn)
	}
	g.m.withdrawn = nil
}

func TestStateRandomEvents(t *testing.T) {
	steps := [...]struct {
		weight int
		do     func(*rig)
	}{
		{30, (*rig).owe}, {35, (*rig).send}, {20, (*rig).ack}, {7, (*rig).nack}, {8, (*rig).timeouts},
		{4, (*rig).end}, {3, (*rig).link}, {2, (*rig).withdrawn}, {2, (*rig).rare},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for seed := range uint64(seeds(600)) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := Policy{Window: 1 + r.IntN(8), MaxAttempts: 2 + r.IntN(3), Backoff: Backoff{Base: time.Second, Max: 10 * time.Second}}
		now := time.Unix(1_000_000, 0)
		g := &rig{t: t, r: r, s: New(p), m: newModel(p, now), first: map[bool]uint64{}, policy: p}
		for step := range 400 {
			k := r.IntN(total)
			for _, s := range steps {
				if k -= s.weight; k < 0 {
					s.do(g)
					break
				}
			}
			g.m.compare(t, g.s)
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		g.drain()
	}
}

// drain delivers all that is left.
func (g *rig) drain() {
	g.m.close(g.t)
	g.s.Close()
	g.withdrawn()
	g.s.Open(3)
	g.m.open, g.m.window = true, 3
	for n := 0; len(g.m.owed) > 0; n++ {
		if n > 10_000 {
			g.t.Fatalf("%d are never offered", len(g.m.owed))
		}
		c, ok := g.s.Next(g.m.now)
		if !ok {
			at, ok := g.s.Wake()
			if !ok {
				g.t.Fatalf("%d are owed, nothing is offered and nothing will be", len(g.m.owed))
			}
			g.m.now = at
			continue
		}
		g.s.Sent(c.Seq, g.m.now, time.Time{})
		if !g.s.Ack(c.Seq) {
			g.t.Fatalf("%d was offered and cannot be acknowledged", c.Seq)
		}
		g.m.end(g.t, c.Seq, "delivered")
	}
	g.s.Close()
	if g.s.Depth() != 0 || g.s.live != nil {
		g.t.Fatalf("an idle State owes %d and keeps %+v", g.s.Depth(), g.s.live)
	}
}
