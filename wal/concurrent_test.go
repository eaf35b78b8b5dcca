package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestConcurrent appends, reads, scans, carries, drops and takes snapshots at the same time. A record is either what
// was written or gone because it was dropped; it is never anything else.
func TestConcurrent(t *testing.T) {
	o := testOptions()
	o.Generation = 8 << 10
	o.Cache = 16 << 10
	c := &crowd{t: t, stop: make(chan struct{})}
	o.Committed = c.committed
	c.l = start(t, t.TempDir(), o)
	perWriter := 300
	if testing.Short() || raceEnabled {
		perWriter = 60
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range perWriter {
				if _, err := c.l.AppendWait(context.Background(), Record{Data: []byte(crowdText(w, i))}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		c.loop(c.read)
		c.loop(c.scan)
	}
	c.loop(c.clean)
	c.loop(c.snapshot)
	writers.Wait()
	close(c.stop)
	c.others.Wait()
	check(t, c.l)
	if lost := c.l.Losses(); len(lost) > 0 {
		t.Errorf("losses %v", lost)
	}
	if c.l.Head() != c.top.Load() {
		t.Errorf("head %d, committed %d", c.l.Head(), c.top.Load())
	}
	if err := c.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// crowd does everything at once.
type crowd struct {
	t      *testing.T
	l      *Log
	top    atomic.Uint64
	stop   chan struct{}
	others sync.WaitGroup
}

func crowdText(w, i int) string { return fmt.Sprintf("w%d-%d-%s", w, i, strings.Repeat("z", i%97)) }

func crowdValid(data []byte) bool {
	var w, i int
	n, _ := fmt.Sscanf(string(data), "w%d-%d-", &w, &i)
	return n == 2 && string(data) == crowdText(w, i)
}

func (c *crowd) loop(f func()) {
	c.others.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
				f()
			}
		}
	})
}

func (c *crowd) committed(b Batch) {
	for i, r := range b.Records {
		if !crowdValid(r.Data) {
			c.t.Errorf("record %d is %q", b.First+uint64(i), r.Data)
		}
	}
	c.top.Store(b.First + uint64(len(b.Records)) - 1)
}

func (c *crowd) read() {
	seq := 1 + rand.Uint64N(c.top.Load()+1)
	data, _, err := c.l.Read(seq)
	if err == nil && !crowdValid(data) || err != nil && !errors.Is(err, ErrNotFound) {
		c.t.Errorf("read %d: %q %v", seq, data, err)
	}
}

func (c *crowd) scan() {
	last := uint64(0)
	err := c.l.Scan(c.l.Tail(), c.l.Head(), func(seq uint64, data []byte, _ Stamp, _ bool) bool {
		if !crowdValid(data) || seq <= last {
			c.t.Errorf("scan %d after %d: %q", seq, last, data)
		}
		last = seq
		return rand.IntN(500) > 0
	})
	if err != nil {
		c.t.Error(err)
	}
}

func (c *crowd) clean() {
	for i, g := range c.l.Generations() {
		if g.Kind == Main && !g.Open && g.Records > 0 && rand.IntN(2) == 0 {
			carryOver(c.t, c.l, g)
			return
		}
		if g.Kind == Cold && i == 0 && rand.IntN(2) == 0 {
			if err := c.l.Drop([]uint64{g.ID}); err != nil {
				c.t.Error(err)
			}
			return
		}
	}
}

func (c *crowd) snapshot() {
	s, err := c.l.NewSide(Snapshot)
	if err == nil {
		err = errors.Join(s.Append(0, []byte("state"), Stamp{}), s.Commit())
	}
	if ids := c.l.Snapshots(); len(ids) > 2 {
		err = errors.Join(err, c.l.Drop(ids[2:]))
	}
	if err != nil {
		c.t.Error(err)
	}
}

func carryOver(t *testing.T, l *Log, g Generation) {
	s, err := l.NewSide(Cold)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Abort()
	err = l.Scan(g.First, g.Last, func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq%2 == 0 {
			if err := s.Append(seq, data, stamp); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if err == nil {
		err = l.Replace(s, []uint64{g.ID})
	}
	if err != nil {
		t.Error(err)
	}
}
