package torture

import (
	"fmt"
	"testing"
	"time"
)

// TestKillLargeBatches kills the process with -9 while it writes frames of hundreds of KiB: a kernel
// stops a large write between two pages.
func TestKillLargeBatches(t *testing.T) {
	rounds, rnd := plan(t, 10, 200)
	seed := rnd.Uint64()
	g := newGateway(t, t.TempDir(), "")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("large0", "device/d0/in/set", large, 0, seed+10)
	w.publish("large1", "device/d1/in/set", large, 0, seed+11)
	w.publish("group", "group/hall/in/all", medium, 0, seed+12)
	w.publishWS("ws2", "device/d2/in/ws", 64, small, seed+13)
	w.publishBatches("many", "free/x", 400, small, seed+14)
	w.publishBatches("big", "free/y", 10, sizes{60_000, 90_000}, seed+15)
	reg := w.administer(seed + 16)
	for round := range rounds {
		time.Sleep(time.Duration(50+rnd.IntN(350)) * time.Millisecond)
		g.kill()
		if err := g.verify(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		g.start()
		w.checkTraces(fmt.Sprintf("round %d", round), 6, rnd, false)
		if t.Failed() {
			break
		}
	}
	w.conclude(rnd, 5*rounds)
	reg.check(t, g.api(w.app))
}
