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
	var top atomic.Uint64
	o.Committed = func(b Batch) {
		for i, r := range b.Records {
			if !strings.HasPrefix(string(r.Data), "w") {
				t.Errorf("record %d is %q", b.First+uint64(i), r.Data)
			}
		}
		top.Store(b.First + uint64(len(b.Records)) - 1)
	}
	l := start(t, t.TempDir(), o)
	perWriter := 400
	if testing.Short() {
		perWriter = 100
	}
	text := func(w, i int) string { return fmt.Sprintf("w%d-%d-%s", w, i, strings.Repeat("z", i%97)) }
	valid := func(data []byte) bool {
		var w, i int
		n, _ := fmt.Sscanf(string(data), "w%d-%d-", &w, &i)
		return n == 2 && string(data) == text(w, i)
	}
	var writers, others sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range perWriter {
				if _, err := l.AppendWait(context.Background(), Record{Data: []byte(text(w, i))}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	loop := func(f func()) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for range 4 {
		loop(func() {
			seq := 1 + rand.Uint64N(top.Load()+1)
			data, _, err := l.Read(seq)
			if err == nil && !valid(data) || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("read %d: %q %v", seq, data, err)
			}
		})
		loop(func() {
			last := uint64(0)
			err := l.Scan(l.Tail(), l.Head(), func(seq uint64, data []byte, _ Stamp, _ bool) bool {
				if !valid(data) || seq <= last {
					t.Errorf("scan %d after %d: %q", seq, last, data)
				}
				last = seq
				return rand.IntN(500) > 0
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	loop(func() {
		gens := l.Generations()
		for i, g := range gens {
			if g.Kind == Main && !g.Open && g.Records > 0 && rand.IntN(2) == 0 {
				carryOver(t, l, g)
				break
			}
			if g.Kind == Cold && i == 0 && rand.IntN(2) == 0 {
				if err := l.Drop([]uint64{g.ID}); err != nil {
					t.Error(err)
				}
				break
			}
		}
	})
	loop(func() {
		s, err := l.NewSide(Snapshot)
		if err == nil {
			err = errors.Join(s.Append(0, []byte("state"), Stamp{}), s.Commit())
		}
		if ids := l.Snapshots(); len(ids) > 2 {
			err = errors.Join(err, l.Drop(ids[2:]))
		}
		if err != nil {
			t.Error(err)
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	check(t, l)
	if lost := l.Losses(); len(lost) > 0 {
		t.Errorf("losses %v", lost)
	}
	if l.Head() != top.Load() {
		t.Errorf("head %d, committed %d", l.Head(), top.Load())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
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
