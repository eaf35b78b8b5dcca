package guard

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func serve(t *testing.T, w Web, r *http.Request) (*httptest.ResponseRecorder, bool) {
	t.Helper()
	reached := false
	h, err := w.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec, reached
}

func TestHosts(t *testing.T) {
	w := Web{Host: "Gateway", Hosts: []string{"gw.example"}}
	for host, ok := range map[string]bool{
		"127.0.0.1": true, "192.168.1.1:8088": true, "[::1]:8088": true, "[fe80::1]": true, "localhost:8088": true,
		"LOCALHOST": true, "localhost.": true, "gateway": true, "gateway:80": true, "gateway.local:8088": true,
		"ep-1a2b.local": true, "gw.example": true, "GW.example.:8448": true,
		"evil.com": false, "evil.com:8088": false, "": false, ".local": false, "local": false, "localhost.evil.com": false,
		"gw.example.evil.com": false, "127.0.0.1.evil.com": false, "x.local.evil.com": false, "[evil.com]": false,
		"evil.com:.local": false, "127.0.0.1@evil.com": false, "[127.0.0.1]": false, "gateway.evil.com": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		rec, reached := serve(t, w, r)
		if reached != ok || !ok && rec.Code != http.StatusMisdirectedRequest {
			t.Errorf("host %q: reached %v, status %d; want %v", host, reached, rec.Code, ok)
		}
	}
}

func TestRefusalIsAProblem(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = `evil"<script>.com`
	rec, _ := serve(t, Web{}, r)
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if rec.Header().Get("Content-Type") != "application/problem+json" || p.Status != 421 || p.Code != "forbidden" ||
		p.Type != "about:blank" || p.Title != "Misdirected Request" || !strings.Contains(p.Detail, "[http]") {
		t.Errorf("%s %s", rec.Header(), rec.Body)
	}
	if strings.Contains(rec.Body.String(), "<script>") {
		t.Error("the Host is not escaped")
	}
}

func TestOrigins(t *testing.T) {
	const self = "http://gateway.local:8088"
	listed := Web{Origins: []string{"https://panel.example:8443/"}}
	for _, c := range []struct {
		name   string
		web    Web
		method string
		header map[string]string
		tls    bool
		ok     bool
	}{
		{name: "program", method: "POST", ok: true},
		{name: "own page", method: "POST", header: map[string]string{"Origin": self, "Sec-Fetch-Site": "same-origin"}, ok: true},
		{name: "own page, old browser", method: "POST", header: map[string]string{"Origin": self}, ok: true},
		{name: "own page behind a TLS proxy", method: "POST", header: map[string]string{"Origin": "https://gateway.local:8088"}, ok: true},
		{name: "http page to https", method: "POST", header: map[string]string{"Origin": self}, tls: true},
		{name: "other page", method: "POST", header: map[string]string{"Origin": "http://evil.com", "Sec-Fetch-Site": "cross-site"}},
		{name: "other page, old browser", method: "DELETE", header: map[string]string{"Origin": "http://evil.com"}},
		{name: "other port", method: "PUT", header: map[string]string{"Origin": "http://gateway.local:80"}},
		{name: "null", method: "POST", header: map[string]string{"Origin": "null"}},
		{name: "no origin but cross-site", method: "POST", header: map[string]string{"Sec-Fetch-Site": "cross-site"}},
		{name: "origin with path", method: "POST", header: map[string]string{"Origin": self + "/x"}},
		{name: "read from elsewhere", method: "GET", header: map[string]string{"Origin": "http://evil.com"}, ok: true},
		{name: "program's websocket", method: "GET", header: map[string]string{"Upgrade": "websocket"}, ok: true},
		{name: "own websocket", method: "GET", header: map[string]string{"Upgrade": "websocket", "Origin": self}, ok: true},
		{name: "other websocket", method: "GET", header: map[string]string{"Upgrade": "WebSocket", "Origin": "http://evil.com"}},
		{name: "hidden websocket", method: "GET", header: map[string]string{"Upgrade": "x, websocket", "Origin": "http://evil.com"}},
		{name: "listed", web: listed, method: "POST", header: map[string]string{"Origin": "https://panel.example:8443", "Sec-Fetch-Site": "cross-site"}, ok: true},
		{name: "listed websocket", web: listed, method: "GET", header: map[string]string{"Upgrade": "websocket", "Origin": "https://panel.example:8443"}, ok: true},
		{name: "listed, other port", web: listed, method: "POST", header: map[string]string{"Origin": "https://panel.example"}},
		{name: "any", web: Web{Origins: []string{"*"}}, method: "POST", header: map[string]string{"Origin": "http://evil.com", "Sec-Fetch-Site": "cross-site"}, ok: true},
	} {
		r := httptest.NewRequest(c.method, "/v1/ws", nil)
		r.Host = "gateway.local:8088"
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		rec, reached := serve(t, c.web, r)
		if reached != c.ok || !c.ok && rec.Code != http.StatusForbidden {
			t.Errorf("%s: reached %v, status %d; want %v", c.name, reached, rec.Code, c.ok)
		}
	}
}

