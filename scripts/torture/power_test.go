package torture

import (
	"fmt"
	"testing"
	"time"
)

// TestPowerCut cuts the power of the disk under load, at random moments. Between cut and restart
// nothing that the gateway says counts (see [ledger]); what it had said before must hold.
func TestPowerCut(t *testing.T) {
	rounds, rnd := plan(t, 10, 200)
	seed := rnd.Uint64()
	d := newDisk(t, 96)
	g := newGateway(t, d.data(), "")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("keyed0", "device/d0/in/set", small, 0, seed+10)
	w.publish("large1", "device/d1/in/set", large, 50*time.Millisecond, seed+11)
	w.publish("group", "group/hall/in/all", small, 0, seed+12)
	w.publishWS("ws2", "device/d2/in/ws", 16, small, seed+13)
	w.publishBatches("batch", "free/x", 40, small, seed+14)
	reg := w.administer(seed + 15)
	for round := range rounds {
		time.Sleep(time.Duration(50+rnd.IntN(350)) * time.Millisecond)
		w.l.turn()
		d.cut()
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond) // it may notice, or not
		g.kill()
		d.unmount()
		d.mount()
		if err := g.verify(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		w.l.turn()
		g.start()
		w.checkTraces(fmt.Sprintf("round %d", round), 6, rnd, false)
		if t.Failed() {
			break
		}
	}
	w.conclude(rnd, 10*rounds)
	reg.check(t, g.api(w.app))
}
