package delivery

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// drain sends whatever is offered.
func (s *State) drain(t *testing.T, now time.Time) (out []Candidate) {
	t.Helper()
	for {
		s.check(t)
		c, ok := s.Next(now)
		if !ok {
			return out
		}
		s.Sent(c.Seq, now, time.Time{})
		out = append(out, c)
	}
}

func TestFreshFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	s := New(Policy{Window: 100})
	for seq := uint64(1); seq <= 4; seq++ {
		s.Owe(seq, seq == 2)
	}
	s.FreshFirst(true) // no link: nothing happens
	s.Open(0)
	s.FreshFirst(true)
	s.Owe(10, false)
	want := []Candidate{{Seq: 2, Attempt: 1, Urgent: true}, {Seq: 10, Attempt: 1}}
	if got := s.drain(t, now); !slices.Equal(got, want) {
		t.Fatalf("held: %v", got)
	}
	s.Hold(false)
	c, ok := s.Next(now)
	if !ok || c != (Candidate{Seq: 1, Attempt: 1, Backlog: true}) || !s.Backlog(1) || s.Backlog(10) {
		t.Fatalf("the backlog: %v", c)
	}
	s.Sent(1, now, time.Time{})
	s.Owe(11, false)
	want = []Candidate{{Seq: 11, Attempt: 1}, {Seq: 3, Attempt: 1, Backlog: true}, {Seq: 4, Attempt: 1, Backlog: true}}
	if got := s.drain(t, now); !slices.Equal(got, want) {
		t.Fatalf("in between: %v", got)
	}
	s.Ack(3)
	s.Owe(3, false) // a rewind
	if got := s.drain(t, now); !slices.Equal(got, []Candidate{{Seq: 3, Attempt: 1, Backlog: true}}) {
		t.Fatalf("owed again: %v", got)
	}
	s.Close()
	s.Owe(5, false)
	s.Open(0)
	for _, c := range s.drain(t, now) { // 5 was never sent, the others were
		if (c.Attempt == 1) != (c.Seq == 5) || c.Backlog {
			t.Errorf("on another link: %v", c)
		}
	}
}

// Over random events nothing of the backlog comes while it is held, nor while something fresh can come, and everything
// comes in the end.
func TestFreshFirstAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		now := time.Unix(1000, 0)
		s := New(Policy{Window: 5, MaxAttempts: -1})
		next, held, mark := uint64(1), false, uint64(0)
		var flying []uint64
		for range 400 {
			now = now.Add(time.Second)
			switch rnd.IntN(9) {
			case 0, 1, 2:
				s.Owe(next, rnd.IntN(9) == 0)
				next++
			case 3:
				s.Open(0)
				flying, mark = nil, 0
				if rnd.IntN(3) > 0 {
					held = rnd.IntN(2) == 0
					s.FreshFirst(held)
					mark = s.normal.nth(MaxSeq)
				}
			case 4:
				held = !held && mark > 0
				s.Hold(held)
			case 5:
				if len(flying) > 0 {
					s.Nack(flying[0], now, time.Second)
					flying = flying[1:]
				}
			case 6:
				if len(flying) > 0 {
					s.Ack(flying[0])
					flying = flying[1:]
				}
			case 7:
				s.Owe(1+rnd.Uint64N(next), false)
			}
			s.check(t)
			c, ok := s.Next(now)
			if !ok {
				continue
			}
			if c.Backlog {
				if held || c.Seq > mark {
					t.Fatalf("seed %d: %d of the backlog up to %d, held %t", seed, c.Seq, mark, held)
				}
				s.normal.Each(mark+1, MaxSeq, func(first, _ uint64) bool {
					if !s.live.active(first) {
						t.Fatalf("seed %d: %d of the backlog comes before %d", seed, c.Seq, first)
					}
					return true
				})
			}
			s.Sent(c.Seq, now, time.Time{})
			flying = append(flying, c.Seq)
		}
		s.Open(1 << 20)
		s.FreshFirst(false)
		depth := s.Depth()
		if got := s.drain(t, now.Add(time.Hour)); int64(len(got)) != depth {
			t.Fatalf("seed %d: %d of %d came", seed, len(got), depth)
		}
	}
}
