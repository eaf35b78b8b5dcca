package courier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// taker is a link that acknowledges what it gets from a goroutine of its own, now and then refuses, and
// notes what it acknowledged.
type taker struct {
	got  chan Delivery
	gone chan struct{}
	once sync.Once
}

func newTaker() *taker { return &taker{got: make(chan Delivery, 32), gone: make(chan struct{})} }

func (l *taker) Deliver(d Delivery) bool {
	select {
	case l.got <- d:
		return true
	default:
		return false
	}
}

func (l *taker) Flush() {}

func (l *taker) Lost(Cause) { l.once.Do(func() { close(l.gone) }) }

// tally notes which messages a subscription has acknowledged, and whether one came unflagged twice.
type tally struct {
	mu    sync.Mutex
	acked map[uint64]bool
	first map[uint64]bool
	bad   error
}

func (y *tally) took(d Delivery) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if d.Attempt == 1 && y.first[d.Seq] {
		y.bad = fmt.Errorf("%d came twice as a first attempt", d.Seq)
	}
	if y.acked[d.Seq] && d.Attempt == 1 {
		y.bad = fmt.Errorf("%d came again after its ack", d.Seq)
	}
	y.first[d.Seq] = true
}

func (y *tally) ack(seq uint64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.acked[seq] = true
}

// TestEverythingAtOnce: publishers, devices that come and go, readers that fetch, live subscriptions,
// traces, cancels, lists, and a log so small that it is cleaned all the time. At the end every device has
// acknowledged every message that was not cancelled, and no goroutine is left.
func TestEverythingAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t)
	w.restartWith(func() {
		w.o.Generation, w.o.MaxBytes, w.o.RetainBytes = 8<<10, 1<<20, 64<<10
		w.co.Policy.MaxAttempts = 1 << 15
		w.co.Policy.Backoff.Base, w.co.Policy.Backoff.Max = time.Millisecond, 5*time.Millisecond
	})
	w.c.hintBytes = 4 << 10
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const devices = 6
	tallies := map[string]*tally{}
	for i := range devices {
		d := fmt.Sprint("d", i)
		w.inbox(d, "all/#")
		tallies[d] = &tally{acked: map[uint64]bool{}, first: map[uint64]bool{}}
	}
	if _, _, err := w.c.PutNamed(ctx, "key/app", "jobs", NamedSpec{Filters: []message.Filter{"all/#"}}); err != nil {
		t.Fatal(err)
	}
	var users, publishers sync.WaitGroup
	for d, y := range tallies {
		users.Go(func() { w.device(ctx, d, y) })
	}
	fetched := &tally{acked: map[uint64]bool{}, first: map[uint64]bool{}}
	for range 2 {
		users.Go(func() { w.reader(ctx, fetched) })
	}
	users.Go(func() { w.onlooker(ctx) })
	var ids sync.Map // of what was published to all
	for p := range 4 {
		publishers.Go(func() { w.publisher(p, devices, &ids) })
	}
	publishers.Wait()
	deadline := time.Now().Add(60 * time.Second)
	for w.c.Status().Owed > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if n := w.c.Status().Owed; n > 0 {
		t.Errorf("%d debts are never paid", n)
	}
	cancel()
	users.Wait()
	tallies["jobs"] = fetched
	for d, y := range tallies {
		if y.bad != nil {
			t.Errorf("%s: %v", d, y.bad)
		}
		ids.Range(func(seq, _ any) bool {
			if !y.acked[seq.(uint64)] {
				t.Errorf("%s never acknowledged %d", d, seq)
			}
			return true
		})
	}
	w.stop()
	noneLeft(t, before)
}

// noneLeft waits for the goroutines to be as few as before.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 1000 {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(time.Millisecond) // those that are done are still ending
	}
}

