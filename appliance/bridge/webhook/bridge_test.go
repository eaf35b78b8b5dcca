//go:build !omit_webhook

package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// post sends one message over real HTTP and returns the answer given to the engine.
func post(t *testing.T, s *httptest.Server, c *bridge.Config, w bridge.Wire) error {
	t.Helper()
	conn, stop := dial(t, s, c)
	defer stop()
	return send(t, conn, w)
}

func send(t *testing.T, conn bridge.Conn, w bridge.Wire) error {
	t.Helper()
	answer := make(chan error, 1)
	o := &bridge.Outgoing{Wire: w, Answered: func(_ *bridge.Outgoing, err error) { answer <- err }}
	if err := conn.Send(t.Context(), []*bridge.Outgoing{o}); err != nil {
		t.Fatal(err)
	}
	return <-answer
}

func dial(t *testing.T, s *httptest.Server, c *bridge.Config) (bridge.Conn, func()) {
	t.Helper()
	conn, e, err := try(t, s, c)
	if err != nil {
		t.Fatal(err)
	}
	return conn, func() { _ = e.End() }
}

func try(t *testing.T, s *httptest.Server, c *bridge.Config) (bridge.Conn, *bridge.Epoch, error) {
	t.Helper()
	kind := Kind()
	d, err := kind.Dialer(*c, mapping.Here{Gateway: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := bridge.NewEpoch(t.Context(), &kind, c, u)
	conn, err := e.Dial(d)
	return conn, e, err
}

func TestBinaryEventIsSignedAsStandardWebhooksSays(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	m := message.New("device/lamp1/out/state", []byte(`{"on":true}`))
	m.ID, m.ContentType = message.ID{Epoch: "k3f9w2xq", Seq: 7}, "application/json"
	m.Event.Extensions = []message.Property{{Key: "traceparent", Value: "00-ü"}}
	to, _ := mapping.ParseTemplate("x")
	up := mapping.Up{Here: mapping.Here{Gateway: "gw1", Epoch: "k3f9w2xq"}, Format: mapping.Event, Headers: true, To: to}
	w, err := up.Encode(m, mapping.Delivery{Attempt: 2, ExpiresIn: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := post(t, s, &bridge.Config{Options: map[string]string{"secret_file": file}}, w); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, want := range map[string]string{
		"Ce-Id": "k3f9w2xq-7", "Ce-Source": "/edgepost/gw1", "Ce-Specversion": "1.0", "Ce-Subject": "device/lamp1/out/state", "Ce-Attempt": "2",
		"Ce-Ttl": "60", "Ce-Epvia": "k3f9w2xq", "Ce-Traceparent": "00-%C3%BC", "Content-Type": "application/json", "Webhook-Id": "k3f9w2xq-7",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(got.Header.Get("Webhook-Id") + "." + got.Header.Get("Webhook-Timestamp") + "." + string(body)))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.Header.Get("Webhook-Signature") != want {
		t.Errorf("signature %q, want %q", got.Header.Get("Webhook-Signature"), want)
	}
	if !bytes.Equal(body, m.Payload) {
		t.Errorf("body %s", body)
	}
}

func TestWhatAnswersMean(t *testing.T) {
	var mu sync.Mutex
	status, after := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Location", "/elsewhere")
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "because")
	}))
	defer s.Close()
	conn, stop := dial(t, s, &bridge.Config{})
	defer stop()
	for _, c := range []struct {
		status int
		after  string
		class  bridge.Class
		wait   time.Duration
	}{
		{302, "", bridge.Configuration, 0},
		{400, "", bridge.Refused, 0},
		{401, "", bridge.Configuration, 0},
		{404, "", bridge.Configuration, 0},
		{413, "", bridge.Rejected, 0},
		{422, "", bridge.Refused, 0},
		{429, "17", bridge.Temporary, 17 * time.Second},
		{500, "", bridge.Doubtful, 0},
		{503, "", bridge.Doubtful, 0},
		{503, "3", bridge.Temporary, 3 * time.Second},
	} {
		mu.Lock()
		status, after = c.status, c.after
		mu.Unlock()
		e := bridge.Classify(send(t, conn, bridge.Wire{Body: []byte("x")}))
		if e.Class != c.class || e.After != c.wait || !strings.Contains(e.Error(), "because") {
			t.Errorf("%d %s: %v, after %v: %v", c.status, c.after, e.Class, e.After, e)
		}
	}
	mu.Lock()
	status = 202
	mu.Unlock()
	if err := send(t, conn, bridge.Wire{}); err != nil {
		t.Error(err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0, "90": 90 * time.Second, "Sun, 29 Nov 2026 08:01:00 GMT": time.Minute, "Sun, 29 Nov 2026 07:00:00 GMT": 0} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q is %v, want %v", s, got, want)
		}
	}
}

// An authority that nobody vouches for is an error that says what to do.
func TestWrongCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	_, e, err := try(t, s, &bridge.Config{})
	defer e.End()
	if e := bridge.Classify(err); e.Class != bridge.Configuration || !strings.Contains(e.Error(), "ca_file") {
		t.Errorf("%v: %v", e.Class, e)
	}
}
