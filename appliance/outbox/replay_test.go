package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// TestReplayIsTheSameFromEverything: after a random history the state is the same from the newest
// snapshot, from the one before when the newest is damaged, and from the log alone.
func TestReplayIsTheSameFromEverything(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			x := newBox(t, func(o *Options) { o.MaxBytes = 200 << 10; o.RetainBytes = 200 << 10 }) // small: dead letters fall out
			x.keep.passed.age = 1 << 62                                                            // never cleans
			randomHistory(x, r)
			if err := x.SettleNow(); err != nil {
				t.Fatal(err)
			}
			want := x.describe()
			snaps := x.log.Snapshots()
			if len(snaps) != 2 {
				t.Fatalf("snapshots %v", snaps)
			}
			x.close()
			x.open()
			x.same("the newest snapshot", want)
			x.close()
			spoil(t, filepath.Join(x.dir, fmt.Sprintf("g%08d", snaps[0])))
			x.open()
			x.same("the older snapshot", want)
			x.snapshot() // the damaged one goes, the good one stays
			if ids := x.log.Snapshots(); !slices.Contains(ids, snaps[1]) || slices.Contains(ids, snaps[0]) {
				t.Fatalf("snapshots %v, had %v with the first damaged", ids, snaps)
			}
			x.close()
			for _, id := range append(slices.Clone(snaps), 0) {
				os.RemoveAll(filepath.Join(x.dir, fmt.Sprintf("g%08d", id)))
			}
			x.dropSnapshots()
			x.open()
			x.same("the log alone", want)
		})
	}
}

// randomHistory publishes, settles, cancels, requeues, takes snapshots and crashes.
func randomHistory(x *box, r *rand.Rand) {
	for i := range 400 {
		switch n := r.IntN(100); {
		case n < 50:
			x.publish(fmt.Sprint("t/", r.IntN(5)), func(m *message.Message) {
				switch r.IntN(6) {
				case 0:
					m.Key = fmt.Sprint("key", i)
				case 1:
					m.Delay = time.Duration(1+r.IntN(100)) * time.Second
				case 2:
					m.TTL = time.Duration(1+r.IntN(100)) * time.Second
				}
			})
		case n < 80:
			for _, seq := range x.owed() {
				if r.IntN(3) == 0 {
					x.end([]message.State{message.Delivered, message.Dead, message.Sent}[r.IntN(3)], seq)
				}
			}
		case n < 84:
			if list := x.DeadLetters(0, 100); len(list) > 0 {
				if _, err := x.Requeue(ctx, list[r.IntN(len(list))].Entry); err != nil {
					x.t.Fatal(err)
				}
			}
		case n < 87:
			if err := x.Cancel(ctx, 1+r.Uint64N(x.Head())); err != nil {
				x.t.Fatal(err)
			}
		case n < 91:
			x.clock.move(time.Duration(r.IntN(20)) * time.Second)
			x.keep.release()
		case n < 95 || i == 390:
			x.snapshot()
		case n < 97:
			if err := x.SettleNow(); err != nil {
				x.t.Fatal(err)
			}
			x.crash()
			x.keep.passed.age = 1 << 62
		}
	}
	x.snapshot()
	x.publish("t/last")
	x.snapshot()
	for range 5 {
		x.publish("t/behind", func(m *message.Message) { m.Key = fmt.Sprint(r.Uint64()) })
	}
}

// described is all that replay must rebuild.
type described struct {
	owed    []uint64
	dead    []deadEntry
	nextDed uint64
	delayed []delayed
	idem    map[[16]byte]idemEntry
}

func (x *box) describe() described {
	owed := x.owed()
	x.mu.Lock()
	defer x.mu.Unlock()
	d := described{owed: owed, dead: slices.Clone(x.tables.dead.Entries), nextDed: x.tables.dead.next, delayed: slices.Clone(x.tables.delayed), idem: maps.Clone(x.tables.idem.by)}
	var bytes int64
	for _, e := range d.dead {
		bytes += e.Bytes
	}
	if bytes != x.tables.dead.bytes {
		x.t.Errorf("dead letters hold %d bytes, the table says %d", bytes, x.tables.dead.bytes)
	}
	return d
}

func (x *box) same(from string, want described) {
	x.t.Helper()
	got := x.describe()
	if !slices.Equal(got.owed, want.owed) {
		x.t.Fatalf("from %s: owed %v, want %v", from, got.owed, want.owed)
	}
	if !slices.Equal(got.dead, want.dead) || got.nextDed != want.nextDed {
		x.t.Fatalf("from %s: dead letters %+v (next %d)\nwant %+v (next %d)", from, got.dead, got.nextDed, want.dead, want.nextDed)
	}
	if !slices.Equal(got.delayed, want.delayed) {
		x.t.Fatalf("from %s: delayed %v, want %v", from, got.delayed, want.delayed)
	}
	if fmt.Sprint(got.idem) != fmt.Sprint(want.idem) {
		x.t.Fatalf("from %s: %d keys, want %d", from, len(got.idem), len(want.idem))
	}
}

// dropSnapshots removes all snapshot generations of a closed log.
func (x *box) dropSnapshots() {
	x.t.Helper()
	l, err := wal.Open(x.dir, wal.Options{Now: x.clock.Now})
	if err != nil {
		x.t.Fatal(err)
	}
	ids := l.Snapshots()
	if err := l.Close(); err != nil {
		x.t.Fatal(err)
	}
	for _, id := range ids {
		if err := os.RemoveAll(filepath.Join(x.dir, fmt.Sprintf("g%08d", id))); err != nil {
			x.t.Fatal(err)
		}
	}
}

// spoil damages a generation in its middle.
func spoil(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(b) / 3; i < len(b)/3+16 && i < len(b); i++ {
			b[i] ^= 0xff
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoppedOutboxRefuses(t *testing.T) {
	x := newBox(t)
	a := x.publish("a")
	ob := x.Outbox
	x.end(message.Delivered, a.Seq)
	x.close()
	done := make(chan error, 1)
	ob.Publish(message.New("b", nil), func(_ message.StoredAs, err error) { done <- err })
	if err := <-done; code(err) != message.CodeUnavailable {
		t.Fatal(err)
	}
	ob.Settle(Settlement{Sub: 1, Seq: 9, State: message.Sent})
	if err := ob.SettleNow(); code(err) != message.CodeUnavailable {
		t.Fatal(err)
	}
	x.open()
	if x.feed.has(a.Seq) {
		t.Fatal("Close did not write what was waiting")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := x.Change(gone, &Change{Op: OpDelete, Sub: 1}); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
