package courier

import (
	"context"
	"testing"
	"time"

	"edgepost/appliance/message"
)

var testSession = Spec{Name: SessionName("key/app", "c1"), Owner: "key/app", Kind: Session, Filters: []message.Filter{"lamp/#"}, Expiry: time.Hour}

// session opens the test's session over the link and shows what is retained.
func (w *world) session(l Link, show ...message.Filter) Attachment {
	w.t.Helper()
	ctx := context.Background()
	if err := w.c.EnsureSession(ctx, testSession, show); err != nil {
		w.t.Fatal(err)
	}
	a, err := w.c.Attach(ctx, testSession.Name, l, AttachOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// TestASessionLivesFromItsLastLink: its time to come back begins when its link ended, be that with the process, and not
// when the link began, which is all that a snapshot may know.
func TestASessionLivesFromItsLastLink(t *testing.T) {
	for name, end := range map[string]func(w *world, a Attachment){
		"crash":   func(w *world, _ Attachment) { w.crash() },
		"restart": func(w *world, _ Attachment) { w.restart() },
		"gone, and a crash": func(w *world, a Attachment) {
			a.Close(Goodbye)
			time.Sleep(2 * unlinkWait)
			w.crash()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.session(newSink())
				w.snapshot()
				time.Sleep(30 * time.Hour)
				end(w, a)
				time.Sleep(50 * time.Minute)
				if _, ok, err := w.c.Session(context.Background(), testSession.Name); !ok || err != nil {
					t.Fatalf("the session is over, %v", err)
				}
				time.Sleep(20 * time.Minute)
				if _, ok, _ := w.c.Session(context.Background(), testSession.Name); ok {
					t.Fatal("the session outlives its time")
				}
			})
		})
	}
}

// TestWhatIsShownAgainSurvivesACrash: the acknowledgement of an earlier showing, which was on its way to the log when
// the client subscribed once more, does not end the second one.
func TestWhatIsShownAgainSurvivesACrash(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("lamp/a", "on", retain)
		l := newSink()
		a := w.session(l, "lamp/#")
		a.Ack(seqs(l.take(t, 1)))
		a.Close(Goodbye)
		w.session(&sink{more: make(chan struct{}, 1)}, "lamp/#") // takes nothing
		time.Sleep(2 * time.Second)
		w.crash()
		l = newSink()
		w.session(l)
		if d := l.take(t, 1); string(d[0].Msg.Payload) != "on" {
			t.Fatalf("it got %q", d[0].Msg.Payload)
		}
	})
}

// TestAGroupBeginsWithNothing: subscribers that share messages are not shown what is retained.
func TestAGroupBeginsWithNothing(t *testing.T) {
	w := newWorld(t)
	w.publish("lamp/a", "old", retain)
	l := newSink()
	if _, err := w.c.AttachShared(t.Context(), Spec{Name: SharedName("g", "lamp/#"), Owner: "$share", Filters: []message.Filter{"lamp/#"}}, l, AttachOptions{}); err != nil {
		t.Fatal(err)
	}
	w.publish("lamp/a", "new", retain)
	if d := l.take(t, 1); string(d[0].Msg.Payload) != "new" {
		t.Fatalf("it got %q", d[0].Msg.Payload)
	}
}

// TestAForgottenNoteIsBehindTheAck: once the note of an exact delivery is forgotten, after a look at the session, no crash brings
// back the message, however far the shard was behind with the acknowledgement.
func TestAForgottenNoteIsBehindTheAck(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		l := newSink()
		a := w.session(l)
		w.publish("lamp/a", "once")
		seq := l.take(t, 1)[0].Seq
		note := func(value string) {
			t.Helper()
			done := make(chan error, 1)
			w.c.Note(testSession.Name, []Note{{Key: 7, Value: []byte(value)}}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		note("released")
		s, _, err := w.c.find(testSession.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.post(ctx, func() { time.Sleep(time.Second) }); err != nil { // the shard has much to do
			t.Fatal(err)
		}
		a.Ack([]uint64{seq})
		if _, _, err := w.c.Session(ctx, testSession.Name); err != nil {
			t.Fatal(err)
		}
		note("")
		w.crash()
		if p := w.trace(message.ID{Epoch: w.ob.Epoch(), Seq: seq}); len(p) != 1 || p[0].State != message.Delivered {
			t.Fatalf("after the crash: %+v", p)
		}
	})
}
