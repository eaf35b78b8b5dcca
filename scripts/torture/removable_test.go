package torture

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestRemovableStorage takes the disk away while the gateway runs: unmounted behind its back, and
// pulled out. Publishers are refused, the process lives and says why. When the disk is back and the gateway is
// started again, everything that was acknowledged is there.
func TestRemovableStorage(t *testing.T) {
	t.Run("unmounted", func(t *testing.T) {
		removed(t, func(d *disk, _ *load) {
			d.command("umount", "--lazy", d.dir)
			d.device = false
		})
	})
	t.Run("pulled out", func(t *testing.T) {
		removed(t, func(d *disk, w *load) {
			w.l.turn() // as with a power cut, an fsync that is under way may say that all is well
			d.cut()
		})
	})
}

func removed(t *testing.T, remove func(*disk, *load)) {
	t.Parallel()
	rounds, rnd := plan(t, 1, 20)
	seed := rnd.Uint64()
	d := newDisk(t, 64)
	g := newGateway(t, d.data(), "[storage]\ngeneration = \"64KiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("d0", "device/d0/in/set", small, 0, seed+10)
	w.publish("d1", "device/d1/in/set", medium, 5*time.Millisecond, seed+11)
	w.publishBatches("free", "free/x", 10, small, seed+14)
	reg := w.administer(seed + 15)
	a := g.api(w.app)
	for range rounds {
		time.Sleep(time.Duration(50+rnd.IntN(300)) * time.Millisecond)
		before := w.refusals("storage-failed")
		remove(d, w)
		within(t, 30*time.Second, "the disk is gone and publishers are not refused", func() bool { return w.refusals("storage-failed") > before+20 })
		if s := a.status(t); !strings.Contains(s.Storage, "storage-failed") {
			t.Errorf("the disk is gone and the status says the storage is %q", s.Storage)
		}
		if list, _ := os.ReadDir(d.dir); !d.device && len(list) > 0 {
			t.Errorf("the disk is gone and something was written where it had been: %v", list)
		}
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		if !g.alive() {
			t.Fatal("the disk is gone and so is the process")
		}
		g.kill()
		d.unmount()
		d.mount()
		if w.l.now()%2 == 1 {
			w.l.turn()
		}
		g.start()
		w.resumes(t, a)
		w.checkTraces("the disk is back", 6, rnd, false)
		if t.Failed() {
			break
		}
	}
	w.conclude(rnd, 20*rounds)
	reg.check(t, a)
}
