package delivery

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestParkedBlocksNothingAndComesBackInOrder(t *testing.T) {
	now := time.Unix(1000, 0)
	s := New(Policy{Window: 2, MaxAttempts: 5})
	for seq := uint64(1); seq <= 9; seq++ {
		s.Owe(seq, seq == 8)
	}
	s.Open(0)
	offered := func() (out []uint64) { // odd ones are taken
		for {
			s.check(t)
			c, ok := s.Next(now)
			if !ok {
				return out
			}
			if c.Seq%2 == 0 {
				s.Park(c.Seq)
				continue
			}
			if c.Attempt != 1 {
				t.Fatalf("%d is offered as attempt %d", c.Seq, c.Attempt)
			}
			s.Sent(c.Seq, now, time.Time{})
			out = append(out, c.Seq)
		}
	}
	if got := offered(); !slices.Equal(got, []uint64{1, 3}) || s.ParkedLen() != 2 {
		t.Fatalf("sent %v, parked %d", got, s.ParkedLen())
	}
	s.Park(1)   // in flight
	s.Park(100) // not owed
	s.Ack(1)
	s.Ack(3)
	if got := offered(); !slices.Equal(got, []uint64{5, 7}) || s.ParkedLen() != 4 || s.Depth() != 7 {
		t.Fatalf("sent %v, parked %d, owed %d", got, s.ParkedLen(), s.Depth())
	}
	s.Drop(4)
	if s.check(t); s.ParkedLen() != 3 {
		t.Fatalf("what ended is parked: %d", s.ParkedLen())
	}
	s.Nack(5, now, time.Second)
	now = now.Add(time.Second)
	s.Park(5) // its time has come, but the link does not take it any more
	if s.check(t); s.InFlight() != 1 || s.ParkedLen() != 4 {
		t.Fatalf("in flight %d, parked %d", s.InFlight(), s.ParkedLen())
	}
	s.Close()
	s.Open(10)
	var all []Candidate
	for {
		s.check(t)
		c, ok := s.Next(now)
		if !ok {
			break
		}
		s.Sent(c.Seq, now, time.Time{})
		all = append(all, c)
	}
	want := []Candidate{{Seq: 8, Attempt: 1, Urgent: true}, {Seq: 2, Attempt: 1}, {Seq: 5, Attempt: 2}, {Seq: 6, Attempt: 1}, {Seq: 7, Attempt: 2}, {Seq: 9, Attempt: 1}}
	if !slices.Equal(all, want) {
		t.Fatalf("after another link came: %v", all)
	}
}

// Whatever is parked and offered again, everything is sent once, and in order within what is taken.
func TestParkedAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		r, now := rand.New(rand.NewPCG(seed, 1)), time.Unix(1000, 0)
		s := New(Policy{Window: 3})
		s.Open(0)
		sent, flying, takes, seq := map[uint64]bool{}, []uint64{}, uint64(0), uint64(0)
		step := func() bool {
			s.check(t)
			c, ok := s.Next(now)
			switch {
			case !ok:
				return false
			case takes != 3 && c.Seq%3 != takes:
				s.Park(c.Seq)
			case sent[c.Seq]:
				t.Fatalf("seed %d: %d is sent twice", seed, c.Seq)
			default:
				s.Sent(c.Seq, now, time.Time{})
				sent[c.Seq], flying = true, append(flying, c.Seq)
			}
			return true
		}
		for range 300 {
			switch r.IntN(4) {
			case 0:
				seq++
				s.Owe(seq, r.IntN(5) == 0)
			case 1:
				if len(flying) > 0 {
					i := r.IntN(len(flying))
					s.Ack(flying[i])
					flying = slices.Delete(flying, i, i+1)
				}
			case 2:
				step()
			case 3:
				if r.IntN(10) == 0 {
					takes = r.Uint64N(4)
					s.Unpark()
				}
			}
		}
		takes = 3
		s.Unpark()
		for step() || len(flying) > 0 {
			for _, f := range flying {
				s.Ack(f)
			}
			flying = nil
		}
		if uint64(len(sent)) != seq || s.Depth() != 0 || s.ParkedLen() != 0 {
			t.Fatalf("seed %d: %d of %d sent, %d owed, %d parked", seed, len(sent), seq, s.Depth(), s.ParkedLen())
		}
	}
}
