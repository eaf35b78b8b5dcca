package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// shows is a dialer that notes what it shows, and fails as told.
type shows struct {
	got  []string
	fail error
}

func (d *shows) Dial(_ context.Context, e *Epoch) (Conn, error) {
	d.got = append(d.got, e.Secret)
	return nil, d.fail
}

// A token is asked for when the first connection needs it, shown by all until it is refused, and what the authorization
// server says is said in words.
func TestTokens(t *testing.T) {
	var asked atomic.Int64
	var refuse atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		id, secret, _ := r.BasicAuth()
		if refuse.Load() || id != "gateway-7" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "read write" || r.FormValue("audience") != "kafka" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"unknown"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":900}`, asked.Add(1))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "secret")
	c := Config{Token: Token{URL: server.URL, ClientID: "gateway-7", SecretFile: file, Scope: "read  write", Audience: "kafka"}}.WithDefaults()
	if c.Username != "gateway-7" || !c.Bearer() {
		t.Errorf("%+v", c)
	}
	d, shared, kind := &shows{}, &credentials{c: &c}, Kind{}
	dial := func() error {
		e := NewEpoch(t.Context(), &kind, &c, &url.URL{Host: "upstream"})
		e.credentials = shared
		_, err := e.Dial(d)
		_ = e.End()
		return err
	}
	class := func(err error) Class { return Classify(err).Class }
	if err := dial(); class(err) != Configuration || !strings.Contains(err.Error(), file) {
		t.Errorf("no file with the secret: %v", err)
	}
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared = &credentials{c: &c} // after a failure the server is left alone for a second
	for _, fail := range []error{nil, errors.New("reset"), Refuses("gateway-7", errors.New("no")), nil} {
		d.fail = fail
		if err := dial(); (err == nil) != (fail == nil) {
			t.Errorf("%v: %v", fail, err)
		}
	}
	if want := "[token-1 token-1 token-1 token-2]"; fmt.Sprint(d.got) != want || asked.Load() != 2 {
		t.Errorf("shown: %v, want %s", d.got, want)
	}
	refuse.Store(true)
	shared = &credentials{c: &c}
	if err := dial(); class(err) != Configuration || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("refused: %v", err)
	}
	server.Close()
	shared = &credentials{c: &c}
	if err := dial(); class(err) != Temporary || !strings.Contains(err.Error(), "nothing listens there") {
		t.Errorf("no server: %v", err)
	}
}
