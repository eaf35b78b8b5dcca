package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// audienceOf is who should receive what in TestKill9.
func audienceOf(topic string) []string {
	switch {
	case strings.HasPrefix(topic, "device/d"):
		return []string{"device/" + topic[len("device/"):len("device/d0")]}
	case strings.HasPrefix(topic, "group/hall/in/"):
		return []string{"device/d0", "device/d1"}
	case strings.HasPrefix(topic, "free/"):
		return []string{"key/app/jobs"}
	default:
		return nil
	}
}

// TestKill9 kills the process with -9 at random moments under load, and holds what publishers and
// devices know against the promises (DESIGN §4).
func TestKill9(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("EDGEPOST_E2E_ROUNDS"))
	if err != nil {
		rounds = 20
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d rounds, seed %d", rounds, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))

	g := startGateway(t, "")
	w := &load{t: t, g: g, l: newLedger(), stop: make(chan struct{}), quit: make(chan struct{})}
	tokens := w.people(seed)
	for round := range rounds {
		time.Sleep(time.Duration(150+rnd.IntN(500)) * time.Millisecond)
		g.kill()
		g.start()
		w.checkTraces(fmt.Sprintf("round %d", round), tokens["app"], 40, rnd, false)
		if t.Failed() {
			break
		}
	}
	close(w.stop)
	w.pubs.Wait()
	drained := time.Now().Add(60 * time.Second)
	for len(w.l.missing(audienceOf)) > 0 && time.Now().Before(drained) {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Second) // the last acks, and the last refused messages coming again
	close(w.quit)
	w.recvs.Wait()

	bad := w.l.check(audienceOf)
	for i, b := range bad {
		if i == 20 {
			t.Errorf("… and %d more", len(bad)-i)
			break
		}
		t.Error(b)
	}
	w.checkTraces("at the end", tokens["app"], 400, rnd, true)
	t.Logf("%d acknowledged, of %d tried; received %d, %d, %d and %d", len(w.l.acked), len(w.l.tried),
		len(w.l.got["device/d0"]), len(w.l.got["device/d1"]), len(w.l.got["device/d2"]), len(w.l.got["key/app/jobs"]))
	if len(w.l.acked) < 100*rounds/4 {
		t.Errorf("only %d publishes were acknowledged in %d rounds; this was no load", len(w.l.acked), rounds)
	}
	w.checkQuiet(tokens)
}

// people adds devices and a key, and sets publishers and receivers to work.
func (w *load) people(seed uint64) map[string]string {
	g := w.g
	tokens := map[string]string{
		"d0": g.addDevice("d0", "-group", "hall"), "d1": g.addDevice("d1", "-group", "hall"),
		"d2": g.addDevice("d2"), "app": g.addFreeKey(),
	}
	app := tokens["app"]
	w.receive("device/d0", "d0", tokens["d0"], "", habit{every: 1, upTo: true}, seed)
	w.receive("device/d1", "d1", tokens["d1"], "", habit{every: 7, nack: 60}, seed+1)
	w.receive("device/d2", "d2", tokens["d2"], "", habit{every: 5, upTo: true, drop: 150}, seed+2)
	w.receive("key/app/jobs", "", app, "free/#", habit{every: 16, upTo: true}, seed+3)
	within(w.t, 10*time.Second, "the durable subscription was not made", func() bool {
		res, err := g.api(app).do("GET", "/v1/subscriptions/jobs", nil)
		return err == nil && res.status == 200
	})
	w.publishHTTP("keyed0", "device/d0/in/set", app, true, seed+10)
	w.publishHTTP("plain0", "device/d0/in/other", app, false, seed+11)
	w.publishHTTP("keyed1", "device/d1/in/set", app, true, seed+12)
	w.publishHTTP("plain2", "device/d2/in/a//b", app, false, seed+13)
	w.publishHTTP("group", "group/hall/in/all", app, true, seed+14)
	w.publishHTTP("free", "free/x", app, true, seed+15)
	w.publishWS("ws2", "device/d2/in/ws", app, 16, seed+16)
	w.publishWS("wsfree", "free/y", app, 16, seed+17)
	return tokens
}

// checkTraces asks for n acknowledged messages: no trace may say delivered unless the device had it
// and acknowledged it. With final, all must be delivered.
func (w *load) checkTraces(when, tok string, n int, rnd *rand.Rand, final bool) {
	w.t.Helper()
	a := w.g.api(tok)
	for _, id := range w.l.someAcked(n, rnd) {
		places := a.trace(w.t, id)
		if len(places) == 0 {
			w.t.Errorf("%s: %s was acknowledged, and its trace names no subscription", when, id)
		}
		for sub, p := range places {
			if p.State == "delivered" && !w.l.settled(sub, id) {
				w.t.Errorf("%s: the trace says %s was delivered to %s, which never acknowledged it", when, id, sub)
			}
			if final && p.State != "delivered" {
				w.t.Errorf("%s: %s at %s is %s (%s), want delivered", when, id, sub, p.State, p.Reason)
			}
		}
	}
}

// checkQuiet: after an orderly stop nothing that was acknowledged comes again.
func (w *load) checkQuiet(tokens map[string]string) {
	w.t.Helper()
	if code := w.g.stop(); code != 0 {
		w.t.Errorf("an orderly stop ended with exit code %d", code)
	}
	w.g.start()
	for _, d := range []string{"d0", "d1", "d2"} {
		link := w.g.mustDial(d, tokens[d])
		if f, err := link.read(300 * time.Millisecond); err == nil {
			w.t.Errorf("after an orderly restart %s was sent %s again", d, show(f))
		}
		link.close()
	}
}
