package wal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// ledger is what a caller of the log knows: which records it was told are durable, which were refused and may be there.
type ledger struct {
	t        testing.TB
	mu       sync.Mutex
	durable  map[uint64]string // Committed said so
	refused  map[string]bool   // an error was answered
	tried    map[string]bool
	optional map[uint64]string // cleaned away, but may still be there
	top      uint64
	riders   []string        // to be collected
	ridden   map[string]bool // committed riders
	lent     map[string]bool // handed to Collect in this run
}

func newLedger(t testing.TB) *ledger {
	return &ledger{
		t: t, durable: map[uint64]string{}, refused: map[string]bool{}, tried: map[string]bool{},
		optional: map[uint64]string{}, ridden: map[string]bool{}, lent: map[string]bool{},
	}
}

func (g *ledger) options() Options {
	o := testOptions()
	o.Generation = 1 << 10
	o.Reserve = 4 << 10
	o.Linger = -1
	o.Committed = g.committed
	o.Collect = g.collect
	return o
}

func (g *ledger) collect(add func(Record)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.riders {
		g.tried[r], g.lent[r] = true, true
		add(Record{Data: []byte(r), Tag: "rider"})
	}
	g.riders = nil
}

func (g *ledger) committed(b Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, r := range b.Records {
		seq := b.First + uint64(i)
		if seq <= g.top {
			g.t.Errorf("number %d after %d", seq, g.top)
		}
		g.top = seq
		g.durable[seq] = string(r.Data)
		if r.Tag == "rider" {
			if g.ridden[string(r.Data)] {
				g.t.Errorf("rider %s twice", r.Data)
			}
			g.ridden[string(r.Data)] = true
			delete(g.lent, string(r.Data))
		}
	}
}

// publish appends without waiting; the answer must fit what Committed said.
func (g *ledger) publish(l *Log, wg *sync.WaitGroup, data ...string) {
	var recs []Record
	g.mu.Lock()
	for _, s := range data {
		g.tried[s] = true
		recs = append(recs, Record{Data: []byte(s)})
	}
	g.mu.Unlock()
	wg.Add(1)
	l.Append(recs, func(first uint64, err error) {
		defer wg.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, s := range data {
			if err != nil {
				g.refused[s] = true
				if !errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) && !errors.Is(err, ErrClosed) {
					g.t.Errorf("refused with %v", err)
				}
			} else if g.durable[first+uint64(i)] != s {
				g.t.Errorf("answered %d for %q, Committed said %q", first+uint64(i), s, g.durable[first+uint64(i)])
			}
		}
	})
}

// verify compares a log with the ledger: everything durable is there and right, nothing was invented, nothing is lost.
func (g *ledger) verify(l *Log) {
	g.t.Helper()
	check(g.t, l)
	g.mu.Lock()
	defer g.mu.Unlock()
	got := contents(g.t, l)
	for seq, want := range g.durable {
		if s, ok := got[seq]; !ok || s != want {
			g.t.Fatalf("record %d is %q (there: %v), acknowledged was %q; generations %+v, losses %v", seq, s, ok, want, l.Generations(), l.Losses())
		}
	}
	for seq, s := range got {
		if g.durable[seq] != s && g.optional[seq] != s && !g.tried[s] {
			g.t.Fatalf("record %d is %q, which nobody wrote", seq, s)
		}
		if seq > g.top { // written, not acknowledged, and there after a crash
			g.top = seq
		}
		if _, ok := g.durable[seq]; !ok {
			g.optional[seq] = s
		}
	}
	if lost := l.Losses(); len(lost) > 0 {
		g.t.Fatalf("losses %v", lost)
	}
}

// scenario is a run with everything in it: appends, riders, a snapshot, cleaning, dropping.
func scenario(g *ledger, l *Log, run int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 24 {
		g.publish(l, &wg, fmt.Sprintf("%d/%d", run, i), fmt.Sprintf("%d/%d+", run, i))
		if i%3 == 0 {
			g.mu.Lock()
			g.riders = append(g.riders, fmt.Sprintf("rider %d/%d", run, i))
			g.mu.Unlock()
			l.Flush()
		}
		wg.Wait()
		switch i {
		case 10:
			if s, err := l.NewSide(Snapshot); err == nil {
				err := s.Append(0, []byte("state"), Stamp{})
				if err == nil {
					err = s.Commit()
				}
				if err != nil {
					s.Abort()
				}
			}
		case 16:
			g.carry(l)
		}
		time.Sleep(10 * time.Millisecond) // fake time
	}
}

