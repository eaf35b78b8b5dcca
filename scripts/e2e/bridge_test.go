package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// upstream is a real broker and a client of its own, not ours.
type upstream struct {
	*brokers.Broker
	t       *testing.T
	proxy   *proxy
	config  string                              // lines of [[bridge]] but name and urls; Kafka's, say
	scheme  string                              // of the address
	prepare func() error                        // topics and queues; after each start, nothing when they exist
	send    func(ids []string) error            // sends commands; what is sent when it fails is not known
	collect func(n int) (map[string]int, error) // reads what came up until n different ones came and nothing more does
}

// brokerCannot skips when a broker is not on this machine.
func newBrokerFor(t *testing.T, name string) *brokers.Broker {
	t.Helper()
	b, err := brokers.New(name, t.TempDir())
	if err != nil {
		cannot(t, err.Error())
	}
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, tail(b.Log(), 3000))
		}
	})
	return b
}

// bridgeMessages is how many go each way; the README's table is of 20,000.
func bridgeMessages(t *testing.T) (n int, full bool) {
	s := os.Getenv("EDGEPOST_E2E_BRIDGES")
	if s == "" {
		return 2000, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 {
		t.Fatalf("EDGEPOST_E2E_BRIDGES=%q is not a number of messages", s)
	}
	return n, true
}

// fault is what happens in the middle.
type fault struct {
	name string
	long bool // only in the full run
	do   func(r *bridgeRun)
}

func bridgeFaults() []fault {
	return []fault{
		{"SIGKILL of the broker", false, func(r *bridgeRun) {
			r.up.Kill()
			time.Sleep(time.Second)
			r.startBroker()
		}},
		{"SIGKILL of edgepost", false, func(r *bridgeRun) {
			r.g.kill()
			r.g.start()
		}},
		{"network cut", false, func(r *bridgeRun) {
			r.up.proxy.cut()
			time.Sleep(r.long(2*time.Second, time.Minute))
			r.up.proxy.restore()
		}},
		{"half-open connections", true, func(r *bridgeRun) {
			r.up.proxy.swallow()
			time.Sleep(r.long(2*time.Second, time.Minute))
			r.up.proxy.restore()
		}},
		{"broker down and edgepost restarted", true, func(r *bridgeRun) {
			r.up.Kill()
			within(r.t, 5*time.Minute, "all are published while the broker is down", func() bool { return r.acked.Load() == int64(r.n) })
			r.t.Logf("before edgepost was killed: %+v", r.g.bridge("central"))
			r.g.kill()
			r.g.start()
			r.startBroker()
		}},
	}
}

// bridgeRun is messages in both directions over a fault.
type bridgeRun struct {
	t    *testing.T
	up   *upstream
	g    *gateway
	n    int
	full bool

	lamp  *api
	acked atomic.Int64 // publishes that edgepost acknowledged
	sent  atomic.Int64 // commands that the broker acknowledged
	stop  chan struct{}

	mu  sync.Mutex
	got map[string]map[string]bool // of a command's text, the ids that it had at the device
}

func (r *bridgeRun) long(short, full time.Duration) time.Duration {
	if r.full {
		return full
	}
	return short
}

func (r *bridgeRun) startBroker() {
	if err := errors.Join(r.up.Start(), r.up.prepare()); err != nil {
		r.t.Fatal(err)
	}
}

// testBridgeFaults runs each fault, or the short ones after each other.
func testBridgeFaults(t *testing.T, open func(t *testing.T) *upstream) {
	n, full := bridgeMessages(t)
	if !full {
		r := newBridgeRun(t, open(t), n, false)
		for _, f := range bridgeFaults() {
			if !f.long {
				r.phase(f)
			}
		}
		return
	}
	for _, f := range bridgeFaults() {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) { newBridgeRun(t, open(t), n, true).phase(f) })
	}
}

