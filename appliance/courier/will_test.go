package courier

import (
	"encoding/json"
	"math"
	"testing"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// TestWillsSurvive: kept wills are there after a crash and after a snapshot, until they are published or
// taken back; the end of an older will does not end the newer one.
func TestWillsSurvive(t *testing.T) {
	w := newWorld(t)
	keep := func(client, token string) {
		t.Helper()
		body := json.RawMessage(`{"of":"` + client + `"}`)
		if err := w.c.KeepWill(t.Context(), KeptWill{Principal: "key/app", Client: client, Token: token, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(client, token string) {
		t.Helper()
		done := make(chan error, 1)
		w.c.EndWill("key/app", client, token, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	keep("stays", "1")
	keep("taken/back", "1")
	keep("published", "1")
	keep("again", "1")
	end("taken/back", "1")
	keep("again", "2")
	end("again", "1") // late
	m, done := message.New("gone", []byte("bye")), make(chan error, 1)
	w.c.PublishWill(m, "key/app", "published", "1", func(_ message.StoredAs, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, how := range []func(){func() {}, w.crash, func() { w.snapshot(); w.crash() }, w.restart} {
		how()
		list, err := w.c.Wills()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, k := range list {
			got[k.Principal+" "+k.Client] = k.Token + string(k.Body)
		}
		if len(got) != 2 || got["key/app stays"] != `1{"of":"stays"}` || got["key/app again"] != `2{"of":"again"}` {
			t.Fatalf("kept wills: %v", got)
		}
		if n := len(w.c.List("")); n != 0 {
			t.Fatalf("%d wills are listed as subscriptions", n)
		}
	}
	w.clock.extra.Add(2 * int64(unlinkWait))
	for _, s := range w.c.shards {
		if err := s.do(t.Context(), s.tick); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "wills that are over are forgotten", func() bool { return len(w.c.Names(Will)) == 2 })
}

// TestSessionSaysTheSameAgain: a session that comes back and subscribes what it had writes nothing, so a
// full disk keeps it from nothing; a retained message is shown all the same.
func TestSessionSaysTheSameAgain(t *testing.T) {
	w := newWorld(t)
	spec := Spec{
		Name: SessionName("key/app", "c"), Owner: "key/app", Kind: Session, Expiry: DefaultTTL,
		Filters: []message.Filter{"a/<&>"}, Passing: []message.Filter{"p"}, Meta: json.RawMessage(`{"f":"a/<&>"}`),
	}
	if err := w.c.EnsureSession(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	w.open(spec.Name, newSink()).Close(Goodbye)
	for range 2 { // before and after a restart
		head := w.ob.Head()
		for _, show := range [][]message.Filter{nil, spec.Filters} {
			if err := w.c.EnsureSession(t.Context(), spec, show); err != nil {
				t.Fatal(err)
			}
			w.open(spec.Name, newSink()).Close(Goodbye)
		}
		if n := w.changes(head); n != 0 {
			t.Fatalf("%d records were written", n)
		}
		w.restart()
	}
	w.publish("a/<&>", "kept", retain)
	k := newSink()
	a := w.open(spec.Name, k)
	a.Ack(seqs(k.take(t, 1)))
	if err := w.c.EnsureSession(t.Context(), spec, spec.Filters); err != nil {
		t.Fatal(err)
	}
	if d := k.take(t, 1)[0]; !d.Retained || string(d.Msg.Payload) != "kept" {
		t.Errorf("subscribing again shows %q, retained %v", d.Msg.Payload, d.Retained)
	}
	spec.Expiry++
	head := w.ob.Head()
	if err := w.c.EnsureSession(t.Context(), spec, nil); err != nil || w.changes(head) != 1 {
		t.Errorf("a change of the expiry was not written (%v)", err)
	}
}

// changes counts the records of the subscription table behind a place in the log.
func (w *world) changes(after uint64) (n int) {
	w.t.Helper()
	if err := w.ob.Each(after+1, math.MaxUint64, func(e outbox.Entry) bool {
		if e.Kind == outbox.KindChange {
			n++
		}
		return true
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}
