package wal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestRandomEvents runs random histories: appends of all sizes, riders, cleaning, drops, snapshots, faults, a full
// disk, clean stops and power cuts, one after the other on the same log, and compares with the ledger after each.
func TestRandomEvents(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() || raceEnabled {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomHistory(t, seed) })
		})
	}
}

func randomHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	g := newLedger(t)
	for run := range 8 {
		d := newFaultDisk(t, dir)
		o := g.options()
		o.Generation = 1 << (9 + rng.IntN(6))
		o.Reserve = []int64{-1, 4 << 10}[rng.IntN(2)]
		o.Linger = []time.Duration{-1, time.Millisecond}[rng.IntN(2)]
		l, err := openOn(d, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		g.verify(l)
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		m := &machine{g: g, l: l, d: d, rng: rng, run: run}
		for range 60 {
			m.step()
		}
		m.wg.Wait()
		if m.d.setFaults(nil, false); rng.IntN(2) == 0 {
			time.Sleep(time.Minute)
			if err := l.Health(); err != nil {
				t.Fatal(err)
			}
			g.verify(l)
		}
		if rng.IntN(2) == 0 {
			if err := l.Close(); err != nil && l.com.broken == nil {
				t.Fatal(err)
			}
		} else {
			synctest.Wait()
			dir = d.powerCut(t, rng)
			before, top := maps.Clone(g.durable), g.top
			l.Close() // what it still commits never reached the disk that we go on with
			g.durable, g.top = before, top
		}
		g.lent = map[string]bool{}
	}
}

// machine does one random thing after the other.
type machine struct {
	g   *ledger
	l   *Log
	d   *faultDisk
	rng *rand.Rand
	run int
	n   int
	wg  sync.WaitGroup
}

func (d *faultDisk) setFaults(fail func(int, string) error, noroom bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.noroom = fail, noroom
}

func (m *machine) text() string {
	m.n++
	s := fmt.Sprintf("run %d record %d ", m.run, m.n)
	if m.rng.IntN(10) == 0 {
		for range m.rng.IntN(2000) {
			s += string(rune('a' + m.rng.IntN(26)))
		}
	}
	return s
}

func (m *machine) step() {
	switch m.rng.IntN(16) {
	case 0, 1, 2, 3, 4, 5, 6:
		var data []string
		for range 1 + m.rng.IntN(4) {
			data = append(data, m.text())
		}
		m.g.publish(m.l, &m.wg, data...)
	case 7:
		m.g.mu.Lock()
		m.g.riders = append(m.g.riders, m.text())
		m.g.mu.Unlock()
		if m.rng.IntN(2) == 0 {
			m.l.Flush()
		}
	case 8:
		m.wg.Wait()
		synctest.Wait()
		m.g.carry(m.l)
	case 9:
		m.drop()
	case 10:
		m.snapshot()
	case 11:
		n := m.rng.IntN(5)
		kind := []error{unix.EIO, unix.ENOSPC, errShort, unix.EROFS}[m.rng.IntN(4)]
		odds := rand.New(rand.NewPCG(m.rng.Uint64(), 0)) // for whichever goroutine meets the fault
		m.d.setFaults(func(int, string) error {
			if n--; n >= -odds.IntN(3) {
				return fmt.Errorf("injected: %w", kind)
			}
			return nil
		}, errors.Is(kind, unix.ENOSPC) && m.rng.IntN(2) == 0)
	case 12:
		m.d.setFaults(nil, false)
	case 13:
		time.Sleep(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
	default:
		m.wg.Wait()
	}
}

// drop removes the oldest generation.
func (m *machine) drop() {
	m.wg.Wait()
	synctest.Wait()
	gens := slices.DeleteFunc(m.l.Generations(), func(g Generation) bool { return g.Kind == Snapshot })
	if len(gens) == 0 || gens[0].Open || m.rng.IntN(3) > 0 {
		return
	}
	m.g.mu.Lock()
	for seq := gens[0].First; seq <= gens[0].Last; seq++ {
		if d, ok := m.g.durable[seq]; ok {
			m.g.optional[seq] = d
			delete(m.g.durable, seq)
		}
	}
	m.g.mu.Unlock()
	_ = m.l.Drop([]uint64{gens[0].ID})
}

// snapshot writes one, of several frames, and keeps the newest two.
func (m *machine) snapshot() {
	s, err := m.l.NewSide(Snapshot)
	if err != nil {
		return
	}
	defer s.Abort()
	n := m.rng.IntN(2000)
	for i := range n {
		if err := s.Append(0, fmt.Appendf(nil, "state %d of %d %0100d", i, n, i), Stamp{}); err != nil {
			return
		}
	}
	if m.rng.IntN(4) == 0 || s.Commit() != nil {
		return
	}
	snaps := m.l.Snapshots()
	if snaps[0] != s.g.id {
		m.g.t.Errorf("snapshots %v, the newest should be %d", snaps, s.g.id)
	}
	i := 0
	err = m.l.ReadSnapshot(snaps[0], func(data []byte) error {
		if want := fmt.Sprintf("state %d of %d %0100d", i, n, i); string(data) != want {
			return fmt.Errorf("record %d is %q", i, data)
		}
		i++
		return nil
	})
	if err != nil || i != n {
		m.g.t.Errorf("snapshot: %d of %d, %v", i, n, err)
	}
	if len(snaps) > 2 {
		_ = m.l.Drop(snaps[2:])
	}
}
