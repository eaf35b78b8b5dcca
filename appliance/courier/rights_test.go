package courier

import (
	"strings"
	"sync"
	"testing"

	"edgepost/appliance/message"
)

// changing are rights that a test takes away and gives back.
type changing struct {
	mu      sync.Mutex
	version uint64
	denied  message.Topic
	asked   int // calls of MayReceive
}

func (r *changing) MayReceive(_ string, t message.Topic) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return t != r.denied
}

func (r *changing) Version() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// deny refuses a topic from now on, and returns how often was asked before.
func (r *changing) deny(t message.Topic) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied, r.version = t, r.version+1
	return r.asked
}

// TestChangedRightsHoldAtTheNextDelivery: an attached link keeps the answer for its topic, and no longer than the
// rights' version. What is then not allowed is a dead letter and never sent.
func TestChangedRightsHoldAtTheNextDelivery(t *testing.T) {
	w := newWorldOf(t)
	rights := &changing{}
	w.co.Rights = rights
	w.start()
	t.Cleanup(w.stop)
	w.inbox("lamp1")
	const set, end = "device/lamp1/in/set", "device/lamp1/in/end"
	l := newSink()
	a := w.attach("lamp1", l, AttachOptions{})
	deliver := func(topic, payload string) {
		t.Helper()
		w.publish(topic, payload)
		got := l.take(t, 1)
		if string(got[0].Msg.Payload) != payload {
			t.Fatalf("got %q, want %q", got[0].Msg.Payload, payload)
		}
		a.Ack(seqs(got))
	}
	for range 20 {
		deliver(set, "allowed")
	}
	if n := rights.deny(set); n != 1 {
		t.Errorf("asked %d times for 20 messages on one topic under one version", n)
	}
	refused := w.publish(set, "refused")
	deliver(end, "behind it") // so that the other one has had its turn
	eventually(t, "what is not allowed is given up", func() bool {
		p := w.trace(refused.ID)
		return len(p) == 1 && p[0].State == message.Dead
	})
	if p := w.trace(refused.ID); !strings.HasPrefix(p[0].Reason, "forbidden") {
		t.Errorf("the reason is %q", p[0].Reason)
	}
	rights.deny(end)
	deliver(set, "allowed again")
}