// publisher publishes 250 messages, most of them to all, and notes where those are.
func (w *world) publisher(p, devices int, ids *sync.Map) {
	for i := range 250 {
		m := message.New("all/x", fmt.Appendf(nil, "%d-%d", p, i))
		if i%5 == 0 {
			m.Topic = message.Topic(fmt.Sprintf("device/d%d/in/x", i/5%devices))
		}
		if i%17 == 0 {
			m.Priority = 9
		}
		as, err := w.store(m)
		for err != nil && message.ProblemOf(err) != nil && message.ProblemOf(err).Code == message.CodeStorageFull {
			time.Sleep(time.Millisecond) // a real publisher's pause; the log makes room meanwhile
			as, err = w.store(m)
		}
		if err != nil {
			w.t.Error(err)
			return
		}
		if m.Topic == "all/x" {
			ids.Store(as.Seq, true)
		}
	}
}

// restartWith starts anew on an empty log with other options.
func (w *world) restartWith(change func()) {
	w.stop()
	w.dir = w.t.TempDir()
	change()
	w.start()
}

// device connects, takes some, goes without a word or is taken over, and comes back.
func (w *world) device(ctx context.Context, name string, y *tally) {
	r := rand.New(rand.NewPCG(1, uint64(name[1])))
	for ctx.Err() == nil {
		l := newTaker()
		a, err := w.c.Attach(ctx, DeviceInbox(name), l, AttachOptions{Window: 1 + r.IntN(40), AckTimeout: time.Second})
		if err != nil {
			return
		}
		for range 20 + r.IntN(200) {
			select {
			case <-ctx.Done():
				a.Close(Goodbye)
				return
			case <-l.gone:
			case <-time.After(time.Duration(r.IntN(30)) * time.Millisecond):
				a.Ready()
				continue
			case d := <-l.got:
				if d.Seq == 0 {
					continue // volatile: nothing to acknowledge
				}
				y.took(d)
				if r.IntN(10) == 0 {
					a.Nack(d.Seq, time.Millisecond, "busy", false)
				} else {
					y.ack(d.Seq)
					a.Ack([]uint64{d.Seq})
				}
				a.Ready()
				continue
			}
			break
		}
		if r.IntN(2) == 0 {
			a.Close(Goodbye)
		}
	}
}

// reader fetches and acknowledges.
func (w *world) reader(ctx context.Context, y *tally) {
	for ctx.Err() == nil {
		got, err := w.c.Fetch(ctx, "key/app/jobs", 20, 50*time.Millisecond)
		if err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
			return
		}
		var acks Acks
		for _, d := range got {
			y.took(d)
			y.ack(d.Seq)
			acks.IDs = append(acks.IDs, d.Msg.ID)
		}
		if _, err := w.c.Acknowledge(context.WithoutCancel(ctx), "key/app/jobs", acks); err != nil {
			w.t.Error(err)
			return
		}
	}
}

// onlooker does all that must not disturb.
func (w *world) onlooker(ctx context.Context) {
	r := rand.New(rand.NewPCG(3, 4))
	for ctx.Err() == nil {
		switch r.IntN(8) {
		case 0:
			w.c.List("")
		case 1:
			if head := w.ob.Head(); head > 0 {
				_, _ = w.c.Trace(ctx, message.ID{Epoch: w.ob.Epoch(), Seq: 1 + r.Uint64N(head)}) // what it finds changes all the time
			}
		case 2:
			l := newTaker()
			a, _, err := w.c.Subscribe(ctx, "key/web", Request{Filter: "all/#", After: message.ID{Epoch: w.ob.Epoch(), Seq: w.ob.Head() / 2}}, l, AttachOptions{AutoSettle: true})
			if err == nil {
				a.Close(Goodbye)
			}
		case 3:
			w.c.Status()
		case 4:
			m := message.New("all/volatile", nil)
			m.Volatile = true
			_, _ = w.c.Volatile(ctx, m) // fails when everything stops
		case 5:
			if _, _, err := w.c.PutNamed(ctx, "key/app", "brief", NamedSpec{Filters: []message.Filter{"brief/#"}}); err == nil {
				_ = w.c.Remove(ctx, "key/app/brief") // fails when everything stops
			}
		case 6:
			_, _ = w.c.History(ctx, Query{Filter: "all/#", Limit: 10}, func(message.Topic) bool { return true })
		default:
			w.c.Matches("all/x")
			runtime.Gosched()
		}
	}
}
