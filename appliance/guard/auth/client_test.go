package auth

import (
	"context"
	"testing"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/guard/jwt/forge"
	"edgepost/appliance/message"
)

// Clients of our own issuer are devices and keys that show their own secret; an access token is none.
func TestClient(t *testing.T) {
	a, b, _, token, device := trusting(t)
	a.SetAnonymous(&message.Rules{Publish: []message.Filter{"#"}})
	b.put(Entry{Kind: User, Name: "ann", Admin: true}, "")
	e := b.entries["lamp1"]
	e.OldHash = HashToken("ep_old")
	b.entries["lamp1"] = e
	for _, c := range []struct {
		in              Credentials
		principal, mark string
	}{
		{Credentials{Name: "lamp1", Token: "ep_lamp"}, "device/lamp1", CredentialMark(HashToken("ep_lamp"))},
		{Credentials{Name: "lamp1", Token: "ep_old"}, "device/lamp1", CredentialMark(HashToken("ep_old"))},
		{Credentials{Name: "app", Token: "ep_app"}, "key/app", CredentialMark(HashToken("ep_app"))},
		{Credentials{Device: "lamp1"}, "device/lamp1", CredentialMark(HashToken("ep_lamp"))},
		{Credentials{Device: "lamp1", Name: "app", Token: "ep_app"}, "", ""},
		{Credentials{Device: "gone"}, "", ""},
		{Credentials{}, "", ""}, // anonymous access is open
		{Credentials{Name: "lamp1"}, "", ""},
		{Credentials{Name: "lamp1", Token: "ep_no"}, "", ""},
		{Credentials{Name: "ann", Token: ""}, "", ""},
		{Credentials{Token: token(nil)}, "", ""},
		{Credentials{Name: "lamp1", Token: device("lamp1")}, "", ""},
	} {
		g, mark, err := a.Client(context.Background(), c.in)
		if c.principal == "" {
			wantCode(t, err, message.CodeUnauthorized)
		} else if err != nil || g.Principal() != c.principal || mark != c.mark {
			t.Errorf("%+v: %+v, %q, %v", c.in, g, mark, err)
		}
	}
	if p, mark, ok := a.Registered("app"); !ok || p != "key/app" || mark != CredentialMark(HashToken("ep_app")) {
		t.Errorf("%s, %q, %v", p, mark, ok)
	}
	if _, _, ok := a.Registered("ann"); ok {
		t.Error("a user is a client")
	}
	if _, ok := a.Introspect(context.Background(), device("lamp1")); ok {
		t.Error("another issuer's token is introspected")
	}
}

// A token that is bound to a certificate is only good where that is shown, in whatever way it comes.
func TestBoundTokens(t *testing.T) {
	a, _, _, token, _ := trusting(t)
	bound := token(forge.Claims{"cnf": forge.Claims{"x5t#S256": "thumb"}})
	for shown, ok := range map[string]bool{"": false, "other": false, "thumb": true} {
		if _, err := a.Authenticate(context.Background(), Credentials{Token: bound, Shown: shown}); (err == nil) != ok {
			t.Errorf("shown %q: %v", shown, err)
		}
	}
	for _, cnf := range []any{forge.Claims{"jkt": "x"}, forge.Claims{"x5t#S256": "thumb", "jkt": "x"}, "thumb", forge.Claims{"x5t#S256": 1}, forge.Claims{}} {
		if _, err := a.Authenticate(context.Background(), Credentials{Token: token(forge.Claims{"cnf": cnf}), Shown: "thumb"}); err == nil {
			t.Errorf("cnf %v is accepted", cnf)
		}
	}
}

// A token of our own issuer ends with the credential that it was issued for, but not before its grace does.
func TestOwnTokensEndWithTheirCredential(t *testing.T) {
	a, b, _, _, _ := trusting(t)
	old := b.entries["lamp1"]
	id := &jwt.Identity{StandsFor: "device/lamp1", Credential: CredentialMark(old.TokenHash)}
	for _, c := range []struct {
		now, before string
		ok          bool
	}{{"ep_lamp", "", true}, {"ep_new", "ep_lamp", true}, {"ep_new", "", false}} {
		e := old
		e.TokenHash, e.OldHash = HashToken(c.now), [32]byte{}
		if c.before != "" {
			e.OldHash = HashToken(c.before)
		}
		b.entries["lamp1"] = e
		if _, ok := a.entryOf(id); ok != c.ok {
			t.Errorf("token %s, before %q: %v", c.now, c.before, ok)
		}
	}
}
