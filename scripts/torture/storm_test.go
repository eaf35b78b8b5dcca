package torture

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowdConfig has small generations, so that cleaning and carrying go on during everything, and lets
// many connect.
const crowdConfig = "[storage]\ngeneration = \"256KiB\"\nretain_bytes = \"1MiB\"\nmax_bytes = \"64MiB\"\n[limits]\nmax_connections = 6000\n"

// crowd registers devices c0, c1, …, all in the group all, and fills in their tokens.
func (w *load) crowd(n int) []string {
	w.t.Helper()
	names := make([]string, n)
	var mu sync.Mutex
	w.each(n, func(i int) {
		a := w.g.api(w.app)
		names[i] = fmt.Sprintf("c%d", i)
		var tok struct{ Token string }
		if err := a.post("/v1/devices", map[string]any{"id": names[i], "groups": []string{"all"}}, &tok); err != nil {
			w.t.Error(err)
			return
		}
		mu.Lock()
		w.tokens[names[i]] = tok.Token
		mu.Unlock()
	})
	if w.t.Failed() {
		w.t.FailNow()
	}
	return names
}

// each calls fn for 0 to n-1, some at the same time.
func (w *load) each(n int, fn func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range next {
				fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// crowded is who receives what among the devices c0, c1 and so on.
func crowded(n int) audience {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("device/c%d", i)
	}
	return func(topic string) []string {
		switch {
		case strings.HasPrefix(topic, "device/c"):
			return []string{strings.TrimSuffix(topic[:strings.Index(topic, "/in/")], "/")}
		case strings.HasPrefix(topic, "group/all/in/"):
			return all
		default:
			return hall(topic)
		}
	}
}

// newCrowd starts a gateway with n devices.
func newCrowd(t *testing.T, n int) (*load, []string) {
	t.Helper()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), crowdConfig)
	g.start()
	w := newLoad(t, g)
	w.who = crowded(n)
	w.l.who = w.who
	return w, w.crowd(n)
}

// store publishes one message that must be taken.
func (w *load) store(a *api, name, topic string, size int) {
	payload := w.l.try(name, topic, size, "")
	life := w.l.now()
	s, code, why := a.publish(topic, payload)
	if code != http.StatusCreated {
		w.t.Errorf("publish to %s: %d %s", topic, code, why)
		return
	}
	w.l.ack(life, name, s)
}

// TestReconnectStorm lets very many devices, each with a backlog, come back at once, kills the process in
// the middle, and lets them come back again.
func TestReconnectStorm(t *testing.T) {
	count := 300
	if long() {
		count = 2000
	}
	rounds, rnd := plan(t, 1, 3)
	w, names := newCrowd(t, count)
	for round := range rounds {
		a := w.g.api(w.app)
		for i := range 10 {
			w.store(a, fmt.Sprintf("all-%d-%d", round, i), "group/all/in/news", 100)
		}
		w.each(count, func(i int) {
			for j := range 5 {
				w.store(a, fmt.Sprintf("own-%d-%d-%d", round, i, j), "device/"+names[i]+"/in/x", 100)
			}
		})
		begin := time.Now()
		for i, name := range names {
			w.receive("device/"+name, name, habit{every: 1 + i%7}, rnd.Uint64())
		}
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		w.g.kill()
		w.g.start()
		if !soon(90*time.Second, func() bool { return len(w.l.missing()) == 0 }) {
			report(t, w.l.missing())
		}
		t.Logf("%d devices had their backlog after %v", count, time.Since(begin).Round(time.Millisecond))
		if round < rounds-1 {
			w.dismiss()
			w.quit = make(chan struct{})
		}
	}
	w.conclude(rnd, count*15*rounds/15)
	if rss := w.g.memory(); rss > 400<<20 {
		t.Errorf("the process takes %d MiB", rss>>20)
	}
}

// memory is the resident memory of the process.
func (g *gateway) memory() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	pages := strings.Fields(string(text))
	if len(pages) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(pages[1], 10, 64)
	return n * int64(os.Getpagesize())
}

