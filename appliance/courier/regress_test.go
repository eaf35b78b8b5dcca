package courier

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

// bubble runs a world in a synctest bubble and stops it there.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t)
		w.o.Linger = -1
		w.start()
		defer w.stop()
		test(t, w)
	})
}

func retain(m *message.Message) { m.Retain = true }

func (w *world) put(name string, filters ...message.Filter) {
	w.t.Helper()
	if _, _, err := w.c.PutNamed(context.Background(), "key/app", name, NamedSpec{Filters: filters}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fetch(name string) (payloads []string) {
	w.t.Helper()
	got, err := w.c.Fetch(context.Background(), "key/app/"+name, 100, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range got {
		payloads = append(payloads, string(d.Msg.Payload))
	}
	slices.Sort(payloads)
	return payloads
}

// TestRetainedSurvivesEveryRestart: one per topic, the last; an empty one clears; with a snapshot between
// the old one and what replaces it.
func TestRetainedSurvivesEveryRestart(t *testing.T) {
	w := newWorld(t)
	w.publish("lamp/a", "old", retain)
	w.publish("lamp/b", "gone", retain)
	w.publish("lamp/c", "kept", retain)
	w.snapshot()
	w.publish("lamp/a", "new", retain)
	w.publish("lamp/b", "", retain)
	w.publish("lamp/c", "not retained")
	for i, how := range []func(){func() {}, w.crash, w.snapshot, w.crash, w.restart} {
		how()
		name := fmt.Sprint("sub", i)
		w.put(name, "lamp/#")
		if got := w.fetch(name); !slices.Equal(got, []string{"kept", "new"}) {
			t.Fatalf("after step %d a new subscription is shown %q", i, got)
		}
	}
}

// snapshot takes one between the keeper's own: nothing is old enough for those.
func (w *world) snapshot() {
	w.t.Helper()
	if err := w.ob.Snapshot(); err != nil {
		w.t.Fatal(err)
	}
}

// TestEverythingSentIsFlaggedAfterACrash: also what was sent past many that wait for their retries, past a
// larger window than the policy's, and before a second crash without a link between.
func TestEverythingSentIsFlaggedAfterACrash(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	const n = 400
	for i := range n {
		w.publish("device/lamp1/in/x", fmt.Sprint(i))
	}
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{Window: 100})
	for sent := 0; sent < n; { // refuses all, so that the next are sent
		for _, d := range l.take(t, min(100, n-sent)) {
			a.Nack(d.Seq, time.Hour, "busy", false)
			sent++
		}
	}
	w.crash()
	w.crash()
	l = newSink()
	w.attach("lamp1", l, AttachOptions{Window: n})
	for _, d := range l.take(t, n) {
		if d.Attempt < 2 {
			t.Fatalf("%d was sent before the crash and comes as attempt %d", d.Seq, d.Attempt)
		}
	}
}

func TestUnlinkKeepsTheFlagOfWhatWasSent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.inbox("lamp1")
		w.publish("device/lamp1/in/x", "1")
		w.attach("lamp1", newSink(), AttachOptions{})
		w.crash()
		time.Sleep(2 * unlinkWait) // the log learns that no link is there
		w.publish("device/lamp1/in/x", "2")
		w.crash()
		l := newSink()
		w.attach("lamp1", l, AttachOptions{})
		synctest.Wait()
		if got := l.take(t, 2); got[0].Attempt < 2 || got[1].Attempt != 1 {
			t.Fatalf("attempts %d and %d, want 2 and 1", got[0].Attempt, got[1].Attempt)
		}
	})
}

// TestRejectingWhatWasNotSentChangesNothing: it is owed as before, also after a restart.
func TestRejectingWhatWasNotSentChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.put("jobs", "job/#")
	as := w.publish("job/1", "x")
	res, err := w.c.Acknowledge(context.Background(), "key/app/jobs", Acks{Nacks: []NackByID{{ID: as.ID, Reject: true}}, IDs: []message.ID{as.ID}, UpTo: as.ID})
	if err != nil || res.Settled != 0 || len(res.Unknown) != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	w.restart()
	if got := w.fetch("jobs"); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("fetched %q", got)
	}
}

