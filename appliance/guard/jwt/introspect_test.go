package jwt

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// idp is an issuer that is asked, on a loopback address.
type idp struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	says   map[string]map[string]any // by token
	status int                       // instead; 0: it answers
}

var moment = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func active(change map[string]any) map[string]any {
	m := map[string]any{"active": true, "sub": "alice", "aud": "edgepost", "exp": moment.Add(time.Hour).Unix(), "acl": []any{map[string]any{"permission": "allow", "action": "all", "topic": "room/#"}}}
	for k, v := range change {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

func (i *idp) say(token string, what map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.says[token] = what
}

func (i *idp) fail(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

func serveIntrospection(t *testing.T) *idp {
	t.Helper()
	i := &idp{says: make(map[string]map[string]any)}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		if id, secret, _ := r.BasicAuth(); id != "gw" || secret != "s3cret" || r.Method != "POST" {
			t.Errorf("asked by %s:%s with %s", id, secret, r.Method)
		}
		if i.status != 0 {
			w.WriteHeader(i.status)
			return
		}
		what, ok := i.says[r.PostFormValue("token")]
		if !ok {
			what = map[string]any{"active": false}
		}
		_ = json.NewEncoder(w).Encode(what)
	}))
	t.Cleanup(i.Close)
	return i
}

func asking(t *testing.T, i *idp) (*Verifier, *Introspection) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := NewIntrospection(IntrospectionOptions{URL: i.URL, ClientID: "gw", SecretFile: secret})
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{
		Issuers: []Issuer{{Name: "idp", URL: "https://idp.example", Audience: []string{"edgepost"}, Ask: n, AdminScope: "edge", DeviceClaim: "device"}},
		Now:     func() (time.Time, bool) { return moment, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, n
}

const opaque = "9f86d081884c7d659a2feaa0c55ad015"

// older makes every answer as old as that.
func (n *Introspection) older(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.answers {
		a.asked = time.Now().Add(-d)
	}
	n.down = time.Time{}
}

func (v *Verifier) accepts(t *testing.T, token string, want bool) *Identity {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	if (err == nil) != want {
		t.Fatalf("accepted %v, want %v: %v", err == nil, want, err)
	}
	return id
}

// An answer is believed for a minute, good or bad, and what cannot be asked about is refused then.
func TestIntrospectionIsRemembered(t *testing.T) {
	i := serveIntrospection(t)
	v, n := asking(t, i)
	i.say(opaque, active(nil))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { v.accepts(t, opaque, true) })
	}
	all.Wait()
	v.accepts(t, "unknown"+opaque, false)
	v.accepts(t, "unknown"+opaque, false)
	if asked := i.asked.Load(); asked != 2 {
		t.Errorf("asked %d times about two tokens", asked)
	}
	id := v.accepts(t, opaque, true)
	if id.Subject != "alice" || id.Issuer != "idp" || id.Admin || v.Left(id) > believe {
		t.Errorf("%+v holds for %v", id, v.Left(id))
	}
	i.fail(500)
	n.older(believe - time.Second)
	v.accepts(t, opaque, true)
	n.older(believe)
	v.accepts(t, opaque, false)
	if v.Left(id) != 0 {
		t.Error("it holds although nobody can be asked")
	}
	i.fail(0)
	v.accepts(t, opaque, false) // it is not asked at once again
	n.older(believe)
	v.accepts(t, opaque, true)
	if v.Left(id) == 0 {
		t.Error("it does not hold although its issuer said so")
	}
	i.say(opaque, map[string]any{"active": false})
	n.older(believe)
	v.accepts(t, opaque, false)
	if !v.Revoked(id) || v.Left(id) != 0 {
		t.Error("a revoked token's session goes on")
	}
}

