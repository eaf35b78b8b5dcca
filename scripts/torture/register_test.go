package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// register is what somebody who adds, changes and removes devices knows for certain.
type register struct {
	mu      sync.Mutex
	certain map[string]string   // id: its label by the last answer, "" when it is removed
	doubt   map[string][]string // id: what it may have become since, unanswered
	answers int
}

// administer adds, changes and removes devices, one after the other, until the publishers stop.
func (w *load) administer(seed uint64) *register {
	r := &register{certain: map[string]string{}, doubt: map[string][]string{}}
	w.pubs.Go(func() {
		a, rnd := w.g.api(w.app), rand.New(rand.NewPCG(seed, 5))
		for n := 0; !stopped(w.stop); n++ {
			id := fmt.Sprintf("r%d", n)
			r.act(w, a, id, fmt.Sprintf("new %d", n), http.MethodPost, "/v1/devices")
			if old := fmt.Sprintf("r%d", rnd.IntN(n+1)); rnd.IntN(2) == 0 {
				r.act(w, a, old, fmt.Sprintf("changed %d", n), http.MethodPut, "/v1/devices/"+old)
			} else if n > 5 {
				r.act(w, a, old, "", http.MethodDelete, "/v1/devices/"+old)
			}
			pause(w.stop, 10*time.Millisecond)
		}
	})
	return r
}

func (r *register) act(w *load, a *api, id, label, method, path string) {
	r.mu.Lock()
	r.doubt[id] = append(r.doubt[id], label)
	r.mu.Unlock()
	body, _ := json.Marshal(map[string]any{"id": id, "label": label, "groups": []string{"hall2"}})
	if method == http.MethodDelete {
		body = nil
	}
	life := w.l.now()
	code, answer, err := a.do(method, path, body, "Content-Type", "application/json")
	w.l.mu.Lock()
	firm := w.l.firmLocked(life)
	w.l.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil, code == http.StatusInsufficientStorage, code == http.StatusServiceUnavailable, code == http.StatusConflict:
		pause(w.stop, 5*time.Millisecond)
	case code == http.StatusNotFound && method != http.MethodPost:
		if was := r.certain[id]; firm && was != "" && len(r.doubt[id]) == 1 {
			w.t.Errorf("%s %s: the device was there with the label %q, and is not found", method, path, was)
		}
		r.doubt[id] = r.doubt[id][:len(r.doubt[id])-1]
	case code/100 != 2:
		w.t.Errorf("%s %s: status %d: %.200s", method, path, code, answer)
	case firm:
		r.certain[id] = label
		delete(r.doubt, id)
		r.answers++
	}
}

// check compares the register with what was answered. Nobody may be at it.
func (r *register) check(t *testing.T, a *api) {
	t.Helper()
	var list struct{ Devices []struct{ ID, Label string } }
	if err := a.get("/v1/devices", &list); err != nil {
		t.Error(err)
		return
	}
	have := map[string]string{}
	for _, d := range list.Devices {
		have[d.ID] = d.Label
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, label := range r.certain {
		if got := have[id]; got != label && !slices.Contains(r.doubt[id], got) {
			t.Errorf("the device %s has the label %q; answered was %q, in doubt are %q", id, got, label, r.doubt[id])
		}
	}
	t.Logf("%d changes of the register were answered, %d devices are left", r.answers, len(have))
}
