package courier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// obstruct lets the log begin no new generation until the returned function is called: files stand where
// the directories would be made.
func (w *world) obstruct() (clear func()) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	newest := 0
	for _, e := range entries {
		var id int
		if n, _ := fmt.Sscanf(e.Name()[1:], "%d", &id); n == 1 {
			newest = max(newest, id)
		}
	}
	var files []string
	for id := newest + 1; id < newest+500; id++ {
		for _, prefix := range []string{"g", "t"} {
			name := filepath.Join(w.dir, fmt.Sprintf("%s%08d", prefix, id))
			if err := os.WriteFile(name, nil, 0o600); err == nil {
				files = append(files, name)
			}
		}
	}
	return func() {
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				w.t.Error(err)
			}
		}
	}
}

// eventually polls what no event tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestDeliveryGoesOnWhileTheStorageFails (DESIGN §4): publishers are refused, devices still connect and get
// what waits, their acks are kept and written later, and publishing resumes by itself.
func TestDeliveryGoesOnWhileTheStorageFails(t *testing.T) {
	w := newWorld(t)
	w.restartWith(func() { w.o.Generation = 4 << 10 })
	w.inbox("lamp1")
	w.inbox("lamp2")
	l1 := newSink()
	a1 := w.attach("lamp1", l1, AttachOptions{})
	var ids []message.ID
	for i := range 10 {
		ids = append(ids, w.publish("device/lamp1/in/x", fmt.Sprint(i)).ID)
		ids = append(ids, w.publish("device/lamp2/in/x", fmt.Sprint(i)).ID)
	}
	clear := w.obstruct()
	refused := ""
	for refused == "" {
		_, err := w.store(message.New("x", make([]byte, 1000)))
		if p := message.ProblemOf(err); p != nil {
			refused = p.Code
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused != message.CodeStorageFailed || w.c.Status().Storage == "ok" {
		t.Fatalf("refused with %q, status %q", refused, w.c.Status().Storage)
	}
	a1.Ack(seqs(l1.take(t, 10)))
	l2 := newSink()
	a2 := w.attach("lamp2", l2, AttachOptions{}) // connects although that cannot be written down
	a2.Ack(seqs(l2.take(t, 10)))
	for _, id := range ids {
		if p := w.trace(id); len(p) != 1 || p[0].State != message.Delivered {
			t.Fatalf("trace of %v while the storage fails: %+v", id, p)
		}
	}
	if _, err := w.c.Ensure(context.Background(), Spec{Name: "x", Owner: "x", Kind: Named, Filters: []message.Filter{"x"}}); message.ProblemOf(err) == nil {
		t.Fatalf("a subscription was made: %v", err)
	}
	clear()
	eventually(t, "publishing resumes", func() bool { _, err := w.store(message.New("x", nil)); return err == nil })
	eventually(t, "the status is ok", func() bool { return w.c.Status().Storage == "ok" })
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	w.crash()
	for _, d := range []string{"lamp1", "lamp2"} {
		if info, err := w.c.Info(context.Background(), DeviceInbox(d)); err != nil || info.Depth != 0 {
			t.Fatalf("%s owes %d after the crash, %v", d, info.Depth, err)
		}
	}
}

// crash goes on with a copy of the log as it is.
func (w *world) crash() {
	w.t.Helper()
	dir := w.dir + "'"
	copyLog(w.t, w.dir, dir)
	w.stop()
	w.dir = dir
	w.start()
}
