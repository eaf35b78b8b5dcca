package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// testClock runs with time, or with the bubble's, and can be moved.
type testClock struct {
	start time.Time
	mu    sync.Mutex
	extra time.Duration

	jumpedAt, jumpedBy int64
}

func (c *testClock) Now() wal.Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wal.Stamp{Wall: time.Now().UnixNano(), Age: int64(time.Hour + time.Since(c.start) + c.extra), Boot: 1}
}

// Placed moves by jumpedBy what was read until jumpedAt.
func (c *testClock) Placed(age int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age <= c.jumpedAt {
		return age + c.jumpedBy
	}
	return age
}

// jump counts time off that came before everything that was ever read: nothing ages by it.
func (c *testClock) jump(by time.Duration) {
	at := c.Now().Age
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jumpedAt, c.jumpedBy = at, int64(by)
	c.extra += by
}

func (c *testClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra += d
}

// testFeed is one subscription that owes every message until it is settled.
type testFeed struct {
	mu       sync.Mutex
	applied  uint64
	owed     map[uint64]bool
	seen     []uint64 // what came live, in order
	expired  []uint64
	stopping bool
	fan      int    // besides, so many others owe the same
	before   func() // called when a batch comes, before it is applied
}

func newTestFeed() *testFeed { return &testFeed{owed: map[uint64]bool{}} }

type feedState struct {
	Applied uint64
	Owed    []uint64
}

func (f *testFeed) Restore(state []byte) error {
	var s feedState
	if err := json.Unmarshal(state, &s); err != nil {
		return err
	}
	f.applied = s.Applied
	for _, n := range s.Owed {
		f.owed[n] = true
	}
	return nil
}

func (f *testFeed) Committed(entries []Entry) {
	if f.before != nil {
		f.before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		if e.Seq <= f.applied || e.Cold {
			continue
		}
		f.applied = e.Seq
		switch {
		case e.Kind == KindMessage && !e.Held:
			f.owed[e.Seq] = true
			f.seen = append(f.seen, e.Seq)
		case e.Kind == KindSettlement:
			for _, s := range e.Settled {
				delete(f.owed, s.Seq)
			}
		case e.Kind == KindCancel:
			delete(f.owed, e.Cancel)
		}
	}
}

var errFeedStops = message.Problemf(message.CodeUnavailable, "stopping")

func (f *testFeed) Lend(put func([]byte) error) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return 0, errFeedStops
	}
	b, err := json.Marshal(feedState{f.applied, slices.Sorted(maps.Keys(f.owed))})
	if err != nil {
		return 0, err
	}
	return f.applied, put(b)
}

func (f *testFeed) Live(first, last uint64, add func(first, last uint64)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return errFeedStops
	}
	for n := range f.owed {
		if first <= n && n <= last {
			for range f.fan + 1 {
				add(n, n)
			}
		}
	}
	return nil
}

func (f *testFeed) Expired(seqs []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range seqs {
		delete(f.owed, n)
	}
	f.expired = append(f.expired, seqs...)
}

// has reports whether seq is owed.
func (f *testFeed) has(seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owed[seq]
}

// owed lists what the feed owes.
func (x *box) owed() []uint64 {
	x.feed.mu.Lock()
	defer x.feed.mu.Unlock()
	return slices.Sorted(maps.Keys(x.feed.owed))
}

// box is an outbox under test.
type box struct {
	*Outbox
	t     *testing.T
	dir   string
	clock *testClock
	feed  *testFeed
	o     Options
}

func newBox(t *testing.T, change ...func(*Options)) *box {
	t.Helper()
	x := &box{t: t, dir: filepath.Join(t.TempDir(), "log"), clock: &testClock{start: time.Now()}}
	x.o = Options{Epoch: testEpoch, Clock: x.clock, Log: slog.New(slog.DiscardHandler), Generation: 8 << 10, Linger: -1, MaxBytes: 64 << 20}
	for _, f := range change {
		f(&x.o)
	}
	x.open()
	t.Cleanup(func() {
		if x.Outbox != nil {
			x.close()
		}
	})
	return x
}

// open starts without the housekeeping: a test calls it by hand, or Keep.
func (x *box) open() {
	x.t.Helper()
	var err error
	if x.Outbox, err = Open(x.dir, x.o); err != nil {
		x.t.Fatal(err)
	}
	x.feed = newTestFeed()
	if err := x.Replay(x.feed); err != nil {
		x.t.Fatal(err)
	}
	if err := x.Start(); err != nil {
		x.t.Fatal(err)
	}
}

func (x *box) close() {
	x.t.Helper()
	if err := x.Close(); err != nil {
		x.t.Error(err)
	}
	x.Outbox = nil
}

// crash goes on with a copy of the directory.
func (x *box) crash() {
	x.t.Helper()
	dir := x.dir + "'"
	if err := os.CopyFS(dir, os.DirFS(x.dir)); err != nil {
		x.t.Fatal(err)
	}
	x.close()
	x.dir = dir
	x.open()
}

// pass is one pass of the housekeeping.
func (x *box) pass() {
	x.keep.pass()
}

func (x *box) snapshot() {
	x.t.Helper()
	if err := x.Snapshot(); err != nil {
		x.t.Fatal(err)
	}
}

type stored struct {
	as  message.StoredAs
	err error
}

func (x *box) publishing(m *message.Message) <-chan stored {
	done := make(chan stored, 1)
	x.Publish(m, func(as message.StoredAs, err error) { done <- stored{as, err} })
	return done
}

func (x *box) publish(topic string, change ...func(*message.Message)) message.StoredAs {
	x.t.Helper()
	m := message.New(message.Topic(topic), fmt.Appendf(nil, "%s %0100d", topic, x.Head()))
	m.From = "app"
	for _, f := range change {
		f(m)
	}
	s := <-x.publishing(m)
	if s.err != nil {
		x.t.Fatal(s.err)
	}
	return s.as
}

// end settles, in the feed and in the log.
func (x *box) end(state message.State, seqs ...uint64) {
	for _, n := range seqs {
		x.feed.mu.Lock()
		delete(x.feed.owed, n)
		x.feed.mu.Unlock()
		x.Settle(Settlement{Sub: 1, Seq: n, State: state, Attempts: 1, Bytes: 100})
	}
}

func code(err error) string {
	if p, ok := errors.AsType[*message.Problem](err); ok {
		return p.Code
	}
	return fmt.Sprint(err)
}

var ctx = context.Background()
