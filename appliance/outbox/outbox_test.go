package outbox

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

func keyed(key, body string) *message.Message {
	m := message.New("a/b", []byte(body))
	m.From, m.Key = "app", key
	return m
}

func TestTwinsGetOneAnswer(t *testing.T) {
	x := newBox(t)
	var waits []<-chan stored
	for range 20 {
		waits = append(waits, x.publishing(keyed("k", "body")))
	}
	other := <-x.publishing(keyed("k", "another"))
	if code(other.err) != message.CodeKeyReused {
		t.Fatal(other)
	}
	fresh := 0
	first := (<-waits[0]).as.ID
	for i, w := range waits {
		s := stored{as: message.StoredAs{ID: first}}
		if i > 0 {
			s = <-w
		}
		if s.err != nil || s.as.ID != first {
			t.Fatalf("twin %d: %+v, want %v", i, s, first)
		}
		if !s.as.Replayed {
			fresh++
		}
	}
	if fresh != 1 || len(x.feed.seen) != 1 {
		t.Fatalf("%d were stored: %v", fresh, x.feed.seen)
	}
	if stored, _ := x.Counters(); stored != 1 {
		t.Fatalf("counted %d", stored)
	}
}

func TestKeyWindowSurvivesACrash(t *testing.T) {
	x := newBox(t)
	first := <-x.publishing(keyed("k", "body"))
	for i, how := range []func(){x.crash, x.snapshot, x.crash, func() { x.snapshot(); x.snapshot() }, x.crash} {
		how()
		if again := <-x.publishing(keyed("k", "body")); again.err != nil || again.as.ID != first.as.ID || !again.as.Replayed {
			t.Fatalf("after step %d: %+v, want %+v", i, again, first)
		}
		if s := <-x.publishing(keyed("k", "other")); code(s.err) != message.CodeKeyReused {
			t.Fatalf("after step %d: %+v", i, s)
		}
	}
	x.clock.move(idemAge + time.Second)
	if again := <-x.publishing(keyed("k", "other")); again.err != nil || again.as.Replayed {
		t.Fatalf("after the window: %+v", again)
	}
}

func TestBatchIsAllOrNothingAndKnowsItsKeys(t *testing.T) {
	x := newBox(t)
	old := <-x.publishing(keyed("old", "1"))
	got, err := x.PublishAll(ctx, []*message.Message{keyed("n", "2"), message.New("p", nil), keyed("old", "1"), keyed("n", "2")})
	if err != nil || len(x.feed.seen) != 3 {
		t.Fatalf("%+v, %v; stored %v", got, err, x.feed.seen)
	}
	if got[2].ID != old.as.ID || !got[2].Replayed || got[3].ID != got[0].ID || !got[3].Replayed || got[0].Replayed || got[1].Seq != got[0].Seq+1 {
		t.Fatalf("%+v", got)
	}
	for _, bad := range [][]*message.Message{
		{message.New("x", nil), keyed("m", "1"), keyed("m", "2")},
		{keyed("m", "1"), keyed("old", "2")},
	} {
		if _, err := x.PublishAll(ctx, bad); code(err) != message.CodeKeyReused {
			t.Fatal(err)
		}
	}
	if len(x.feed.seen) != 3 || len(x.tables.running) != 0 {
		t.Fatalf("a refused batch left %v, %v", x.feed.seen, x.tables.running)
	}
	if s := <-x.publishing(keyed("m", "2")); s.err != nil || s.as.Replayed {
		t.Fatalf("the key of a refused batch: %+v", s)
	}
}

func TestSettlementsAreDurableWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBox(t)
		a, b := x.publish("a"), x.publish("b")
		commits := x.Stats().Commits
		x.end(message.Delivered, a.Seq)
		time.Sleep(settleDelay - time.Millisecond)
		synctest.Wait()
		if n := x.Stats().Commits; n != commits {
			t.Fatalf("%d commits for one ack within the second", n-commits)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := x.Stats().Commits; n != commits+1 {
			t.Fatalf("%d commits after a second, want 1", n-commits)
		}
		x.end(message.Delivered, b.Seq)
		x.publish("c") // the ack rides with it
		if n := x.Stats().Commits; n != commits+2 {
			t.Fatalf("%d commits, want 2", n-commits)
		}
		x.crash()
		if x.feed.has(a.Seq) || x.feed.has(b.Seq) || len(x.feed.owed) != 1 {
			t.Fatalf("owed after the crash: %v", x.feed.owed)
		}
		x.close()
	})
}

func TestSettleNowWaitsForWhatIsOnItsWay(t *testing.T) {
	x := newBox(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				n := uint64(1 + g*50 + i)
				x.Settle(Settlement{Sub: 1, Seq: n, State: message.Dead, Attempts: 1, Reason: "x", Bytes: 1})
				if err := x.SettleNow(); err != nil {
					t.Error(err)
					return
				}
				if !slices.ContainsFunc(x.DeadLetters(0, 1000), func(d DeadLetter) bool { return d.Sub == 1 }) {
					t.Error("it returned before anything was durable")
				}
			}
		})
	}
	wg.Wait()
	if n, _ := x.DeadCount(); n != 200 {
		t.Fatalf("%d dead letters", n)
	}
	if len(x.pending)+len(x.riding) != 0 || x.given != x.durable {
		t.Fatal(x.pending, x.riding, x.given, x.durable)
	}
}

