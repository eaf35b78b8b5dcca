package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestBacklogWaitsThroughACrash publishes 10,000 messages to a device that is away, kills the
// process, and expects all of them, once, in order, when the device comes.
func TestBacklogWaitsThroughACrash(t *testing.T) {
	const total = 10_000
	g := startGateway(t, "")
	lamp, app := g.addDevice("lamp1"), g.addFreeKey()

	began := time.Now()
	pub := g.mustDial("", app)
	answers := make(chan error, 1)
	go func() { answers <- readOKs(pub, total) }()
	for i := range total {
		err := pub.send(map[string]any{"id": i + 1, "pub": map[string]any{"topic": "device/lamp1/in/n", "data": i}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d stored in %v", total, time.Since(began).Round(time.Millisecond))
	g.kill()
	began = time.Now()
	g.start()
	t.Logf("ready again in %v", time.Since(began).Round(time.Millisecond))

	began = time.Now()
	dev := g.mustDial("lamp1", lamp)
	for i := range total {
		m := dev.msg(t)
		if m.payload() != fmt.Sprint(i) || m.Attempt != 1 || m.Topic != "device/lamp1/in/n" {
			t.Fatalf("message %d came as %+v", i, m)
		}
		if i%10 == 9 {
			dev.ack(t, m.Seq)
		}
	}
	t.Logf("%d delivered in %v", total, time.Since(began).Round(time.Millisecond))
	if f, err := dev.read(300 * time.Millisecond); err == nil {
		t.Errorf("after the last message came %s", show(f))
	}
	g.stop()
	g.start()
	if f, err := g.mustDial("lamp1", lamp).read(300 * time.Millisecond); err == nil {
		t.Errorf("all was acknowledged, and after a restart came %s", show(f))
	}
}

// readOKs reads the answers to n pubs with the ids 1 to n.
func readOKs(l *link, n int) error {
	seen := make(map[int64]bool, n)
	for len(seen) < n {
		f, err := l.read(30 * time.Second)
		switch {
		case err != nil:
			return fmt.Errorf("after %d answers: %w", len(seen), err)
		case f.Error != nil:
			return fmt.Errorf("pub %d: %s: %s", f.ID, f.Error.Code, f.Error.Detail)
		case f.OK == nil || f.ID < 1 || f.ID > int64(n) || seen[f.ID]:
			return fmt.Errorf("pub answered by %s", show(f))
		}
		seen[f.ID] = true
	}
	return nil
}
