package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// setting is one value of the configuration in force.
type setting struct {
	Key    string
	Value  any
	Origin string
}

// TestConfigurationShown shows where each value comes from, and no secret.
func TestConfigurationShown(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "hs256")
	if err := os.WriteFile(secret, []byte("planted-secret-planted-secret-planted"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, fmt.Sprintf(`[delivery]
ttl = "3d"

[[history]]
name = "all"
filter = "a/#"
last = 3

[[issuer]]
name = "corp"
iss = "https://id.example"
aud = ["edgepost"]
secret_file = %q
`, secret))
	root := g.api(g.addKey("root", "-admin"))
	var a struct{ Settings []setting }
	res := root.want(t, 200, &a, "GET", "/v1/config", nil)
	if strings.Contains(string(res.body), "planted") {
		t.Error("the configuration shows a secret")
	}
	got := make(map[string]setting)
	for _, s := range a.Settings {
		got[s.Key] = s
	}
	for key, want := range map[string]string{
		"http.addr":             g.addr + " flag",
		"delivery.ttl":          "3d line 2",
		"delivery.window":       "64 default",
		"history[0].filter":     "a/# line 6",
		"issuer[0].secret_file": secret + " line 13",
		"storage.retain_age":    "7d default",
		"wan":                   "false default",
	} {
		if s := got[key]; fmt.Sprint(s.Value, " ", s.Origin) != want {
			t.Errorf("%s is %v %s, want %s", key, s.Value, s.Origin, want)
		}
	}
	var issuers struct {
		Issuers []struct{ Name, Iss, Keys string }
	}
	res = root.want(t, 200, &issuers, "GET", "/v1/issuers", nil)
	if strings.Contains(string(res.body), "planted") || len(issuers.Issuers) != 1 || issuers.Issuers[0].Keys != secret {
		t.Errorf("issuers %s", res.body)
	}
	var check struct {
		OK       bool
		Mistakes []struct {
			Line        int
			Key, Detail string
		}
	}
	root.want(t, 200, &check, "POST", "/v1/config/validate", []byte("[delivery]\nwindow = -1\nttt = 3\n"))
	if check.OK || len(check.Mistakes) != 2 || check.Mistakes[0].Line != 2 || check.Mistakes[0].Key != "delivery.window" || check.Mistakes[1].Line != 3 {
		t.Errorf("mistakes %+v", check)
	}
	root.want(t, 200, &check, "POST", "/v1/config/validate", []byte("[delivery]\nwindow = 10\n"))
	if !check.OK || len(check.Mistakes) != 0 {
		t.Errorf("a right configuration: %+v", check)
	}
	root.want(t, 204, nil, "PUT", "/v1/gateway", []byte(`{"name":"hall-3"}`))
	g.kill()
	g.start()
	var st struct{ Gateway string }
	if root.want(t, 200, &st, "GET", "/v1/status", nil); st.Gateway != "hall-3" {
		t.Errorf("the gateway is called %q", st.Gateway)
	}
}

// TestSessionsListed lists who is signed in, and ends one from another.
func TestSessionsListed(t *testing.T) {
	g := newGateway(t)
	g.start()
	ann := g.signedIn()
	other := g.person()
	other.expect(201, "POST", "/v1/session", `{"name":"ann","password":"`+password+`"}`)
	a := ann.expect(200, "GET", "/v1/sessions", "")
	if n := strings.Count(string(a.body), `"user":"ann"`); n != 2 || strings.Count(string(a.body), `"present":true`) != 1 {
		t.Fatalf("sessions %s", a.body)
	}
	if value := strings.TrimPrefix(other.cookie, "ep-local="); strings.Contains(string(a.body), value[:10]) {
		t.Error("the list shows the secret of a session")
	}
	for entry := range strings.SplitSeq(string(a.body), "{") {
		if strings.Contains(entry, `"present":false`) {
			id := strings.Split(entry, `"`)[3]
			ann.expect(204, "DELETE", "/v1/sessions/"+id, "")
			ann.expect(404, "DELETE", "/v1/sessions/"+id, "")
		}
	}
	other.expect(401, "GET", "/v1/session", "")
	ann.expect(200, "GET", "/v1/session", "")
	key := g.api(g.addFreeKey())
	key.refused(t, 403, "forbidden", "GET", "/v1/sessions", nil)
	key.refused(t, 403, "forbidden", "GET", "/v1/config", nil)
	key.refused(t, 403, "forbidden", "PUT", "/v1/gateway", []byte(`{"name":"x"}`))
}

// TestDiagnostics has a bundle written by the command line, and looks for what must not be in it.
func TestDiagnostics(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "hs256")
	if err := os.WriteFile(secret, []byte("planted-secret-planted-secret-planted"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, fmt.Sprintf("[[issuer]]\nname = \"corp\"\niss = \"https://id.example\"\naud = [\"e\"]\nsecret_file = %q\n", secret))
	ann := g.signedIn()
	tok, key := g.addDevice("planted-device"), g.addKey("root", "-admin", "-publish", "#")
	root := g.api(key)
	root.publish(t, "device/planted-device/in/set", "planted-payload")
	ann.expect(401, "POST", "/v1/session", `{"name":"ann","password":"planted password"}`)
	g.api("ep_planted-token").refused(t, 401, "unauthorized", "GET", "/v1/status", nil)
	file := filepath.Join(t.TempDir(), "bundle.tar")
	g.must(nil, "diagnostics", file)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := make(map[string]string)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(b)
	}
	for name, part := range map[string]string{
		"version.json": `"arch"`, "status.json": `"Published"`, "live.json": `"flash_years"`, "history.json": `"series"`, "config.json": `"issuer[0].secret_file"`,
		"metrics.txt": "edgepost_published_total", "log.txt": "a sign-in failed",
	} {
		if !strings.Contains(found["edgepost/"+name], part) {
			t.Errorf("%s has no %s: %.300s", name, part, found["edgepost/"+name])
		}
	}
	cookie := strings.TrimPrefix(ann.cookie, "ep-local=")
	for name, text := range found {
		for _, bad := range []string{"planted-secret", "planted-payload", "planted password", "planted-token", "planted-device", password, tok, key, cookie, "$argon2id"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
	if r := g.run("diagnostics", file); r.code == 0 {
		t.Error("a file that is there was overwritten")
	}
	g.api(g.addFreeKey()).refused(t, 403, "forbidden", "GET", "/v1/diagnostics", nil)
}
