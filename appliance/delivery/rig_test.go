package delivery

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

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
	switch g.r.IntN(8) { // what comes between an offer and its link's answer
	case 0:
		g.owe()
	case 1:
		g.end()
	case 2:
		g.nack()
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
	sends, _ := g.s.Attempts(seq)
	if !want {
		sends = 0
	}
	if got := g.s.Ack(seq); got != sends || want != (got > 0) {
		g.t.Fatalf("Ack(%d) is %d, it was sent %d times", seq, got, sends)
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
	at, ok := g.s.Wake()
	if want, due := g.m.wake(); ok && !at.After(g.m.now) || due && (!ok || at.After(want)) {
		g.t.Fatalf("Wake is %v, %t after Timeouts at %v, want %v, %t", at, ok, g.m.now, want, due)
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
		{30, (*rig).owe},
		{35, (*rig).send},
		{20, (*rig).ack},
		{7, (*rig).nack},
		{8, (*rig).timeouts},
		{4, (*rig).end},
		{3, (*rig).link},
		{2, (*rig).withdrawn},
		{2, (*rig).rare},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for seed := range uint64(seeds(120)) {
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
		if g.s.Ack(c.Seq) == 0 {
			g.t.Fatalf("%d was offered and cannot be acknowledged", c.Seq)
		}
		g.m.end(g.t, c.Seq, "delivered")
	}
	g.s.Close()
	if g.s.Depth() != 0 || g.s.live != nil {
		g.t.Fatalf("an idle State owes %d and keeps %+v", g.s.Depth(), g.s.live)
	}
}
