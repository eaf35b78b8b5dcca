package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

func TestBackoff(t *testing.T) {
	ft := &fakeTime{time.Unix(1_800_000_000, 0)}
	b := NewBackoff(ft.now)
	from := netip.MustParseAddr("192.168.1.9")
	for i := range freeFailures {
		if wait := b.Begin(from, "ann"); wait != 0 {
			t.Fatalf("failure %d waits %v", i, wait)
		}
	}
	for want := leastDelay; want < mostDelay; want *= 2 {
		if wait := b.Begin(from, "ann"); wait != want {
			t.Fatalf("waits %v, want %v", wait, want)
		}
		ft.t = ft.t.Add(want)
		if wait := b.Begin(from, "ann"); wait != 0 {
			t.Fatalf("still %v after the delay of %v", wait, want)
		}
	}
	if wait := b.Begin(netip.MustParseAddr("192.168.1.10"), "ann"); wait != 0 {
		t.Error("another address waits")
	}
	ft.t = ft.t.Add(time.Hour)
	for range 2 {
		if b.Begin(from, "ann") != 0 {
			t.Error("nothing is forgotten")
		}
	}
	// Successes in between keep an address free, whoever else fails there.
	for range 100 {
		if wait := b.Begin(from, "bob"); wait != 0 {
			t.Fatal("a right password waits")
		}
		b.Succeeded(from, "bob")
	}
	spray := netip.MustParseAddr("fe80::1")
	n := 0
	for i := range 100 {
		if b.Begin(spray, fmt.Sprint("user", i)) == 0 {
			n++
		}
	}
	if n != failuresOfOne {
		t.Errorf("one address tries %d accounts", n)
	}
	if b.Begin(netip.MustParseAddr("fe80::2"), "ann") == 0 {
		t.Error("the same household has another address")
	}
	for i := range 3 * maxBackoff {
		b.Begin(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "x")
	}
	if len(b.tries) > maxBackoff {
		t.Errorf("%d entries", len(b.tries))
	}
}

func TestPrivate(t *testing.T) {
	a, _, _ := fixture(nil)
	for name, c := range map[string]struct {
		remote  string
		tls     bool
		headers string
		proxied string // "http" or "https": through a trusted proxy
		owner   bool
		want    string // the cookie that counts; "" none
	}{
		"LAN":                         {remote: "192.168.1.7:1"},
		"LAN over TLS":                {remote: "192.168.1.7:1", tls: true, want: SessionCookie},
		"loopback":                    {remote: "127.0.0.1:1", want: LocalSessionCookie},
		"loopback 6":                  {remote: "[::1]:1", want: LocalSessionCookie},
		"control socket":              {remote: "@", owner: true, want: LocalSessionCookie},
		"unknown proxy here":          {remote: "127.0.0.1:1", headers: "X-Forwarded-For: 1.2.3.4"},
		"unknown proxy claims TLS":    {remote: "127.0.0.1:1", headers: "X-Forwarded-Proto: https"},
		"trusted proxy":               {remote: "192.168.1.7:1", proxied: "http"},
		"trusted proxy says loopback": {remote: "127.0.0.1:1", proxied: "http"},
		"trusted proxy with TLS":      {remote: "192.168.1.7:1", proxied: "https", want: SessionCookie},
	} {
		r := httptest.NewRequest("POST", "/v1/session", nil)
		r.RemoteAddr = c.remote
		if r.TLS = nil; c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if k, v, ok := strings.Cut(c.headers, ": "); ok {
			r.Header.Set(k, v)
		}
		ctx := r.Context()
		if c.proxied != "" {
			ctx = WithProxy(ctx, c.proxied == "https")
		}
		if c.owner {
			ctx = WithGrant(ctx, a.Owner())
		}
		r = r.WithContext(ctx)
		if Private(r) != (c.want != "") || cookieName(r) != c.want {
			t.Errorf("%s: private %v, cookie %q", name, Private(r), cookieName(r))
		}
		r.Header.Set("Cookie", SessionCookie+"=s1; "+LocalSessionCookie+"=s2; other=x")
		creds, err := FromRequest(r)
		if want := map[string]string{SessionCookie: "s1", LocalSessionCookie: "s2"}[c.want]; err != nil || creds.Session != want {
			t.Errorf("%s: session %q, %v", name, creds.Session, err)
		}
	}
}