// TestCancelledInFlightStaysCancelled: not sent again after a crash, and an ack that came in time counts.
func TestCancelledInFlightStaysCancelled(t *testing.T) {
	for _, acked := range []bool{false, true} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprintf("acked %t snapshot %t", acked, snapshot), func(t *testing.T) {
				w := newWorld(t)
				w.inbox("lamp1")
				l := newSink()
				a := w.attach("lamp1", l, AttachOptions{})
				as := w.publish("device/lamp1/in/x", "1")
				l.take(t, 1)
				if n, err := w.c.Cancel(context.Background(), as.ID); err != nil || n != 0 {
					t.Fatalf("cancelled at %d, %v", n, err)
				}
				want := message.Cancelled
				if acked {
					a.Ack([]uint64{as.Seq})
					want = message.Delivered
				}
				if snapshot {
					w.snapshot()
					w.snapshot()
				} else if acked {
					w.trace(as.ID) // the shard has the ack
					if err := w.ob.SettleNow(); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					w.crash()
					if p := w.trace(as.ID); len(p) != 1 || p[0].State != want {
						t.Fatalf("trace %+v, want %v", p, want)
					}
				}
				l = newSink()
				w.attach("lamp1", l, AttachOptions{})
				w.publish("device/lamp1/in/x", "2")
				if got := l.take(t, 1); string(got[0].Msg.Payload) != "2" {
					t.Fatalf("sent %q", got[0].Msg.Payload)
				}
			})
		}
	}
}

func TestAwaitSeesADelayedMessageDelivered(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{})
	as := w.publish("device/lamp1/in/x", "1", func(m *message.Message) { m.Delay = 50 * time.Millisecond })
	type answer struct {
		places []message.Receipt
		err    error
	}
	done := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		p, err := w.c.Await(ctx, as.ID)
		done <- answer{p, err}
	}()
	a.Ack(seqs(l.take(t, 1)))
	if got := <-done; got.err != nil || ctx.Err() != nil || len(got.places) != 1 || got.places[0].State != message.Delivered {
		t.Fatalf("%+v", got)
	}
}

// TestRequeue goes to a subscription that has changed its filters since, and to none that was removed.
func TestRequeue(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.put("jobs", "job/#")
	w.put("other", "job/#")
	as := w.publish("job/1", "x")
	for _, name := range []string{"jobs", "other"} {
		w.fetch(name)
		if _, err := w.c.Acknowledge(ctx, "key/app/"+name, Acks{Nacks: []NackByID{{ID: as.ID, Reject: true}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	w.put("jobs", "elsewhere/#")
	if err := w.c.Remove(ctx, "key/app/other"); err != nil {
		t.Fatal(err)
	}
	for _, d := range w.c.DeadLetters(0, 10) {
		got, err := w.c.Requeue(ctx, d.Entry)
		switch removed := d.Subscription != "key/app/jobs"; {
		case removed && (message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeNotFound):
			t.Fatalf("requeued for %s: %v", d.Subscription, err)
		case !removed && (err != nil || got.ID != as.ID):
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if got := w.fetch("jobs"); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("fetched %q", got)
	}
	if len(w.c.DeadLetters(0, 10)) != 1 {
		t.Fatal("the letter that nobody can take is gone")
	}
}

func TestFetchEndsWithItsSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put("jobs", "job/#")
		failed := make(chan error, 1)
		go func() {
			_, err := w.c.Fetch(context.Background(), "key/app/jobs", 1, time.Hour)
			failed <- err
		}()
		synctest.Wait()
		if err := w.c.Remove(context.Background(), "key/app/jobs"); err != nil {
			t.Fatal(err)
		}
		if p := message.ProblemOf(<-failed); p == nil || p.Code != message.CodeNotFound {
			t.Fatal(p)
		}
		w.put("jobs", "job/#")
		go func() {
			_, err := w.c.Fetch(context.Background(), "key/app/jobs", 1, time.Hour)
			failed <- err
		}()
		synctest.Wait()
		w.c.Stop()
		if p := message.ProblemOf(<-failed); p == nil || p.Code != message.CodeUnavailable {
			t.Fatal(p)
		}
	})
}

// TestReadersThatLeave: a subscription that was fetched from counts as connected for a minute, and ends
// after seven days like any other that nobody uses; what was leased comes again.
func TestReadersThatLeave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		info := func() Info {
			t.Helper()
			i, err := w.c.Info(context.Background(), "key/app/jobs")
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		w.put("jobs", "job/#")
		w.publish("job/1", "x")
		if got := w.fetch("jobs"); len(got) != 1 || !info().Connected || info().InFlight != 1 {
			t.Fatalf("%q, %+v", got, info())
		}
		time.Sleep(LeaseTime + 2*unlinkWait)
		if i := info(); i.Connected || i.InFlight != 0 || i.Depth != 1 {
			t.Fatalf("the reader is gone: %+v", i)
		}
		time.Sleep(6 * 24 * time.Hour)
		if got := w.fetch("jobs"); len(got) != 1 {
			t.Fatalf("fetched %q", got)
		}
		time.Sleep(6 * 24 * time.Hour)
		info() // still there
		time.Sleep(2 * 24 * time.Hour)
		if _, err := w.c.Info(context.Background(), "key/app/jobs"); message.ProblemOf(err) == nil {
			t.Fatalf("unused for eight days: %v", err)
		}
	})
}

