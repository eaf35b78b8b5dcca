package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk follows the rules for a full disk: publishers are refused, riders and sides go on in the space of the
// reserve file, and appends resume by themselves within a second of space coming back.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		g := newLedger(t)
		l, err := openOn(d, dir, g.options())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		publish := func(s string) error {
			_, err := l.AppendWait(context.Background(), Record{Data: []byte(s)})
			return err
		}
		if err := publish("before"); err != nil {
			t.Fatal(err)
		}
		held := func() bool {
			_, err := os.Stat(filepath.Join(dir, reserve))
			return err == nil
		}
		if !held() {
			t.Fatal("no reserve file")
		}
		d.setFaults(func(int, string) error { // no space for anything as long as the reserve file is there
			if held() {
				return unix.ENOSPC
			}
			return nil
		}, true)
		d.mu.Lock()
		d.unlimited = "remove"
		d.mu.Unlock()
		if err := publish("refused"); !errors.Is(err, ErrFull) || !errors.Is(l.Health(), ErrFull) {
			t.Fatal(err, l.Health())
		}
		if held() {
			t.Error("the reserve file was not released")
		}
		g.riders = []string{"rider"}
		l.Flush()
		synctest.Wait()
		if !g.ridden["rider"] {
			t.Error("the rider did not ride in the reserve's space")
		}
		if err := publish("refused too"); !errors.Is(err, ErrFull) {
			t.Error("publishers eat the reserve's space:", err)
		}
		if side, err := l.NewSide(Snapshot); err != nil {
			t.Error("side:", err)
		} else if err := errors.Join(side.Append(0, []byte("state"), Stamp{}), side.Commit()); err != nil {
			t.Error("side:", err)
		}
		time.Sleep(time.Hour)
		if l.Health() == nil || held() {
			t.Error("healthy without space")
		}
		d.setFaults(nil, false)
		time.Sleep(maxBackoff)
		synctest.Wait()
		if err := l.Health(); err != nil || !held() {
			t.Error("not resumed after a second:", err)
		}
		if err := publish("after"); err != nil {
			t.Error(err)
		}
	})
}

// TestSideSpendsReserve has a side find little space before anybody else does.
func TestSideSpendsReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		l, err := openOn(d, dir, newLedger(t).options())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d.setFaults(nil, true)
		side, err := l.NewSide(Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		side.Abort()
		synctest.Wait()
		if !errors.Is(l.Health(), ErrFull) {
			t.Error("publishers may take what cleaning was given:", l.Health())
		}
		d.setFaults(nil, false)
		time.Sleep(time.Second)
		if err := l.Health(); err != nil {
			t.Error(err)
		}
	})
}

// TestStartOnFailingDisk starts, reads and recovers although nothing can be written at first.
func TestStartOnFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := start(t, dir, testOptions())
		n := add(t, l, "old")
		l.Close()
		d := newFaultDisk(t, dir)
		d.fail = func(int, string) error { return unix.EROFS }
		l, err := openOn(d, dir, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got, _, err := l.Read(n); err != nil || string(got) != "old" {
			t.Error(string(got), err)
		}
		if _, err := l.AppendWait(context.Background(), Record{}); !errors.Is(err, ErrFailed) || !errors.Is(err, unix.EROFS) {
			t.Error(err)
		}
		d.setFaults(nil, false)
		time.Sleep(time.Second)
		add(t, l, "new")
	})
}

// TestNoNumberTwice: the numbers of a frame that failed are not used for another record, even if nobody saw them.
func TestNoNumberTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		l, err := openOn(d, dir, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a := add(t, l, "a")
		syncs := 0
		d.setFaults(func(_ int, op string) error {
			if op == "sync" {
				if syncs++; syncs == 1 {
					return unix.EIO
				}
			}
			return nil
		}, false)
		if b := add(t, l, "b"); b != a+2 {
			t.Errorf("numbers %d and %d", a, b)
		}
	})
}