func TestPreflight(t *testing.T) {
	for origin, ok := range map[string]bool{"https://panel.example": true, "https://evil.com": false} {
		r := httptest.NewRequest("OPTIONS", "/v1/messages", nil)
		r.Host = "192.168.1.1:8088"
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization")
		rec, reached := serve(t, Web{Origins: []string{"https://panel.example"}}, r)
		allowed := rec.Header().Get("Access-Control-Allow-Origin")
		if ok && (rec.Code != 204 || reached || allowed != origin || rec.Header().Get("Access-Control-Allow-Headers") != "authorization") {
			t.Errorf("%s: %d %v", origin, rec.Code, rec.Header())
		}
		if !ok && (allowed != "" || !reached) {
			t.Errorf("%s: %d %v", origin, rec.Code, rec.Header())
		}
		if rec.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Error("cookies are allowed")
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	rec, _ := serve(t, Web{}, httptest.NewRequest("GET", "http://127.0.0.1/", nil))
	for _, k := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy"} {
		if rec.Header().Get(k) == "" {
			t.Errorf("no %s", k)
		}
	}
}

func TestBadOrigin(t *testing.T) {
	for _, o := range []string{"", "panel.example", "https://x/path"} {
		if _, err := (Web{Origins: []string{o}}).Wrap(http.NotFoundHandler()); err == nil {
			t.Errorf("origin %q is accepted", o)
		}
	}
}

func TestSources(t *testing.T) {
	s := Sources{Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/48")}}
	for a, ok := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.16.0.1": true, "172.32.0.1": false, "192.168.9.9": true,
		"169.254.1.1": true, "fe80::1%eth0": true, "fd00::1": true, "::ffff:192.168.1.1": true, "::ffff:8.8.8.8": false,
		"8.8.8.8": false, "100.64.0.1": false, "2001:db8::1": false, "2001:db8:1::1": true, "0.0.0.0": false, "224.0.0.1": false,
	} {
		if got := s.Allowed(netip.MustParseAddr(a)); got != ok {
			t.Errorf("%s: %v", a, got)
		}
	}
	if w := (&Sources{WAN: true}); !w.Allowed(netip.MustParseAddr("8.8.8.8")) {
		t.Error("wan does not open")
	}
	if s.Allowed(netip.Addr{}) {
		t.Error("no address is allowed")
	}
}

// fakeListener hands out connections that claim to come from the given addresses.
type fakeListener struct{ from []net.Addr }

type fakeConn struct {
	net.Conn
	from   net.Addr
	closed *int
}

func (c fakeConn) RemoteAddr() net.Addr { return c.from }
func (c fakeConn) Close() error         { *c.closed++; return nil }

func (l *fakeListener) Close() error   { return nil }
func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }
func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	a := l.from[0]
	l.from = l.from[1:]
	return fakeConn{from: a, closed: new(int)}, nil
}

func TestListenerClosesTheOthers(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	l := Sources{}.Listener(&fakeListener{[]net.Addr{tcp("8.8.8.8:1"), tcp("192.168.1.2:1"), tcp("1.1.1.1:1"), &net.UnixAddr{Name: "@"}}})
	for _, want := range []string{"192.168.1.2:1", "@"} {
		c, err := l.Accept()
		if err != nil || c.RemoteAddr().String() != want || *c.(fakeConn).closed != 0 {
			t.Fatalf("%v, %v; want %s", c, err, want)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if l.Refused() != 2 {
		t.Errorf("refused %d", l.Refused())
	}
}

func FuzzKnownHost(f *testing.F) {
	f.Add("evil.com:80")
	f.Add("[::1]:80")
	h, err := Web{}.Wrap(http.NotFoundHandler())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if strings.HasSuffix(host, "evil.com") && h.(*webGuard).knownHost(host) {
			t.Fatalf("%q is known", host)
		}
	})
}
