package oauthapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/message"
)

// Core decides. Its errors are an [oauth.Error], or a [message.Problem].
type Core interface {
	// ClientToken is the grant client_credentials.
	ClientToken(ctx context.Context, c auth.Credentials, scope string) (oauth.Token, error)
	// BeginDevice takes a device's request; c names the client, with or without a secret.
	BeginDevice(ctx context.Context, c auth.Credentials, scope string) (oauth.Codes, error)
	// DeviceToken is the grant device_code. secret is what the client gets to ask with from now on; mostly "".
	DeviceToken(ctx context.Context, c auth.Credentials, code string) (t oauth.Token, secret string, err error)
	// RevokeAccess ends a token of the client; one that does not hold is no error.
	RevokeAccess(ctx context.Context, c auth.Credentials, token string) error
	// IntrospectAccess says what a token says, nil when it does not hold or is not for the client's eyes.
	IntrospectAccess(ctx context.Context, c auth.Credentials, token string) (*oauth.Description, error)
	// SigningKeys is the key set; nil when no tokens are issued.
	SigningKeys() []byte
	// Issuer is the issuer's name.
	Issuer() string
}

const (
	maxForm     = 16 << 10 // bytes: a token and a client's credentials
	maxSecret   = 1024
	bodyTimeout = 30 * time.Second
)

// Names of grants and types (RFC 8628 §3.4).
const (
	grantClient = "client_credentials"
	grantDevice = "urn:ietf:params:oauth:grant-type:device_code"
)

// Endpoint is one address that is served.
type Endpoint struct {
	Method, Path, Summary string
	Handler               http.Handler
}

type server struct {
	core Core
	log  *slog.Logger
}

// Endpoints are all that is served. log may be nil.
func Endpoints(core Core, log *slog.Logger) []Endpoint {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &server{core, log}
	return []Endpoint{
		{http.MethodPost, "/oauth2/token", "Get an access token", s.form(s.token)},
		{http.MethodPost, "/oauth2/device_authorization", "Begin the device authorization grant", s.form(s.deviceAuthorization)},
		{http.MethodPost, "/oauth2/revoke", "End an access token", s.form(s.revoke)},
		{http.MethodPost, "/oauth2/introspect", "What an access token says", s.form(s.introspect)},
		{http.MethodGet, "/oauth2/jwks", "Key set", http.HandlerFunc(s.jwks)},
		{http.MethodGet, "/.well-known/oauth-authorization-server", "Metadata", http.HandlerFunc(s.metadata)},
	}
}

// request is one form and who sent it.
type request struct {
	*http.Request
	form   url.Values
	creds  auth.Credentials
	second string // the secret as RFC 6749 §2.3.1 has it in the header; "" when that is the same
}

// form serves a request whose parameters are a form.
func (s *server) form(serve func(r *request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := func() (any, error) {
			q, err := s.read(w, r)
			if err != nil {
				return nil, err
			}
			answer, err := serve(q)
			if p := message.ProblemOf(err); p != nil && p.Code == message.CodeUnauthorized && q.second != "" {
				q.creds.Token, q.second = q.second, ""
				answer, err = serve(q)
			}
			return answer, err
		}()
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		write(w, http.StatusOK, answer)
	})
}

// read checks the request's form and finds the client's credentials in it.
func (s *server) read(w http.ResponseWriter, r *http.Request) (*request, error) {
	if !auth.Private(r) {
		return nil, oauth.Errorf(oauth.InvalidRequest, "this address is served over HTTPS, and to the gateway itself; this connection is neither")
	}
	if r.URL.RawQuery != "" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "parameters belong into the body, not into the address")
	}
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(t), "application/x-www-form-urlencoded") {
		return nil, oauth.Errorf(oauth.InvalidRequest, "the body must be application/x-www-form-urlencoded")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, oauth.Errorf(oauth.InvalidRequest, "the body did not arrive in time")
		}
		return nil, oauth.Errorf(oauth.InvalidRequest, "the body is larger than %d bytes, or could not be read to its end", maxForm)
	}
	q := &request{Request: r}
	if q.form, err = url.ParseQuery(string(body)); err != nil {
		return nil, oauth.Errorf(oauth.InvalidRequest, "the form is malformed")
	}
	for name, values := range q.form {
		if len(values) > 1 { // RFC 6749 §3.2
			return nil, oauth.Errorf(oauth.InvalidRequest, "parameter %.40q is there %d times", name, len(values))
		}
	}
	return q, q.readClient()
}

