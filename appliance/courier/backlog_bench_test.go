package courier

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// BenchmarkRestart reports, for a million messages that wait (DESIGN §10), how long a start takes after a
// crash and how much heap the debts take above the same subscriptions without any.
func BenchmarkRestart(b *testing.B) {
	for _, c := range []struct{ subs, each int }{{1, 1_000_000}, {10_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", c.subs, c.each), func(b *testing.B) {
			dir := b.TempDir()
			idle := backlog(b, filepath.Join(dir, "idle"), c.subs, 0)
			full := backlog(b, filepath.Join(dir, "full"), c.subs, c.each)
			none := measureStart(b, idle, 0)
			b.ResetTimer()
			var took time.Duration
			var heap int64
			for range b.N {
				m := measureStart(b, full, int64(c.subs*c.each))
				took += m.took
				heap = max(heap, m.heap)
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/start")
			b.ReportMetric(float64(heap-none.heap)/(1<<20), "MiB-above-idle")
			b.ReportMetric(float64(none.heap)/(1<<20), "MiB-idle")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func backlogOptions() (outbox.Options, Options) {
	quiet := slog.New(slog.DiscardHandler)
	clock := &ticking{start: time.Now(), base: int64(time.Hour)}
	return outbox.Options{Epoch: message.NewEpoch(1), Clock: clock, Log: quiet, MaxBytes: 4 << 30, Linger: -1},
		Options{Rights: allowAll{}, Log: quiet}
}

func startBacklog(b *testing.B, dir string) (*outbox.Outbox, *Courier) {
	b.Helper()
	o, co := backlogOptions()
	ob, err := outbox.Open(dir, o)
	if err != nil {
		b.Fatal(err)
	}
	c := New(ob, co)
	if err := ob.Replay(c); err != nil {
		b.Fatal(err)
	}
	if err := ob.Start(); err != nil {
		b.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	return ob, c
}

// backlog makes a log in which each of subs inboxes owes each messages of 256 bytes of its own, mixed, and
// copies it while it is in use, as a crash would leave it.
func backlog(b *testing.B, dir string, subs, each int) (crashed string) {
	b.Helper()
	ob, c := startBacklog(b, dir)
	ctx := context.Background()
	for i := range subs {
		d := fmt.Sprintf("device%05d", i)
		if _, err := c.Ensure(ctx, Spec{Name: DeviceInbox(d), Owner: "device/" + d, Kind: Inbox, Filters: []message.Filter{message.InboxOf(d)}, TTL: DefaultTTL}); err != nil {
			b.Fatal(err)
		}
	}
	payload := make([]byte, 256)
	var batch []*message.Message
	for n := range subs * each {
		batch = append(batch, message.New(message.Topic(fmt.Sprintf("device/device%05d/in/set", n*7919%subs)), payload))
		if len(batch) == 200 {
			if _, err := ob.PublishAll(ctx, batch); err != nil {
				b.Fatal(err)
			}
			batch = nil
		}
	}
	crashed = dir + "-crashed"
	copyLog(b, dir, crashed)
	c.Stop()
	if err := ob.Close(); err != nil {
		b.Fatal(err)
	}
	return crashed
}

type started struct {
	took time.Duration
	heap int64
}

func measureStart(b *testing.B, dir string, owed int64) (m started) {
	b.Helper()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	begin := time.Now()
	ob, c := startBacklog(b, dir)
	m.took = time.Since(begin)
	m.heap = heap() - before
	if got := c.Status().Owed; got != owed {
		b.Fatalf("%d owed, want %d", got, owed)
	}
	c.Stop()
	if err := ob.Close(); err != nil {
		b.Fatal(err)
	}
	return m
}
