package courier

import (
	"strings"
	"sync"
	"testing"

	"edgepost/appliance/message"
)

const inSet, inOther = message.Filter("device/lamp1/in/set"), message.Filter("device/lamp1/in/other")

// waits fails unless the inbox owes the message because nobody takes its topic.
func (w *world) waits(id message.ID) {
	w.t.Helper()
	p := w.trace(id)
	if len(p) != 1 || p[0].State != message.Waiting || !strings.HasPrefix(p[0].Reason, "not subscribed") {
		w.t.Fatalf("trace %+v", p)
	}
}

func TestWhatALinkDoesNotSelectWaitsAndBlocksNothing(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	var other []message.ID
	put := func(n int) {
		for range n {
			other = append(other, w.publish(string(inOther), "o").ID)
			w.publish(string(inSet), "s")
		}
	}
	put(50)
	only := func(ds []Delivery, topic message.Filter) (acks []uint64) {
		t.Helper()
		for i, d := range ds {
			if string(d.Msg.Topic) != string(topic) || i > 0 && d.Seq <= ds[i-1].Seq {
				t.Fatalf("delivery %d is %d on %s", i, d.Seq, d.Msg.Topic)
			}
		}
		return seqs(ds)
	}
	o := AttachOptions{Window: 2, Select: []message.Filter{inSet}}
	l := newSink()
	a := w.attach("lamp1", l, o)
	for range 25 { // a window of two is never taken by what waits
		a.Ack(only(l.take(t, 2), inSet))
	}
	w.waits(other[0])
	w.waits(other[49])
	for _, topic := range []message.Filter{inOther, inSet} {
		m := message.New(message.Topic(topic), nil)
		m.Volatile = true
		if _, err := w.c.Volatile(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if d := l.take(t, 1); d[0].Seq != 0 || string(d[0].Msg.Topic) != string(inSet) {
		t.Fatalf("of what nobody owes it got %d on %s", d[0].Seq, d[0].Msg.Topic)
	}

	w.restart()
	l = newSink()
	a = w.attach("lamp1", l, o)
	put(1)
	a.Ack(only(l.take(t, 1), inSet))
	w.waits(other[0])
	w.waits(other[50])

	a.Select([]message.Filter{inSet, inOther})
	for range 25 {
		a.Ack(only(l.take(t, 2), inOther))
	}
	last := only(l.take(t, 1), inOther)
	a.Select([]message.Filter{inSet}) // what is on its way stays so
	a.Ack(last)
	w.trace(other[0]) // runs behind both
	next := w.publish(string(inOther), "o").ID
	w.waits(next)
	l2 := newSink()
	a2 := w.attach("lamp1", l2, AttachOptions{}) // another link that takes all
	d := l2.take(t, 1)
	a2.Ack(seqs(d))
	if d[0].Msg.ID != next || d[0].Attempt != 1 {
		t.Fatalf("%v on %s, attempt %d; want %v", d[0].Msg.ID, d[0].Msg.Topic, d[0].Attempt, next)
	}
	for _, id := range append(other, next) {
		if p := w.trace(id); len(p) != 1 || p[0].State != message.Delivered {
			t.Fatalf("trace of %v: %+v", id, p)
		}
	}
}

// What is on its way behind a long backlog that is left aside is flagged after a crash.
func TestACrashFlagsWhatWasSentBehindWhatWaits(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1")
	var stored sync.WaitGroup
	for range 3 * parkRoom {
		stored.Add(1)
		w.ob.Publish(message.New(message.Topic(inOther), nil), func(_ message.StoredAs, err error) {
			if stored.Done(); err != nil {
				t.Error(err)
			}
		})
	}
	stored.Wait()
	w.publish(string(inSet), "s")
	s, id, err := w.c.find(DeviceInbox("lamp1"))
	if err != nil {
		t.Fatal(err)
	}
	l := newSink()
	w.attach("lamp1", l, AttachOptions{Window: 1, Select: []message.Filter{inSet}})
	l.take(t, 1)
	if err := s.do(t.Context(), func() {
		sub := s.subs[id]
		if parked := int(sub.state.ParkedLen()); parked != 3*parkRoom || sub.reach < s.room(sub, 1)+parked {
			t.Errorf("the log knows of %d, %d are parked in front", sub.reach, parked)
		}
	}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	l = newSink()
	w.attach("lamp1", l, AttachOptions{Window: 1, Select: []message.Filter{inSet}})
	if d := l.take(t, 1); d[0].Attempt < 2 {
		t.Fatalf("attempt %d", d[0].Attempt)
	}
}
