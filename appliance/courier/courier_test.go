package courier

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
	"edgepost/wal"
)

// ticking is a clock for the log: age runs with real time, plus what a test adds.
type ticking struct {
	start time.Time
	extra atomic.Int64
	base  int64

	jumpedAt, jumpedBy atomic.Int64
}

func (c *ticking) Now() wal.Stamp {
	age := c.base + int64(time.Since(c.start)) + c.extra.Load()
	return wal.Stamp{Wall: time.Now().UnixNano(), Age: age, Boot: 1}
}

// Placed: a test that jumps says what lies elsewhere.
func (c *ticking) Placed(age int64) int64 {
	if at := c.jumpedAt.Load(); age <= at {
		return age + c.jumpedBy.Load()
	}
	return age
}

// jump counts time off that came before everything that was ever read: nothing ages by it.
func (c *ticking) jump(by time.Duration) {
	c.jumpedBy.Store(int64(by))
	c.jumpedAt.Store(c.Now().Age)
	c.extra.Add(int64(by))
}

// allowAll lets everybody receive everything.
type allowAll struct{}

func (allowAll) MayReceive(string, message.Topic) bool { return true }
func (allowAll) Version() uint64                       { return 0 }

// world is a log with a courier, which can be stopped and started again.
type world struct {
	t     *testing.T
	dir   string
	clock *ticking
	o     outbox.Options
	co    Options
	feed  func(*Courier) outbox.Feed // nil: the courier itself
	ob    *outbox.Outbox
	c     *Courier
}

func newWorld(t *testing.T) *world {
	w := newWorldOf(t)
	w.start()
	t.Cleanup(w.stop)
	return w
}

// newWorldOf makes a world that is not started.
func newWorldOf(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), clock: &ticking{start: time.Now(), base: int64(time.Second)}}
	w.o = outbox.Options{Epoch: message.NewEpoch(12345), Clock: w.clock, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Generation: 128 << 10}
	w.co = Options{Rights: allowAll{}, Log: w.o.Log, Shards: 2}
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.ob, err = outbox.Open(w.dir, w.o); err != nil {
		w.t.Fatal(err)
	}
	if last, ok := w.ob.Last(); ok && last.Age > w.clock.Now().Age {
		w.clock.base += last.Age - w.clock.Now().Age
	}
	w.c = New(w.ob, w.co)
	var feed outbox.Feed = w.c
	if w.feed != nil {
		feed = w.feed(w.c)
	}
	if err := w.ob.Replay(feed); err != nil {
		w.t.Fatal(err)
	}
	if err := w.ob.Start(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.c.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	if w.c == nil {
		return
	}
	w.c.Stop()
	if err := w.ob.Close(); err != nil {
		w.t.Error(err)
	}
	w.c = nil
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) inbox(device string, filters ...message.Filter) {
	w.t.Helper()
	spec := Spec{Name: DeviceInbox(device), Owner: "device/" + device, Kind: Inbox, Filters: append(filters, message.InboxOf(device)), TTL: DefaultTTL}
	if _, err := w.c.Ensure(context.Background(), spec); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(topic, payload string, change ...func(*message.Message)) message.StoredAs {
	w.t.Helper()
	m := message.New(message.Topic(topic), []byte(payload))
	for _, f := range change {
		f(m)
	}
	as, err := w.store(m)
	if err != nil {
		w.t.Fatal(err)
	}
	return as
}

func (w *world) store(m *message.Message) (message.StoredAs, error) {
	type answer struct {
		as  message.StoredAs
		err error
	}
	done := make(chan answer, 1)
	w.ob.Publish(m, func(as message.StoredAs, err error) { done <- answer{as, err} })
	a := <-done
	return a.as, a.err
}

// sink is a link that remembers what it got and acknowledges when told to.
type sink struct {
	mu   sync.Mutex
	got  []Delivery
	room int // how many more it takes; negative: any number
	lost []Cause
	more chan struct{}
}

func newSink() *sink { return &sink{room: -1, more: make(chan struct{}, 1)} }

func (l *sink) Deliver(d Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == 0 {
		return false
	}
	if l.room > 0 {
		l.room--
	}
	l.got = append(l.got, d)
	return true
}

func (l *sink) tell() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *sink) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

func (l *sink) Lost(why Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, why)
	l.tell()
}

// take waits for n deliveries and hands them over.
func (l *sink) take(t *testing.T, n int) []Delivery {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		if len(l.got) >= n {
			out := l.got[:n:n]
			l.got = slices.Clone(l.got[n:])
			l.mu.Unlock()
			return out
		}
		have := len(l.got)
		l.mu.Unlock()
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("got %d deliveries, want %d", have, n)
		}
	}
}

func seqs(ds []Delivery) []uint64 {
	out := make([]uint64, len(ds))
	for i, d := range ds {
		out[i] = d.Seq
	}
	return out
}

