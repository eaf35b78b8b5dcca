package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

func TestLiveFeed(t *testing.T) {
	f := newFake()
	r := httptest.NewRequest(http.MethodGet, tlsHost+"/v1/live", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-ep", Value: "session-1"})
	w := httptest.NewRecorder()
	New(Options{Core: f}).ServeHTTP(w, r)
	events := strings.Split(strings.TrimSpace(w.Body.String()), "\n\n")
	if len(events) != 3 || events[0] != "retry: 1000" || !w.Flushed {
		t.Fatalf("%q", w.Body)
	}
	if !strings.HasPrefix(events[1], "event: tick\ndata: {\"time\":\"2027-01-15T08:00:00Z\"") || !strings.Contains(events[1], `"uptime":90,"rates":{"in":2,`) {
		t.Errorf("the tick is %q", events[1])
	}
	if !strings.HasPrefix(events[2], "event: bye\ndata: {\"code\":\"unavailable\"") {
		t.Errorf("the end is %q", events[2])
	}
	if ct := w.Header().Get("Content-Type"); ct != "text/event-stream" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", w.Header())
	}
	if len(f.sessions) != 2 || f.sessions[0] != "session-1" {
		t.Errorf("asked about the sessions %q", f.sessions)
	}
}

// TestLiveFeedEndsWithTheSession shows no tick to who was signed out since the last.
func TestLiveFeedEndsWithTheSession(t *testing.T) {
	f := newFake()
	f.ended = message.Problemf(message.CodeUnauthorized, "you are signed out; sign in again")
	w := httptest.NewRecorder()
	New(Options{Core: f}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/live", nil))
	if body := w.Body.String(); strings.Contains(body, "tick") || !strings.Contains(body, `event: bye`+"\n"+`data: {"code":"unauthorized","detail":"you are signed out; sign in again"}`) {
		t.Errorf("%q", body)
	}
}

func TestLiveFeedRefuses(t *testing.T) {
	f := newFake()
	f.err = message.Problemf(message.CodeForbidden, "no")
	f.grant = auth.NewGrant(auth.Device, "lamp1", false, message.Rules{})
	w := httptest.NewRecorder()
	New(Options{Core: f}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/live", nil))
	if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