// carry cleans the oldest two complete generations: odd numbers stay.
func (g *ledger) carry(l *Log) {
	var drop []uint64
	var from, to uint64
	for _, x := range l.Generations() {
		if x.Kind == Main && !x.Open && x.Records > 0 && len(drop) < 2 {
			if from == 0 {
				from = x.First
			}
			to = x.Last
			drop = append(drop, x.ID)
		} else if len(drop) > 0 {
			break
		}
	}
	if len(drop) == 0 {
		return
	}
	s, err := l.NewSide(Cold)
	if err != nil {
		return
	}
	defer s.Abort()
	err = l.Scan(from, to, func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq%2 == 1 {
			err = s.Append(seq, data, stamp)
		}
		return err == nil
	})
	if err != nil {
		return
	}
	g.mu.Lock() // from here on the even ones may be gone
	for seq := from; seq <= to; seq++ {
		if d, ok := g.durable[seq]; ok && seq%2 == 0 {
			g.optional[seq] = d
			delete(g.durable, seq)
		}
	}
	g.mu.Unlock()
	_ = l.Replace(s, drop)
}

// TestEveryFault lets every operation on the disk fail, in every way, once and for a while, and looks at the log as it
// goes on, after a power cut and after a clean stop.
func TestEveryFault(t *testing.T) {
	kinds := map[string]error{"eio": unix.EIO, "enospc": unix.ENOSPC, "short": errShort, "emfile": unix.EMFILE}
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 11
	}
	for name, fault := range kinds {
		for _, length := range []int{1, 2, 7} {
			t.Run(fmt.Sprintf("%s for %d", name, length), func(t *testing.T) {
				for at := 1; ; at += stride {
					if !faultRun(t, fault, at, length) {
						t.Logf("%d operations", at)
						return
					}
				}
			})
		}
	}
}

// opens are the operations that need a file descriptor.
var opens = map[string]bool{"create": true, "syncdir": true, "fill": true, "remove": true}

// faultRun reports whether the fault was reached.
func faultRun(t *testing.T, fault error, at, length int) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(at), uint64(length)))
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		d.fail = func(n int, op string) error {
			if n >= at && n < at+length && (!errors.Is(fault, unix.EMFILE) || opens[op]) {
				return fmt.Errorf("%s (operation %d): %w", op, n, fault)
			}
			return nil
		}
		g := newLedger(t)
		l, err := openOn(d, dir, g.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		scenario(g, l, 1)
		time.Sleep(time.Minute) // long enough to recover from everything
		if err := l.Health(); err != nil {
			t.Fatalf("operation %d: still %v", at, err)
		}
		l.Flush()
		synctest.Wait()
		if len(g.lent) > 0 || len(g.riders) > 0 {
			t.Fatalf("operation %d: riders %v %v are lost", at, g.lent, g.riders)
		}
		g.verify(l)
		reached = d.ops >= at
		cut := d.powerCut(t, rng)
		if err := l.Close(); err != nil && d.ops < at {
			t.Fatal(err)
		}
		for _, dir := range []string{cut, dir} {
			again := newFaultDisk(t, dir)
			l, err := openOn(again, dir, g.options())
			if err != nil {
				t.Fatal(err)
			}
			g.verify(l)
			l.Close()
		}
	})
	return reached
}

// TestPowerCut cuts the power before every operation, in several ways each, and looks whether everything acknowledged by
// then is there.
func TestPowerCut(t *testing.T) {
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 3
	}
	for at := 1; cutRun(t, at); at += stride {
	}
}

func cutRun(t *testing.T, at int) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(at), 0))
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		g := newLedger(t)
		then := newLedger(t)
		var cuts []string
		d.before = func(n int) {
			if n != at {
				return
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			then.durable, then.optional, then.tried = maps.Clone(g.durable), maps.Clone(g.optional), maps.Clone(g.tried)
			then.top = g.top
			for range 4 {
				cuts = append(cuts, d.powerCut(t, rng))
			}
		}
		l, err := openOn(d, dir, g.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		scenario(g, l, 1)
		l.Close()
		for _, cut := range cuts {
			reached = true
			one := newLedger(t)
			one.durable, one.optional = maps.Clone(then.durable), maps.Clone(then.optional)
			one.tried, one.top = then.tried, then.top
			l, err := openOn(newFaultDisk(t, cut), cut, one.options())
			if err != nil {
				t.Fatal(err)
			}
			one.verify(l)
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			for range 3 { // numbers go on above all that was ever seen, or Committed complains
				if _, err := l.AppendWait(t.Context(), Record{Data: []byte("after")}); err != nil {
					t.Fatal(err)
				}
			}
			one.verify(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	return reached
}
