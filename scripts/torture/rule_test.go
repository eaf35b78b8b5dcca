package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRuleChanges gives a connected device rights and takes them away, and kills the process now and then. From the answer to
// a change on it holds, over every kill: for what the device publishes, and for what is delivered to it.
func TestRuleChanges(t *testing.T) {
	t.Parallel()
	rounds, rnd := plan(t, 5, 200)
	seed := rnd.Uint64()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\ngeneration = \"64KiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.who = func(string) []string { return nil } // as in TestMembershipChanges
	w.l.who = func(string) []string { return []string{"device/d2"} }
	w.receive("device/d2", "d2", habit{every: 1, drop: 50}, seed)
	done := make(chan int, 1)
	w.pubs.Go(func() { done <- w.changeRules(rand.New(rand.NewPCG(seed, 1))) })
	for range rounds {
		time.Sleep(time.Duration(100+rnd.IntN(400)) * time.Millisecond)
		g.kill()
		g.start()
	}
	w.hush()
	w.dismiss()
	report(t, w.l.check())
	if n := <-done; n < 2 {
		t.Errorf("%d changes: this was no test of changes", n)
	} else {
		t.Logf("%d changes", n)
	}
}

// changeRules returns how many changes were made and looked at.
func (w *load) changeRules(rnd *rand.Rand) (n int) {
	a, d2 := w.g.api(w.app), w.g.api(w.tokens["d2"])
	for ; !stopped(w.stop); n++ {
		denied := n%2 == 1
		rules, want := `"publish":["free/#"]`, http.StatusCreated
		if denied {
			rules, want = `"deny_subscribe":["group/hall/in/#"]`, http.StatusForbidden
		}
		body := []byte(`{"groups":["hall"],"rules":{` + rules + `}}`)
		if !w.insist("the change of a rule", http.StatusNoContent, func() (int, string) {
			code, answer, err := a.do(http.MethodPut, "/v1/devices/d2", body, "Content-Type", "application/json")
			if err != nil {
				code = 0
			}
			return code, string(answer)
		}) {
			return n
		}
		pause(w.stop, time.Duration(rnd.IntN(40))*time.Millisecond)
		if !w.insist("a publish by d2", want, func() (int, string) {
			_, code, why := d2.publish("free/x", "x")
			return code, why
		}) {
			return n
		}
		name := fmt.Sprintf("r%d", n)
		payload := w.l.try(name, "group/hall/in/x", small.pick(rnd), "")
		var s stored
		if !w.insist("a publish to the group", http.StatusCreated, func() (code int, why string) {
			s, code, why = a.publish("group/hall/in/x", payload, "Idempotency-Key", name)
			return code, why
		}) || !w.endsAs(a, s.ID, denied) {
			return n
		}
	}
	return n
}

// insist asks until there is an answer, through kills; false when the test ends before. Another answer than want is a mistake.
func (w *load) insist(what string, want int, ask func() (code int, why string)) bool {
	for !stopped(w.stop) {
		switch code, why := ask(); code {
		case want:
			return true
		case 0, http.StatusServiceUnavailable:
			pause(w.stop, 2*time.Millisecond)
		default:
			w.t.Errorf("%s: %d %.200s, want %d", what, code, why, want)
			return false
		}
	}
	return false
}

// endsAs waits until the message is delivered to d2 or, if that is denied, ended as forbidden.
func (w *load) endsAs(a *api, id string, denied bool) bool {
	var p place
	for until := time.Now().Add(time.Minute); !stopped(w.stop) && time.Now().Before(until); pause(w.stop, 5*time.Millisecond) {
		places, err := a.trace(id)
		if p = places["device/d2"]; err != nil || p.State == "" || p.State == "waiting" || p.State == "sent" {
			continue
		}
		if denied != (p.State == "dead" && strings.HasPrefix(p.Reason, "forbidden")) || !denied && p.State != "delivered" {
			w.t.Errorf("%s, denied %t, ended as %+v", id, denied, p)
			return false
		}
		return true
	}
	if !stopped(w.stop) {
		w.t.Errorf("%s, denied %t, never ends: %+v", id, denied, p)
	}
	return false
}