// readClient finds out which client asks, and its secret (RFC 6749 §2.3).
func (q *request) readClient() error {
	connection := q.WithContext(q.Context())
	connection.Header, connection.URL = http.Header{}, new(url.URL)
	q.creds, _ = auth.FromRequest(connection) // the address and the certificate
	q.creds.Via = "oauth"
	id, secret := q.form.Get("client_id"), q.form.Get("client_secret")
	headers := q.Header.Values("Authorization")
	switch {
	case len(headers) > 1:
		return oauth.Errorf(oauth.InvalidRequest, "the request has %d Authorization headers", len(headers))
	case len(headers) == 0:
		if id != "" && message.CheckName("client", id) != nil || len(secret) > maxSecret {
			return noClient()
		}
		if id == "" && secret != "" {
			return oauth.Errorf(oauth.InvalidRequest, "client_id is missing")
		}
		q.creds.Name, q.creds.Token = id, secret
		return nil
	case secret != "":
		return oauth.Errorf(oauth.InvalidRequest, "the client's secret belongs into the Authorization header or into the body, not into both")
	}
	user, rest, ok := q.BasicAuth()
	if !ok {
		return oauth.Errorf(oauth.InvalidClient, "the Authorization header is not Basic base64(CLIENT:SECRET)")
	}
	// The header is cut at its first colon; a device's id may have some, our secrets never do.
	all := user + ":" + rest
	i := strings.LastIndexByte(all, ':')
	q.creds.Name, q.creds.Token = all[:i], all[i+1:]
	// RFC 6749 wants both encoded as in a form. Many clients do not, so the secret is tried both ways.
	if name, err := url.QueryUnescape(q.creds.Name); err == nil {
		q.creds.Name = name
	}
	if again, err := url.QueryUnescape(q.creds.Token); err == nil && again != q.creds.Token {
		q.second = again
	}
	if message.CheckName("client", q.creds.Name) != nil || len(q.creds.Token) > maxSecret {
		return noClient()
	}
	if id != "" && id != q.creds.Name {
		return oauth.Errorf(oauth.InvalidRequest, "client_id is not the client in the Authorization header")
	}
	return nil
}

func noClient() error {
	return oauth.Errorf(oauth.InvalidClient, "a client's name is the id of a device or the name of a key, and its secret has at most %d bytes", maxSecret)
}

// tokenJSON is the answer of RFC 6749 §5.1.
type tokenJSON struct {
	Token   string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"`
	Scope   string `json:"scope,omitempty"`
	Secret  string `json:"client_secret,omitempty"` // as in RFC 7591
}

func (s *server) token(q *request) (any, error) {
	var t oauth.Token
	var secret string
	var err error
	switch grant := q.form.Get("grant_type"); grant {
	case grantClient:
		t, err = s.core.ClientToken(q.Context(), q.creds, q.form.Get("scope"))
	case grantDevice:
		if q.form.Get("device_code") == "" {
			return nil, oauth.Errorf(oauth.InvalidRequest, "device_code is missing")
		}
		t, secret, err = s.core.DeviceToken(q.Context(), q.creds, q.form.Get("device_code"))
	case "":
		return nil, oauth.Errorf(oauth.InvalidRequest, "grant_type is missing")
	default:
		return nil, oauth.Errorf(oauth.UnsupportedGrantType, "grant_type %.60q is not offered; there are %s and %s", grant, grantClient, grantDevice)
	}
	if err != nil {
		return nil, err
	}
	return tokenJSON{t.Text, "Bearer", int64(t.Expires / time.Second), t.Scope, secret}, nil
}

func (s *server) deviceAuthorization(q *request) (any, error) {
	if q.creds.Name == "" && q.creds.Device == "" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "client_id is missing")
	}
	codes, err := s.core.BeginDevice(q.Context(), q.creds, q.form.Get("scope"))
	if err != nil {
		return nil, err
	}
	page := base(q.Request) + "/device"
	return struct {
		Device   string `json:"device_code"`
		User     string `json:"user_code"`
		URI      string `json:"verification_uri"`
		Complete string `json:"verification_uri_complete"`
		Expires  int64  `json:"expires_in"`
		Interval int64  `json:"interval"`
	}{codes.Device, codes.User, page, page + "?user_code=" + codes.User, int64(oauth.CodeLife / time.Second), int64(oauth.Interval / time.Second)}, nil
}

