package torture

import (
	"errors"
	"math/rand/v2"
	"time"
)

// checkTraces asks for n acknowledged messages: no trace may say delivered unless the device had it
// and acknowledged it, and none may be lost. With final, all must be delivered.
func (w *load) checkTraces(when string, n int, rnd *rand.Rand, final bool) {
	w.t.Helper()
	a := w.g.api(w.app)
	for _, m := range w.l.someAcked(n, rnd) {
		places, err := a.trace(m.id)
		if errors.Is(err, errGone) && w.settledByAll(m) {
			continue // cleaned away
		}
		if err != nil {
			w.t.Errorf("%s: %s (%s): %v", when, m.id, m.name, err)
			continue
		}
		for _, sub := range w.who(m.topic) {
			p, ok := places[sub]
			switch {
			case !ok && len(places) >= 100: // a trace names the first of very many
			case !ok:
				w.t.Errorf("%s: the trace of %s does not name %s: %v", when, m.id, sub, places)
			case p.State == "delivered" && !w.l.settled(sub, m.id):
				w.t.Errorf("%s: the trace says %s was delivered to %s, which never acknowledged it", when, m.id, sub)
			case p.State == "lost", final && p.State != "delivered":
				w.t.Errorf("%s: %s at %s is %s (%s)", when, m.id, sub, p.State, p.Reason)
			}
		}
	}
}

// settledByAll reports whether everybody who should has received and acknowledged the message.
func (w *load) settledByAll(m letter) bool {
	for _, sub := range w.who(m.topic) {
		if !w.l.settled(sub, m.id) {
			return false
		}
	}
	return true
}

// conclude ends the publishers, waits until everything acknowledged has arrived, ends the receivers,
// and checks the whole history.
func (w *load) conclude(rnd *rand.Rand, least int) {
	w.t.Helper()
	w.hush()
	var missing []string
	soon(60*time.Second, func() bool { missing = w.l.missing(); return len(missing) == 0 })
	report(w.t, missing)
	w.settleDown(rnd)
	report(w.t, w.l.check())
	acked, tried, received := w.l.counts()
	w.t.Logf("%d acknowledged of %d tried; %d received; refused %v", acked, tried, received, w.refused)
	if acked < least {
		w.t.Errorf("only %d publishes were acknowledged; this was no load", acked)
	}
}

// settleDown waits until nobody owes anything, and then no trace may say anything but delivered.
func (w *load) settleDown(rnd *rand.Rand) {
	w.t.Helper()
	a := w.g.api(w.app)
	var s status
	if !soon(30*time.Second, func() bool { return a.get("/v1/status", &s) == nil && s.Owed == 0 }) {
		w.t.Errorf("everything was received, and still %d debts are open", s.Owed)
	}
	w.checkTraces("at the end", 30, rnd, true)
	w.dismiss()
}
