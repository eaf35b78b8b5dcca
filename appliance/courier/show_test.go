package courier

import (
	"context"
	"testing"

	"edgepost/appliance/message"
)

// again is a session that is shown a retained message, and is asked to show it once more while the first
// transmission is on its way.
func (w *world) again() (name string, l *sink, a Attachment, first Delivery) {
	w.t.Helper()
	ctx := context.Background()
	name = SessionName("key/app", "c")
	spec := Spec{Name: name, Owner: "key/app", Kind: Session, Filters: []message.Filter{"r"}}
	w.publish("r", "kept", retain)
	l = newSink()
	for i := range 2 {
		if err := w.c.EnsureSession(ctx, spec, []message.Filter{"r"}); err != nil {
			w.t.Fatal(err)
		}
		if i == 0 {
			a = w.open(name, l)
			first = l.take(w.t, 1)[0]
		}
	}
	if !first.Retained || string(first.Msg.Payload) != "kept" {
		w.t.Fatalf("shown: %+v", first)
	}
	return name, l, a, first
}

// TestShownAgain: what was on its way when the subscriber asked again comes once more, when it is acknowledged.
func TestShownAgain(t *testing.T) {
	w := newWorld(t)
	_, l, a, first := w.again()
	a.Ack([]uint64{first.Seq})
	second := l.take(t, 1)[0]
	if second.Seq != first.Seq || !second.Retained {
		t.Fatalf("again: %+v", second)
	}
	a.Ack([]uint64{second.Seq})
	if p := w.trace(first.Msg.ID); len(p) != 1 || p[0].State != message.Delivered {
		t.Fatalf("%+v", p)
	}
	w.publish("r", "live")
	if d := l.take(t, 1)[0]; string(d.Msg.Payload) != "live" {
		t.Fatalf("a third time: %s", d.Msg.Payload)
	}
}

// TestShownAgainAndReplaced: the newer one comes instead.
func TestShownAgainAndReplaced(t *testing.T) {
	w := newWorld(t)
	_, l, a, first := w.again()
	w.publish("r", "new", retain)
	d := l.take(t, 1)[0]
	a.Ack([]uint64{first.Seq, d.Seq})
	w.publish("r", "live")
	if d := l.take(t, 1)[0]; string(d.Msg.Payload) != "live" {
		t.Fatalf("behind its successor came %s", d.Msg.Payload)
	}
}

// TestShownAgainAndRefused: who does not want it gets it no more.
func TestShownAgainAndRefused(t *testing.T) {
	w := newWorld(t)
	_, l, a, first := w.again()
	a.Nack(first.Seq, 0, "no", true)
	w.publish("r", "live")
	if d := l.take(t, 1)[0]; string(d.Msg.Payload) != "live" {
		t.Fatalf("after the refusal came %s", d.Msg.Payload)
	}
}

// TestShownAgainSurvives: an acknowledgement of the first transmission does not end it, so a restart repeats it.
func TestShownAgainSurvives(t *testing.T) {
	w := newWorld(t)
	name, _, a, first := w.again()
	a.Ack([]uint64{first.Seq})
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	w.restart()
	l := newSink()
	a = w.open(name, l)
	d := l.take(t, 1)[0]
	if d.Seq != first.Seq || d.Attempt < 2 {
		t.Fatalf("after the restart: %+v", d)
	}
	a.Ack([]uint64{d.Seq})
	if p := w.trace(first.Msg.ID); len(p) != 1 || p[0].State != message.Delivered {
		t.Fatalf("%+v", p)
	}
}
