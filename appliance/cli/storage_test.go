package cli

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestFactoryResetKnowsEveryFile: with everything switched on nothing lies in the data directory that factory-reset
// does not remove, what a crash in the middle of a write leaves included.
func TestFactoryResetKnowsEveryFile(t *testing.T) {
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	}))
	defer issuer.Close()
	dir := dataDir(t)
	beside := filepath.Dir(dir)
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write(filepath.Join(beside, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw})))
	config := write(filepath.Join(beside, "c.toml"), fmt.Sprintf(`data = %q
[storage.encryption]
enabled = true
[[issuer]]
name = "home"
iss = "https://issuer.example"
aud = ["edgepost"]
jwks_url = %q
ca_file = %q
[[history]]
name = "states"
filter = "state/#"
last = 3
`, dir, issuer.URL, ca))
	const any = "127.0.0.1:0"
	_, errs, stop := served(t, "-config", config, "-http", any, "-https", any, "-mqtt", any, "-mqtts", any)
	for _, line := range [][]string{
		{"device", "add", "lamp1"}, {"send", "device/lamp1/in/set", "on"}, {"key", "add", "app", "-admin"},
	} {
		if code, _, stderr := runLine(t.Context(), dir, "", nil, line...); code != exitOK {
			t.Fatalf("%v: exit %d, %s %s", line, code, stderr, errs)
		}
	}
	kept := filepath.Join(dir, "jwks", "home.json")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(kept); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the issuer's keys are not kept: %v %s", err, errs)
		}
	}
	holds(t, dir, "outbox", "registry", "tls", "jwks", "keys", "control.sock") // else not everything is on
	if code := stop(); code != exitOK {
		t.Fatalf("stopped with exit code %d: %s", code, errs)
	}
	holds(t, dir, "clock")
	for _, name := range []string{"clock.tmp", ".probe"} { // what a crash leaves
		write(filepath.Join(dir, name), "x")
	}
	holds(t, dir)
	if code, _, stderr := runLine(t.Context(), dir, "", nil, "factory-reset", "-yes"); code != exitOK {
		t.Fatalf("factory-reset: exit %d, %s", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("factory-reset leaves %v, %v", left, err)
	}
}

// holds checks that a data directory holds the names, and nothing that is not owned.
func holds(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range list {
		have = append(have, e.Name())
		if !slices.Contains(owned[:], e.Name()) {
			t.Errorf("%s holds %s, which factory-reset does not know", dir, e.Name())
		}
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			t.Errorf("%s holds no %s, only %v", dir, name, have)
		}
	}
}
