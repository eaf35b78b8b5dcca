package courier

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
	"unsafe"

	"edgepost/appliance/message"
)

// lent is a subscription with something in every field that a snapshot keeps.
func lent() *subscription {
	c := &Courier{}
	s := c.newSubscription(7, Spec{
		Name: "key/app/jobs", Owner: "key/app", Kind: Named, Filters: []message.Filter{"a/#", "b"}, TTL: time.Hour, MaxAttempts: 3, Window: 5, Keep: 2,
		Passing: []message.Filter{"c"}, Expiry: time.Minute, Meta: json.RawMessage(`{"v":5}`),
	})
	s.used, s.reach = -5, 1000
	s.withdraw = map[uint64]bool{12: true, math.MaxUint32: true}
	s.gifts = map[uint64]uint64{13: 5, math.MaxUint32: 1 << 40}
	s.remember([]Note{{Key: 1, Value: []byte("x")}, {Key: math.MaxUint32, Value: []byte{0}}})
	for n := range uint64(300) {
		s.state.Owe(10+3*n, n%7 == 0)
	}
	return s
}

func TestSubscriptionComesBackFromASnapshot(t *testing.T) {
	c := &Courier{}
	s := lent()
	b, err := s.encode(1 << 40)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.decodeSubscription(b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.spec.equal(&s.spec) || string(got.spec.Meta) != string(s.spec.Meta) || got.spec.Name != s.spec.Name || got.spec.Expiry != s.spec.Expiry {
		t.Fatalf("spec %+v", got.spec)
	}
	if got.id != 7 || got.applied != 1<<40 || got.used != -5 || got.reach != 1000 || len(got.withdraw) != 2 || !got.withdraw[12] {
		t.Fatalf("%+v", got)
	}
	if len(got.gifts) != 2 || got.gifts[13] != 5 || got.gifts[math.MaxUint32] != 1<<40 {
		t.Fatalf("gifts %v", got.gifts)
	}
	if len(got.notes) != 2 || string(got.notes[1]) != "x" || got.state.Depth() != 300 || !got.state.Owes(13) || got.state.Owes(14) {
		t.Fatalf("notes %v, depth %d", got.notes, got.state.Depth())
	}
	for n := range b {
		if _, err := c.decodeSubscription(b[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes it decodes", n, len(b))
		}
	}
}

func FuzzSubscription(f *testing.F) {
	s := lent()
	s.withdraw, s.notes, s.gifts = nil, nil, nil // maps have no order
	b, err := s.encode(5)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Courier{}
		s, err := c.decodeSubscription(b)
		if err != nil || len(s.withdraw)+len(s.notes)+len(s.gifts) > 1 {
			return
		}
		once, err := s.encode(s.applied)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.decodeSubscription(once)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if twice, err := again.encode(again.applied); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("it changes with every turn: %v\n%x\n%x", err, once, twice)
		}
	})
}

// What the courier keeps for itself, retained messages and receipts, is nobody's subscription.
func TestReachesIsWhetherMatchesCounts(t *testing.T) {
	w := newWorld(t)
	w.inbox("lamp1") // not attached
	for owner, f := range map[string]message.Filter{"key/a": "all/#", "key/b": "all/+", "key/c": "one"} {
		if _, _, err := w.c.Subscribe(t.Context(), owner, Request{Filter: f}, newSink(), AttachOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	passing := Spec{Name: "key/d/passing", Owner: "key/d", Kind: Live, Passing: []message.Filter{"passing/+"}}
	if _, err := w.c.OpenLive(t.Context(), passing, newSink(), AttachOptions{}); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[message.Topic]int{
		"device/lamp1/in/set": 1, "device/lamp2/in/set": 0, "all": 1, "all/x": 2, "one": 1, "one/x": 0, "passing/x": 1, "nobody": 0, "$edge/x": 0,
	} {
		if n, ok := w.c.Matches(topic), w.c.Reaches(topic); n != want || ok != (want > 0) {
			t.Errorf("%s: %d subscriptions, want %d; reached: %v", topic, n, want, ok)
		}
		if got := w.c.Inboxed(topic); got != (topic == "device/lamp1/in/set") {
			t.Errorf("%s: an inbox selects it: %v", topic, got)
		}
		if a := testing.AllocsPerRun(10, func() { w.c.Reaches(topic); w.c.Inboxed(topic) }); !raceEnabled && a != 0 {
			t.Errorf("%s: %v allocations", topic, a)
		}
	}
}

// TestSubscriptionIsSmall holds what thousands of idle devices cost: sizes that Go allocates without a rest.
func TestSubscriptionIsSmall(t *testing.T) {
	for _, c := range []struct {
		what      string
		has, most uintptr
	}{
		{"subscription", unsafe.Sizeof(subscription{}), 416},
		{"attachment", unsafe.Sizeof(attachment{}), 128},
	} {
		if c.has > c.most {
			t.Errorf("a %s has %d bytes, at most %d", c.what, c.has, c.most)
		}
	}
}