// What is in use is asked about again in the background, and a session whose rights changed ends.
func TestIntrospectionIsRenewed(t *testing.T) {
	i := serveIntrospection(t)
	v, n := asking(t, i)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	defer func() { cancel(); <-done }()
	i.say(opaque, active(nil))
	id := v.accepts(t, opaque, true)
	again := func() {
		t.Helper()
		before := i.asked.Load()
		n.older(askAgain)
		v.Left(id)
		for i.asked.Load() == before {
			time.Sleep(time.Millisecond)
		}
		for { // the answer is taken over
			n.mu.Lock()
			idle := true
			for _, a := range n.answers {
				idle = idle && !a.queued && a.busy == nil
			}
			n.mu.Unlock()
			if idle {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	again()
	if v.accepts(t, opaque, true) != id || v.Left(id) <= 0 || v.Revoked(id) {
		t.Error("a session ends although nothing changed")
	}
	i.say(opaque, active(map[string]any{"acl": nil}))
	again()
	if v.Left(id) != 0 {
		t.Error("a session keeps rights that its issuer took away")
	}
}

func TestIntrospectionAnswers(t *testing.T) {
	i := serveIntrospection(t)
	v, n := asking(t, i)
	for name, c := range map[string]struct {
		change map[string]any
		ok     bool
	}{
		"as it should be":  {nil, true},
		"everything":       {map[string]any{"iss": "https://idp.example", "token_type": "bearer", "scope": "a edge", "client_id": "c", "device": "lamp1"}, true},
		"no exp":           {map[string]any{"exp": nil}, true},
		"several aud":      {map[string]any{"aud": []string{"x", "edgepost"}}, true},
		"not active":       {map[string]any{"active": false}, false},
		"active is text":   {map[string]any{"active": "true"}, false},
		"active is 1":      {map[string]any{"active": 1}, false},
		"active is null":   {map[string]any{"active": json.RawMessage("null")}, false},
		"active is absent": {map[string]any{"active": nil}, false},
		"another aud":      {map[string]any{"aud": "other"}, false},
		"no aud":           {map[string]any{"aud": nil}, false},
		"no sub":           {map[string]any{"sub": nil}, false},
		"another iss":      {map[string]any{"iss": "https://evil.example"}, false},
		"has ended":        {map[string]any{"exp": moment.Add(-time.Hour).Unix()}, false},
		"not yet":          {map[string]any{"nbf": moment.Add(time.Hour).Unix()}, false},
		"DPoP":             {map[string]any{"token_type": "DPoP"}, false},
		"bound otherwise":  {map[string]any{"cnf": map[string]string{"jkt": "x"}}, false},
		"control sign":     {map[string]any{"sub": "a\nb"}, false},
	} {
		token := opaque + strings.ReplaceAll(name, " ", "-")
		i.say(token, active(c.change))
		n.older(0)
		if id, err := v.Verify(t.Context(), token); (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, id, err)
		} else if c.ok && name == "everything" && (!id.Admin || id.StandsFor != "device/lamp1" || id.Client != "c") {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

// Nobody is asked about what cannot be a token of the issuer, nor about everything that strangers make up.
func TestIntrospectionIsSpared(t *testing.T) {
	i := serveIntrospection(t)
	v, n := asking(t, i)
	for _, token := range []string{"ep_abcdefghijklmnopqrstuvwxyz012345", "short", "with a blank in it somewhere", "ey.x.y.z.aaaaaaaaaaaaaaaa", strings.Repeat("a", MaxToken+1), "umlaut-ä-umlaut-ä-umlaut"} {
		if _, err := v.Verify(t.Context(), token); err == nil || v.Opaque(token) {
			t.Errorf("%.40q", token)
		}
	}
	if asked := i.asked.Load(); asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	for k := range 3 * askBurst {
		_, _ = v.Verify(t.Context(), opaque+string(rune('a'+k%26))+strings.Repeat("x", k))
	}
	if asked := i.asked.Load(); asked < askBurst || asked > 2*askBurst {
		t.Errorf("asked %d times about %d made-up tokens", asked, 3*askBurst)
	}
	n.mu.Lock()
	for len(n.answers) < maxAnswers {
		n.roomLocked([32]byte{byte(len(n.answers)), byte(len(n.answers) >> 8), 1}, "x")
	}
	n.full = time.Time{}
	n.mu.Unlock()
	i.say(opaque, active(nil))
	v.accepts(t, opaque, true)
	if len(n.answers) > maxAnswers {
		t.Errorf("%d answers are remembered", len(n.answers))
	}
	if _, err := NewIntrospection(IntrospectionOptions{URL: "http://idp.example/introspect"}); err == nil {
		t.Error("an issuer is asked in the open")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"active":true,"sub":"a","aud":"edgepost"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		i := &issuer{Issuer: Issuer{Name: "a", URL: "u", Audience: []string{"edgepost"}}}
		if c, err := parseAnswer(body); err == nil && c != nil {
			if id, err := i.answered(c); err == nil && id.Subject == "" {
				t.Fatal("a token without a subject")
			}
		}
	})
}
