package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupAndRestore carries a gateway to another one: its devices, groups, keys and people work there with their old secrets,
// and after a restart it shows the old certificate.
func TestBackupAndRestore(t *testing.T) {
	old := newGateway(t)
	old.start()
	old.signedIn()
	tok := old.addDevice("lamp1")
	old.must(nil, "group", "add", "hall")
	old.must(nil, "group", "join", "hall", "lamp1")
	key := old.addKey("root", "-admin", "-publish", "#")
	old.api(key).want(t, 201, nil, "PUT", "/v1/bridges/central", []byte(`{"kind":"webhook","urls":["http://127.0.0.1:1"],"up":{"filters":["device/+/out/#"]}}`))
	old.must(nil, "device", "add", "lamp2", "-profile", "tasmota", "-label", "灯")
	phrase, file := filepath.Join(t.TempDir(), "phrase"), filepath.Join(t.TempDir(), "old.backup")
	if err := os.WriteFile(phrase, []byte("several words together\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old.must(nil, "backup", file, "-passphrase-file", phrase)
	pin := fingerprint(t, old)
	sealed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"lamp1", tok, key, password, "$argon2id", "PRIVATE KEY"} {
		if bytes.Contains(sealed, []byte(secret)) {
			t.Errorf("the backup shows %q", secret)
		}
	}
	old.stop()

	g := newGateway(t)
	g.start()
	gone, goneKey := g.addDevice("stranger"), g.addKey("mine", "-publish", "#")
	link := g.mustDial("stranger", gone)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("other words together"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := g.run("restore", file, "-passphrase-file", wrong); r.code != 4 || !strings.Contains(r.errout, "passphrase is wrong") {
		t.Errorf("another passphrase: %+v", r)
	}
	g.api(goneKey).publish(t, "device/stranger/in/x", "still there")
	link.msg(t)
	if out := g.must(nil, "restore", file, "-passphrase-file", phrase); out != "restored 2 devices, 1 groups, 1 keys, 1 users and 1 bridges\n" {
		t.Errorf("restore printed %q", out)
	}
	var ended error
	for range 5 { // perhaps a goodbye, then the end
		if _, ended = link.read(10 * time.Second); ended != nil {
			break
		}
	}
	if ended == nil || errors.Is(ended, os.ErrDeadlineExceeded) {
		t.Errorf("the connection of a device that is no more: %v", ended)
	}
	root := g.api(key)
	restoredBridge(t, root)
	s := root.publish(t, "group/hall/in/set", "on")
	if s.Subscriptions != 1 {
		t.Errorf("the restored group has %d subscriptions", s.Subscriptions)
	}
	g.api(goneKey).refused(t, 401, "unauthorized", "GET", "/v1/status", nil)
	root.refused(t, 404, "unknown-device", "POST", "/v1/publish/device/stranger/in/x", []byte("x"))
	g.kill()
	g.start()
	if got := fingerprint(t, g); got != pin {
		t.Errorf("after a restart it shows the key %s, want %s", got, pin)
	}
	m := g.mustDial("lamp1", tok).msg(t)
	if m.payload() != "on" || m.ID != s.ID {
		t.Errorf("lamp1 receives %+v", m)
	}
	restoredPeople(t, g)
}

// restoredBridge looks at what was made over the API.
func restoredBridge(t *testing.T, root *api) {
	t.Helper()
	var made struct {
		Source string
		Config struct{ Kind string }
	}
	root.want(t, 200, &made, "GET", "/v1/bridges/central", nil)
	if made.Source != "api" || made.Config.Kind != "webhook" {
		t.Errorf("the bridge made over the API is %+v", made)
	}
}

// restoredPeople signs in as who was backed up, and asks over HTTP what the command line did.
func restoredPeople(t *testing.T, g *gateway) {
	t.Helper()
	ann := g.person()
	ann.expect(201, "POST", "/v1/session", `{"name":"ann","password":"`+password+`"}`)
	if a := ann.expect(200, "GET", "/v1/devices/lamp2", ""); !bytes.Contains(a.body, []byte(`"tasmota"`)) || !bytes.Contains(a.body, []byte("灯")) {
		t.Errorf("lamp2 is %s", a.body)
	}
	ann.expect(400, "POST", "/v1/backup", `{"passphrase":"short"}`)
	if a := ann.expect(200, "POST", "/v1/backup", `{"passphrase":"several words together"}`); !bytes.HasPrefix(a.body, []byte("edgepost backup 1\n")) {
		t.Errorf("over HTTP the backup is %.40q", a.body)
	}
	ann.expect(400, "POST", "/v1/restore", `{"passphrase":"several words together","backup":"AAAA"}`)
	g.api(g.addFreeKey()).refused(t, 403, "forbidden", "POST", "/v1/backup", []byte(`{"passphrase":"several words together"}`))
}

func fingerprint(t *testing.T, g *gateway) string {
	t.Helper()
	var c struct{ Fingerprint string }
	g.api("").want(t, 200, &c, "GET", "/v1/certificate", nil)
	if c.Fingerprint == "" {
		t.Fatal("no certificate is served")
	}
	return c.Fingerprint
}
