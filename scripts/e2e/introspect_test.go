package e2e

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// asked is an outside issuer with opaque tokens, over HTTPS.
type asked struct {
	mu    sync.Mutex
	says  map[string]map[string]any
	heard []string // tokens
}

func (a *asked) say(token string, what map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says[token] = what
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id, secret, _ := r.BasicAuth(); id != "gateway" || secret != "planted-client-secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	token := r.PostFormValue("token")
	a.heard = append(a.heard, token)
	what := a.says[token]
	if what == nil {
		what = map[string]any{"active": false}
	}
	_ = json.NewEncoder(w).Encode(what)
}

// introspecting starts such an issuer and a gateway that asks it.
func introspecting(t *testing.T) (*broker, *asked, *httptest.Server) {
	t.Helper()
	idp := &asked{says: make(map[string]map[string]any)}
	s := httptest.NewTLSServer(idp)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca, file, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "edgepost.toml"), filepath.Join(dir, "secret")
	save(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	save(t, secret, "planted-client-secret\n")
	save(t, file, fmt.Sprintf(`
[[issuer]]
name = "idp"
iss = "https://idp.example"
aud = ["edgepost"]
introspection_url = "%s/introspect"
client_id = "gateway"
client_secret_file = "%s"
ca_file = "%s"
`, s.URL, secret, ca))
	return newBroker(t, "-config", file), idp, s
}

// TestIntrospectedTokens has opaque tokens of an outside issuer work on every protocol, as far as it says, and end when it says so.
func TestIntrospectedTokens(t *testing.T) {
	t.Parallel() // it waits for a minute
	b, idp, s := introspecting(t)
	lamp := b.addDevice("lamp1")
	good := map[string]any{
		"active": true, "sub": "alice", "aud": "edgepost", "exp": time.Now().Add(time.Hour).Unix(),
		"acl": []any{map[string]any{"permission": "allow", "action": "all", "topic": "room/#"}},
	}
	tok, other := "opaque-"+strings.Repeat("7", 32), "opaque-"+strings.Repeat("8", 32)
	idp.say(tok, good)
	idp.say(other, map[string]any{"active": true, "sub": "eve", "aud": "somebody-else", "exp": good["exp"]})
	b.api(tok).publish(t, "room/1", "by http")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/device/lamp1/in/set", nil)
	if l, f := b.hello(t, "", tok); f.Welcome == nil {
		t.Error(show(f))
	} else {
		l.close()
	}
	for version, refused := range map[byte]byte{4: 4, 5: 0x86} {
		for password, want := range map[string]byte{tok: 0, other: refused, tok + "x": refused} {
			if c, code := b.connect(t, version, "anything", password); code != want {
				t.Errorf("MQTT %d: %#x, want %#x", version, code, want)
			} else {
				_ = c.Close()
			}
		}
		if _, code := b.connect(t, version, "lamp1", tok); code != refused {
			t.Errorf("MQTT %d: alice's token as lamp1: %#x", version, code)
		}
	}
	b.api(other).refused(t, 401, "unauthorized", "POST", "/v1/publish/room/1", nil)
	b.api(lamp).publish(t, "device/lamp1/out/x", "our own")
	b.api(lamp[:len(lamp)-1]+"_").refused(t, 401, "unauthorized", "POST", "/v1/publish/room/1", nil)
	idp.mu.Lock()
	for _, h := range idp.heard {
		if strings.HasPrefix(h, "ep_") {
			t.Error("the issuer is shown a secret of our own")
		}
	}
	times := strings.Count(strings.Join(idp.heard, " ")+" ", tok+" ")
	idp.mu.Unlock()
	if times != 1 {
		t.Errorf("it was asked %d times about one token", times)
	}
	l, f := b.hello(t, "", tok)
	if f.Welcome == nil {
		t.Fatal(show(f))
	}
	s.Close() // nobody can be asked any more
	for end := time.Now().Add(2 * time.Minute); ; {
		if _, err := l.read(5 * time.Second); err != nil && !errors.Is(err, errQuiet) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a session goes on whose issuer does not answer")
		}
		if l, f = b.hello(t, "", tok); f.Welcome == nil {
			break
		}
	}
	b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/room/1", nil)
	for _, secret := range []string{tok, "planted-client-secret"} {
		if strings.Contains(b.out.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}
