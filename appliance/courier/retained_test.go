package courier

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// late is a feed whose committer is held up before it reaches the shard that knows what is retained.
type late struct {
	*Courier
	to   *shard
	gate atomic.Pointer[chan struct{}]
}

func (l *late) Committed(batch []outbox.Entry) {
	gate := l.gate.Load()
	if gate == nil {
		l.Courier.Committed(batch)
		return
	}
	for _, s := range l.shards {
		if s != l.to {
			s.offer(batch)
		}
	}
	<-*gate
	l.to.offer(batch)
}

// TestRetainedIsWhatAnybodyHasSeen: who was handed a retained message and asks for what is retained gets
// it, though the committer has not told all shards yet.
func TestRetainedIsWhatAnybodyHasSeen(t *testing.T) {
	w := newWorldOf(t)
	var l *late
	w.feed = func(c *Courier) outbox.Feed {
		l = &late{Courier: c, to: c.shardOf("$retained")}
		return l
	}
	w.start()
	defer w.stop()
	owner := "key/0"
	for n := 1; w.c.shardOf(owner) == l.to; n++ {
		owner = fmt.Sprint("key/", n)
	}
	w.publish("lamp", "old", retain)
	k := newSink()
	if _, _, err := w.c.Subscribe(t.Context(), owner, Request{Filter: "lamp"}, k, AttachOptions{}); err != nil {
		t.Fatal(err)
	}
	k.take(t, 1)
	gate := make(chan struct{})
	l.gate.Store(&gate)
	m, stored := message.New("lamp", []byte("new")), make(chan error, 1)
	m.Retain = true
	w.ob.Publish(m, func(_ message.StoredAs, err error) { stored <- err })
	k.take(t, 1)
	ms, err := w.c.Retained(t.Context(), "lamp")
	close(gate)
	if err != nil || len(ms) != 1 || string(ms[0].Payload) != "new" {
		t.Errorf("after the new one was delivered, %v is retained (%v)", ms, err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
}

// TestRetainedStoredWhileSubscribing: messages that are stored between the look at what is retained and the
// record of the subscription. A new subscription is owed them; one that had the topic before is shown the
// new one instead of the old, never the old one last.
func TestRetainedStoredWhileSubscribing(t *testing.T) {
	for _, had := range []bool{false, true} {
		for _, again := range []string{"nothing", "crash", "snapshot"} {
			t.Run(fmt.Sprintf("had=%v/%s", had, again), func(t *testing.T) {
				subscribeLate(t, had, again)
			})
		}
	}
}

func subscribeLate(t *testing.T, had bool, again string) {
	w := newWorld(t)
	filters := []message.Filter{"r/#", "late"}
	spec := Spec{Name: SessionName("key/app", "c"), Owner: "key/app", Kind: Session, Expiry: DefaultTTL, Filters: []message.Filter{"other"}}
	if had {
		spec.Filters = filters
	}
	w.publish("r/replaced", "1", retain)
	w.publish("r/cleared", "1", retain)
	w.publish("r/kept", "1", retain)
	if err := w.c.EnsureSession(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	spec.Filters = filters
	body, err := json.Marshal(&spec)
	if err != nil {
		t.Fatal(err)
	}
	_, id, err := w.c.find(spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	ch := &outbox.Change{Op: outbox.OpPut, Sub: id, Spec: body, Shown: true}
	if err := w.c.show(t.Context(), ch, filters); err != nil {
		t.Fatal(err)
	}
	w.publish("r/replaced", "2", retain)
	w.publish("r/cleared", "", retain)
	w.publish("late", "live")
	if had { // as if a link had been there and acknowledged them
		k := newSink()
		a := w.open(spec.Name, k)
		a.Ack(seqs(k.take(t, 3)))
		a.Close(Goodbye)
		if _, err := w.c.Info(t.Context(), spec.Name); err != nil { // now the shard has the acks
			t.Fatal(err)
		}
		if err := w.ob.SettleNow(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.ob.Change(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	switch again {
	case "crash":
		w.crash()
	case "snapshot":
		w.snapshot()
		w.crash()
	}
	want := []string{"r/kept=1 shown", "r/replaced=2 shown"}
	if !had {
		want = []string{"r/kept=1 shown", "r/replaced=2 shown", "r/cleared=", "late=live"}
	}
	k := newSink()
	w.open(spec.Name, k)
	var got []string
	for _, d := range k.take(t, len(want)) {
		s := string(d.Msg.Topic) + "=" + string(d.Msg.Payload)
		if d.Retained || again == "snapshot" && d.Msg.Retain && s != "r/cleared=" { // a snapshot forgets the mark
			s += " shown"
		}
		got = append(got, s)
	}
	if info, err := w.c.Info(t.Context(), spec.Name); err != nil || info.Depth != int64(len(want)) || !slices.Equal(got, want) {
		t.Errorf("got %q and owed %d (%v), want %q", got, info.Depth, err, want)
	}
}

func (w *world) open(name string, l Link) Attachment {
	w.t.Helper()
	a, err := w.c.Attach(context.Background(), name, l, AttachOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}
