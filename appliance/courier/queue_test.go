package courier

import (
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// queue is what waits for a device, by payload, what goes next first.
func (w *world) queue(device string) (payloads []string) {
	w.t.Helper()
	list, depth, err := w.c.Queue(w.t.Context(), DeviceInbox(device), 100)
	if err != nil || depth != int64(len(list)) {
		w.t.Fatalf("queue of %s: %d of %d, %v", device, len(list), depth, err)
	}
	for _, q := range list {
		payloads = append(payloads, string(q.Msg.Payload))
	}
	return payloads
}

func (w *world) queued(device string, want ...string) {
	w.t.Helper()
	if got := w.queue(device); !slices.Equal(got, want) {
		w.t.Fatalf("for %s wait %q, want %q", device, got, want)
	}
}

func urgent(m *message.Message) { m.Priority = 8 }

// TestQueueIsReordered moves messages of one of two receivers, over restarts, and delivers them in the new order, once each.
func TestQueueIsReordered(t *testing.T) {
	w := newWorld(t)
	w.inbox("a", "group/g/in/#")
	w.inbox("b", "group/g/in/#")
	one := w.publish("group/g/in/x", "one", func(m *message.Message) { m.TTL = time.Hour })
	two := w.publish("group/g/in/x", "two")
	three := w.publish("group/g/in/x", "three", urgent)
	w.queued("a", "three", "one", "two")
	if _, err := w.c.Move(t.Context(), "device/a", one.ID, 2); err != nil {
		t.Fatal(err)
	}
	w.queued("a", "three", "two", "one")
	if _, err := w.c.Move(t.Context(), "device/a", two.ID, 9); err != nil {
		t.Fatal(err)
	}
	w.queued("a", "three", "two", "one")
	w.restart()
	w.queued("a", "three", "two", "one")
	if _, err := w.c.Move(t.Context(), "device/a", one.ID, 7); err != nil { // once more, now that it has another place
		t.Fatal(err)
	}
	if _, err := w.c.Move(t.Context(), "device/a", three.ID, 0); err != nil {
		t.Fatal(err)
	}
	w.queued("a", "two", "one", "three")
	w.queued("b", "three", "one", "two")
	list, _, err := w.c.Queue(t.Context(), "device/a", 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d, %v", len(list), err)
	}
	if q := list[1]; q.Msg.ID != one.ID || q.Place.ID != one.ID || q.Msg.Priority != 7 || q.ExpiresIn <= 0 || q.ExpiresIn > time.Hour {
		t.Errorf("the moved message is %+v, %+v", q, q.Msg)
	}
	l := newSink()
	a := w.attach("a", l, AttachOptions{})
	got := l.take(t, 3)
	for i, want := range []message.ID{two.ID, one.ID, three.ID} {
		if got[i].Msg.ID != want || got[i].Attempt != 1 {
			t.Errorf("delivery %d is %s, attempt %d; want %s", i, got[i].Msg.ID, got[i].Attempt, want)
		}
	}
	a.Ack(seqs(got))
	for _, id := range []message.ID{one.ID, two.ID, three.ID} {
		if r := w.trace(id); len(r) != 2 || r[0].State != message.Delivered && r[1].State != message.Delivered {
			t.Errorf("the trace of %s says %+v", id, r)
		}
	}
	w.restart()
	w.queued("a")
	w.queued("b", "three", "one", "two")
}

// TestQueueMoveRefuses names what cannot be moved or withdrawn.
func TestQueueMoveRefuses(t *testing.T) {
	w := newWorld(t)
	w.inbox("a")
	w.inbox("b")
	as := w.publish("device/a/in/x", "one")
	for name, c := range map[string]struct {
		device string
		id     message.ID
	}{
		"another device":     {"b", as.ID},
		"an unknown device":  {"c", as.ID},
		"an unknown message": {"a", message.ID{Epoch: as.ID.Epoch, Seq: as.Seq + 50}},
	} {
		if _, err := w.c.Move(t.Context(), DeviceInbox(c.device), c.id, 1); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeNotFound {
			t.Errorf("%s: move says %v", name, err)
		}
		if err := w.c.Withdraw(t.Context(), DeviceInbox(c.device), c.id, "x"); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeNotFound {
			t.Errorf("%s: withdraw says %v", name, err)
		}
	}
	l := newSink()
	w.attach("a", l, AttachOptions{})
	l.take(t, 1)
	if _, err := w.c.Move(t.Context(), "device/a", as.ID, 1); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeInFlight {
		t.Errorf("on its way: move says %v", err)
	}
}

// TestWithdrawnFromOne ends a debt of one receiver, durably, and no other.
func TestWithdrawnFromOne(t *testing.T) {
	w := newWorld(t)
	w.inbox("a", "group/g/in/#")
	w.inbox("b", "group/g/in/#")
	as := w.publish("group/g/in/x", "one")
	if err := w.c.Withdraw(t.Context(), "device/a", as.ID, "withdrawn by user/ann"); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.queued("a")
	w.queued("b", "one")
	for _, r := range w.trace(as.ID) {
		if r.Subscription == "device/a" && (r.State != message.Cancelled || r.Reason != "withdrawn by user/ann") {
			t.Errorf("%+v", r)
		}
	}
}

// TestAckOvertakesAMove has the log say that a message was moved which was acknowledged while the record was on its way.
func TestAckOvertakesAMove(t *testing.T) {
	w := newWorld(t)
	w.inbox("a")
	as := w.publish("device/a/in/x", "one")
	l := newSink()
	a := w.attach("a", l, AttachOptions{})
	a.Ack(seqs(l.take(t, 1)))
	w.queued("a")
	s, id, err := w.c.find("device/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ob.Move(t.Context(), outbox.Move{Sub: id, Seq: as.Seq}, 9, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.do(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	w.queued("a")
	w.restart()
	w.queued("a")
}

func TestReach(t *testing.T) {
	w := newWorld(t)
	w.inbox("a", "group/g/in/#")
	w.inbox("b", "group/g/in/#")
	w.attach("b", newSink(), AttachOptions{})
	if _, _, err := w.c.PutNamed(t.Context(), "key/app", "jobs", NamedSpec{Filters: []message.Filter{"group/#", "group/g/in/x"}}); err != nil {
		t.Fatal(err)
	}
	got, err := w.c.Reach(t.Context(), "group/g/in/x")
	want := []Audience{{"device/a", true, false}, {"device/b", true, true}, {"key/app/jobs", false, false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStandings follows one device: never seen, there, gone with a reason, and after a restart.
func TestStandings(t *testing.T) {
	w := newWorld(t)
	w.inbox("a")
	w.inbox("b")
	of := func() Standing {
		t.Helper()
		list, err := w.c.Standings(t.Context(), []string{"b", "nobody", "a"}, true)
		if err != nil || len(list) != 3 || list[1] != (Standing{}) || list[0].Online {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[2]
	}
	if s := of(); s.Online || !s.Seen.IsZero() || s.Owed != 0 {
		t.Errorf("at first: %+v", s)
	}
	w.publish("device/a/in/x", "one")
	l := newSink()
	a := w.attach("a", l, AttachOptions{})
	if s := of(); !s.Online || s.Since.IsZero() || s.Seen.IsZero() || s.Owed != 1 {
		t.Errorf("there: %+v", s)
	}
	a.Close(Silent)
	if s := of(); s.Online || s.Why != Silent || s.Seen.IsZero() || s.Owed != 1 {
		t.Errorf("gone: %+v", s)
	}
	o := w.c.Overview(10)
	if o.Owed != 1 || o.Online != 0 || len(o.Debtors) != 1 || o.Debtors[0].Name != "device/a" || o.Debtors[0].Kind != Inbox || o.Debtors[0].Owed != 1 {
		t.Errorf("overview %+v", o)
	}
	w.restart()
	if s := of(); s.Online || s.Seen.IsZero() || s.Owed != 1 {
		t.Errorf("after a restart: %+v", s)
	}
}

// TestComingsAreBounded keeps the newest.
func TestComingsAreBounded(t *testing.T) {
	var c comings
	for i := range maxComings + 10 {
		c.add("device/a", i%2 == 0, "", time.Unix(int64(i), 0))
	}
	c.add("device/b", true, "", time.Unix(0, 0))
	got := c.of("device/a")
	if len(got) != maxComings-1 || got[0].At.Unix() != 11 || got[0].Kind != "offline" || got[len(got)-1].At.Unix() != maxComings+9 || len(c.of("device/b")) != 1 {
		t.Errorf("%d are kept, from %+v", len(got), got[0])
	}
}
