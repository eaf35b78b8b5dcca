package bridge

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

func here() mapping.Here { return mapping.Here{Gateway: "gw1", Epoch: "aaaaaaaa"} }

// start runs a bridge until the returned function is called.
func start(t *testing.T, b *broker, h *memHome, change func(c *Config)) (*Bridge, func()) {
	t.Helper()
	c := Config{
		Name: "b", Kind: "fake", URLs: []string{"fake://one", "fake://two"},
		Up: Up{Filters: []message.Filter{"device/+/out/#"}, Format: "raw", To: "x", Window: 32},
	}
	if change != nil {
		change(&c)
	}
	c.Check([]Kind{b.kind()}, func(key, format string, args ...any) { t.Errorf("%s: "+format, append([]any{key}, args...)...) })
	br, err := New(c, b.kind(), Options{Home: h, Here: here()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); br.Run(ctx) }()
	return br, func() { cancel(); <-done }
}

// Through an upstream that fails at random in every way, nothing is settled that it does not have, no more than the
// window is on its way, every epoch sends in order, poison ends dead and keeps up nobody, and in the end everything
// is there.
func TestWayOutAtRandom(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { wayOut(t, seed) })
	}
}

func wayOut(t *testing.T, seed uint64) {
	b, h, rnd := newBroker(seed), newHome(), rand.New(rand.NewPCG(seed, 2))
	h.unfair = func(seq uint64) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.has[seq] {
			return fmt.Errorf("message %d was settled, and the upstream does not have it", seq)
		}
		return nil
	}
	b.poison["m13"] = Errorf(Refused, "not now")
	b.poison["m14"] = Errorf(Rejected, "never")
	b.poison["m15"] = Errorf(Doubtful, "internal server error")
	window := []int{32, 1, 0}[seed%3]
	_, stop := start(t, b, h, func(c *Config) { c.Up.Window = window })
	for i := range 400 {
		h.publish(fmt.Sprintf("m%d", i))
		if i%7 == 0 {
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		}
		if i%90 == 0 { // an outage
			b.mu.Lock()
			b.down = !b.down
			b.mu.Unlock()
		}
	}
	b.mu.Lock()
	b.calm, b.down = true, false
	b.mu.Unlock()
	for range 50 { // what refuses for good is known after some tries while others pass
		h.publish("fresh")
		time.Sleep(time.Minute)
	}
	stop()
	for _, err := range h.errs {
		t.Error(err)
	}
	if most := cmp.Or(window, MaxAdaptive); h.most > most {
		t.Errorf("seed %d: %d were on their way at once, the window is %d", seed, h.most, most)
	}
	if n := h.state.Depth(); n != 0 {
		t.Errorf("seed %d: %d are still owed", seed, n)
	}
	for seq := uint64(1); seq <= h.next; seq++ {
		body := string(h.msgs[seq].Payload)
		_, dead := h.dead[seq]
		if want := b.poison[body] != nil; dead != want || h.acked[seq] == want {
			t.Errorf("seed %d: %s: dead %t (%s), acknowledged %t", seed, body, dead, h.dead[seq], h.acked[seq])
		}
	}
	checkOrder(t, seed, b.got)
}

// checkOrder checks that a message never comes for the first time behind a later one's first time, except what was
// set aside.
func checkOrder(t *testing.T, seed uint64, got []string) {
	t.Helper()
	last := -1
	seen := make(map[string]bool)
	for _, s := range got {
		if seen[s] || s == "fresh" {
			continue
		}
		seen[s] = true
		n := 0
		fmt.Sscanf(s, "m%d", &n)
		if n < last {
			t.Errorf("seed %d: %s came behind m%d", seed, s, last)
		}
		last = max(last, n)
	}
}

// Without a window in the configuration it becomes as wide as the upstream bears, and a lost connection makes it narrower.
func TestAdaptiveWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm = true
		br, stop := start(t, b, h, func(c *Config) { c.Up.Window = 0 })
		for range 20_000 {
			h.publish("x")
		}
		time.Sleep(time.Minute)
		if s := br.Status(); s.Confirmed != 20_000 || s.Window != MaxAdaptive {
			t.Errorf("%d confirmed, window %d", s.Confirmed, s.Window)
		}
		b.mu.Lock()
		b.mute = true
		b.mu.Unlock()
		for range 2000 {
			h.publish("x")
		}
		time.Sleep(2 * silence)
		if s := br.Status(); s.Window >= MaxAdaptive || s.State != Connected {
			t.Errorf("%s behind a lost connection, window %d", s.State, s.Window)
		}
		if h.most > MaxAdaptive {
			t.Errorf("%d were on their way", h.most)
		}
		stop()
	})
}

// While the upstream is down nothing is held but by the log, and no message is given up.
func TestOutageCostsNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm, b.down = true, true
		br, stop := start(t, b, h, nil)
		for range 10_000 {
			h.publish("x")
		}
		time.Sleep(48 * time.Hour)
		if s := br.Status(); s.State != Waiting || !strings.Contains(s.Error, "connection refused") || s.RetryAt.IsZero() {
			t.Errorf("status during the outage: %+v", s)
		}
		synctest.Wait()
		if h.state.InFlight() != 0 || len(h.dead) != 0 {
			t.Errorf("%d on their way, %d dead during the outage", h.state.InFlight(), len(h.dead))
		}
		b.mu.Lock()
		b.down = false
		b.mu.Unlock()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if len(b.got) != 10_000 || h.state.Depth() != 0 {
			t.Errorf("%d came, %d are owed", len(b.got), h.state.Depth())
		}
		if s := br.Status(); s.State != Connected || s.Confirmed != 10_000 {
			t.Errorf("status afterwards: %+v", s)
		}
		stop()
	})
}

