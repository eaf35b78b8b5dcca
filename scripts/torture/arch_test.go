package torture

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMovedDisk moves a data directory to a machine with another word size and byte order and back, as one does with the
// memory card of a broken gateway. scripts/arch runs the packages' own tests on those machines.
func TestMovedDisk(t *testing.T) {
	t.Parallel()
	_, rnd := plan(t, 1, 1)
	machines := map[string]string{"mips": "qemu-mips-static"}
	if long() {
		machines = map[string]string{"mips": "qemu-mips-static", "mipsle": "qemu-mipsel-static", "arm": "qemu-arm-static", "386": ""}
	}
	for arch, emulator := range machines {
		t.Run(arch, func(t *testing.T) {
			if emulator != "" {
				needs(t, emulator)
			}
			binary, err := build(filepath.Join(t.TempDir(), "edgepost"), "GOARCH="+arch, "GOMIPS=softfloat", "GOARM=7")
			if err != nil {
				t.Fatal(err)
			}
			movedDisk(t, binary, strings.Fields(emulator), rnd)
		})
	}
}

func movedDisk(t *testing.T, binary string, emulator []string, rnd *rand.Rand) {
	seed := rnd.Uint64()
	g := newGateway(t, filepath.Join(t.TempDir(), "data"), "[storage]\ngeneration = \"64KiB\"\nmax_bytes = \"4MiB\"\nretain_bytes = \"1MiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("d0", "device/d0/in/set", small, 0, seed+10)
	w.publish("d1", "device/d1/in/set", medium, 10*time.Millisecond, seed+11)
	w.publish("d3", "device/d3/in/set", small, 20*time.Millisecond, seed+12)
	w.publishBatches("free", "free/x", 10, small, seed+14)
	reg := w.administer(seed + 15)
	time.Sleep(700 * time.Millisecond)
	for _, here := range []bool{false, true, false, true} {
		if g.kill(); here {
			g.binary, g.wrap = "", nil
		} else {
			g.binary, g.wrap = binary, emulator
		}
		if err := g.verify(); err != nil {
			t.Errorf("here: %v", err)
		}
		there := append(append([]string(nil), emulator...), binary, "log", "verify", "-data", g.dir)
		if out, err := exec.Command(there[0], there[1:]...).CombinedOutput(); err != nil {
			t.Errorf("there: %v: %s", err, out)
		}
		g.start()
		w.checkTraces("on the other machine", 10, rnd, false)
		acked, _, _ := w.l.counts()
		within(t, 20*time.Second, "nothing was published on the other machine", func() bool { now, _, _ := w.l.counts(); return now > acked+30 })
	}
	w.receive("device/d3", "d3", habit{every: 3}, seed+20)
	w.conclude(rnd, 100)
	reg.check(t, g.api(w.app))
}
