package auth

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Names of the cookie of a session. The first one browsers only take and send over HTTPS (RFC 6265bis §4.1.3.2); the second is
// for plain HTTP on the gateway itself.
const (
	SessionCookie      = "__Host-ep"
	LocalSessionCookie = "ep-local"
)

const maxCookie = 256 // bytes of its value

type proxyKey struct{}

// WithProxy notes that a trusted proxy passed the request on, and whether its client spoke HTTPS with it.
func WithProxy(ctx context.Context, https bool) context.Context {
	return context.WithValue(ctx, proxyKey{}, https)
}

// Private reports whether nobody on the network can read the request and its answer: it came over TLS, through a trusted proxy
// that says it did, through the control socket, or from a program on the gateway itself. A proxy on the gateway that is not
// configured as trusted counts as the network: it says who is behind it.
func Private(r *http.Request) bool {
	if https, proxied := r.Context().Value(proxyKey{}).(bool); proxied {
		return https
	}
	if r.TLS != nil {
		return true
	}
	if g, ok := GrantFrom(r.Context()); ok && g.Kind == Owner {
		return true
	}
	for _, h := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return remoteAddr(r.RemoteAddr).IsLoopback()
}

// cookieName is the cookie that counts for the request; "" when none does.
func cookieName(r *http.Request) string {
	switch {
	case !Private(r):
		return ""
	case r.TLS != nil, r.Context().Value(proxyKey{}) != nil:
		return SessionCookie
	default:
		return LocalSessionCookie
	}
}

// readCookie takes over the session's cookie. A page of another origin never has it count, even one that may use the API:
// SameSite does not look at ports, and any other program of the gateway may have one.
func (c *Credentials) readCookie(r *http.Request) {
	name := cookieName(r)
	if name == "" || len(r.Header["Cookie"]) == 0 {
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return
	}
	for _, k := range r.CookiesNamed(name) {
		if k.Value != "" && len(k.Value) <= maxCookie {
			c.Session = k.Value
			return
		}
	}
}

// SetSessionCookie has the browser keep the session, or forget it when id is "". It must be called before the answer begins.
func SetSessionCookie(w http.ResponseWriter, r *http.Request, id string) {
	k := &http.Cookie{Name: cookieName(r), Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	k.Secure = k.Name == SessionCookie
	if id == "" {
		k.MaxAge = -1
	}
	if k.Name != "" {
		http.SetCookie(w, k)
	}
}

type remoteKey struct{}

// WithRemote notes where a request comes from, for the audit.
func WithRemote(ctx context.Context, from netip.Addr) context.Context {
	return context.WithValue(ctx, remoteKey{}, from)
}

// RemoteFrom returns what [WithRemote] noted; the zero address when nothing was.
func RemoteFrom(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(remoteKey{}).(netip.Addr)
	return a
}