func (w *world) attach(device string, l Link, o AttachOptions) Attachment {
	w.t.Helper()
	a, err := w.c.Attach(context.Background(), DeviceInbox(device), l, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) trace(id message.ID) []message.Receipt {
	w.t.Helper()
	tr, err := w.c.Trace(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return tr.Places
}

func TestBacklogSurvivesRestartAndArrivesInOrder(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	const n = 500
	for i := range n {
		w.publish("device/lamp1/in/set", fmt.Sprint(i))
	}
	w.restart()
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{})
	for i := 0; i < n; {
		got := l.take(t, min(DefaultWindow/2, n-i))
		for _, d := range got {
			if string(d.Msg.Payload) != fmt.Sprint(i) || d.Attempt != 1 {
				t.Fatalf("delivery %d: payload %q attempt %d", i, d.Msg.Payload, d.Attempt)
			}
			i++
		}
		a.Ack(seqs(got))
	}
	w.restart()
	info, err := w.c.Info(context.Background(), "device/lamp1")
	if err != nil || info.Depth != 0 {
		t.Fatalf("after all acks: depth %d, %v; want 0", info.Depth, err)
	}
}

func TestTraceTellsWhereAMessageIs(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	as := w.publish("device/lamp1/in/set", "1")
	if p := w.trace(as.ID); len(p) != 1 || p[0].State != message.Waiting || p[0].Reason != "offline" {
		t.Fatalf("before connecting: %+v", p)
	}
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{})
	got := l.take(t, 1)
	if p := w.trace(as.ID); len(p) != 1 || p[0].State != message.Sent {
		t.Fatalf("after sending: %+v", p)
	}
	a.Ack(seqs(got))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p, err := w.c.Await(ctx, as.ID)
	if err != nil || len(p) != 1 || p[0].State != message.Delivered || p[0].Subscription != "device/lamp1" {
		t.Fatalf("after the ack: %+v, %v", p, err)
	}
	w.restart()
	if p := w.trace(as.ID); len(p) != 1 || p[0].State != message.Delivered {
		t.Fatalf("after a restart: %+v", p)
	}
}

func TestNewestLinkWins(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	first, second := newSink(), newSink()
	a := w.attach("lamp1", first, AttachOptions{})
	as := w.publish("device/lamp1/in/set", "x")
	first.take(t, 1)
	b := w.attach("lamp1", second, AttachOptions{})
	got := second.take(t, 1)
	if got[0].Seq != as.Seq || got[0].Attempt != 2 {
		t.Fatalf("redelivery: seq %d attempt %d, want %d and 2", got[0].Seq, got[0].Attempt, as.Seq)
	}
	if !slices.Equal(first.lost, []Cause{TakenOver}) {
		t.Fatalf("the older link was told %v", first.lost)
	}
	a.Ack([]uint64{as.Seq}) // too late: the older link no longer holds it
	if p := w.trace(as.ID); p[0].State != message.Sent {
		t.Fatalf("an ack over the lost link settled it: %+v", p)
	}
	b.Ack([]uint64{as.Seq})
	if p := w.trace(as.ID); p[0].State != message.Delivered {
		t.Fatalf("%+v", p)
	}
}

func TestNackRetriesThenDeadLetterThenRequeue(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	as := w.publish("device/lamp1/in/set", "bad")
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{})
	for i := range DefaultMaxAttempts {
		d := l.take(t, 1)[0]
		if d.Attempt != i+1 {
			t.Fatalf("attempt %d, want %d", d.Attempt, i+1)
		}
		a.Nack(d.Seq, time.Millisecond, "cannot parse", false)
	}
	p := w.trace(as.ID)
	if p[0].State != message.Dead || p[0].Reason != "cannot parse" {
		t.Fatalf("%+v", p)
	}
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	w.restart()
	dead := w.c.DeadLetters(0, 10)
	if len(dead) != 1 || dead[0].Message == nil || dead[0].Message.ID != as.ID || dead[0].Subscription != "device/lamp1" {
		t.Fatalf("dead letters: %+v", dead)
	}
	again, err := w.ob.Requeue(context.Background(), dead[0].Entry)
	if err != nil || again.ID != as.ID || again.Seq == as.Seq {
		t.Fatalf("requeue: %+v, %v", again, err)
	}
	l = newSink()
	a = w.attach("lamp1", l, AttachOptions{})
	d := l.take(t, 1)[0]
	if d.Msg.ID != as.ID || d.Seq != again.Seq {
		t.Fatalf("requeued: id %v seq %d", d.Msg.ID, d.Seq)
	}
	a.Ack([]uint64{d.Seq})
	if p := w.trace(as.ID); len(p) != 1 || p[0].State != message.Delivered {
		t.Fatalf("after the requeue: %+v", p)
	}
	if dead := w.c.DeadLetters(0, 10); len(dead) != 0 {
		t.Fatalf("still listed: %+v", dead)
	}
}

