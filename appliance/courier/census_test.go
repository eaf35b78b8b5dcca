package courier

import (
	"context"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// TestCensus: a session counts as away when nobody is connected to it and until it has expired.
func TestCensus(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		name := SessionName("key/app", "c")
		spec := Spec{Name: name, Owner: "key/app", Kind: Session, Expiry: time.Hour, Filters: []message.Filter{"t"}}
		if err := w.c.EnsureSession(ctx, spec, nil); err != nil {
			t.Fatal(err)
		}
		group := Spec{Name: SharedName("g", "job"), Owner: "$share", Filters: []message.Filter{"job"}, Expiry: 2 * time.Hour}
		if _, err := w.c.AttachShared(ctx, group, newSink(), AttachOptions{}); err != nil {
			t.Fatal(err)
		}
		w.publish("t", "x", func(m *message.Message) { m.Retain = true })
		w.publish("job", "x")
		want := func(c Census) {
			t.Helper()
			if got := w.c.Census(); got != c {
				t.Fatalf("%+v, want %+v", got, c)
			}
		}
		want(Census{Away: 1, Shared: 1, Retained: 1, Owed: 2})
		a, err := w.c.Attach(ctx, name, newSink(), AttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want(Census{Shared: 1, Retained: 1, Owed: 2})
		a.Close(Goodbye)
		want(Census{Away: 1, Shared: 1, Retained: 1, Owed: 2})
		time.Sleep(61 * time.Minute)
		if got := w.c.Census().Away; got != 0 {
			t.Fatalf("%d sessions are away after theirs has expired", got)
		}
	})
}
