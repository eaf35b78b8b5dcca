package bridges

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// scenario fails something while messages go out and come in.
type scenario struct {
	name   string
	kills  bool           // the broker
	slow   bool           // only in the long run with a gateway that is deaf
	before func(w *world) // half of them are published
	during func(w *world) // in the middle
}

func scenarios() []scenario {
	return []scenario{
		{name: "nothing fails"},
		{name: "edgepost killed", during: func(w *world) {
			w.g.kill()
			w.g.start()
		}},
		{name: "network cut", during: func(w *world) {
			w.p.become(cut)
			time.Sleep(w.long(time.Minute))
			w.p.become(whole)
		}},
		{name: "network half-open", slow: true, during: func(w *world) {
			w.p.become(silent)
			time.Sleep(w.long(time.Minute))
			w.p.become(whole)
		}},
		{name: "broker killed", kills: true, during: func(w *world) {
			w.b.Kill()
			time.Sleep(time.Second)
			w.startBroker()
		}},
		{name: "outage, gateway restarted in it", kills: true, before: func(w *world) {
			w.away()
			w.g.publish(w.from, w.from+w.n/2)
			w.g.stop()
			w.g.start()
			w.back()
		}},
	}
}

// world is one broker, one gateway and the network between them, through all scenarios. Each has n messages of its own
// each way, numbered on from from.
type world struct {
	t   *testing.T // the scenario's
	u   upstream
	b   *brokers.Broker
	g   *gateway
	p   *proxy
	up  *tally // what came at the consumer
	in  history
	all bool // the long run

	from, n int
	stored  int64 // what the bridge had stored before the scenario
}

// messages is how many go each way in each scenario: MESSAGES in the long run, where an outage ends with the broker's
// start and networks fail for a minute.
func messages(t *testing.T) (n int, long bool) {
	s := os.Getenv("MESSAGES")
	if s == "" {
		return 400, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 {
		t.Fatalf("MESSAGES=%q is not a number of messages, of 100 and more", s)
	}
	return n, true
}

// testLoss runs every scenario with an upstream and prints its line of the README's table. What edgepost acknowledged must
// be there in the end: at once where the broker keeps what it acknowledges, after a rewind where it does not.
func testLoss(t *testing.T, u upstream) {
	w := newWorld(t, u)
	line := "| " + u.name + " |"
	broken := false // a scenario did not come to its end: the broker may be away
	for i, s := range scenarios() {
		cell := " – |" // it was not run, or did not end
		t.Run(s.name, func(t *testing.T) {
			if w.t, w.g.t = t, t; s.slow && u.deaf && !w.all {
				t.Skip("SKIP: it takes a minute; MESSAGES=20000 runs it")
			}
			if broken {
				t.Fatal("a scenario before it did not come to its end")
			}
			broken = true
			w.from = i * w.n
			cell = w.run(s)
			broken = false
		})
		line += cell
	}
	t.Logf("%d messages each way; out: lost / twice, in: lost / stored twice\n%s", w.n, line)
}

func newWorld(t *testing.T, u upstream) *world {
	t.Helper()
	w := &world{t: t, u: u, b: newBroker(t, u.broker), up: newTally()}
	w.n, w.all = messages(t)
	to := u.protocol
	if u.behind != "" {
		to = u.behind
	}
	w.p = newProxy(t, w.b.Front(), w.b.Addr(to))
	w.startBroker()
	t.Cleanup(u.read(t, w.addr(), w.up))
	if u.tell != nil {
		t.Run("the README's lines", w.first)
	}
	w.g = newGateway(t, u.config(w.p.addr))
	w.in = history{g: w.g, tally: newTally()}
	w.g.start()
	wait(t, "the bridge is connected", func() bool { return w.g.bridge().State == "connected" }) // a new one reads Kafka from the end
	time.Sleep(u.settle)
	return w
}

// newBroker makes one that is not started; without what it needs the test is skipped. The test may run beside another
// from there on: most of its time it waits.
func newBroker(t *testing.T, name string) *brokers.Broker {
	t.Helper()
	t.Parallel()
	b, err := brokers.New(name, t.TempDir())
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			log := b.Log()
			t.Logf("%s printed:\n%s", name, log[max(0, len(log)-3000):])
		}
	})
	return b
}

// addr is where clients find the broker, past the proxy.
func (w *world) addr() string { return w.b.Addr(w.u.protocol) }

func (w *world) startBroker() {
	w.t.Helper()
	if err := w.b.Start(); err != nil {
		w.t.Fatal(err)
	}
	if w.u.prepare != nil {
		w.u.prepare(w.t, w.addr())
	}
}

