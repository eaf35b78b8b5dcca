package courier

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"edgepost/appliance/message"
)

const group = "$share/g/job"

// member attaches one of those that share the topic job, and makes the durable session that it may have
// messages given to.
func (w *world) member(client string) (l *sink, a Member, session string) {
	w.t.Helper()
	ctx := context.Background()
	session = SessionName("key/app", client)
	if err := w.c.EnsureSession(ctx, Spec{Name: session, Owner: "key/app", Kind: Session}, nil); err != nil {
		w.t.Fatal(err)
	}
	l = newSink()
	a, err := w.c.AttachShared(ctx, Spec{Name: group, Owner: "$share", Filters: []message.Filter{"job"}}, l, AttachOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return l, a, session
}

func payloads(list []Delivery) (out []string) {
	for _, d := range list {
		out = append(out, string(d.Msg.Payload))
	}
	return out
}

// TestGive: what one member's session was given it alone gets, through a restart, and the group owes it no more.
func TestGive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, a, session := w.member("a")
		one := w.publish("job", "one")
		w.publish("job", "two")
		got := l.take(t, 2)
		a.Give(seqs(got), session)
		synctest.Wait()
		a.Close("gone")
		other, _, _ := w.member("b")
		w.publish("job", "three")
		if d := other.take(t, 1); string(d[0].Msg.Payload) != "three" {
			t.Fatalf("another member got %q", payloads(d))
		}
		w.restart()
		own := newSink()
		b := w.open(session, own)
		list := own.take(t, 2)
		if !slices.Equal(payloads(list), []string{"one", "two"}) || !list[0].Direct || list[0].Msg.ID != one.ID {
			t.Fatalf("the session got %q, %+v", payloads(list), list[0])
		}
		b.Ack(seqs(list))
		if p := w.trace(one.ID); len(p) != 1 || p[0].State != message.Delivered || p[0].Subscription != session {
			t.Fatalf("%+v", p)
		}
	})
}

// TestGiveWhileItsMemberLeaves: the move is on its way when the member's link goes, the only one or one of two:
// nobody else gets the message.
func TestGiveWhileItsMemberLeaves(t *testing.T) {
	for _, alone := range []bool{true, false} {
		w := newWorld(t)
		l, a, session := w.member("a")
		w.publish("job", "one")
		got := l.take(t, 1)
		unlock := w.c.lockName(session) // the move waits
		a.Give(seqs(got), session)
		if alone {
			a.Close("gone")
		}
		other, _, _ := w.member("b")
		if !alone {
			a.Close("gone")
		}
		w.publish("job", "last")
		unlock()
		if d := other.take(t, 1); string(d[0].Msg.Payload) != "last" {
			t.Fatalf("another member got %q", payloads(d))
		}
		own := newSink()
		w.open(session, own)
		if d := own.take(t, 1); string(d[0].Msg.Payload) != "one" {
			t.Fatalf("the session got %q", payloads(d))
		}
	}
}

// TestGiveToNobody: the session is gone, so any member gets the message.
func TestGiveToNobody(t *testing.T) {
	w := newWorld(t)
	l, a, session := w.member("a")
	w.publish("job", "one")
	got := l.take(t, 1)
	if err := w.c.Remove(context.Background(), session); err != nil {
		t.Fatal(err)
	}
	a.Give(seqs(got), session)
	if again := l.take(t, 1); again[0].Seq != got[0].Seq || again[0].Attempt != 2 {
		t.Fatalf("%+v", again[0])
	}
}
