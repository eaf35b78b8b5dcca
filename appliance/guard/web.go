package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"edgepost/appliance/message"
)

// Web protects HTTP and WebSocket against pages of other sites that a person's browser has open:
//
//   - DNS rebinding: the Host must be an IP address, localhost, the machine's name, a .local name
//     or a configured one; anything else is 421. (A rebound name is always a name, so any literal
//     address is safe, and stays so behind a port forward.)
//   - Cross-site WebSocket and cross-site requests that change something: when there is an Origin
//     it must be our own or an allowed one, else 403. [http.CrossOriginProtection] also looks at
//     Sec-Fetch-Site; alone it would let a WebSocket upgrade through, because that is a GET.
//   - The browser's own protections are switched on by headers.
//
// Pages of an allowed origin get the CORS answers that they need (Fetch standard, §3.2), without
// cookies.
type Web struct {
	Host    string   // the machine's name, as os.Hostname gives it; "" unknown
	Hosts   []string // further names in a Host header, without port
	Origins []string // scheme://host[:port] of other pages that may use the API; "*" any
}

const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

type webGuard struct {
	next      http.Handler
	hosts     map[string]bool // lower case
	origins   map[string]bool
	anyOrigin bool
	cross     *http.CrossOriginProtection
	always    http.Header // of every answer
}

// Wrap puts the protection in front of a handler. The error names an origin that is none.
func (w Web) Wrap(next http.Handler) (http.Handler, error) {
	g := &webGuard{
		next:    next,
		hosts:   map[string]bool{"localhost": true},
		origins: make(map[string]bool, len(w.Origins)),
		cross:   http.NewCrossOriginProtection(),
		always: http.Header{
			"Content-Security-Policy":      {contentSecurityPolicy},
			"Cross-Origin-Resource-Policy": {"same-origin"},
			"Referrer-Policy":              {"no-referrer"},
			"X-Content-Type-Options":       {"nosniff"},
			"X-Frame-Options":              {"DENY"},
		},
	}
	for _, h := range append([]string{w.Host}, w.Hosts...) {
		if h != "" {
			g.hosts[canonicalHost(h)] = true
		}
	}
	for _, o := range w.Origins {
		if o == "*" {
			g.anyOrigin = true
			continue
		}
		o = strings.ToLower(strings.TrimSuffix(o, "/")) // browsers send origins in lower case
		if err := g.cross.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("allow origin: %w", err)
		}
		g.origins[o] = true
	}
	return g, nil
}

func (g *webGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	maps.Copy(h, g.always) // the values are shared: whoever changes one sets another
	if !g.knownHost(r.Host) {
		refuse(w, http.StatusMisdirectedRequest,
			"the Host %.80q is not a name of this gateway; use its address, or add the name to hosts in section [http]", r.Host)
		return
	}
	origin := r.Header.Get("Origin")
	own := origin == "" || ownOrigin(origin, r)
	allowed := own || g.allowedOrigin(origin)
	if (changes(r) || upgrades(r)) && (!allowed || !g.anyOrigin && g.cross.Check(r) != nil) {
		refuse(w, http.StatusForbidden,
			"requests from pages of %.80q are refused; add the origin to allowed_origins in section [http]", origin)
		return
	}
	if !own && allowed {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Link, Location, Message-Gap, Idempotent-Replayed, Retry-After")
		h.Add("Vary", "Origin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	default:
		return true
	}
}

// upgrades reports whether the request leaves HTTP; case and company ("websocket, x") do not
// matter, since any upgrade does.
func upgrades(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }

// knownHost checks a Host header, "name", "name:port", "1.2.3.4:port" or "[::1]:port".
func (g *webGuard) knownHost(hostport string) bool {
	if _, err := netip.ParseAddrPort(hostport); err == nil {
		return true
	}
	host := hostport
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6()
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if strings.Trim(host[i+1:], "0123456789") != "" {
			return false
		}
		host = host[:i]
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Is4()
	}
	host = canonicalHost(host)
	return g.hosts[host] || len(host) > len(".local") && strings.HasSuffix(host, ".local")
}

func canonicalHost(h string) string { return strings.ToLower(strings.TrimSuffix(h, ".")) }

// ownOrigin reports whether the origin is the page's own: the host that was asked. Over plain HTTP an
// https origin counts too: a proxy in front may speak TLS.
func ownOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return false
	}
	if u.Scheme != "https" && (u.Scheme != "http" || r.TLS != nil) {
		return false
	}
	return strings.EqualFold(u.Host, r.Host)
}

func (g *webGuard) allowedOrigin(origin string) bool {
	return g.anyOrigin || g.origins[strings.ToLower(origin)]
}

// refuse answers with a problem (RFC 9457). The reason is for people who run the gateway; a
// cross-site page cannot read it.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	p := message.Problemf(message.CodeForbidden, format, args...)
	body, _ := json.Marshal(struct { // strings and a number: it cannot fail
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(status), status, p.Detail, p.Code})
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
