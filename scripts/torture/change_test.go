package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// span is when something was asked for and when it was answered, in ticks of one counter; end is 0
// while there is no answer.
type span struct {
	begin, end int64
	join       bool   // of a change
	id, name   string // of a message
}

// members is the history of one device's membership, and of the messages to the group.
type members struct {
	tick     atomic.Int64
	mu       sync.Mutex
	changes  []span
	messages []*span
}

// TestMembershipChanges takes a device into a group and out again while messages to the group flow, and kills the
// process now and then. What was published as it was a member for certain it gets, or it left before it could; what
// was published as it was none for certain it never sees.
func TestMembershipChanges(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 5, 200)
	seed := rnd.Uint64()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\ngeneration = \"64KiB\"\nmax_bytes = \"512MiB\"\nretain_bytes = \"256MiB\"\n")
	g.start() // with room for every trace: they say why something did not come
	w := newLoad(t, g)
	w.who = func(string) []string { return nil } // the ledger only checks content, order and flags; the rest is below
	w.l.who = func(string) []string { return []string{"device/d0", "device/d1", "device/d2"} }
	w.devices(seed)
	m := &members{}
	w.pubs.Go(func() { m.change(w, seed+1) })
	for i := range 3 {
		w.pubs.Go(func() { m.publish(w, i, seed+uint64(2+i)) })
	}
	for range rounds {
		time.Sleep(time.Duration(100+rnd.IntN(400)) * time.Millisecond)
		g.kill()
		g.start()
	}
	w.hush()
	a := g.api(w.app)
	var s status
	if !soon(30*time.Second, func() bool { return a.get("/v1/status", &s) == nil && s.Owed == 0 }) {
		t.Errorf("%d debts stay open", s.Owed)
	}
	time.Sleep(200 * time.Millisecond)
	w.dismiss()
	report(t, w.l.check())
	m.check(t, w, a)
}

func (m *members) change(w *load, seed uint64) {
	a, rnd := w.g.api(w.app), rand.New(rand.NewPCG(seed, 0))
	for join := true; !stopped(w.stop); join = !join {
		method := http.MethodDelete
		if join {
			method = http.MethodPut
		}
		for !stopped(w.stop) {
			begin := m.tick.Add(1)
			code, answer, err := a.do(method, "/v1/groups/hall/devices/d2", nil)
			change := span{begin: begin, join: join}
			if err == nil && code/100 == 2 {
				change.end = m.tick.Add(1)
			} else if err == nil && code != http.StatusServiceUnavailable {
				w.t.Errorf("%s of a member: %d %.200s", method, code, answer)
			}
			m.mu.Lock()
			m.changes = append(m.changes, change)
			m.mu.Unlock()
			if change.end != 0 {
				break
			}
			pause(w.stop, 2*time.Millisecond)
		}
		pause(w.stop, time.Duration(rnd.IntN(30))*time.Millisecond)
	}
}

func (m *members) publish(w *load, number int, seed uint64) {
	a, rnd := w.g.api(w.app), rand.New(rand.NewPCG(seed, 0))
	for n := 0; !stopped(w.stop); n++ {
		x := &span{name: fmt.Sprintf("m%d-%d", number, n)}
		topic := fmt.Sprintf("group/hall/in/x%d", number)
		payload := w.l.try(x.name, topic, small.pick(rnd), "")
		x.begin = m.tick.Add(1)
		for x.end == 0 && !stopped(w.stop) {
			s, code, problem := a.publish(topic, payload, "Idempotency-Key", x.name)
			if code == http.StatusCreated {
				x.id, x.end = s.ID, m.tick.Add(1)
				break
			}
			w.noteRefusal(topic, code, problem)
			pause(w.stop, 2*time.Millisecond)
		}
		m.mu.Lock()
		m.messages = append(m.messages, x)
		m.mu.Unlock()
		pause(w.stop, time.Duration(rnd.IntN(4))*time.Millisecond)
	}
}

// certain reports what d2 was for certain all the time from begin to end of x.
func (m *members) certain(x *span) (member, known bool) {
	for i, c := range m.changes {
		end := c.end
		if end == 0 { // unanswered: it may have been done until the next one was
			end = 1 << 62
			if j := slices.IndexFunc(m.changes[i:], func(c span) bool { return c.end != 0 }); j >= 0 {
				end = m.changes[i+j].end
			}
		}
		switch {
		case end < x.begin:
			member, known = c.join, true
		case c.begin < x.end:
			return false, false
		}
	}
	return member, known
}

