package courier

import (
	"context"
	"slices"
	"strings"
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

// TestSessionEndsWithGifts: what was sent is a dead letter, what was not is the group's again, also when the appliance crashes
// just after or was restarted before.
func TestSessionEndsWithGifts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, a, session := w.member("a")
		sent := w.publish("job", "sent")
		waits := w.publish("job", "waits")
		got := l.take(t, 2)
		a.Give(seqs(got[:1]), session)
		own := newSink()
		b := w.open(session, own)
		own.take(t, 1)
		b.Close("gone")
		a.Give(seqs(got[1:]), session)
		synctest.Wait()
		a.Close("gone")
		w.snapshot()
		if err := w.c.Remove(context.Background(), session); err != nil {
			t.Fatal(err)
		}
		w.crash()
		if p := w.trace(sent.ID); len(p) != 1 || p[0].State != message.Dead || p[0].Reason != sessionEnded {
			t.Fatalf("%+v", p)
		}
		if d := w.c.DeadLetters(0, 10); len(d) != 1 || d[0].Message == nil || d[0].Message.ID != sent.ID || d[0].Reason != sessionEnded {
			t.Fatalf("dead letters: %+v", d)
		}
		if p := w.trace(waits.ID); len(p) != 1 || p[0].State != message.Waiting || p[0].Subscription != group {
			t.Fatalf("%+v", p)
		}
		other, c, _ := w.member("b")
		list := other.take(t, 1)
		c.Ack(seqs(list))
		synctest.Wait()
		if p := w.trace(waits.ID); len(p) != 1 || p[0].State != message.Delivered || list[0].Msg.ID != waits.ID || w.c.Status().Owed != 0 {
			t.Fatalf("%q, %+v", payloads(list), p)
		}
	})
}

// TestSessionAndGroupEnd: what nobody is left for is a dead letter.
func TestSessionAndGroupEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, a, session := w.member("a")
		one := w.publish("job", "one")
		a.Give(seqs(l.take(t, 1)), session)
		synctest.Wait()
		a.Close("gone")
		w.restart() // the snapshot says what was given
		for _, name := range []string{group, session} {
			if err := w.c.Remove(context.Background(), name); err != nil {
				t.Fatal(err)
			}
		}
		p := w.trace(one.ID)
		if len(p) != 1 || p[0].State != message.Dead || p[0].Reason == sessionEnded || w.c.Status().Dead != 1 {
			t.Fatalf("%+v", p)
		}
	})
}

// TestGiveMuch: more than one commit may carry.
func TestGiveMuch(t *testing.T) {
	w := newWorld(t)
	l, a, session := w.member("a")
	for range 3 {
		w.publish("job", strings.Repeat("x", 3<<19))
	}
	a.Give(seqs(l.take(t, 3)), session)
	own := newSink()
	w.open(session, own)
	own.take(t, 3)
}

// TestNotedMayBeSent: a note of the session in the log, and no word of a link: after a crash the message may have been sent.
func TestNotedMayBeSent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, a, session := w.member("a")
		one := w.publish("job", "one")
		a.Give(seqs(l.take(t, 1)), session)
		synctest.Wait()
		done := make(chan error, 1)
		w.c.Note(session, []Note{{Key: 1, Value: []byte("x")}}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.crash()
		if err := w.c.Remove(context.Background(), session); err != nil {
			t.Fatal(err)
		}
		if p := w.trace(one.ID); len(p) != 1 || p[0].State != message.Dead || p[0].Reason != sessionEnded {
			t.Fatalf("%+v", p)
		}
	})
}

// TestWhatGoesBackIsNotSent: a link that comes while the session ends is not sent what goes back, until that has failed.
func TestWhatGoesBackIsNotSent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, a, session := w.member("a")
		w.publish("job", "one")
		a.Give(seqs(l.take(t, 1)), session)
		synctest.Wait()
		s, id, err := w.c.find(session)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.do(t.Context(), func() {
			if back := s.unsent(s.subs[id]); len(back) != 1 {
				t.Errorf("%v goes back", back)
			}
		}); err != nil {
			t.Fatal(err)
		}
		own := newSink()
		w.open(session, own)
		synctest.Wait()
		if n := w.c.Status().Sent; n != 1 {
			t.Fatalf("%d were sent, with the one to the group", n)
		}
		if err := s.do(t.Context(), func() { s.gaveBack(id, false) }); err != nil {
			t.Fatal(err)
		}
		own.take(t, 1)
	})
}