// An upstream that keeps the connection and answers nothing is said to, and left for another connection; one that
// answers slowly is not.
func TestSilentUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm, b.mute = true, true
		dialled := func() int {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.conns
		}
		br, stop := start(t, b, h, nil)
		for range 100 {
			h.publish("x")
		}
		time.Sleep(silence - time.Second)
		if s := br.Status(); s.State != Connected || s.Error != "" || dialled() != 1 {
			t.Errorf("before the time is over: %+v, %d connections", s, dialled())
		}
		time.Sleep(10 * time.Second)
		if s := br.Status(); !strings.Contains(s.Error, "has answered nothing for 2m0s, 32 messages wait") {
			t.Errorf("after it: %+v", s)
		}
		b.mu.Lock()
		b.mute = false
		b.mu.Unlock()
		time.Sleep(silence + time.Minute)
		synctest.Wait()
		if h.state.Depth() != 0 || len(h.dead) != 0 {
			t.Errorf("%d are owed and %d dead once it answers", h.state.Depth(), len(h.dead))
		}
		conns := dialled()
		for range 100 { // now and then one message
			h.publish("x")
			time.Sleep(3 * time.Minute)
		}
		if n := dialled(); n != conns {
			t.Errorf("%d new connections although everything was answered", n-conns)
		}
		stop()
	})
}

// An upstream that answers every message with a failure that may be its own costs no message its tries.
func TestBrokenUpstreamCostsNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm = true
		for i := range 50 {
			b.poison[fmt.Sprintf("m%d", i)] = Errorf(Doubtful, "internal server error")
		}
		_, stop := start(t, b, h, nil)
		for i := range 50 {
			h.publish(fmt.Sprintf("m%d", i))
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if len(h.dead) != 0 {
			t.Errorf("%d dead", len(h.dead))
		}
		b.mu.Lock()
		clear(b.poison)
		b.mu.Unlock()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if h.state.Depth() != 0 || len(h.dead) != 0 {
			t.Errorf("%d owed, %d dead", h.state.Depth(), len(h.dead))
		}
		stop()
	})
}

// What comes in is stored once and in order, through lost connections, lost acknowledgements and a disk that takes
// nothing for a while; positions are as good as acknowledgements.
func TestWayInAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { wayIn(t, seed, seed%2 == 0) })
	}
}

func wayIn(t *testing.T, seed uint64, positions bool) {
	b, h, rnd := newBroker(seed), newHome(), rand.New(rand.NewPCG(seed, 2))
	b.positive = positions
	_, stop := start(t, b, h, func(c *Config) {
		c.Up, c.Down = Up{}, Down{From: []string{"q"}, To: "device/${subject}/in/x", Publish: []message.Filter{"#"}}
	})
	want := 0
	for i := range 300 {
		to := "d1"
		if i%50 == 49 {
			to = "nobody"
		}
		b.mu.Lock()
		b.feed = append(b.feed, fed{i + 1, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"t","subject":"%s","data":%d}`, i, to, i)})
		b.mu.Unlock()
		want++
		h.mu.Lock()
		h.full = i%60 > 50
		h.mu.Unlock()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		if i == 150 { // edgepost restarts
			stop()
			_, stop = start(t, b, h, func(c *Config) {
				c.Up, c.Down = Up{}, Down{From: []string{"q"}, To: "device/${subject}/in/x", Publish: []message.Filter{"#"}}
			})
		}
	}
	b.mu.Lock()
	b.calm = true
	b.mu.Unlock()
	h.mu.Lock()
	h.full = false
	h.mu.Unlock()
	time.Sleep(5 * time.Minute)
	stop()
	var got []string
	refused := 0
	for _, m := range h.down {
		if m.Topic == RefusedTopic("b") {
			refused++
			continue
		}
		got = append(got, m.Event.ID)
	}
	for i, id := range slices.Compact(slices.Clone(got)) {
		if i >= len(got) || got[i] != id {
			t.Fatalf("seed %d: something was stored twice: %v", seed, got)
		}
	}
	if len(got) != want-6 || refused < 6 {
		t.Errorf("seed %d: %d of %d stored, %d refused", seed, len(got), want-6, refused)
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
		t.Errorf("seed %d: out of order: %v", seed, got)
	}
}

// A pause ends the connection and outlives a restart; a resume goes on; a drained bridge is paused.
func TestPauseResumeDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm = true
		br, stop := start(t, b, h, nil)
		h.publish("a")
		time.Sleep(time.Second)
		if err := br.Pause(); err != nil {
			t.Fatal(err)
		}
		h.publish("b")
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := br.Status(); s.State != Paused || len(b.got) != 1 {
			t.Errorf("paused: %v, %d came", s.State, len(b.got))
		}
		stop()
		br, stop = start(t, b, h, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := br.Status(); s.State != Paused || len(b.got) != 1 {
			t.Errorf("paused after a restart: %v, %d came", s.State, len(b.got))
		}
		if err := br.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := br.Status(); s.State != Connected || len(b.got) != 2 {
			t.Errorf("resumed: %v, %d came", s.State, len(b.got))
		}
		if err := br.Drain(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := br.Status(); s.State != Paused {
			t.Errorf("drained: %v", s.State)
		}
		stop()
	})
}
