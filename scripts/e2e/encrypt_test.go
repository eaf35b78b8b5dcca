package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const encryptedConfig = "[storage.encryption]\nenabled = true\n"

// planted are words that must be on the disk of no encrypted gateway.
var planted = []string{"planted-payload", "planted-topic", "planted-device", "planted-key"}

// onDisk returns the planted words that a file of the data directory holds.
func (g *gateway) onDisk() (found []string) {
	g.t.Helper()
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range planted {
			if bytes.Contains(b, []byte(word)) {
				found = append(found, word+" in "+path)
			}
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return found
}

// plant stores every planted word.
func (g *gateway) plant() {
	g.t.Helper()
	g.must(nil, "device", "add", "planted-device")
	g.must(nil, "key", "add", "planted-key", "-publish", "planted-topic/#")
	for i := range 20 {
		g.must(nil, "send", fmt.Sprintf("device/planted-device/in/planted-topic/%d", i), "planted-payload")
	}
}

// TestEncryptedDisk: no payload, topic or name is on the disk of an encrypted gateway, running, killed or stopped; the
// words are there without encryption, so the test would see them.
func TestEncryptedDisk(t *testing.T) {
	plain := startGateway(t, "")
	plain.plant()
	plain.kill()
	if found := plain.onDisk(); len(found) < len(planted) {
		t.Errorf("without encryption only %v", found)
	}

	g := startGateway(t, encryptedConfig)
	g.plant()
	for _, do := range []func(){func() {}, g.kill, g.start, func() { g.stop() }} { // it runs, is killed, runs again, is stopped
		do()
		if found := g.onDisk(); len(found) > 0 {
			t.Error(found)
		}
	}
	out := g.must(nil, "log", "verify", "-json")
	if !strings.Contains(out, `"plain":0,`) || !strings.Contains(out, `"keyless":0,`) || !strings.Contains(out, `"forged":0}`) || strings.Contains(out, `"encrypted":0,`) {
		t.Errorf("log verify: %s", out)
	}

	// Without its key it does not start, says so, and loses nothing.
	kek := filepath.Join(g.dir, "keys", "kek")
	aside := filepath.Join(t.TempDir(), "kek")
	rename(t, kek, aside)
	g.wantNoStart(t, 1, "file:keys/kek")
	if out := g.must(nil, "log", "verify"); !strings.Contains(out, "OK:") || strings.Contains(out, "DAMAGED") {
		t.Errorf("log verify without the key: %s", out)
	}
	if out := g.must(nil, "log", "dump"); strings.Contains(out, "planted") {
		t.Error("log dump without the key shows what is encrypted")
	}
	copyFile(t, aside, kek)
	g.start()
	if out := g.must(nil, "device", "list"); !strings.Contains(out, "planted-device") {
		t.Errorf("with its key again: %s", out)
	}
	if out := g.must(nil, "status"); !strings.Contains(out, "encrypted") {
		t.Errorf("status: %s", out)
	}

	// Another key, and everything is still there; then nothing is.
	g.stop()
	g.must(nil, "storage", "rotate-key")
	if b, err := os.ReadFile(kek); err != nil || bytes.Equal(b, read(t, aside)) {
		t.Errorf("the key is the old one: %v", err)
	}
	g.start()
	if out := g.must(nil, "device", "list"); !strings.Contains(out, "planted-device") {
		t.Errorf("after the rotation: %s", out)
	}
	if r := g.run("factory-reset", "-yes"); r.code != 4 {
		t.Errorf("factory-reset of a running gateway: exit %d, %s", r.code, r.errout)
	}
	g.stop()
	if r := g.run("factory-reset"); r.code != 2 {
		t.Errorf("factory-reset without -yes: exit %d, %s", r.code, r.errout)
	}
	g.must(nil, "factory-reset", "-yes")
	if _, err := os.Stat(kek); err == nil {
		t.Error("the key is still there")
	}
	g.start()
	if out := g.must(nil, "device", "list"); strings.Contains(out, "planted-device") {
		t.Errorf("after the factory reset: %s", out)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	copyFile(t, from, to)
	if err := os.Remove(from); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, read(t, from), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEncryptionSwitchedOn: what was plain stays readable, status and verify say how much it is.
func TestEncryptionSwitchedOn(t *testing.T) {
	g := newGateway(t)
	g.start()
	g.plant()
	g.kill()
	config := filepath.Join(t.TempDir(), "edgepost.toml")
	if err := os.WriteFile(config, []byte(encryptedConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	g.args = append(g.args, "-config", config)
	g.start()
	g.must(nil, "send", "device/planted-device/in/more", "and more")
	if out := g.must(nil, "status"); !strings.Contains(out, "from before encryption") {
		t.Errorf("status: %s", out)
	}
	if out := g.must(nil, "log", "verify"); !strings.Contains(out, "ENCRYPTED: ") || strings.Contains(out, " 0 more are plain") {
		t.Errorf("log verify: %s", out)
	}
}

// TestCipherRefused: a broken cipher is named with its reason, and nothing starts.
func TestCipherRefused(t *testing.T) {
	g := newGateway(t)
	config := filepath.Join(t.TempDir(), "edgepost.toml")
	if err := os.WriteFile(config, []byte(encryptedConfig+"cipher = \"des\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.args = append(g.args, "-config", config)
	g.wantNoStart(t, 2, "edgepost.toml:3", "DES is not offered: 56-bit key, withdrawn; use aes-256-gcm or xchacha20-poly1305")
}

// TestNoNonceTwiceKill9 kills an encrypted gateway twenty times under load; in what is on the disk then no key
// was used with the same nonce twice.
func TestNoNonceTwiceKill9(t *testing.T) {
	g := startGateway(t, encryptedConfig)
	app := g.api(g.addFreeKey())
	for round := range 20 {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					_, _ = app.do("POST", "/v1/publish/free/load", fmt.Appendf(nil, "round %d message %d", round, i)) // it may be killed meanwhile
				}
			}
		}()
		time.Sleep(50 * time.Millisecond)
		g.kill()
		close(stop)
		<-done
		g.start()
	}
	g.kill()
	generation := regexp.MustCompile(`^(g\d+) .* (\S+ key \S+ salt \S+)$`)
	nonce := regexp.MustCompile(`  nonce ([0-9a-f]+)`)
	seen := map[string]bool{}
	for _, log := range []string{"outbox", "registry"} {
		key := ""
		for line := range strings.Lines(g.must(nil, "log", "dump", log)) {
			line = strings.TrimRight(line, "\n")
			if m := generation.FindStringSubmatch(line); m != nil {
				key = log + " " + m[1] + " " + m[2]
			}
			if m := nonce.FindStringSubmatch(line); m != nil {
				if pair := key + " " + m[1]; seen[pair] || key == "" {
					t.Errorf("twice: %s", pair)
				} else {
					seen[pair] = true
				}
			}
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d frames were seen", len(seen))
	}
}