// TestFinalReceiptComesOnce: one summary when the last one is done, also when a crash lies between.
func TestFinalReceiptComesOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.inbox("lamp1", "all/#")
		w.inbox("lamp2", "all/#")
		w.put("receipts", "$edge/receipt/#")
		as := w.publish("all/x", "1", func(m *message.Message) { m.Receipt, m.From = message.FinalReceipt, "app" })
		acknowledge := func(device string) {
			l := newSink()
			a := w.attach(device, l, AttachOptions{})
			synctest.Wait()
			a.Ack(seqs(l.take(t, 1)))
			time.Sleep(2 * time.Second)
		}
		acknowledge("lamp1")
		if got := w.fetch("receipts"); len(got) != 0 {
			t.Fatalf("one still owes it: %q", got)
		}
		w.crash()
		acknowledge("lamp2")
		w.crash()
		time.Sleep(time.Minute)
		got := w.fetch("receipts")
		var r struct {
			ID     string
			Counts map[string]int
		}
		if len(got) != 1 || json.Unmarshal([]byte(got[0]), &r) != nil || r.ID != as.ID.String() || r.Counts["delivered"] != 2 {
			t.Fatalf("%q", got)
		}
		for _, s := range w.c.shards {
			for _, sub := range s.subs {
				if sub.spec.Kind == Final && sub.state.Depth() != 0 {
					t.Fatalf("the summary is still due for %d", sub.state.Depth())
				}
			}
		}
	})
}

// TestRewindBehindAnAckOnItsWay: whatever the order in which they reach the log, memory and replay agree.
func TestRewindBehindAnAckOnItsWay(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.put("jobs", "job/#")
	for i := range 40 {
		w.publish("job/1", fmt.Sprint(i))
	}
	for range 10 {
		got, err := w.c.Fetch(ctx, "key/app/jobs", 20, 0)
		if err != nil {
			t.Fatal(err)
		}
		rewound := make(chan error, 1)
		go func() {
			_, err := w.c.Rewind(ctx, "key/app/jobs", message.ID{})
			rewound <- err
		}()
		for _, d := range got {
			if _, err := w.c.Acknowledge(ctx, "key/app/jobs", Acks{IDs: []message.ID{d.Msg.ID}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-rewound; err != nil {
			t.Fatal(err)
		}
		if err := w.ob.SettleNow(); err != nil {
			t.Fatal(err)
		}
		before, err := w.c.Info(ctx, "key/app/jobs")
		if err != nil {
			t.Fatal(err)
		}
		w.crash()
		if after, err := w.c.Info(ctx, "key/app/jobs"); err != nil || after.Depth != before.Depth {
			t.Fatalf("owed %d before the crash and %d after it, %v", before.Depth, after.Depth, err)
		}
	}
}

// TestTimeOffEndsNoSubscription: what was used last before an outage was counted is not unused since.
func TestTimeOffEndsNoSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put("jobs", "job/#")
		w.publish("job/1", "x", func(m *message.Message) { m.TTL = time.Hour })
		if got := w.fetch("jobs"); len(got) != 1 {
			t.Fatalf("fetched %q", got)
		}
		w.clock.jump(30 * 24 * time.Hour)
		time.Sleep(time.Minute)
		i, err := w.c.Info(context.Background(), "key/app/jobs")
		if err != nil || i.Depth != 1 || i.OldestAge > 2*time.Minute {
			t.Fatalf("thirty days switched off were charged: %+v, %v", i, err)
		}
		time.Sleep(8 * 24 * time.Hour)
		if _, err := w.c.Info(context.Background(), "key/app/jobs"); message.ProblemOf(err) == nil {
			t.Fatalf("unused for eight days: %v", err)
		}
	})
}