func TestCookieCountsOnlyForOurOwnPages(t *testing.T) {
	for headers, want := range map[string]bool{
		"": true, "Origin: https://gateway.local": true, "Sec-Fetch-Site: same-origin": true, "Sec-Fetch-Site: none": true,
		"Origin: https://evil.example": false, "Origin: https://gateway.local:8080": false, "Origin: null": false,
		"Sec-Fetch-Site: same-site": false, "Sec-Fetch-Site: cross-site": false,
		"Authorization: Bearer ep_x": false,
	} {
		r := httptest.NewRequest("GET", "https://gateway.local/v1/ws", nil)
		r.Header.Set("Cookie", SessionCookie+"=s1")
		if k, v, ok := strings.Cut(headers, ": "); ok {
			r.Header.Set(k, v)
		}
		c, err := FromRequest(r)
		if err != nil || (c.Session == "s1") != want {
			t.Errorf("%q: session %q, %v", headers, c.Session, err)
		}
	}
	r := httptest.NewRequest("GET", "https://gateway.local/", nil)
	w := httptest.NewRecorder()
	SetSessionCookie(w, r, "s1")
	if k := w.Header().Get("Set-Cookie"); k != "__Host-ep=s1; Path=/; HttpOnly; Secure; SameSite=Strict" {
		t.Errorf("%q", k)
	}
}

func TestSessionsStrangersAndShortTokens(t *testing.T) {
	_, b, ft := fixture(nil)
	b.put(Entry{Kind: User, Name: "ann", Admin: true}, "")
	e := b.entries["ann"]
	e.TokenHash = [32]byte{}
	b.entries["ann"] = e
	b.put(Entry{Kind: Device, Name: "plug", Guessable: true}, "hunter22")
	waits := message.Problemf(message.CodeWaiting, "wait")
	var knocked []Credentials
	a := New(Options{
		Directory: b, Now: ft.now,
		Session: func(id string) (string, bool) { return "ann", id == "good" },
		Stranger: func(c Credentials) error {
			knocked = append(knocked, c)
			if c.Name == "new" {
				return waits
			}
			return nil
		},
	})
	ctx := context.Background()
	if g, err := a.Authenticate(ctx, Credentials{Session: "good"}); err != nil || g.Principal() != "user/ann" || !g.Admin {
		t.Errorf("%+v, %v", g, err)
	}
	_, err := a.Authenticate(ctx, Credentials{Session: "bad"})
	wantCode(t, err, message.CodeUnauthorized)
	for _, token := range []string{"", "x"} { // a user has no token, the empty one neither
		_, err = a.Authenticate(ctx, Credentials{Name: "ann", Token: token})
		wantCode(t, err, message.CodeUnauthorized)
	}
	for range 20 { // who waits is not throttled
		_, err = a.Authenticate(ctx, Credentials{Name: "new", Token: "some secret", Remote: netip.MustParseAddr("192.168.1.20")})
		wantCode(t, err, message.CodeWaiting)
	}
	_, err = a.Authenticate(ctx, Credentials{Name: "lamp1", Token: "wrong"})
	wantCode(t, err, message.CodeUnauthorized)
	if knocked[len(knocked)-1].Name != "new" {
		t.Error("a device that is known is a stranger")
	}
	here := netip.MustParseAddr("127.0.0.1")
	plug := func(token string) error {
		_, err := a.Authenticate(ctx, Credentials{Name: "plug", Token: token, Remote: here})
		return err
	}
	if err := plug("hunter22"); err != nil {
		t.Error(err)
	}
	for range freeFailures {
		wantCode(t, plug("guess"), message.CodeUnauthorized)
	}
	wantCode(t, plug("hunter22"), message.CodeTooMany)
	_, err = a.Authenticate(ctx, Credentials{Token: "hunter22"})
	wantCode(t, err, message.CodeUnauthorized)
}

func TestOldTokenWithinItsGrace(t *testing.T) {
	a, b, _ := fixture(nil)
	e := b.entries["lamp1"]
	e.OldHash = HashToken("ep_before")
	b.put(e, "ep_lamp")
	for token, want := range map[string]bool{"ep_before": true, "ep_lamp": true, "ep_other": false} {
		if _, err := a.Authenticate(context.Background(), Credentials{Name: "lamp1", Token: token}); (err == nil) != want {
			t.Errorf("%s: %v", token, err)
		}
	}
}

func TestAuditIsForAdministrators(t *testing.T) {
	everything := message.Rules{Publish: []message.Filter{"#", "$edge/#"}, Subscribe: []message.Filter{"#", "$edge/#", "$edge/audit/#"}}
	app, root := NewGrant(Key, "app", false, everything), NewGrant(User, "ann", true, message.Rules{})
	if app.MayReceive(message.AuditTopic) || app.MaySubscribe(message.AuditTopics) || app.MaySubscribe(message.Filter(message.AuditTopic)) || app.MayPublish(message.AuditTopic) {
		t.Error("a rule opens the audit")
	}
	if !root.MayReceive(message.AuditTopic) || !root.MaySubscribe(message.AuditTopics) || root.MayPublish(message.AuditTopic) {
		t.Error("an administrator does not read the audit, or writes it")
	}
}

func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		c := NewCode(2)
		if len(c) != 9 || c[4] != '-' || strings.Trim(c, codeSigns+"-") != "" || seen[c] {
			t.Fatalf("code %q", c)
		}
		seen[c] = true
	}
	if HashCode("BCDF-GHJK") != HashCode(" bcdf ghjk") || HashCode("BCDF-GHJK") == HashCode("BCDF-GHJL") {
		t.Error("hashes are wrong")
	}
}
