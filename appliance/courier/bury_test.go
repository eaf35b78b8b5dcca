package courier

import (
	"context"
	"testing"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// bury stores a dead letter and returns its id.
func (w *world) bury(topic message.Topic, name string, notes ...Note) message.StoredAs {
	w.t.Helper()
	type answer struct {
		as  message.StoredAs
		err error
	}
	got := make(chan answer, 1)
	w.c.Bury(message.New(topic, []byte("x")), name, notes, func(as message.StoredAs, err error) { got <- answer{as, err} })
	a := <-got
	if a.err != nil {
		w.t.Fatal(a.err)
	}
	return a.as
}

// TestBury: what nobody was to get is a dead letter that no subscription sees, is found again after a crash,
// and goes to its addressee once there is one.
func TestBury(t *testing.T) {
	w := newWorld(t)
	w.put("all", "#")
	as := w.bury("device/lamp9/in/a", "")
	const reason = `there is no device "lamp9"`
	if p := w.trace(as.ID); len(p) != 1 || p[0].State != message.Dead || p[0].Reason != reason || p[0].Subscription != Unaddressed {
		t.Fatalf("%+v", p)
	}
	w.restart()
	dead := w.c.DeadLetters(0, 10)
	if len(dead) != 1 || dead[0].Message.ID != as.ID || dead[0].Reason != reason || dead[0].Subscription != Unaddressed {
		t.Fatalf("dead letters: %+v", dead)
	}
	w.inbox("lamp9")
	if _, err := w.c.Requeue(context.Background(), dead[0].Entry); err != nil {
		t.Fatal(err)
	}
	l := newSink()
	w.attach("lamp9", l, AttachOptions{})
	if d := l.take(t, 1)[0]; d.Msg.ID != as.ID || string(d.Msg.Payload) != "x" {
		t.Fatalf("requeued: %+v", d)
	}
	if dead := w.c.DeadLetters(0, 10); len(dead) != 0 {
		t.Fatalf("still listed: %+v", dead)
	}
}

// TestBuryCrash: the message is durable and its settlement is not when the appliance dies.
func TestBuryCrash(t *testing.T) {
	w := newWorld(t)
	_, id, err := w.c.find(Unaddressed)
	if err != nil {
		t.Fatal(err)
	}
	// As it is in the log then, by a courier that does not run.
	w.c.Stop()
	done := make(chan error, 1)
	w.ob.PublishTo(message.New("group/none/in/a", []byte("x")), id, nil, func(_ message.StoredAs, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.restart()
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	dead := w.c.DeadLetters(0, 10)
	if len(dead) != 1 || dead[0].Reason != `there is no group "none"` {
		t.Fatalf("dead letters: %+v", dead)
	}
}

// TestBuryNotes: the notes of the client's session share the letter's frame.
func TestBuryNotes(t *testing.T) {
	w := newWorld(t)
	name := SessionName("key/app", "c")
	ctx := context.Background()
	if err := w.c.EnsureSession(ctx, Spec{Name: name, Owner: "key/app", Kind: Session}, nil); err != nil {
		t.Fatal(err)
	}
	w.bury("device/lamp9/in/a", name, outbox.Note{Key: 7, Value: []byte{1}})
	if st, ok, err := w.c.Session(ctx, name); err != nil || !ok || len(st.Notes) != 1 {
		t.Fatalf("%+v %v %v", st, ok, err)
	}
}
