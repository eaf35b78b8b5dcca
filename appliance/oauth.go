package appliance

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edgepost/appliance/guard/audit"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// openIssuer reads or makes the keys of access tokens. Keys that cannot be stored cost the tokens, not the messages.
func (a *Appliance) openIssuer() {
	c := &a.cfg.OAuth
	s, err := oauth.Open(oauth.Options{
		Dir: filepath.Join(a.cfg.Data, "oauth"), Issuer: c.issuer(a.cfg.HTTPS.Addr), Lifetime: c.Lifetime, Rotation: c.Rotation,
		Now: a.clock.Floored, Age: a.age, Since: a.sinceAge, Log: a.o.Log,
	})
	if err != nil {
		a.tokensOff = fmt.Sprintf("no access tokens are issued: %v", err)
		a.o.Log.Warn("no access tokens are issued", "why", err)
		return
	}
	a.core.issuer = s
	a.background("keys of access tokens", s.Run)
}

// issuer is the configured name, else one of the machine's name and HTTPS' port.
func (c *OAuthConfig) issuer(https string) string {
	if c.Issuer != "" {
		return c.Issuer
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	_, port, err := net.SplitHostPort(https)
	if err != nil || port == "0" {
		return "https://" + strings.ToLower(host)
	}
	return "https://" + net.JoinHostPort(strings.ToLower(host), port)
}

// age is a clock that is never set, and sinceAge how long ago an age was that was kept.
func (a *Appliance) age() time.Duration { return time.Duration(a.clock.Now().Age) }

func (a *Appliance) sinceAge(kept time.Duration) time.Duration {
	return time.Duration(a.clock.Now().Age - a.clock.Placed(int64(kept)))
}

// issuing returns the issuer, or why there is none.
func (k *core) issuing() (*oauth.Server, error) {
	if k.issuer == nil {
		return nil, message.Problemf(message.CodeUnavailable, "no access tokens are issued; edgepost status says why")
	}
	return k.issuer, nil
}

// Issuer is the name of our own issuer; "" when there is none.
func (k *core) Issuer() string {
	if k.issuer == nil {
		return ""
	}
	return k.issuer.Issuer()
}

// SigningKeys is the issuer's key set; nil when there is none.
func (k *core) SigningKeys() []byte {
	if k.issuer == nil {
		return nil
	}
	return k.issuer.KeySet()
}

// ClientToken gives a token to a client that shows its secret or certificate.
func (k *core) ClientToken(ctx context.Context, c auth.Credentials, scope string) (oauth.Token, error) {
	s, err := k.issuing()
	if err != nil {
		return oauth.Token{}, err
	}
	want, err := oauth.ParseScope(scope)
	if err != nil {
		return oauth.Token{}, err
	}
	g, mark, err := k.Client(ctx, c)
	if err != nil {
		return oauth.Token{}, err
	}
	if want.Admin && !g.Admin {
		return oauth.Token{}, oauth.Errorf(oauth.InvalidScope, "%s may not administer", g.Principal())
	}
	return s.Issue(oauth.Subject{Principal: g.Principal(), Client: g.Name, Credential: mark, Thumbprint: c.Shown, Scope: want})
}

// BeginDevice takes the request of a device that a person is to approve. A client that shows a secret or a certificate must be right.
func (k *core) BeginDevice(ctx context.Context, c auth.Credentials, scope string) (oauth.Codes, error) {
	s, err := k.issuing()
	if err != nil {
		return oauth.Codes{}, err
	}
	want, err := oauth.ParseScope(scope)
	if err != nil {
		return oauth.Codes{}, err
	}
	if c, err = k.named(ctx, c); err != nil {
		return oauth.Codes{}, err
	}
	return s.Pending.Begin(c.Name, want, c.Remote)
}

// named returns the credentials with the client's name, which is proved if anything was shown that proves it.
func (k *core) named(ctx context.Context, c auth.Credentials) (auth.Credentials, error) {
	if c.Token == "" && c.Device == "" {
		return c, nil
	}
	g, _, err := k.Client(ctx, c)
	if err == nil {
		c.Name = g.Name
	}
	return c, err
}

// DeviceToken answers a device that polls. Once a person has approved, it gets a token, and with Keep also a secret of its own.
func (k *core) DeviceToken(ctx context.Context, c auth.Credentials, code string) (t oauth.Token, secret string, err error) {
	s, err := k.issuing()
	if err != nil {
		return t, "", err
	}
	if c, err = k.named(ctx, c); err != nil {
		return t, "", err
	}
	req, by, err := s.Pending.Poll(code, c.Name)
	if err != nil {
		return t, "", err
	}
	g, ok := k.Current(by.By) // who approved may have lost the right since
	if !ok || !g.Admin {
		return t, "", oauth.Errorf(oauth.AccessDenied, "who approved it may not administer any more")
	}
	if by.Keep {
		if secret, err = k.adopt(auth.WithRemote(ctx, c.Remote), g, req.Client); err != nil {
			return t, "", err
		}
	}
	principal, mark, ok := k.Registered(req.Client)
	if !ok {
		return t, "", oauth.Errorf(oauth.AccessDenied, "the client is not registered any more")
	}
	if subject, ok := k.Current(principal); req.Scope.Admin && (!ok || !subject.Admin) {
		return t, "", oauth.Errorf(oauth.InvalidScope, "%s may not administer", principal)
	}
	t, err = s.Issue(oauth.Subject{Principal: principal, Client: req.Client, Credential: mark, Thumbprint: c.Shown, Scope: req.Scope})
	return t, secret, err
}

// adopt gives a device a new secret, and registers it if nobody has its name.
func (k *core) adopt(ctx context.Context, g *auth.Grant, id string) (secret string, err error) {
	if k.reg.HasDevice(id) {
		return k.RotateDevice(ctx, g, id, 0)
	}
	return k.AddDevice(ctx, g, registry.Device{ID: id})
}

// RevokeAccess ends a token that was issued to the client; an administrator's key may end any.
func (k *core) RevokeAccess(ctx context.Context, c auth.Credentials, token string) error {
	s, err := k.issuing()
	if err != nil {
		return err
	}
	g, _, err := k.Client(ctx, c)
	if err != nil {
		return err
	}
	id, ok := k.Introspect(ctx, token)
	switch {
	case !ok: // RFC 7009 §2.2: it does not hold, which is what was asked for
		return nil
	case id.Client != g.Name && !g.Admin:
		return oauth.Errorf(oauth.UnauthorizedClient, "the token was issued to another client")
	}
	if err := s.RevokeToken(id); err != nil {
		return err
	}
	k.endedTokens()
	return nil
}

// IntrospectAccess says what a token says: to the client that it was issued to, and to administrators' keys.
func (k *core) IntrospectAccess(ctx context.Context, c auth.Credentials, token string) (*oauth.Description, error) {
	if _, err := k.issuing(); err != nil {
		return nil, err
	}
	g, _, err := k.Client(ctx, c)
	if err != nil {
		return nil, err
	}
	id, ok := k.Introspect(ctx, token)
	if !ok || id.Client != g.Name && !g.Admin {
		return nil, nil //nolint:nilnil // not active
	}
	return &oauth.Description{
		Subject: id.Subject, Client: id.Client, ID: id.ID, Scope: id.Scope, Bound: id.Bound, Issued: id.Issued, Expires: id.Ends(),
	}, nil
}

// endedTokens has connections end at once whose token was revoked.
func (k *core) endedTokens() {
	select {
	case k.recheck <- struct{}{}:
	default:
	}
}

// writeTokenMetrics writes the counters of access tokens.
func (k *core) writeTokenMetrics(w io.Writer) {
	var issued int64
	if k.issuer != nil {
		issued = k.issuer.Issued()
	}
	for _, m := range [...]struct {
		name, help string
		value      int64
	}{
		{"edgepost_tokens_issued_total", "Access tokens of our own issuer that were signed.", issued},
		{"edgepost_user_codes_wrong_total", "User codes of the device grant that no device had.", k.wrongCodes.Load()},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s counter\n%s %d\n", m.name, m.help, m.name, m.name, m.value)
	}
}

// userCode finds the request with a user code. Guesses are slowed, and recorded.
func (k *core) userCode(ctx context.Context, g *auth.Grant, code string) (*oauth.Server, oauth.Request, error) {
	s, err := k.issuing()
	if err != nil {
		return nil, oauth.Request{}, err
	}
	right, err := k.desk.Guess(auth.RemoteFrom(ctx))
	if err != nil {
		return nil, oauth.Request{}, err
	}
	req, ok := s.Pending.Find(code)
	if !ok {
		k.wrongCodes.Add(1)
		k.log.Warn("a user code that no device has was tried", "by", g.Principal(), "from", auth.RemoteFrom(ctx))
		k.recordStranger(ctx, audit.Record{Actor: g.Principal(), Action: "oauth.code", Result: message.CodeNotFound})
		return nil, req, message.Problemf(message.CodeNotFound, "no device waits with this code; it is good for %d minutes and once", int(oauth.CodeLife/time.Minute))
	}
	right()
	return s, req, nil
}

// DeviceRequest shows what waits with a user code, and whether its client is registered.
func (k *core) DeviceRequest(ctx context.Context, g *auth.Grant, code string) (req oauth.Request, principal string, err error) {
	if err := admin(g); err != nil {
		return req, "", err
	}
	if _, req, err = k.userCode(ctx, g, code); err != nil {
		return req, "", err
	}
	principal, _, _ = k.Registered(req.Client)
	return req, principal, nil
}

// ApproveDevice grants a device's request. With keep the device also gets a secret of its own, in place of the one it had, and is
// registered if it is not.
func (k *core) ApproveDevice(ctx context.Context, g *auth.Grant, code string, keep bool) (client string, err error) {
	defer func() { k.audited(ctx, g, "oauth.approve", client, err) }()
	if err := admin(g); err != nil {
		return "", err
	}
	s, req, err := k.userCode(ctx, g, code)
	if err != nil {
		return "", err
	}
	principal, _, known := k.Registered(req.Client)
	switch {
	case !known && !keep:
		return "", message.Problemf(message.CodeUnknownDevice, "there is no device and no key %.64q; approve it with a secret of its own (keep), which registers it, or add it first", req.Client)
	case keep && !known:
		if err := taken(req.Client); err != nil {
			return "", err
		}
		if _, other := k.reg.Lookup(req.Client); other {
			return "", message.Problemf(message.CodeExists, "the name %.64q is a user's", req.Client)
		}
	case keep && principal != "device/"+req.Client:
		return "", message.Problemf(message.CodeBadRequest, "%s is a key, which keeps its token; approve it without a secret of its own", req.Client)
	}
	if req.Scope.Admin {
		if subject, ok := k.Current(principal); !ok || !subject.Admin {
			return "", message.Problemf(message.CodeForbidden, "it asks for the scope admin, and %.64s may not administer", req.Client)
		}
	}
	if !s.Pending.Decide(code, oauth.Decision{Approved: true, By: g.Principal(), Keep: keep}) {
		return "", message.Problemf(message.CodeNotFound, "somebody decided it a moment ago, or it became too old")
	}
	return req.Client, nil
}

// RefuseDevice refuses it.
func (k *core) RefuseDevice(ctx context.Context, g *auth.Grant, code string) (err error) {
	client := ""
	defer func() { k.audited(ctx, g, "oauth.refuse", client, err) }()
	if err := admin(g); err != nil {
		return err
	}
	s, req, err := k.userCode(ctx, g, code)
	if err != nil {
		return err
	}
	client = req.Client
	if !s.Pending.Decide(code, oauth.Decision{By: g.Principal()}) {
		return message.Problemf(message.CodeNotFound, "somebody decided it a moment ago, or it became too old")
	}
	return nil
}

// TokenKeys lists the keys that sign access tokens.
func (k *core) TokenKeys(_ context.Context, g *auth.Grant) ([]oauth.Key, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	s, err := k.issuing()
	if err != nil {
		return nil, err
	}
	return s.Keys(), nil
}

// RotateTokenKeys has the next key sign; with end the tokens of the old one end now.
func (k *core) RotateTokenKeys(ctx context.Context, g *auth.Grant, end bool) (err error) {
	what := "oauth.rotate"
	if end {
		what = "oauth.renew"
	}
	defer func() { k.audited(ctx, g, what, "", err) }()
	if err := admin(g); err != nil {
		return err
	}
	s, err := k.issuing()
	if err != nil {
		return err
	}
	if err := s.Rotate(end); err != nil {
		return err
	}
	if end {
		if err := s.RevokeEverybody(); err != nil {
			return err
		}
		k.endedTokens()
	}
	return nil
}

// RevokeTokens ends all access tokens that a principal has, and connections with them.
func (k *core) RevokeTokens(ctx context.Context, g *auth.Grant, principal string) (err error) {
	defer func() { k.audited(ctx, g, "oauth.revoke", principal, err) }()
	if err := admin(g); err != nil {
		return err
	}
	s, err := k.issuing()
	if err != nil {
		return err
	}
	kind, name, _ := strings.Cut(principal, "/")
	if message.CheckName("name", name) != nil || kind != "device" && kind != "key" {
		return message.Problemf(message.CodeBadRequest, "%.80q is no subject of access tokens; one looks like device/lamp1 or key/app", principal)
	}
	if err := s.RevokeSubject(principal); err != nil {
		return err
	}
	k.endedTokens()
	return nil
}
