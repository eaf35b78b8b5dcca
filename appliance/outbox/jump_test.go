package outbox

import (
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// TestTimeOffIsNotCharged: an outage that is counted only when the clock is set came before everything
// that was stored in the meantime. None of it expires, goes out or is forgotten early, across a crash
// neither, and none of it stays for ever.
func TestTimeOffIsNotCharged(t *testing.T) {
	x := newBox(t)
	a := x.publish("ttl", func(m *message.Message) { m.TTL = time.Hour })
	late := x.publish("late", func(m *message.Message) { m.Delay = time.Hour })
	keyed := func() *message.Message {
		m := message.New("keyed", []byte("x"))
		m.From, m.Key = "app", "k"
		return m
	}
	k := <-x.publishing(keyed())
	if k.err != nil {
		t.Fatal(k.err)
	}
	x.snapshot()
	x.clock.jump(72 * time.Hour)
	again := <-x.publishing(keyed())
	if again.err != nil || !again.as.Replayed || again.as.ID != k.as.ID {
		t.Fatalf("the key was forgotten: %+v", again)
	}
	b := x.publish("ttl", func(m *message.Message) { m.TTL = time.Hour })
	for _, restart := range []bool{false, true} {
		if restart {
			x.crash()
		}
		x.pass()
		if len(x.feed.expired) != 0 || !x.feed.has(a.Seq) || !x.feed.has(b.Seq) || len(x.feed.owed) != 3 {
			t.Fatalf("restarted %v: expired %v, owed %v", restart, x.feed.expired, x.feed.owed)
		}
		if due, ok := x.DelayedUntil(late.Seq); !ok || due < x.Age()+int64(50*time.Minute) {
			t.Fatalf("restarted %v: goes out in %v", restart, time.Duration(due-x.Age()))
		}
		if next := x.tables.nextDue(); restart && next < x.Age()+int64(50*time.Minute) {
			t.Fatalf("the keeper comes back in %v for nothing", time.Duration(next-x.Age()))
		}
	}
	x.clock.move(time.Hour + time.Minute)
	x.pass()
	slices.Sort(x.feed.expired)
	if got := slices.Compact(x.feed.expired); !slices.Equal(got, []uint64{a.Seq, b.Seq}) {
		t.Fatalf("an hour later expired %v, want %d and %d", got, a.Seq, b.Seq)
	}
	if _, waits := x.DelayedUntil(late.Seq); waits {
		t.Fatal("the delayed message still waits")
	}
	if fresh := <-x.publishing(keyed()); fresh.err != nil || fresh.as.Replayed {
		t.Fatalf("the key is remembered for ever: %+v", fresh)
	}
}
