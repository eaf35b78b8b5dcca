package courier

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// step does one random thing.
func (r *rig) step() {
	switch n := r.rnd.IntN(100); {
	case n < 30:
		r.publish()
	case n < 50:
		r.answer()
	case n < 58:
		r.attach()
	case n < 61:
		r.detach()
	case n < 65:
		r.inbox()
	case n < 69:
		r.named()
	case n < 75:
		r.fetch()
	case n < 77:
		r.rewind()
	case n < 80:
		r.live()
	case n < 83:
		r.cancel()
	case n < 85:
		r.requeue()
	case n < 87:
		r.again()
	case n < 91:
		r.check()
	case n < 93:
		r.crash(nil)
	case n < 94:
		r.restart()
	case n < 99:
		r.sleep(time.Duration(r.rnd.IntN(4)) * time.Second)
	default:
		r.sleep(time.Duration(r.rnd.IntN(100)) * time.Second)
	}
	r.after()
}

func runRig(t *testing.T, seed uint64, steps int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, seed)
		defer func() {
			r.c.Stop()
			_ = r.ob.Close()
		}()
		r.inbox()
		for range steps {
			r.step()
		}
	})
}

// TestAgainstModel runs random histories with restarts and crashes. EDGEPOST_SEED=n repeats one,
// EDGEPOST_LONG=n runs that many.
func TestAgainstModel(t *testing.T) {
	first, n, steps := uint64(1), uint64(60), 150
	if s, err := strconv.ParseUint(os.Getenv("EDGEPOST_SEED"), 10, 64); err == nil {
		first, n = s, 1
	}
	if l, err := strconv.ParseUint(os.Getenv("EDGEPOST_LONG"), 10, 64); err == nil {
		n, steps = l, 600
	}
	if s, err := strconv.Atoi(os.Getenv("EDGEPOST_STEPS")); err == nil {
		steps = s
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runRig(t, seed, steps) })
	}
}
