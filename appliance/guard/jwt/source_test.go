package jwt_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgepost/appliance/guard/jwt"
)

// keyServer is an issuer's HTTPS server.
type keyServer struct {
	*httptest.Server
	ca     string
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func serveKeys(t *testing.T, first http.HandlerFunc) *keyServer {
	t.Helper()
	s := &keyServer{ca: filepath.Join(t.TempDir(), "ca.pem")}
	s.answer.Store(&first)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.ca, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func document(doc []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) }
}

func TestRemoteKeepsACopy(t *testing.T) {
	doc := idpA().KeySet()
	s := serveKeys(t, document(doc))
	age := time.Hour
	o := jwt.RemoteOptions{
		URL: s.URL + "/keys", CAFile: s.ca, Path: filepath.Join(t.TempDir(), "jwks", "a.json"), MaxStale: 24 * time.Hour,
		Age: func() time.Duration { return age },
	}
	r, err := jwt.NewRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Keys() != nil {
		t.Fatal("keys before any were fetched")
	}
	r.Refresh(t.Context())
	if r.Keys().Len() != 3 {
		t.Fatalf("%d keys", r.Keys().Len())
	}
	for range 10 { // tokens with unknown keys
		r.Refresh(t.Context())
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times within a minute", n)
	}
	info, err := os.Stat(o.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}

	s.Close() // the uplink is gone, and the appliance starts again
	r, err = jwt.NewRemote(o)
	if err != nil || r.Keys().Len() != 3 {
		t.Fatalf("%d keys from the copy, %v", r.Keys().Len(), err)
	}
	set := r.Keys()
	r.Refresh(t.Context())
	if r.Keys() != set {
		t.Error("a fetch that failed changed the keys")
	}
	age += 24*time.Hour + 1
	if r.Keys() != nil {
		t.Error("keys are used that are too old")
	}
	age -= 2
	moved := o
	moved.URL = s.URL + "/other"
	if r, err = jwt.NewRemote(moved); err != nil || r.Keys() != nil {
		t.Errorf("the copy of one address serves another; %v", err)
	}
	if err := os.WriteFile(o.Path, []byte(`{"url":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = jwt.NewRemote(o); err != nil || r.Keys() != nil {
		t.Errorf("a damaged copy: %v", err)
	}
}

func TestRemoteRefuses(t *testing.T) {
	doc := idpA().KeySet()
	good := serveKeys(t, document(doc))
	for name, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, good.URL, http.StatusFound) },
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write(doc) },
		"too much":   document([]byte(`{"pad":"` + strings.Repeat("x", jwt.MaxKeySet) + `",` + string(doc[1:]))),
		"no JSON":    document([]byte("<html>")),
		"no keys":    document([]byte(`{"keys":[]}`)),
	} {
		s := serveKeys(t, answer)
		r, err := jwt.NewRemote(jwt.RemoteOptions{URL: s.URL, CAFile: s.ca})
		if err != nil {
			t.Fatal(err)
		}
		if r.Refresh(t.Context()); r.Keys() != nil || s.asked.Load() != 1 {
			t.Errorf("%s: %d keys, asked %d times", name, r.Keys().Len(), s.asked.Load())
		}
	}
	if good.asked.Load() != 0 {
		t.Error("a redirect was followed")
	}
	r, err := jwt.NewRemote(jwt.RemoteOptions{URL: good.URL}) // the system does not know its authority
	if err != nil {
		t.Fatal(err)
	}
	if r.Refresh(t.Context()); r.Keys() != nil {
		t.Error("a server that nobody vouches for is believed")
	}
	plain := httptest.NewServer(document(doc))
	defer plain.Close()
	if r, err = jwt.NewRemote(jwt.RemoteOptions{URL: plain.URL}); err != nil {
		t.Fatal(err)
	}
	if r.Refresh(t.Context()); r.Keys() != nil {
		t.Error("keys came over plain HTTP")
	}
	if _, err := jwt.NewRemote(jwt.RemoteOptions{URL: good.URL, CAFile: "/nowhere/ca.pem"}); err == nil {
		t.Error("a missing ca_file is accepted")
	}
}

// Keys with which a withdrawn one is replaced arrive when the first token asks for the new one.
func TestRotationByUnknownKey(t *testing.T) {
	a := idpA()
	s := serveKeys(t, document(a.KeySet()))
	r, err := jwt.NewRemote(jwt.RemoteOptions{URL: s.URL, CAFile: s.ca})
	if err != nil {
		t.Fatal(err)
	}
	v, err := jwt.New(jwt.Options{
		Issuers: []jwt.Issuer{{Name: "a", URL: a.URL, Audience: []string{a.Audience}, Keys: r}},
		Now:     func() (time.Time, bool) { return now, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for range 8 { // all come before there are keys; one fetch serves them
		done.Go(func() {
			if _, err := v.Verify(t.Context(), a.Token(now, nil)); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := jwt.NewFile(path); err == nil {
		t.Error("a missing file is accepted")
	}
	write := func(doc string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(idpA().KeySet()))
	f, err := jwt.NewFile(path)
	if err != nil || f.Keys().Len() != 3 {
		t.Fatal(f.Keys().Len(), err)
	}
	write(`{"keys":[]}`)
	if f.Refresh(t.Context()); f.Keys() != nil {
		t.Error("a file that became wrong still gives keys")
	}
	write(string(idpB().KeySet()))
	if f.Refresh(t.Context()); f.Keys().Len() != 3 {
		t.Error("a changed file is not read")
	}
	if os.Remove(path) != nil {
		t.Fatal()
	}
	if f.Refresh(t.Context()); f.Keys() != nil {
		t.Error("a removed file still gives keys")
	}
}
