package oauthclient

import (
	"context"
	"encoding/json"
	"errors"
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

// server is a token endpoint on a loopback address that answers what the test says.
type server struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := new(server)
	s.answer.Store(&answer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func gives(token string, seconds any) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "bearer", "expires_in": seconds})
	}
}

func refuses(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	if o.ClientID == "" {
		o.ClientID = "gateway:1"
	}
	if o.Secret == "" && o.SecretFile == "" {
		o.Secret = "se cret+%"
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The request is that of RFC 6749 §4.4.2, with the client's name and secret as §2.3.1 has them.
func TestRequest(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			id, secret, ok := r.BasicAuth()
			want := [2]string{"gateway%3A1", "se+cret%2B%25"}
			if inBody {
				id, secret, want = r.PostFormValue("client_id"), r.PostFormValue("client_secret"), [2]string{"gateway:1", "se cret+%"}
			}
			if r.Method != "POST" || ok == inBody || id != want[0] || secret != want[1] {
				t.Errorf("in body %v: %s, %q, %q", inBody, r.Method, id, secret)
			}
			if g, sc, a := r.PostFormValue("grant_type"), r.PostFormValue("scope"), r.PostFormValue("audience"); g != "client_credentials" || sc != "a b" || a != "x" {
				t.Errorf("grant_type %q, scope %q, audience %q", g, sc, a)
			}
			gives("tok", 3600)(w, r)
		})
		c := client(t, Options{URL: s.URL, InBody: inBody, Scope: []string{"a", "b"}, Extra: map[string]string{"audience": "x"}})
		tok, ends, err := c.Token(t.Context())
		if left := time.Until(ends); tok != "tok" || err != nil || left > time.Hour || left < 30*time.Minute {
			t.Errorf("%q, %v, %v", tok, left, err)
		}
	}
}

// However many ask, the server is asked once, and again only when the token nears its end or was refused.
func TestCacheAndSingleFlight(t *testing.T) {
	s := serve(t, gives("one", "3600"))
	c := client(t, Options{URL: s.URL})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if tok, _, err := c.Token(t.Context()); tok != "one" || err != nil {
				t.Error(tok, err)
			}
		})
	}
	all.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	two := gives("two", 3600)
	s.answer.Store(&two)
	c.Forget("another")
	if tok, _, _ := c.Token(t.Context()); tok != "one" {
		t.Errorf("%q after another token was refused", tok)
	}
	c.Forget("one")
	if tok, _, _ := c.Token(t.Context()); tok != "two" {
		t.Errorf("%q after the token was refused", tok)
	}
	c.mu.Lock()
	c.renew = time.Now()
	c.mu.Unlock()
	if _, _, err := c.Token(t.Context()); err != nil || s.asked.Load() != 3 {
		t.Errorf("asked %d times once the token nears its end, %v", s.asked.Load(), err)
	}
}

// A refusal is not tried again, and is answered from memory for a while; what may pass is tried again.
func TestFailures(t *testing.T) {
	s := serve(t, refuses(401, `{"error":"invalid_client","error_description":"no\nsuch client"}`))
	c := client(t, Options{URL: s.URL})
	for range 3 {
		_, _, err := c.Token(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Code != "invalid_client" || e.Status != 401 || e.Description != "no?such client" || strings.Contains(err.Error(), "se cret") {
			t.Fatal(err)
		}
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("a refusal: asked %d times", n)
	}
	s = serve(t, refuses(503, "busy"))
	good := gives("after all", 60)
	first := func(w http.ResponseWriter, r *http.Request) {
		s.answer.Store(&good)
		refuses(503, "busy")(w, r)
	}
	s.answer.Store(&first)
	c = client(t, Options{URL: s.URL})
	if tok, _, err := c.Token(t.Context()); tok != "after all" || err != nil || s.asked.Load() != 2 {
		t.Errorf("%q, %v, asked %d times", tok, err, s.asked.Load())
	}
	// The server fails when the token nears its end: what still holds is used.
	bad := refuses(400, "{}")
	s.answer.Store(&bad)
	c.mu.Lock()
	c.renew = time.Now()
	c.mu.Unlock()
	for range 2 {
		if tok, _, err := c.Token(t.Context()); tok != "after all" || err != nil {
			t.Errorf("%q, %v while the old token holds", tok, err)
		}
	}
	c.mu.Lock()
	c.ends = time.Now()
	c.mu.Unlock()
	if tok, _, err := c.Token(t.Context()); tok != "" || err == nil {
		t.Errorf("%q, %v once it has ended", tok, err)
	}
}

func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"no JSON":      refuses(200, "<html>"),
		"no token":     gives("", 60),
		"ended":        gives("t", 0),
		"negative":     gives("t", -5),
		"control sign": gives("a\nb", 60),
		"long token":   gives(strings.Repeat("a", maxToken+1), 60),
		"huge":         refuses(200, `{"access_token":"`+strings.Repeat("a", MaxAnswer)+`"}`),
		"other type":   refuses(200, `{"access_token":"a","token_type":"mac"}`),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		s := serve(t, answer)
		if tok, _, err := client(t, Options{URL: s.URL}).Token(t.Context()); err == nil || s.asked.Load() != 1 {
			t.Errorf("%s: %q, asked %d times", name, tok, s.asked.Load())
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{URL: "http://idp.example/token", ClientID: "a", Secret: "b"},
		{URL: "https://u:p@idp.example/token", ClientID: "a", Secret: "b"},
		{URL: "ftp://127.0.0.1/", ClientID: "a", Secret: "b"},
		{URL: "https://idp.example/token", Secret: "b"},
		{URL: "https://idp.example/token", ClientID: "a"},
		{URL: "https://idp.example/token", ClientID: "a", Secret: "b", SecretFile: "c"},
		{URL: "https://idp.example/token", ClientID: "a", Secret: "b", CAFile: "/nowhere/ca.pem"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	for _, u := range []string{"https://idp.example/token", "http://127.0.0.1:1/x", "http://[::1]:1/x", "http://localhost/x"} {
		if err := CheckURL(u); err != nil {
			t.Error(err)
		}
	}
	// A certificate that nobody vouches for is no reason to try again.
	tls := httptest.NewTLSServer(http.HandlerFunc(gives("t", 60)))
	defer tls.Close()
	if _, _, err := client(t, Options{URL: tls.URL}).Token(t.Context()); err == nil || temporary(errors.Unwrap(err)) {
		t.Error(err)
	}
}

// The secret's file is read at every request, and ctx ends only the wait.
func TestSecretFileAndContext(t *testing.T) {
	var secret atomic.Value
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, got, _ := r.BasicAuth()
		secret.Store(got)
		<-release
		gives("late", 60)(w, r)
	})
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := client(t, Options{URL: s.URL, SecretFile: path})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, _, err := c.Token(ctx); done <- err }()
	for s.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	if tok, _, err := c.Token(t.Context()); tok != "late" || err != nil || s.asked.Load() != 1 || secret.Load() != "from-a-file" {
		t.Errorf("%q, %v, asked %d times with %q", tok, err, s.asked.Load(), secret.Load())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add([]byte(`{"expires_in":1e400}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if tok, life, err := parse(body); err == nil && (tok == "" || life <= 0 || life > mostLife) {
			t.Fatalf("%q holds for %v", tok, life)
		}
	})
}
