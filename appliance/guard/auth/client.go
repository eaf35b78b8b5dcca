package auth

import (
	"context"

	"edgepost/appliance/guard/jwt"
)

// Client authenticates who asks our own issuer for a token: a device or a key, by its token as the secret or by its certificate.
// mark names the credential that it showed, see [CredentialMark]. An access token is no secret: it would prolong itself. The error
// is a [message.Problem], as that of [Authenticator.Authenticate].
func (a *Authenticator) Client(ctx context.Context, c Credentials) (g *Grant, mark string, err error) {
	if c.Token == "" && c.Device == "" {
		return nil, "", unauthorized("a client's name and secret are needed: the id of a device or the name of a key, and its token")
	}
	g, err = a.Authenticate(ctx, c)
	if err != nil {
		return nil, "", err
	}
	if g.token != nil || g.Kind != Device && g.Kind != Key {
		return nil, "", unauthorized("only a device or a key is a client, and its secret is its token, not an access token")
	}
	e, ok := a.dir.Lookup(g.Name)
	if !ok || e.Kind != g.Kind {
		return nil, "", unauthorized("the client is not registered any more")
	}
	if hash := HashToken(c.Token); c.Token != "" && hash == e.OldHash {
		return g, CredentialMark(e.OldHash), nil
	}
	return g, CredentialMark(e.TokenHash), nil
}

// Registered returns the device or key with the name and the mark of its credential; false when there is none.
func (a *Authenticator) Registered(name string) (principal, mark string, ok bool) {
	e, ok := a.dir.Lookup(name)
	if !ok || e.Kind != Device && e.Kind != Key {
		return "", "", false
	}
	return e.Kind.String() + "/" + e.Name, CredentialMark(e.TokenHash), true
}

// Introspect returns what an access token of our own issuer says; false when it does not hold, whatever the reason.
func (a *Authenticator) Introspect(ctx context.Context, token string) (*jwt.Identity, bool) {
	if a.subjects == nil {
		return nil, false
	}
	id, err := a.subjects.verify.Verify(ctx, token)
	if err != nil || !id.Own() {
		return nil, false
	}
	_, ok := a.entryOf(id)
	return id, ok
}
