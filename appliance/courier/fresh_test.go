package courier

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// A link that asks for it gets new messages before the backlog, and of that what it allows, marked.
func TestFreshFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bridge()
		for i := range 5 {
			w.publish(fmt.Sprintf("t/old%d", i), "")
		}
		l := &mLink{room: -1}
		att, err := w.c.Attach(t.Context(), "bridge/b", l, AttachOptions{Window: 100, FreshFirst: true})
		if err != nil {
			t.Fatal(err)
		}
		w.publish("t/new0", "")
		time.Sleep(time.Second)
		fill, _ := att.(Filler)
		fill.Backlog(2)
		time.Sleep(time.Second)
		w.publish("t/new1", "")
		time.Sleep(time.Second)
		fill.Backlog(100)
		time.Sleep(time.Second)
		var got []string
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, d := range l.got {
			s := string(d.Msg.Topic)
			if d.Backlog {
				s += " of the backlog"
			}
			got = append(got, s)
		}
		want := []string{"t/new0", "t/old0 of the backlog", "t/old1 of the backlog", "t/new1", "t/old2 of the backlog", "t/old3 of the backlog", "t/old4 of the backlog"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

// bridge makes the subscription of a bridge.
func (w *world) bridge() {
	w.t.Helper()
	if _, err := w.c.Ensure(w.t.Context(), Spec{Name: "bridge/b", Owner: "bridge/b", Kind: Bridge, Filters: []message.Filter{"t/#"}, NotFrom: "bridge/b"}); err != nil {
		w.t.Fatal(err)
	}
}

// What a bridge brought itself it does not owe; what it owes can be skipped up to a place, and owed again by age; both
// outlive a restart.
func TestBridgeSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bridge()
		depth := func(want int64, when string) {
			t.Helper()
			info, err := w.c.Info(t.Context(), "bridge/b")
			if err != nil || info.Depth != want {
				t.Errorf("%s: %d are owed, not %d; %v", when, info.Depth, want, err)
			}
		}
		w.publish("t/a", "", func(m *message.Message) { m.From = "bridge/b" })
		b := w.publish("t/b", "")
		time.Sleep(time.Hour)
		w.publish("t/c", "")
		w.publish("t/d", "")
		depth(3, "published")
		if n, err := w.c.Skip(t.Context(), "bridge/b", b.Seq, "test"); err != nil || n != 1 {
			t.Errorf("skipped %d: %v", n, err)
		}
		depth(2, "skipped one")
		if n, err := w.c.Skip(t.Context(), "bridge/b", w.c.Head().Seq, "test"); err != nil || n != 2 {
			t.Errorf("skipped %d: %v", n, err)
		}
		time.Sleep(2 * time.Second)
		w.restart()
		depth(0, "skipped all, after a restart")
		after, err := w.c.Before(t.Context(), "bridge/b", time.Minute)
		if err != nil || after != b.ID {
			t.Errorf("older than a minute: %v, %v; want %v", after, err, b.ID)
		}
		if _, err := w.c.Rewind(t.Context(), "bridge/b", after); err != nil {
			t.Fatal(err)
		}
		depth(2, "rewound a minute")
		if after, err = w.c.Before(t.Context(), "bridge/b", 24*time.Hour); err != nil || !after.IsZero() {
			t.Errorf("older than a day: %v, %v", after, err)
		}
		if _, err := w.c.Rewind(t.Context(), "bridge/b", after); err != nil {
			t.Fatal(err)
		}
		depth(3, "rewound to the beginning: without what it brought itself")
		w.restart()
		depth(3, "after a restart")
	})
}
