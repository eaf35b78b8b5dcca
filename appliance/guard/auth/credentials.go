package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"

	"edgepost/appliance/message"
)

// Limits of what a client may present, in bytes.
const (
	maxHeader = 12 << 10 // a JSON Web Token of [jwt.MaxToken] bytes fits, in Basic too
	maxTicket = 256
)

// Credentials is what a client presented. All of Name, Token, Ticket and Session empty is the anonymous client.
type Credentials struct {
	Name    string     // device id or key name; "" when the token alone decides
	Token   string     // the secret of a device or key, or a JSON Web Token
	Ticket  string     // a one-use ticket; only looked at when there is neither name nor token
	Session string     // of a person who signed in; only looked at when there is nothing else
	Device  string     // that the client's certificate has proved to be; "" none
	Shown   string     // thumbprint of that certificate, x5t#S256; a token may be bound to it
	Remote  netip.Addr // where the client connects from, for the throttle
	Via     string     // the protocol, for people: "mqtt", "ws", "http"
}

// Empty reports whether the client presented nothing.
func (c *Credentials) Empty() bool {
	return c.Name == "" && c.Token == "" && c.Ticket == "" && c.Session == "" && c.Device == ""
}

// Secrets that a device brings along.
const (
	MinSecret    = 8  // bytes of the shortest
	strongSecret = 22 // bytes from which on it counts as random: 131 bits where it is
)

// Guessable reports whether a secret is so short that a person may have chosen it: guesses are slowed then.
func Guessable(secret string) bool { return len(secret) < strongSecret }

// HashToken is the only form in which a token is kept.
func HashToken(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// FromRequest reads the credentials of an HTTP request: "Authorization: Bearer TOKEN" (RFC 6750
// §2.1), "Authorization: Basic" with a device id or key name as user and its token as password
// (RFC 7617), else the query parameter "ticket", else the cookie of a session where it counts ([Private]). A header that is there but unreadable is a
// [message.Problem] with [message.CodeUnauthorized]; it is never taken for "no credentials".
func FromRequest(r *http.Request) (Credentials, error) {
	c := Credentials{Remote: remoteAddr(r.RemoteAddr), Via: "http"}
	if p, ok := r.Context().Value(deviceKey{}).(proof); ok {
		c.Device, c.Shown = p.device, p.thumbprint
	}
	switch headers := r.Header.Values("Authorization"); len(headers) {
	case 0:
	case 1:
		err := c.readHeader(headers[0])
		return c, err
	default:
		return c, unauthorized("the request has %d Authorization headers; send one", len(headers))
	}
	if r.URL.RawQuery == "" {
		c.readCookie(r)
		return c, nil
	}
	q := r.URL.Query()
	if !q.Has("ticket") {
		c.readCookie(r)
		return c, nil
	}
	c.Ticket = q.Get("ticket")
	if c.Ticket == "" || len(c.Ticket) > maxTicket || len(q["ticket"]) > 1 {
		c.Ticket = ""
		return c, unauthorized("the query parameter ticket is not one ticket; POST /v1/tickets gives one")
	}
	return c, nil
}

func (c *Credentials) readHeader(h string) error {
	if len(h) > maxHeader {
		return unauthorized("the Authorization header has %d bytes; the limit is %d", len(h), maxHeader)
	}
	scheme, rest, _ := strings.Cut(h, " ")
	rest = strings.Trim(rest, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if rest == "" || strings.ContainsAny(rest, " ,\t") {
			return unauthorized("the Authorization header has no single token after Bearer")
		}
		c.Token = rest
	case strings.EqualFold(scheme, "Basic"):
		raw, err := base64.StdEncoding.DecodeString(rest)
		// RFC 7617 cuts at the first colon because a user id has none; a device id may have some
		// ("zigbee:0x12"), our tokens never do: so the last colon cuts.
		i := strings.LastIndexByte(string(raw), ':')
		if err != nil || i < 0 {
			return unauthorized("the Authorization header is not Basic base64(NAME:TOKEN)")
		}
		c.Name, c.Token = string(raw[:i]), string(raw[i+1:])
		if c.Empty() {
			return unauthorized("the Authorization header has neither name nor token")
		}
	default:
		return unauthorized("the Authorization scheme %.20q is not known; use Bearer TOKEN or Basic", scheme)
	}
	return nil
}

// remoteAddr takes the address out of "1.2.3.4:567"; the zero Addr when there is none, as on a
// Unix socket.
func remoteAddr(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func unauthorized(format string, args ...any) *message.Problem {
	return message.Problemf(message.CodeUnauthorized, format, args...)
}

type deviceKey struct{}

type proof struct{ device, thumbprint string }

// WithDevice returns a request's context that says which device its connection's certificate is of, and the
// certificate's thumbprint. Who puts it in has checked that the certificate counts now.
func WithDevice(ctx context.Context, device, thumbprint string) context.Context {
	return context.WithValue(ctx, deviceKey{}, proof{device, thumbprint})
}

type grantKey struct{}

// WithGrant returns a context that carries an already authenticated principal, as the control
// socket does.
func WithGrant(ctx context.Context, g *Grant) context.Context {
	return context.WithValue(ctx, grantKey{}, g)
}

// GrantFrom returns what [WithGrant] put in.
func GrantFrom(ctx context.Context) (*Grant, bool) {
	g, ok := ctx.Value(grantKey{}).(*Grant)
	return g, ok && g != nil
}