func newBridgeRun(t *testing.T, up *upstream, n int, full bool) *bridgeRun {
	r := &bridgeRun{t: t, up: up, n: n, full: full}
	r.startBroker()
	r.g = newGateway(t)
	file := filepath.Join(t.TempDir(), "edgepost.toml")
	text := fmt.Sprintf("[[bridge]]\nname = \"central\"\nurls = [\"%s://%s\"]\n%s", up.scheme, up.proxy.addr, up.config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.g.args = append(r.g.args, "-config", file)
	r.g.start()
	within(t, time.Minute, "the bridge is connected: it reads from the end that it finds", func() bool { return r.g.bridge("central").State == "connected" })
	r.lamp = r.g.api(r.g.addDevice("lamp"))
	return r
}

// phase sends n messages each way, has the fault in the middle, and counts what arrived.
func (r *bridgeRun) phase(f fault) {
	r.t.Helper()
	r.acked.Store(0)
	r.sent.Store(0)
	r.got, r.stop = map[string]map[string]bool{}, make(chan struct{})
	name := strconv.FormatInt(time.Now().UnixNano(), 36)
	var work, reader sync.WaitGroup
	reader.Go(r.read)
	for w := range 16 {
		work.Go(func() { r.publish(name, w, 16) })
	}
	work.Go(func() { r.command(name) })
	within(r.t, 3*time.Minute, "half of them are on their way", func() bool {
		return r.acked.Load() >= int64(r.n/2) && r.sent.Load() >= int64(r.n/4)
	})
	f.do(r)
	work.Wait()
	r.settled()
	close(r.stop)
	reader.Wait()
	up, err := r.up.collect(r.n)
	if err != nil {
		r.t.Fatal(err)
	}
	down := map[string]int{}
	for text, ids := range r.got {
		down[text] = len(ids)
	}
	r.report(f, name, up, down)
}

// report prints a row of the README's table.
func (r *bridgeRun) report(f fault, name string, up, down map[string]int) {
	count := func(seen map[string]int, direction string) (lost, twice int) {
		for i := range r.n {
			n := seen[name+direction+strconv.Itoa(i)]
			if n == 0 {
				if lost++; lost <= 20 {
					r.t.Logf("lost: %s%d", direction, i)
				}
			}
			twice += max(n-1, 0)
		}
		return lost, twice
	}
	upLost, upTwice := count(up, "u")
	downLost, downTwice := count(down, "d")
	r.t.Logf("| %s | %s | %d | %d | %d | %d | %d | %d |", r.up.Name, f.name, r.n, upLost, upTwice, r.n, downLost, downTwice)
	if upLost > 0 || downLost > 0 {
		r.t.Errorf("%s, %s: lost %d up and %d down", r.up.Name, f.name, upLost, downLost)
	}
}

// publish publishes a share of the messages until each is acknowledged.
func (r *bridgeRun) publish(name string, first, step int) {
	for i := first; i < r.n; i += step {
		text := name + "u" + strconv.Itoa(i)
		for {
			res, err := r.lamp.do("POST", "/v1/publish/device/lamp/out/state", []byte(text), "Idempotency-Key", text)
			if err == nil && res.status == 201 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		r.acked.Add(1)
	}
}

// command sends the commands until the broker has acknowledged each.
func (r *bridgeRun) command(name string) {
	const batch = 100
	for i := 0; i < r.n; {
		var ids []string
		for j := i; j < min(i+batch, r.n); j++ {
			ids = append(ids, name+"d"+strconv.Itoa(j))
		}
		if err := r.up.send(ids); err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		i += len(ids)
		r.sent.Add(int64(len(ids)))
	}
}

// read takes the lamp's inbox until stop is closed.
func (r *bridgeRun) read() {
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		var page struct {
			Messages []struct{ ID, Text string }
		}
		res, err := r.lamp.do("GET", "/v1/devices/lamp/messages?max=500&wait=1s", nil)
		if err != nil || res.status != 200 || json.Unmarshal(res.body, &page) != nil || len(page.Messages) == 0 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var ids []string
		r.mu.Lock()
		for _, m := range page.Messages {
			ids = append(ids, m.ID)
			if r.got[m.Text] == nil {
				r.got[m.Text] = map[string]bool{}
			}
			r.got[m.Text][m.ID] = true
		}
		r.mu.Unlock()
		body, err := json.Marshal(map[string]any{"ids": ids})
		if err == nil {
			_, _ = r.lamp.do("POST", "/v1/devices/lamp/acks", body, "Content-Type", "application/json") // else it comes again
		}
	}
}

// bridgeState is what `bridge show` says; the zero value when it says nothing.
type bridgeState struct {
	State, Error string
	Owed         int64
	Counters     map[string]int64
}

func (g *gateway) bridge(name string) (s bridgeState) {
	r := g.run("bridge", "show", name, "-json")
	if r.code == 0 {
		_ = json.Unmarshal([]byte(r.out), &s) // no state: it is asked again
	}
	return s
}

// settled waits until nothing is owed upstream and all commands are at the device.
func (r *bridgeRun) settled() {
	r.t.Helper()
	limit := time.Now().Add(r.long(3*time.Minute, 6*time.Minute))
	for {
		s := r.g.bridge("central")
		r.mu.Lock()
		got := len(r.got)
		r.mu.Unlock()
		if s.State == "connected" && s.Owed == 0 && got >= r.n {
			return
		}
		if time.Now().After(limit) {
			r.t.Errorf("it does not settle: %+v, %d of %d commands came", s, got, r.n)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// secretFile is a file with a secret.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