// TestBackPressure: Append blocks while more than 4 MiB are queued, AppendWait gives up with its context, Close frees all.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		gate := make(chan struct{})
		var once sync.Once
		o.Committed = func(Batch) { once.Do(func() { <-gate }) }
		l := start(t, t.TempDir(), o)
		big := make([]byte, 1<<20)
		var answered sync.WaitGroup
		queued := 0
		var blocked sync.WaitGroup
		blocked.Go(func() {
			for range 8 {
				answered.Add(1)
				l.Append([]Record{{Data: big}}, func(_ uint64, err error) {
					if err != nil {
						t.Error(err)
					}
					answered.Done()
				})
				queued++
			}
		})
		synctest.Wait()
		if queued < 4 || queued > 6 {
			t.Errorf("%d appends of 1 MiB are queued", queued)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := l.AppendWait(ctx, Record{Data: big}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(gate)
		blocked.Wait()
		answered.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		done := fmt.Errorf("not called")
		l.Append(nil, func(_ uint64, err error) { done = err })
		if !errors.Is(done, ErrClosed) {
			t.Error(done)
		}
	})
}

// TestUrgentAppendOnFullDisk: what is urgent is stored in the reserve's space, at once and without riders, whether the
// log was full before or finds out by it; other appends leave that space alone, and it is set aside again.
func TestUrgentAppendOnFullDisk(t *testing.T) {
	for name, refusedBefore := range map[string]bool{"found full": true, "first to find out": false} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { urgentOnFullDisk(t, refusedBefore) }) })
	}
}

func urgentOnFullDisk(t *testing.T, refusedBefore bool) {
	dir := t.TempDir()
	d := newFaultDisk(t, dir)
	o := newLedger(t).options()
	o.Collect = nil
	l, err := openOn(d, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	add(t, l, "before")
	held := func() bool {
		_, err := os.Stat(filepath.Join(dir, reserve))
		return err == nil
	}
	urgent := func(s string) (uint64, error) { return appendUrgent(l, s) }
	refused := func(what string) {
		t.Helper()
		if _, err := l.AppendWait(context.Background(), Record{Data: []byte(what)}); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	d.setFaults(func(int, string) error {
		if held() {
			return unix.ENOSPC
		}
		return nil
	}, true)
	d.mu.Lock()
	d.unlimited = "remove"
	d.mu.Unlock()
	if refusedBefore {
		refused("not urgent")
		time.Sleep(time.Minute) // recover tries, and leaves the reserve
		if !held() || !errors.Is(l.Health(), ErrFull) {
			t.Fatal("the reserve went to what is not urgent:", l.Health())
		}
	}
	first, err := urgent("urgent")
	if err != nil {
		t.Fatal(err)
	}
	second, err := urgent("urgent again")
	if err != nil {
		t.Fatal(err)
	}
	refused("not urgent")
	d.setFaults(func(int, string) error { return unix.ENOSPC }, true) // that space is used up as well
	if _, err := urgent("too much"); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	d.setFaults(nil, false)
	time.Sleep(maxBackoff)
	synctest.Wait()
	if err := l.Health(); err != nil || !held() {
		t.Error("the reserve is not set aside again:", err)
	}
	add(t, l, "after")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = start(t, dir, o)
	defer l.Close()
	for n, want := range map[uint64]string{first: "urgent", second: "urgent again"} {
		if got, _, err := l.Read(n); err != nil || string(got) != want {
			t.Errorf("record %d is %q, %v; want %q", n, got, err, want)
		}
	}
}

// appendUrgent waits for the answer.
func appendUrgent(l *Log, s string) (first uint64, err error) {
	done := make(chan struct{})
	l.AppendUrgent([]Record{{Data: []byte(s)}}, func(n uint64, failed error) {
		first, err = n, failed
		close(done)
	})
	<-done
	return first, err
}