func (s *server) revoke(q *request) (any, error) {
	if q.form.Get("token") == "" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "token is missing")
	}
	return nil, s.core.RevokeAccess(q.Context(), q.creds, q.form.Get("token")) // whatever token_type_hint says
}

func (s *server) introspect(q *request) (any, error) {
	if q.form.Get("token") == "" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "token is missing")
	}
	d, err := s.core.IntrospectAccess(q.Context(), q.creds, q.form.Get("token"))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return map[string]bool{"active": false}, nil // RFC 7662 §2.2: and nothing else
	}
	out := map[string]any{
		"active": true, "token_type": "Bearer", "iss": s.core.Issuer(), "aud": s.core.Issuer(), "sub": d.Subject, "client_id": d.Client,
		"jti": d.ID, "exp": d.Expires.Unix(), "iat": d.Issued.Unix(),
	}
	if d.Scope != "" {
		out["scope"] = d.Scope
	}
	if d.Bound != "" {
		out["cnf"] = map[string]string{"x5t#S256": d.Bound}
	}
	return out, nil
}

func (s *server) jwks(w http.ResponseWriter, r *http.Request) {
	doc := s.core.SigningKeys()
	if doc == nil {
		s.refuse(w, r, oauth.Errorf(oauth.TemporarilyUnavailable, "no tokens are issued; edgepost status says why"))
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(doc)
}

// metadata is RFC 8414 §2.
func (s *server) metadata(w http.ResponseWriter, r *http.Request) {
	b := base(r)
	methods := []string{"client_secret_basic", "client_secret_post", "tls_client_auth"}
	write(w, http.StatusOK, map[string]any{
		"issuer":                                     s.core.Issuer(),
		"token_endpoint":                             b + "/oauth2/token",
		"device_authorization_endpoint":              b + "/oauth2/device_authorization",
		"revocation_endpoint":                        b + "/oauth2/revoke",
		"introspection_endpoint":                     b + "/oauth2/introspect",
		"jwks_uri":                                   b + "/oauth2/jwks",
		"grant_types_supported":                      []string{grantClient, grantDevice},
		"response_types_supported":                   []string{},
		"scopes_supported":                           []string{oauth.AdminScope},
		"token_endpoint_auth_methods_supported":      append(methods, "none"),
		"revocation_endpoint_auth_methods_supported": methods, "introspection_endpoint_auth_methods_supported": methods,
		"tls_client_certificate_bound_access_tokens": true,
	})
}

// base is the address by which the gateway was asked. The Host was checked in front of this handler.
func base(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") && auth.Private(r) {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// refuse answers with RFC 6749 §5.2.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *oauth.Error
	p := message.ProblemOf(err)
	status := http.StatusBadRequest
	switch {
	case errors.As(err, &e):
		if e.Code == oauth.TemporarilyUnavailable {
			status = http.StatusServiceUnavailable
		}
	case p == nil:
		s.log.Error("an OAuth request failed", "path", r.URL.Path, "error", err)
		status, e = http.StatusInternalServerError, oauth.Errorf("server_error", "something went wrong inside; the log says what")
	case p.Code == message.CodeUnauthorized, p.Code == message.CodeWaiting:
		e = oauth.Errorf(oauth.InvalidClient, "%s", p.Detail)
	case p.Code == message.CodeTooMany:
		status, e = http.StatusTooManyRequests, oauth.Errorf(oauth.TemporarilyUnavailable, "%s", p.Detail)
	case p.Code == message.CodeStorageFailed, p.Code == message.CodeStorageFull, p.Code == message.CodeUnavailable:
		status, e = http.StatusServiceUnavailable, oauth.Errorf(oauth.TemporarilyUnavailable, "%s", p.Detail)
	default:
		e = oauth.Errorf(oauth.InvalidRequest, "%s", p.Detail)
	}
	if e.Code == oauth.InvalidClient {
		status = http.StatusUnauthorized
		if r.Header.Get("Authorization") != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="edgepost"`)
		}
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(5))
	}
	write(w, status, struct {
		Code        string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}

// write answers with JSON; nil is an empty body.
func write(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // RFC 6749 §5.1
	h.Set("Pragma", "no-cache")
	if v == nil {
		w.WriteHeader(status)
		return
	}
	b, _ := json.Marshal(v) // texts, numbers and lists of them: it cannot fail
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
