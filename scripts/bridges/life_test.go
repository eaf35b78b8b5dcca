package bridges

import (
	"os"
	"strings"
	"testing"
)

// A message that the broker would drop is a dead letter here, and keeps up nobody; a bridge made over the API is there
// after a restart, and one that leaves the file keeps what it owes.
func TestLifeOfABridge(t *testing.T) {
	b := startBroker(t, "mosquitto")
	got := newTally()
	defer mqttRead(t, b.Addr("mqtt"), got)()
	text := strings.Replace(mosquitto().config(b.Addr("mqtt")), "keep_alive = 2", "max_message = 600", 1)
	g := newGateway(t, text)
	g.start()
	if text, err := g.run("send", "device/d1/out/n", strings.Repeat("x", 1000)); err != nil {
		t.Fatal(text)
	}
	g.publish(0, 10)
	wait(t, "the others pass", func() bool { k, _ := got.count(0, 10); return k == 10 })
	wait(t, "the large one is a dead letter", func() bool { text, _ := g.run("dead", "list"); return strings.Contains(text, "max_message is 600") })
	// A subscriber may have a message before the gateway has its confirmation.
	wait(t, "the others are confirmed", func() bool { return g.bridge().Owed == 0 })

	if text, err := g.run("bridge", "pause", "up"); err != nil {
		t.Fatal(text)
	}
	g.publish(10, 20)
	g.stop()
	g.configure("") // it leaves the file
	g.start()
	if list, _ := g.run("bridge", "list"); !strings.Contains(list, "orphaned") || !strings.Contains(list, "10") {
		t.Errorf("a bridge that left the file: %s", list)
	}
	if s := g.bridge(); s.State != "orphaned" || s.Owed != 10 {
		t.Errorf("a bridge that left the file, alone: %+v", s)
	}
	g.stop()
	g.configure(text)
	g.start()
	if s := g.bridge(); s.State != "paused" || s.Owed != 10 {
		t.Errorf("it is back: %+v", s)
	}
	if text, err := g.run("bridge", "resume", "up"); err != nil {
		t.Fatal(text)
	}
	wait(t, "what it owed comes", func() bool { k, _ := got.count(0, 20); return k == 20 && g.bridge().Owed == 0 })

	if text, err := g.run("bridge", "rewind", "up", "-since", "10m"); err != nil {
		t.Fatal(text)
	}
	wait(t, "everything comes again", func() bool { _, again := got.count(0, 20); return again >= 20 && g.bridge().Owed == 0 })
	if text, err := g.run("bridge", "pause", "up"); err != nil {
		t.Fatal(text)
	}
	g.publish(20, 25)
	if n, err := g.run("bridge", "skip", "up"); err != nil || n != "5" {
		t.Errorf("skipped %s", n)
	}
	if text, err := g.run("bridge", "test", "up"); err != nil {
		t.Error(text)
	}
	_ = os.Remove(g.file)
}