// long is a time of the long run, or two seconds.
func (w *world) long(d time.Duration) time.Duration {
	if w.all {
		return d
	}
	return 2 * time.Second
}

// away ends the upstream for the gateway, back brings it back. A broker's start is for the long run.
func (w *world) away() {
	if w.all {
		w.b.Kill()
	} else {
		w.p.become(cut)
	}
}

func (w *world) back() {
	if w.all {
		w.startBroker()
	} else {
		w.p.become(whole)
	}
}

// run has the messages of one scenario flow: the second half of them only when what fails is failing.
func (w *world) run(s scenario) (cell string) {
	begin := time.Now()
	w.stored = w.g.bridge().Counters["stored"]
	first, half, end := w.from, w.from+w.n/2, w.from+w.n
	var flow sync.WaitGroup
	failing := make(chan struct{})
	flow.Go(func() {
		if s.before == nil {
			w.g.publish(first, half)
		}
		<-failing
		w.g.publish(half, end)
	})
	flow.Go(func() {
		if s.before != nil {
			<-failing
		}
		w.u.write(w.t, w.addr(), first, half)
		<-failing
		w.u.write(w.t, w.addr(), half, end)
	})
	if s.before != nil {
		s.before(w)
	}
	if s.during != nil {
		wait(w.t, "a fifth came through", func() bool { k, _ := w.up.count(first, end); return k > w.n/5 })
	}
	close(failing)
	if s.during != nil {
		s.during(w)
	}
	flow.Wait()
	cell = w.count(s)
	w.t.Logf("%s: %d each way in %v", s.name, w.n, time.Since(begin).Round(100*time.Millisecond))
	return cell
}

// count waits until nothing moves any more and counts.
func (w *world) count(s scenario) (cell string) {
	t, end := w.t, w.from+w.n
	forgiven := s.kills && w.u.forgets != ""
	w.settle("nothing is owed", func() (int, bool) { b := w.g.bridge(); return int(b.Owed), b.State == "connected" && b.Owed == 0 })
	out := func() (int, bool) { k, again := w.up.count(w.from, end); return k + again, k == w.n }
	quiet(3*time.Second, out)
	k, twice := w.up.count(w.from, end)
	lost := w.n - k
	cell = fmt.Sprintf(" %d / %d", lost, twice)
	if lost > 0 && forgiven {
		if text, err := w.g.run("bridge", "rewind", "up", "-after", "oldest"); err != nil {
			t.Error(text)
		}
		w.settle("the consumer has everything after a rewind", out)
		cell = fmt.Sprintf(" %d, 0 after a rewind / %d", lost, twice)
	} else if lost > 0 {
		t.Errorf("out: %d of %d acknowledged messages are lost: %v", lost, w.n, w.up.missing(w.from, end))
	}
	in := func() (int, bool) { w.in.read(); k, again := w.in.count(w.from, end); return k + again, k == w.n }
	if forgiven {
		quiet(3*time.Second, in)
	} else {
		quiet(stillness, in)
	}
	k, again := w.in.count(w.from, end)
	if lost = w.n - k; lost > 0 && !forgiven {
		t.Errorf("in: %d of %d messages are lost: %v; the bridge: %+v", lost, w.n, w.in.missing(w.from, end), w.g.bridge())
	}
	if again > 0 {
		t.Errorf("in: %d messages are stored twice", again)
	}
	if took := w.g.bridge().Counters["stored"] - w.stored; lost > 0 && s.before == nil && took != int64(k+again) {
		t.Errorf("in: the bridge stored and acknowledged %d messages, and %d are there", took, k+again) // whatever the broker forgets
	}
	return cell + fmt.Sprintf(", %d / %d |", lost, again)
}

// stillness is how long nothing moves before it is held to be stuck: longer than any pause between two tries.
const stillness = 90 * time.Second

// settle waits until it is so, and fails when nothing moves any more.
func (w *world) settle(what string, look func() (int, bool)) {
	w.t.Helper()
	if !quiet(stillness, look) {
		w.t.Fatalf("nothing moved for %v: %s; the bridge: %+v", stillness, what, w.g.bridge())
	}
}

// quiet waits until it is so, or for some time nothing moved.
func quiet(still time.Duration, look func() (moved int, so bool)) bool {
	for last, since := -1, time.Now(); time.Since(since) < still; time.Sleep(20 * time.Millisecond) {
		moved, so := look()
		if so {
			return true
		}
		if moved != last {
			last, since = moved, time.Now()
		}
	}
	return false
}
