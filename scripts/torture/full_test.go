package torture

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// resumeWithin is how soon publishers must be served again once there is space. When the disk was filled
// again and again the log's own cleaning is paced, for the flash: a snapshot with all 16,384 idempotency
// keys, which only a long run collects, then waits 6 seconds for its turn, twice.
func resumeWithin() time.Duration {
	if long() {
		return 25 * time.Second
	}
	return 8 * time.Second
}

// TestDiskFull fills small disks at random moments, with somebody else's file and with messages.
// While the disk is full publishers are refused and devices get what waits for them; once there is
// space again publishing resumes by itself.
func TestDiskFull(t *testing.T) {
	t.Run("ext4", func(t *testing.T) {
		fullDisk(t, func() *disk { return newDisk(t, 16) })
	})
	t.Run("tmpfs", func(t *testing.T) {
		fullDisk(t, func() *disk { return newMemory(t, 8) })
	})
}

func fullDisk(t *testing.T, make func() *disk) {
	t.Parallel()
	rounds, rnd := plan(t, 3, 60)
	seed := rnd.Uint64()
	d := make()
	g := newGateway(t, d.data(), "[storage]\nmax_bytes = \"64MiB\"\nretain_bytes = \"1MiB\"\n")
	g.start()
	w := newLoad(t, g)
	w.receivers(seed)
	w.publish("d0", "device/d0/in/set", small, 0, seed+10)
	w.publish("d1", "device/d1/in/set", medium, 5*time.Millisecond, seed+11)
	w.publish("d3", "device/d3/in/set", small, 5*time.Millisecond, seed+12) // nobody takes these yet
	w.publishWS("ws2", "device/d2/in/ws", 16, small, seed+13)
	w.publishBatches("free", "free/x", 10, medium, seed+14)
	reg := w.administer(seed + 15)
	a := g.api(w.app)
	for round := range rounds {
		time.Sleep(time.Duration(50+rnd.IntN(400)) * time.Millisecond)
		foreign := d.fill(t)
		before := w.refusals("storage-full") + w.refusals("storage-failed")
		within(t, 30*time.Second, "the disk is full and nobody was refused", func() bool {
			return w.refusals("storage-full")+w.refusals("storage-failed") > before+20
		})
		if s := a.status(t); s.Storage == "ok" {
			t.Errorf("round %d: publishers are refused and the status says the storage is ok", round)
		}
		w.deliversWhileFull(t, rnd)
		if rnd.IntN(2) == 0 { // a start on a full disk
			g.kill()
			g.start()
			w.deliversWhileFull(t, rnd)
		}
		if err := os.Remove(foreign); err != nil {
			t.Fatal(err)
		}
		w.resumes(t, a)
		w.checkTraces("after a full disk", 6, rnd, false)
		if t.Failed() {
			break
		}
	}
	w.receive("device/d3", "d3", habit{every: 3}, seed+20)
	w.conclude(rnd, 20*rounds)
	reg.check(t, a)
}

// fill writes a file until nothing more fits, as somebody else on the same disk would, and returns its path.
func (d *disk) fill(t *testing.T) string {
	t.Helper()
	path := filepath.Join(d.dir, "foreign")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// deliversWhileFull: d3 connects, takes some of what waits for it and goes again. The log can not
// remember that it was connected, so if it is killed now it may forget to flag what comes twice.
func (w *load) deliversWhileFull(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	const life = unsure
	link, err := w.g.dial("d3", w.tokens["d3"])
	if err != nil {
		t.Fatalf("a device cannot connect while the disk is full: %v", err)
	}
	defer link.close()
	for range 5 + rnd.IntN(20) {
		f, err := link.read(5 * time.Second)
		if err != nil {
			if w.backlog("device/d3") > 0 {
				t.Errorf("the disk is full and a device does not get its %d waiting messages: %v", w.backlog("device/d3"), err)
			}
			return
		}
		if f.Msg == nil {
			t.Fatalf("a device was told %+v", f.Error)
		}
		w.l.receive(life, "device/d3", *f.Msg)
		if err := w.settle(link, "device/d3", 0, []delivery{*f.Msg}, rnd); err != nil {
			t.Fatal(err)
		}
	}
}

// backlog counts the acknowledged messages that a subscription has not yet received.
func (w *load) backlog(sub string) (n int) {
	for _, s := range w.l.unreceived() {
		if s == sub {
			n++
		}
	}
	return n
}

// resumes: there is space again, and publishing works soon.
func (w *load) resumes(t *testing.T, a *api) {
	t.Helper()
	begin := time.Now()
	var code int
	var why string
	ok := soon(3*resumeWithin(), func() bool {
		_, code, why = a.publish("nobody/listens", "x")
		return code == http.StatusCreated
	})
	switch took := time.Since(begin); {
	case !ok:
		t.Errorf("there is space again and still publishers are refused after %v: %d %s\n%s", took, code, why, w.g.files())
	case took > resumeWithin():
		t.Errorf("there is space again and publishers were refused for another %v", took)
	}
	var s status
	if ok && !soon(5*time.Second, func() bool { s = a.status(t); return s.Storage == "ok" }) {
		t.Errorf("publishing works again and the status says the storage is %q", s.Storage)
	}
}

// TestFullOfMessages fills the disk with messages that nobody takes, until publishers are refused. Then the devices
// come, and everything flows again.
func TestFullOfMessages(t *testing.T) {
	t.Run("ext4", func(t *testing.T) {
		fullOfMessages(t, func() *disk { return newDisk(t, 16) })
	})
	t.Run("tmpfs", func(t *testing.T) {
		fullOfMessages(t, func() *disk { return newMemory(t, 8) })
	})
}

func fullOfMessages(t *testing.T, make func() *disk) {
	t.Parallel()
	rounds, rnd := plan(t, 1, 20)
	for range rounds {
		seed := rnd.Uint64()
		d := make()
		g := newGateway(t, d.data(), "[storage]\nmax_bytes = \"64MiB\"\nretain_bytes = \"1MiB\"\n")
		g.start()
		w := newLoad(t, g)
		for i := range uint64(4) {
			w.publish("p"+string(rune('0'+i)), "device/d"+string(rune('0'+i))+"/in/x", sizes{0, 1 << (8 + 2*i)}, 0, seed+i)
		}
		within(t, 60*time.Second, "the disk did not get full", func() bool {
			return w.refusals("storage-full")+w.refusals("storage-failed") > 50
		})
		if rnd.IntN(2) == 0 {
			g.kill()
			g.start()
		}
		w.devices(seed + 10)
		w.receive("device/d3", "d3", habit{every: 10}, seed+20)
		acked, _, _ := w.l.counts()
		if !soon(30*time.Second, func() bool { now, _, _ := w.l.counts(); return now > acked+500 }) {
			now, _, _ := w.l.counts()
			t.Errorf("the devices took their messages, and only %d more could be published in 30 s: %v", now-acked, g.api(w.app).status(t))
		}
		w.conclude(rnd, 1000)
		g.kill()
		d.unmount()
	}
}