// leftAfter reports whether d2 left, or may have, after x was published.
func (m *members) leftAfter(x *span) bool {
	return slices.ContainsFunc(m.changes, func(c span) bool { return !c.join && (c.end == 0 || c.end > x.begin) })
}

func (m *members) check(t *testing.T, w *load, a *api) {
	t.Helper()
	inside, outside, left := 0, 0, 0
	box := w.l.boxes["device/d2"]
	for _, x := range m.messages {
		if x.end == 0 {
			continue
		}
		for _, always := range []string{"device/d0", "device/d1"} {
			if w.l.boxes[always].has[x.id] == 0 {
				t.Errorf("%s, a member all the time, never received %s (%s)", always, x.id, x.name)
			}
		}
		member, known := m.certain(x)
		came := box.has[x.id] > 0
		switch {
		case !known:
		case member && came:
			inside++
		case !member && !came:
			outside++
		case !member:
			t.Errorf("d2 had left and received %s (%s)", x.id, x.name)
		default:
			places, err := a.trace(x.id)
			p := places["device/d2"]
			// It is no longer subscribed, or no longer allowed: the register knows a moment earlier.
			gone := p.State == "cancelled" || p.State == "dead" && strings.HasPrefix(p.Reason, "forbidden")
			if err != nil || !gone || !m.leftAfter(x) {
				t.Errorf("d2 was a member and never received %s (%s): %v, %v", x.id, x.name, p, err)
			}
			left++
		}
	}
	t.Logf("%d changes, %d messages: %d certainly inside, %d certainly outside, %d cancelled because d2 left first", len(m.changes), len(m.messages), inside, outside, left)
	if inside == 0 || outside == 0 {
		t.Error("this was no test of changes")
	}
}

// TestRemovedDevice removes a device that is owed much, and kills the process right after the answer. Its
// debts are gone, its token is worth nothing, and a new device of that name gets nothing of the old one's.
func TestRemovedDevice(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 2, 50)
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\ngeneration = \"64KiB\"\nretain_bytes = \"2MiB\"\n")
	g.start()
	w := newLoad(t, g)
	a := g.api(w.app)
	for round := range rounds {
		var ids []string
		for i := range 50 + rnd.IntN(200) {
			topic := "device/d3/in/x"
			s, code, why := a.publish(topic, fmt.Sprint(i))
			if code != http.StatusCreated {
				t.Fatalf("publish: %d %s", code, why)
			}
			ids = append(ids, s.ID)
		}
		if rnd.IntN(2) == 0 { // half of it is on its way
			link, err := g.dial("d3", w.tokens["d3"])
			if err != nil {
				t.Fatal(err)
			}
			link.read(time.Second)
			defer link.close()
		}
		if err := a.change(http.MethodDelete, "/v1/devices/d3"); err != nil {
			t.Fatal(err)
		}
		g.kill()
		g.start()
		if s := a.status(t); s.Owed != 0 {
			t.Errorf("round %d: the device is removed and %d debts are open", round, s.Owed)
		}
		if _, err := g.dial("d3", w.tokens["d3"]); err == nil {
			t.Error("a removed device may connect")
		}
		if _, code, why := a.publish("device/d3/in/x", "late"); why != "unknown-device" {
			t.Errorf("a message to a removed device: %d %s", code, why)
		}
		for _, id := range []string{ids[0], ids[len(ids)-1]} {
			places, err := a.trace(id)
			if err != nil {
				t.Errorf("trace of a message to a removed device: %v", err)
			}
			for sub, p := range places {
				if p.State == "waiting" || p.State == "delivered" {
					t.Errorf("a message to a removed device is %s at %q", p.State, sub)
				}
			}
		}
		w.tokens["d3"] = g.addDevice("d3")
		s, _, _ := a.publish("device/d3/in/x", "new")
		link, err := g.dial("d3", w.tokens["d3"])
		if err != nil {
			t.Fatal(err)
		}
		f, err := link.read(5 * time.Second)
		if err != nil || f.Msg == nil || f.Msg.ID != s.ID {
			t.Errorf("round %d: the new device was sent %+v, %v, want %s", round, f.Msg, err, s.ID)
		} else if err := link.send(map[string]any{"ack": map[string]any{"sub": 0, "upto": f.Msg.Seq}}); err != nil {
			t.Error(err)
		}
		within(t, 10*time.Second, "the new device's ack was not taken", func() bool { return a.status(t).Owed == 0 })
		link.close()
	}
}
