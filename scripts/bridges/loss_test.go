package bridges

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// world is one run of one scenario.
type world struct {
	t  *testing.T
	u  upstream
	b  *brokers.Broker
	g  *gateway
	p  *proxy
	n  int
	up *tally // what came at the consumer
}

// scenario fails something while n messages go out and n come in.
type scenario struct {
	name   string
	kills  bool // the broker
	before func(w *world)
	during func(w *world)
}

func scenarios() []scenario {
	return []scenario{
		{name: "nothing fails"},
		{name: "broker killed in the middle", kills: true, during: func(w *world) {
			w.b.Kill()
			time.Sleep(time.Second)
			w.startBroker()
		}},
		{name: "edgepost killed in the middle", during: func(w *world) {
			w.g.kill()
			w.g.start()
		}},
		{name: "network cut", during: func(w *world) {
			w.p.become(cut)
			time.Sleep(3 * time.Second)
			w.p.become(whole)
		}},
		{name: "network half-open", during: func(w *world) {
			w.p.become(silent)
			wait(w.t, "the gateway notices", func() bool { return w.g.bridge().State != "connected" })
			w.p.become(whole)
		}},
		{name: "outage, gateway restarted in it", before: func(w *world) {
			w.p.become(cut)
			w.g.publish(0, w.n/2)
			w.g.stop()
			w.g.start()
			w.p.become(whole)
		}},
	}
}

func (w *world) startBroker() {
	w.t.Helper()
	if err := w.b.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// messages is how many go each way: the 20,000, or MESSAGES.
func messages() int {
	if n, err := strconv.Atoi(os.Getenv("MESSAGES")); err == nil {
		return n
	}
	return 20_000
}

// TestLoss runs every scenario with every upstream and prints the table. What edgepost acknowledged must be there in the
// end: at once where the broker keeps what it acknowledges, after a rewind where it does not.
func TestLoss(t *testing.T) {
	table := []string{"upstream | scenario | way | messages | lost | lost after a rewind | twice"}
	for _, u := range upstreams() {
		for _, s := range scenarios() {
			t.Run(u.name+"/"+s.name, func(t *testing.T) { table = append(table, loss(t, u, s)...) })
		}
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

func loss(t *testing.T, u upstream, s scenario) []string {
	b, err := brokers.New(u.broker, t.TempDir())
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(b.Kill)
	w := &world{t: t, u: u, b: b, n: messages(), up: newTally()}
	w.p = newProxy(t, b.Addr(u.protocol))
	w.startBroker()
	w.g = newGateway(t, u.config(w.p.addr))
	w.g.start()
	defer u.read(t, b.Addr(u.protocol), w.up)()
	wait(t, "the bridge is connected", func() bool { return w.g.bridge().State == "connected" })
	time.Sleep(u.settle)
	begin := time.Now()
	from := 0
	if s.before != nil {
		s.before(w)
		from = w.n / 2
	}
	done := make(chan struct{}, 2)
	go func() { w.g.publish(from, w.n); done <- struct{}{} }()
	go func() { u.write(t, b.Addr(u.protocol), 0, w.n); done <- struct{}{} }()
	if s.during != nil {
		wait(t, "a fifth came through", func() bool { k, _ := w.up.count(w.n); return k > w.n/5 })
		s.during(w)
	}
	<-done
	<-done
	return w.settle(s, begin)
}

// settle waits until nothing moves any more and counts.
func (w *world) settle(s scenario, begin time.Time) []string {
	t := w.t
	wait(t, "nothing is owed", func() bool { b := w.g.bridge(); return b.State == "connected" && b.Owed == 0 })
	quiet(func() int { k, again := w.up.count(w.n); return k + again }, func() bool { k, _ := w.up.count(w.n); return k == w.n })
	took := time.Since(begin)
	k, twice := w.up.count(w.n)
	lostUp := w.n - k
	after := lostUp
	if lostUp > 0 && s.kills && w.u.forgets != "" {
		if text, err := w.g.run("bridge", "rewind", "up", "-after", "oldest"); err != nil {
			t.Error(text)
		}
		wait(t, "the consumer has everything after a rewind", func() bool { k, _ := w.up.count(w.n); return k == w.n })
		after = 0
	}
	if after > 0 {
		t.Errorf("out: %d of %d acknowledged messages are lost", after, w.n)
	}
	var in *tally
	quiet(func() int { in = w.g.stored(); k, again := in.count(w.n); return k + again }, func() bool { k, _ := in.count(w.n); return k == w.n })
	k, again := in.count(w.n)
	lostDown := w.n - k
	if lostDown > 0 && (!s.kills || w.u.forgets == "") {
		t.Errorf("in: %d of %d messages are lost", lostDown, w.n)
	}
	if again > 0 {
		t.Errorf("in: %d messages are stored twice", again)
	}
	t.Logf("%s, %s: %d out and %d in in %v", w.u.name, s.name, w.n, w.n, took.Round(100*time.Millisecond))
	return []string{
		fmt.Sprintf("%s | %s | out | %d | %d | %d | %d", w.u.name, s.name, w.n, lostUp, after, twice),
		fmt.Sprintf("%s | %s | in | %d | %d | – | %d", w.u.name, s.name, w.n, lostDown, again),
	}
}

// quiet waits until everything is there or, for three seconds, nothing more comes.
func quiet(count func() int, all func() bool) {
	last, since := count(), time.Now()
	eventually(time.Minute, func() bool {
		if n := count(); n != last {
			last, since = n, time.Now()
		}
		return all() || time.Since(since) > 3*time.Second
	})
}