// TestStalledReaders connects very many devices that read nothing, beside one that does: it gets
// everything soon, and memory stays bounded. When the others wake up they get theirs.
func TestStalledReaders(t *testing.T) {
	count, news := 200, 60
	if long() {
		count, news = 1000, 200
	}
	_, rnd := plan(t, 1, 1)
	w, names := newCrowd(t, count)
	var links []*link
	for _, name := range names[1:] {
		l, err := w.g.dial(name, w.tokens[name])
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	before := w.g.memory()
	w.receive("device/c0", "c0", habit{every: 1}, rnd.Uint64())
	a := w.g.api(w.app)
	var delays []time.Duration
	for i := range news {
		name := fmt.Sprintf("news-%d", i)
		begin := time.Now()
		w.store(a, name, "group/all/in/news", 10_000)
		within(t, 10*time.Second, "the one device that reads waits for the others", func() bool { return w.l.arrived("device/c0", name) })
		delays = append(delays, time.Since(begin))
	}
	slices.Sort(delays)
	grown := w.g.memory() - before
	t.Logf("beside %d stalled devices: median %v, worst %v; the process grew by %d MiB", count-1, delays[news/2], delays[news-1], grown>>20)
	if most := int64(32<<20) + int64(count)*(64<<10); grown > most {
		t.Errorf("the process grew by %d MiB, %d are allowed", grown>>20, most>>20)
	}
	for _, l := range links {
		l.close()
	}
	for _, name := range names[1:] {
		w.receive("device/"+name, name, habit{every: 10}, rnd.Uint64())
	}
	w.conclude(rnd, news)
}

// arrived reports whether a message reached a subscription.
func (l *ledger) arrived(sub, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.msgs[name]
	return m != nil && m.id != "" && l.boxLocked(sub).has[m.id] > 0
}

// TestShardLags publishes bursts far beyond what the committer hands over to a shard at once (1 MiB),
// so that shards have to read the log.
func TestShardLags(t *testing.T) {
	rounds, rnd := plan(t, 1, 20)
	seed := rnd.Uint64()
	// A quarter of it is more than d0's receiver can be behind: past that its oldest would become dead letters.
	g := newGateway(t, t.TempDir(), "[storage]\nmax_bytes = \"6GiB\"\nretain_bytes = \"64MiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	for i := range 6 {
		topic := []string{"device/d0/in/a", "device/d1/in/b", "device/d2/in/c", "free/d", "group/hall/in/e", "device/d0/in/f"}[i]
		w.publishBatches(fmt.Sprintf("big%d", i), topic, 10, sizes{60_000, 90_000}, seed+uint64(i))
	}
	for range rounds {
		time.Sleep(3 * time.Second)
		if rnd.IntN(3) == 0 {
			g.kill()
			g.start()
		}
	}
	w.conclude(rnd, 100)
}

// TestDeadSubscriber fills a quarter of the log for a device that never comes: what is addressed to it is refused then, what
// goes to its group pushes its oldest into the dead letters, and nobody else notices.
func TestDeadSubscriber(t *testing.T) {
	t.Parallel()
	_, rnd := plan(t, 1, 1)
	seed := rnd.Uint64()
	const budget = 32 << 20
	g := newGateway(t, t.TempDir(), fmt.Sprintf("[storage]\nmax_bytes = %d\ngeneration = \"64KiB\"\nretain_bytes = \"256KiB\"\n", budget))
	g.start()
	w := newLoad(t, g)
	w.devices(seed)
	a := g.api(w.app)
	w.publish("d0", "device/d0/in/set", medium, 20*time.Millisecond, seed+10)
	w.publish("d1", "device/d1/in/set", small, 5*time.Millisecond, seed+11)
	var refused atomic.Int64
	for range 100 {
		w.each(64, func(int) {
			_, code, why := a.publish("device/d3/in/x", filler()[:4000])
			switch {
			case why == "quota-exceeded":
				refused.Add(1)
			case code != http.StatusCreated:
				t.Errorf("a message to a device that is away: %d %s", code, why)
			}
		})
		if refused.Load() > 64 || t.Failed() {
			break
		}
	}
	if refused.Load() == 0 {
		t.Error("a device that is away may fill the log")
	}
	s := a.status(t)
	if s.Storage != "ok" || s.LogBytes > budget {
		t.Errorf("one device is away and the log has %d of %d bytes, storage is %q", s.LogBytes, s.LogLimit, s.Storage)
	}
	if err := a.put("/v1/groups/hall/devices/d3"); err != nil {
		t.Fatal(err)
	}
	dead := s.Dead
	for i := range 1000 { // to d0, d1 and d3
		w.store(a, fmt.Sprintf("hall-%d", i), "group/hall/in/x", 4000)
	}
	within(t, 20*time.Second, "the oldest did not become dead letters", func() bool { return a.status(t).Dead > dead })
	acked, _, _ := w.l.counts()
	within(t, 10*time.Second, "others cannot publish", func() bool { now, _, _ := w.l.counts(); return now > acked+50 })
	s = a.status(t)
	if s.Storage != "ok" || s.LogBytes > budget*11/10 {
		t.Errorf("one device is away and the log has %d of %d bytes, storage is %q", s.LogBytes, s.LogLimit, s.Storage)
	}
	g.kill()
	g.start()
	w.hush()
	within(t, 60*time.Second, "the others did not get everything", func() bool { return len(w.l.missing()) == 0 })
	report(t, w.l.check())
	t.Logf("%d ended dead and %d dead letters are kept, the log has %d KiB, %d are owed", s.Dead, s.DeadLetters, s.LogBytes>>10, s.Owed)
}
