package bridge

import (
	"math/rand/v2"
	"testing"
	"time"
)

// way is an upstream in a model: confirmations come a round trip behind the moment when it has done with a message,
// which it does in groups, the way brokers sync.
type way struct {
	trip  time.Duration
	sync  time.Duration // of a group, whatever its size
	each  time.Duration // of a message
	group int           // most messages in one
}

// drive keeps the window full on a way for a while and returns how many messages passed a second, and how long the
// last of them took. Time is that of the model.
func drive(w *window, now *time.Time, y way, d time.Duration) (rate float64, took time.Duration) {
	type flying struct {
		sent  time.Time
		alone bool
	}
	var sent []flying // in order
	begin, done := *now, 0
	free := *now // when the upstream has done with what it has
	for now.Sub(begin) < d {
		for len(sent) < w.size {
			sent = append(sent, flying{*now, len(sent) == 0})
		}
		w.full = true
		n := min(len(sent), y.group)
		free = maxTime(free, sent[0].sent.Add(y.trip/2)).Add(y.sync + time.Duration(n)*y.each)
		*now = maxTime(*now, free.Add(y.trip/2))
		for _, f := range sent[:n] {
			took = now.Sub(f.sent)
			w.answered(*now, f.sent, f.alone)
		}
		sent = sent[n:]
		done += n
	}
	return float64(done) / now.Sub(begin).Seconds(), took
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// On ways of all kinds the window comes to what the way can carry, and keeps no more waiting than about a second's worth.
func TestWindowFindsItsSize(t *testing.T) {
	for _, c := range []struct {
		name string
		way  way
		rate float64       // it must reach, of 1 that the way can
		took time.Duration // and keep
	}{
		{"a broker beside it, which syncs", way{trip: time.Millisecond, sync: time.Millisecond, each: 20 * time.Microsecond, group: 64}, 0.95, late},
		{"one by one", way{trip: time.Millisecond, sync: 0, each: time.Millisecond, group: 1}, 0.95, late},
		{"a cloud, slow disks", way{trip: 80 * time.Millisecond, sync: 20 * time.Millisecond, each: 100 * time.Microsecond, group: 256}, 0.9, late},
		{"a thin line", way{trip: 100 * time.Millisecond, each: 10 * time.Millisecond, group: 1}, 0.95, late},
		{"2G", way{trip: 800 * time.Millisecond, each: 50 * time.Millisecond, group: 1}, 0.9, 3 * time.Second},
	} {
		w, now := newWindow(0, firstWindow), time.Unix(1e9, 0)
		drive(&w, &now, c.way, time.Minute)
		rate, took := drive(&w, &now, c.way, time.Minute)
		best := float64(c.way.group) / (c.way.sync + time.Duration(c.way.group)*c.way.each).Seconds()
		t.Logf("%s: window %d, %.0f of %.0f messages/s, each takes %v", c.name, w.size, rate, best, took)
		if rate < best*c.rate || took > c.took {
			t.Errorf("%s: %.0f of %.0f messages/s, each takes %v; want %.0f%% and %v at the most", c.name, rate, best, took, 100*c.rate, c.took)
		}
	}
}

// A way that becomes ten times slower, farther, and as it was before.
func TestWindowFollowsTheWay(t *testing.T) {
	w, now := newWindow(0, firstWindow), time.Unix(1e9, 0)
	good := way{trip: 20 * time.Millisecond, each: time.Millisecond, group: 1}
	drive(&w, &now, good, time.Minute)
	slow := way{trip: 20 * time.Millisecond, each: 20 * time.Millisecond, group: 1}
	if rate, took := drive(&w, &now, slow, time.Minute); rate < 45 || took > late {
		t.Errorf("slow: window %d, %.0f of 50 messages/s, each takes %v", w.size, rate, took)
	}
	far := way{trip: 2 * time.Second, each: 2 * time.Millisecond, group: 1}
	drive(&w, &now, far, 10*time.Minute)
	if rate, took := drive(&w, &now, far, time.Minute); rate < 400 || took > 4*time.Second {
		t.Errorf("far: window %d, %.0f of 500 messages/s, each takes %v", w.size, rate, took)
	}
	drive(&w, &now, good, time.Minute)
	if rate, _ := drive(&w, &now, good, time.Minute); rate < 950 {
		t.Errorf("as before: window %d, %.0f of 1000 messages/s", w.size, rate)
	}
}

// One that is fixed stays; one that nothing waits for does not grow; and whatever happens, the size is one that is allowed.
func TestWindowBounds(t *testing.T) {
	fixed, idle, now := newWindow(2000, 5), newWindow(0, firstWindow), time.Unix(1e9, 0)
	fixed.shrink(now, now)
	for range 10_000 {
		fixed.answered(now, now, true)
		idle.answered(now.Add(time.Millisecond), now, true)
	}
	if fixed.size != 2000 || idle.size != firstWindow {
		t.Errorf("fixed %d, idle %d", fixed.size, idle.size)
	}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := newWindow(0, rnd.IntN(3000)-10)
		for step := range 2000 {
			now = now.Add(time.Duration(rnd.Int64N(int64(time.Second))))
			switch rnd.IntN(20) {
			case 0:
				w.shrink(now, now.Add(-time.Duration(rnd.Int64N(int64(time.Second)))))
			case 1:
				w.full = true
			default:
				w.answered(now, now.Add(-time.Duration(rnd.Int64N(int64(3*time.Second)))), rnd.IntN(9) == 0)
			}
			if w.size < 1 || w.size > MaxAdaptive || w.base < 0 || w.count < 0 {
				t.Fatalf("seed %d, step %d: %+v", seed, step, w)
			}
		}
	}
}
