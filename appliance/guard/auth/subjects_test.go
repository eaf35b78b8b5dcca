package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/guard/jwt/forge"
	"edgepost/appliance/message"
)

// Made once: an RSA key takes a second on a busy machine.
var idp = sync.OnceValue(func() *forge.Issuer { return forge.New("https://idp.example", "edgepost") })

// trusting has two issuers with the same keys: "corp", whose tokens stand for nobody, and "fab",
// whose claim device names one.
func trusting(t *testing.T) (*Authenticator, *book, *fakeTime, func(change forge.Claims) string, func(device string) string) {
	t.Helper()
	set, err := jwt.ParseKeySet(idp().KeySet())
	if err != nil {
		t.Fatal(err)
	}
	a, b, ft := fixture(nil)
	keys := jwt.Fixed{Set: set}
	revoked := func(id *jwt.Identity) bool { return strings.HasPrefix(id.ID, "revoked") && ft.t.Unix() > 1_800_000_010 }
	v, err := jwt.New(jwt.Options{
		Issuers: []jwt.Issuer{
			{Name: "corp", URL: idp().URL, Audience: []string{"edgepost"}, Keys: keys, AdminScope: "edge:admin", Revoked: revoked},
			{Name: "fab", URL: "https://fab.example", Audience: []string{"edgepost"}, Keys: keys, DeviceClaim: "device", AdminScope: "edge:admin"},
		},
		Now: func() (time.Time, bool) { return ft.t, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.subjects = newSubjects(v)
	return a, b, ft,
		func(change forge.Claims) string { return idp().Token(ft.t, change) },
		func(device string) string {
			return idp().Token(ft.t, forge.Claims{"iss": "https://fab.example", "device": device, "acl": nil, "scope": "edge:admin"})
		}
}

func TestSubjectsArePrincipalsOfTheirOwn(t *testing.T) {
	a, b, _, token, _ := trusting(t)
	b.put(Entry{Kind: Key, Name: "alice"}, "ep_alice")
	for sub, want := range map[string]string{
		"alice": "alice@corp", "auth0|7": "auth0%7C7@corp", "a/b": "a%2Fb@corp", "a%2Fb": "a%252Fb@corp", "#": "%23@corp", "+": "%2B@corp",
		"lamp1": "lamp1@corp", "x@corp": "x%40corp@corp", "Zoë": "Zo%C3%AB@corp", "$edge": "%24edge@corp",
	} {
		g, err := a.Authenticate(context.Background(), Credentials{Name: "unused", Token: token(forge.Claims{"sub": sub})})
		if err != nil {
			t.Errorf("%s: %v", sub, err)
			continue
		}
		if g.Kind != Subject || g.Name != want || g.Principal() != "jwt/corp/"+strings.TrimSuffix(want, "@corp") || g.Admin || g.OwnsInbox("lamp1") {
			t.Errorf("%s: %+v", sub, g)
		}
		if _, err := message.ParseTopic("$edge/receipt/" + g.Name + "/x"); err != nil || message.CheckName("", g.Name) == nil {
			t.Errorf("%s: the name %q is no part of a topic, or could be registered", sub, g.Name)
		}
		if g.MayReceive("$edge/receipt/lamp1/e-1") || !g.MayReceive(message.Topic("$edge/receipt/"+g.Name+"/e-1")) {
			t.Errorf("%s reads others' receipts, or not its own", sub)
		}
		if !g.MayPublish("room/1") || g.MayPublish("device/lamp1/in/x") || g.MayPublish("$edge/x") || !g.MaySubscribe("room/#") || g.MaySubscribe("#") {
			t.Errorf("%s: the claim acl is not what holds", sub)
		}
	}
	if _, err := a.Authenticate(context.Background(), Credentials{Token: token(forge.Claims{"sub": strings.Repeat("ä", 120)})}); err == nil {
		t.Error("a subject is accepted whose name is too long")
	}
}

func TestNameBesideAToken(t *testing.T) {
	a, _, _, token, device := trusting(t)
	for _, c := range []struct{ name, token, principal string }{
		{"", token(nil), "jwt/corp/alice"},
		{"anything", token(nil), "jwt/corp/alice"},
		{"lamp1", token(nil), ""}, // registered, and not the token's
		{"app", token(nil), ""},
		{"", device("lamp1"), "device/lamp1"},
		{"lamp1", device("lamp1"), "device/lamp1"},
		{"anything", device("lamp1"), ""},
		{"", device("nobody"), ""},
		{"", device("app"), ""}, // a key is no device
		{"lamp1", "ep_lamp", "device/lamp1"},
		{"lamp1", "x.y.z", ""},
	} {
		g, err := a.Authenticate(context.Background(), Credentials{Name: c.name, Token: c.token, Remote: netip.IPv6Loopback()})
		if c.principal == "" {
			wantCode(t, err, message.CodeUnauthorized)
		} else if err != nil || g.Principal() != c.principal || g.Admin {
			t.Errorf("%q: %+v, %v; want %s", c.name, g, err, c.principal)
		}
	}
}

func TestTokensEnd(t *testing.T) {
	a, b, ft, token, device := trusting(t)
	ask := func(c Credentials) *Grant {
		t.Helper()
		g, err := a.Authenticate(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	alice, lamp, gone := ask(Credentials{Token: token(nil)}), ask(Credentials{Token: device("lamp1")}), ask(Credentials{Token: token(forge.Claims{"sub": "eve", "jti": "revoked"})})
	ticket, _ := a.Tickets().Issue(lamp)
	select {
	case <-a.TokenUsed():
	default:
		t.Error("nobody is told that a token was used")
	}
	for _, g := range []*Grant{alice, lamp, gone} {
		if now, err := a.Now(g); err != nil || now.Principal() != g.Principal() || a.Left(g) != time.Hour {
			t.Errorf("%s: %v, %v", g.Principal(), err, a.Left(g))
		}
	}
	if !lamp.OwnsInbox("lamp1") || !lamp.MayPublish("device/lamp1/out/x") {
		t.Error("a device with a token of its issuer is not itself")
	}
	ft.t = ft.t.Add(20 * time.Second)
	if a.Left(gone) != 0 || a.Left(gone.AfterEnd()) != 0 {
		t.Error("a revoked token goes on")
	}
	if g := ask(Credentials{Ticket: ticket}); g.token == nil || a.Left(g) != time.Hour-20*time.Second {
		t.Error("a ticket outlives the token that it was made with")
	}
	ft.t = ft.t.Add(time.Hour)
	for _, g := range []*Grant{alice, lamp} {
		if _, err := a.Now(g); err == nil || a.Left(g) != 0 {
			t.Errorf("%s goes on", g.Principal())
		}
		if _, err := a.Now(g.AfterEnd()); err != nil {
			t.Errorf("the will of %s: %v", g.Principal(), err)
		}
	}
	if g, ok := a.Current(alice.Principal()); !ok || !g.MayReceive("room/1") {
		t.Error("what waits for a session that is being closed is judged by no rules")
	}
	lamp = ask(Credentials{Token: device("lamp1")})
	b.remove("lamp1")
	if a.Left(lamp) != 0 {
		t.Error("a removed device goes on with its token")
	}
	if !a.Exists("jwt/corp/x") || a.Exists("jwt/former/x") || a.Exists("device/lamp1") || !a.Exists("key/app") {
		t.Error("Exists")
	}
}

// A subject that shows a newer token has its rules, whatever it shows after that.
func TestNewestTokenHolds(t *testing.T) {
	a, _, ft, token, _ := trusting(t)
	rules := func(topic string, ago time.Duration) string {
		return token(forge.Claims{"iat": ft.t.Add(-ago).Unix(), "acl": []forge.Claims{{"permission": "allow", "action": "all", "topic": topic}}})
	}
	for _, tok := range []string{rules("old/#", 2*time.Minute), rules("new/#", time.Minute), rules("older/#", 3*time.Minute)} {
		if _, err := a.Authenticate(context.Background(), Credentials{Token: tok}); err != nil {
			t.Fatal(err)
		}
	}
	g, ok := a.Current("jwt/corp/alice")
	if !ok || !g.MayReceive("new/x") || g.MayReceive("old/x") || g.MayReceive("older/x") {
		t.Errorf("%+v", g)
	}
}

func TestManySubjects(t *testing.T) {
	a, _, ft, _, _ := trusting(t)
	for n := range maxSubjects {
		id := &jwt.Identity{Issuer: "corp", Subject: fmt.Sprint(n)}
		a.subjects.seen["jwt/corp/"+id.Subject] = newSubject(id)
	}
	a.subjects.verify = bounded{a.subjects.verify, func() bool { return ft.t.Unix()%2 == 0 }}
	_, err := a.Authenticate(context.Background(), Credentials{Token: idp().Token(ft.t, nil)})
	wantCode(t, err, message.CodeTooMany)
	ft.t = ft.t.Add(time.Second) // now all of them have ended
	if _, err = a.Authenticate(context.Background(), Credentials{Token: idp().Token(ft.t, nil)}); err != nil {
		t.Error(err)
	}
	if n := len(a.subjects.seen); n != 1 {
		t.Errorf("%d subjects are kept that have ended", n-1)
	}
}

// bounded is a verifier whose other identities hold or not as a whole.
type bounded struct {
	Verifier
	hold func() bool
}

func (b bounded) Left(*jwt.Identity) time.Duration {
	if b.hold() {
		return time.Hour
	}
	return 0
}

func TestForgedTokensCountAsFailures(t *testing.T) {
	a, _, ft, _, _ := trusting(t)
	other := forge.New("https://other.example", "edgepost")
	remote := Credentials{Remote: remoteAddr("192.168.1.66:1")}
	for n, k := range idp().Attacks(ft.t, other) {
		c := remote
		c.Token = k.Token
		_, err := a.Authenticate(context.Background(), c)
		want := message.CodeUnauthorized
		if n >= failureBurst {
			want = message.CodeTooMany
		}
		if p := message.ProblemOf(err); p == nil || p.Code != want {
			t.Errorf("%s: %v, want %s", k.Name, err, want)
		}
	}
	good := remote
	good.Token = idp().Token(ft.t, nil)
	if _, err := a.Authenticate(context.Background(), good); err != nil {
		t.Errorf("a good token of the same address: %v", err)
	}
}
