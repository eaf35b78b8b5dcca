package bridges

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// What a person gets wrong is said in words on the bridge, retried where that can help, and never ends the gateway;
// what the program can see at the start is refused there, with the line.
func TestBadInput(t *testing.T) {
	b, err := brokers.New("mosquitto", t.TempDir())
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(b.Kill)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	addr := b.Addr("mqtt")
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ name, config, state, words string }{
		{"nobody listens", bridgeText(freeAddr(t), "", ""), "waiting", "nothing listens there"},
		{"wrong host", bridgeText("no-such-host.invalid", "", ""), "waiting", "no-such-host.invalid"},
		{"no password file", bridgeText(addr, `password_file = "`+missing+`"`, ""), "misconfigured", "password_file"},
		{"TLS on a plain port", strings.Replace(bridgeText(addr, "", ""), "mqtt://", "mqtts://", 1), "", "TLS"},
		{"no certificate in ca_file", strings.Replace(bridgeText(addr, `ca_file = "`+program+`"`, ""), "mqtt://", "mqtts://", 1), "misconfigured", "ca_file"},
		{"another protocol", bridgeText(httpServer(t), "", ""), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, c.config)
			g.start()
			var got bridge
			if !eventually(45*time.Second, func() bool {
				got = g.bridge()
				return got.Error != "" && strings.Contains(got.Error, c.words) && (c.state == "" || got.State == c.state || got.State == "connecting")
			}) {
				t.Errorf("state %q, error %q; want %q, %q", got.State, got.Error, c.state, c.words)
			}
			if text, err := g.run("bridge", "test", "up"); err == nil {
				t.Errorf("bridge test says %q", text)
			}
			g.publish(0, 1) // it goes on
		})
	}
}

func bridgeText(addr, keys, options string) string {
	return "[[bridge]]\nname = \"up\"\nkind = \"mqtt\"\nurls = [\"mqtt://" + addr + "\"]\n" + keys + "\n[bridge.up]\nfilters = [\"device/+/out/#\"]\n" + options
}

// httpServer answers everything with HTTP.
func httpServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	return l.Addr().String()
}

// A message that the broker would drop is a dead letter here, and keeps up nobody; a bridge made over the API is there
// after a restart, and one that leaves the file keeps what it owes.
func TestLifeOfABridge(t *testing.T) {
	b, err := brokers.New("mosquitto", t.TempDir())
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(b.Kill)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	got := newTally()
	defer mqttRead(t, b.Addr("mqtt"), got)()
	text := strings.Replace(mosquitto().config(b.Addr("mqtt")), "keep_alive = 2", "max_message = 600", 1)
	g := newGateway(t, text)
	g.start()
	if text, err := g.run("send", "device/d1/out/n", strings.Repeat("x", 1000)); err != nil {
		t.Fatal(text)
	}
	g.publish(0, 10)
	wait(t, "the others pass", func() bool { k, _ := got.count(10); return k == 10 })
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
	g.stop()
	g.configure(text)
	g.start()
	if s := g.bridge(); s.State != "paused" || s.Owed != 10 {
		t.Errorf("it is back: %+v", s)
	}
	if text, err := g.run("bridge", "resume", "up"); err != nil {
		t.Fatal(text)
	}
	wait(t, "what it owed comes", func() bool { k, _ := got.count(20); return k == 20 && g.bridge().Owed == 0 })

	if text, err := g.run("bridge", "rewind", "up", "-since", "10m"); err != nil {
		t.Fatal(text)
	}
	wait(t, "everything comes again", func() bool { _, again := got.count(20); return again >= 20 && g.bridge().Owed == 0 })
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