func TestRequeueOnceHoweverManyAsk(t *testing.T) {
	x := newBox(t)
	a := x.publish("a")
	x.end(message.Dead, a.Seq)
	if err := x.SettleNow(); err != nil {
		t.Fatal(err)
	}
	entry := x.DeadLetters(0, 9)[0].Entry
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []message.StoredAs
	for range 8 {
		wg.Go(func() {
			as, err := x.Requeue(ctx, entry)
			if err != nil && code(err) != message.CodeNotFound {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				got = append(got, as)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(got) != 1 || got[0].ID != a.ID || got[0].Seq == a.Seq {
		t.Fatalf("%+v", got)
	}
	x.crash()
	if n, _ := x.DeadCount(); n != 0 || !x.feed.has(got[0].Seq) {
		t.Fatalf("after a crash: %d dead letters, owed %v", n, x.feed.owed)
	}
}

func TestDelayCancelAndCrash(t *testing.T) {
	x := newBox(t)
	late := func(m *message.Message) { m.Delay, m.TTL = time.Minute, time.Hour }
	a, b, c := x.publish("a", late), x.publish("b", late), x.publish("c", func(m *message.Message) { m.Delay = 2 * time.Minute })
	x.snapshot()
	if len(x.feed.owed) != 0 {
		t.Fatal("owed before its time", x.feed.owed)
	}
	if err := x.Cancel(ctx, b.Seq); err != nil {
		t.Fatal(err)
	}
	x.crash()
	x.pass()
	if len(x.feed.owed) != 0 {
		t.Fatal("owed before its time", x.feed.owed)
	}
	x.clock.move(time.Minute + time.Second)
	x.pass()
	x.crash()
	x.pass()
	if len(x.feed.owed) != 1 {
		t.Fatalf("owed %v, want one copy of %d", x.feed.owed, a.Seq)
	}
	o, err := x.Outcome(a.ID)
	if err != nil || len(o.Copies) != 2 || !x.feed.has(o.Copies[1]) || o.Waits {
		t.Fatalf("%+v, %v", o, err)
	}
	e, err := x.Read(o.Copies[1])
	if err != nil || e.Msg.ID != a.ID || e.Msg.Delay != 0 || e.Msg.Expires-e.Msg.Age != int64(time.Hour) || string(e.Msg.Payload) != string(o.Message.Payload) {
		t.Fatalf("%+v, %v", e.Msg, err)
	}
	if o, err = x.Outcome(b.ID); err != nil || !o.Cancelled || o.Waits || len(o.Copies) != 1 {
		t.Fatalf("cancelled: %+v, %v", o, err)
	}
	if o, err = x.Outcome(c.ID); err != nil || !o.Waits {
		t.Fatalf("waiting: %+v, %v", o, err)
	}
	if due, ok := x.DelayedUntil(c.Seq); !ok || due <= x.Age() {
		t.Fatal(due, ok)
	}
}

func TestManyDelayedGoOutTogether(t *testing.T) {
	x := newBox(t)
	const n = 3 * releaseBatch
	var ms []*message.Message
	for i := range n {
		m := message.New("a", fmt.Append(nil, i))
		m.Delay = time.Second
		ms = append(ms, m)
	}
	if _, err := x.PublishAll(ctx, ms); err != nil {
		t.Fatal(err)
	}
	x.clock.move(2 * time.Second)
	commits := x.Stats().Commits
	x.pass()
	if len(x.feed.owed) != n || x.Stats().Commits > commits+6 {
		t.Fatalf("%d of %d went out in %d commits", len(x.feed.owed), n, x.Stats().Commits-commits)
	}
}

func TestNobodyGetsWhatWasCancelledWhileItWentOut(t *testing.T) {
	x := newBox(t)
	for i := range 100 {
		a := x.publish("a", func(m *message.Message) { m.Delay = time.Millisecond })
		x.clock.move(time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { x.pass() })
		release := x.Still()
		o, err := x.Outcome(a.ID)
		if err == nil {
			err = x.Cancel(ctx, o.Copies...)
		}
		release()
		wg.Wait()
		if err != nil || len(x.feed.owed) != 0 {
			t.Fatalf("round %d: owed %v, %v", i, x.feed.owed, err)
		}
	}
}

func TestExpiryEndsDebtsAndIsNotSweptWithoutPause(t *testing.T) {
	x := newBox(t)
	ttl := func(d time.Duration) func(*message.Message) { return func(m *message.Message) { m.TTL = d } }
	a, b, c := x.publish("a", ttl(time.Second)), x.publish("b", ttl(3*time.Second)), x.publish("c")
	x.snapshot()
	x.crash()
	x.clock.move(2 * time.Second)
	x.pass()
	if !slices.Equal(x.feed.expired, []uint64{a.Seq}) {
		t.Fatalf("expired %v, want %d", x.feed.expired, a.Seq)
	}
	if due := x.tables.nextDue(); due < x.Age()+int64(sweepPause)/2 {
		t.Fatalf("swept again in %v", time.Duration(due-x.Age()))
	}
	x.clock.move(5 * time.Second)
	x.pass()
	if !slices.Equal(slices.Compact(x.feed.expired), []uint64{a.Seq, b.Seq}) || !x.feed.has(c.Seq) || len(x.tables.lifetimes) != 0 {
		t.Fatalf("expired %v, owed %v, lifetimes %v", x.feed.expired, x.feed.owed, x.tables.lifetimes)
	}
}

// TestOutcomeNeverMissesASettlement traces while settlements are on their way into the log.
func TestOutcomeNeverMissesASettlement(t *testing.T) {
	x := newBox(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // commits, so that settlements ride all the time
		for {
			select {
			case <-stop:
				return
			default:
				<-x.publishing(message.New("noise", nil))
			}
		}
	})
	for i := range 300 {
		a := x.publish("a")
		x.Settle(Settlement{Sub: 1, Seq: a.Seq, State: message.Delivered, Attempts: 1})
		for range 5 {
			o, err := x.Outcome(a.ID)
			if err != nil || len(o.Settled) == 0 {
				t.Fatalf("round %d: %+v, %v", i, o, err)
			}
		}
	}
	close(stop)
	wg.Wait()
}