func TestExpiryDelayCancelPriority(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	short := w.publish("device/lamp1/in/a", "short", func(m *message.Message) { m.TTL = 50 * time.Millisecond })
	late := w.publish("device/lamp1/in/a", "late", func(m *message.Message) { m.Delay = 300 * time.Millisecond })
	gone := w.publish("device/lamp1/in/a", "gone")
	keep := w.publish("device/lamp1/in/a", "keep")
	urgent := w.publish("device/lamp1/in/a", "urgent", func(m *message.Message) { m.Priority = 9 })
	if p := w.trace(late.ID); len(p) != 1 || p[0].State != message.Waiting {
		t.Fatalf("delayed: %+v", p)
	}
	if n, err := w.c.Cancel(context.Background(), gone.ID); err != nil || n != 1 {
		t.Fatalf("cancel: %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if p, err := w.c.Await(ctx, short.ID); err != nil || len(p) != 1 || p[0].State != message.Expired {
		t.Fatalf("expired: %+v, %v", p, err)
	}
	l := newSink()
	w.attach("lamp1", l, AttachOptions{})
	got := l.take(t, 3)
	if got[0].Msg.ID != urgent.ID || got[1].Msg.ID != keep.ID || got[2].Msg.ID != late.ID {
		t.Fatalf("order: %s %s %s", got[0].Msg.Payload, got[1].Msg.Payload, got[2].Msg.Payload)
	}
	if got[2].Seq == late.Seq {
		t.Fatal("a delayed message keeps its place; it must go behind what came meanwhile")
	}
	if p := w.trace(gone.ID); p[0].State != message.Cancelled {
		t.Fatalf("%+v", p)
	}
}

func TestSlowLinkIsBehindAndGoesOn(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	l := newSink()
	l.room = 2
	a := w.attach("lamp1", l, AttachOptions{})
	for i := range 5 {
		w.publish("device/lamp1/in/a", fmt.Sprint(i))
	}
	l.take(t, 2)
	l.mu.Lock()
	l.room = -1
	l.mu.Unlock()
	a.Ready()
	if got := l.take(t, 3); string(got[0].Msg.Payload) != "2" || string(got[2].Msg.Payload) != "4" {
		t.Fatalf("%s … %s", got[0].Msg.Payload, got[2].Msg.Payload)
	}
}

func TestLiveSubscriptionWithAfter(t *testing.T) {
	w := newWorld(t)
	var ids []message.ID
	for i := range 10 {
		ids = append(ids, w.publish("alarm/door", fmt.Sprint(i)).ID)
	}
	l := newSink()
	a, gap, err := w.c.Subscribe(context.Background(), "key/app", Request{Filter: "alarm/#", After: ids[4]}, l, AttachOptions{})
	if err != nil || gap {
		t.Fatal(gap, err)
	}
	w.publish("alarm/door", "10")
	got := l.take(t, 6)
	if string(got[0].Msg.Payload) != "5" || string(got[5].Msg.Payload) != "10" {
		t.Fatalf("%s … %s", got[0].Msg.Payload, got[5].Msg.Payload)
	}
	a.Close(Goodbye)
	_, gap, err = w.c.Subscribe(context.Background(), "key/app", Request{Filter: "alarm/#", After: message.ID{Epoch: message.NewEpoch(9), Seq: 3}}, newSink(), AttachOptions{})
	if err != nil || !gap {
		t.Fatalf("another epoch's id: gap %v, %v", gap, err)
	}
}

func TestNamedSubscriptionLeases(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if _, created, err := w.c.PutNamed(ctx, "key/app", "jobs", NamedSpec{Filters: []message.Filter{"job/#"}}); err != nil || !created {
		t.Fatal(created, err)
	}
	a := w.publish("job/1", "a")
	b := w.publish("job/2", "b")
	got, err := w.c.Fetch(ctx, "key/app/jobs", 10, time.Second)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d, %v", len(got), err)
	}
	res, err := w.c.Acknowledge(ctx, "key/app/jobs", Acks{UpTo: b.ID, IDs: []message.ID{{Epoch: a.ID.Epoch, Seq: 999}}})
	if err != nil || res.Settled != 2 || len(res.Unknown) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got, err := w.c.Fetch(ctx, "key/app/jobs", 10, 0); err != nil || len(got) != 0 {
		t.Fatalf("%d, %v", len(got), err)
	}
	w.restart()
	if _, err := w.c.Rewind(ctx, "key/app/jobs", message.ID{}); err != nil {
		t.Fatal(err)
	}
	got, err = w.c.Fetch(ctx, "key/app/jobs", 10, time.Second)
	if err != nil || len(got) != 2 || got[0].Msg.ID != a.ID {
		t.Fatalf("after rewind: %d, %v", len(got), err)
	}
}

func TestHistoryAndIdempotency(t *testing.T) {
	w := newWorld(t)
	key := func(m *message.Message) { m.Key, m.From = "k1", "app" }
	first := w.publish("a/b", "x", key)
	w.restart()
	twin := w.publish("a/b", "x", key)
	if twin.ID != first.ID || !twin.Replayed {
		t.Fatalf("%+v, want %+v replayed", twin, first)
	}
	m := message.New("a/b", []byte("other"))
	key(m)
	if _, err := w.store(m); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeKeyReused {
		t.Fatalf("another body: %v", err)
	}
	p, err := w.c.History(context.Background(), Query{Filter: "a/#", Limit: 10}, func(message.Topic) bool { return true })
	if err != nil || len(p.Messages) != 1 || p.Messages[0].ID != first.ID {
		t.Fatalf("%+v, %v", p, err)
	}
}
