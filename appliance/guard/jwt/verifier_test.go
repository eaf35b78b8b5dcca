package jwt_test

import (
	"crypto/ed25519"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/guard/jwt/forge"
	"edgepost/appliance/message"
)

// Made once: an RSA key takes a second on a busy machine.
var (
	idpA = sync.OnceValue(func() *forge.Issuer { return forge.New("https://idp.example/a", "edgepost") })
	idpB = sync.OnceValue(func() *forge.Issuer { return forge.New("https://idp.example/b", "edgepost") })
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func keysOf(t testing.TB, i *forge.Issuer) jwt.KeySource {
	t.Helper()
	set, err := jwt.ParseKeySet(i.KeySet())
	if err != nil {
		t.Fatal(err)
	}
	return jwt.Fixed{Set: set}
}

// trust makes a verifier of the issuers at a time that the test can move.
func trust(t testing.TB, clock *time.Time, change func(*jwt.Issuer), issuers ...*forge.Issuer) *jwt.Verifier {
	t.Helper()
	var list []jwt.Issuer
	for n, f := range issuers {
		i := jwt.Issuer{Name: string(rune('a' + n)), URL: f.URL, Audience: []string{f.Audience}, Leeway: time.Minute, Keys: keysOf(t, f)}
		if change != nil {
			change(&i)
		}
		list = append(list, i)
	}
	v, err := jwt.New(jwt.Options{Issuers: list, CacheSize: 4, Now: func() (time.Time, bool) { return *clock, true }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestForgedTokensAreRefused(t *testing.T) {
	a, b := idpA(), idpB()
	clock := now
	v := trust(t, &clock, nil, a, b)
	for _, k := range a.Attacks(now, b) {
		id, err := v.Verify(t.Context(), k.Token)
		if err == nil {
			t.Errorf("%s: accepted as %q", k.Name, id.Subject)
			continue
		}
		if p := message.ProblemOf(err); p == nil || p.Code != message.CodeUnauthorized {
			t.Errorf("%s: %v is no problem with code unauthorized", k.Name, err)
		}
		if len(k.Token) > 20 && strings.Contains(err.Error(), k.Token[:20]) {
			t.Errorf("%s: the token is in the answer", k.Name)
		}
	}
	if s := v.Stats(); s.Verified != 0 || s.Cached != 0 || s.Refused != int64(len(a.Attacks(now, b))) {
		t.Errorf("%+v", s)
	}
}

func TestGoodTokens(t *testing.T) {
	f := idpA()
	clock := now
	v := trust(t, &clock, nil, f)
	claims := []byte(`{"iss":"https://idp.example/a","aud":["x","edgepost"],"sub":"Zoë|1","exp":1795500000.5,"iat":1.7e9,"client_id":"c1","jti":"j"}`)
	clock = time.Unix(1795499990, 0)
	for name, token := range map[string]string{
		"EdDSA":           f.Sign("EdDSA", forge.EdKey, claims),
		"ES256":           f.Sign("ES256", forge.ECKey, claims),
		"RS256":           f.Sign("RS256", forge.RSAKey, claims),
		"no kid, one key": f.SignWith([]byte(`{"alg":"ES256","typ":"JWT"}`), claims, "ES256"),
		"long typ":        f.SignWith([]byte(`{"alg":"EdDSA","typ":"application/AT+JWT","kid":"ed-1"}`), claims, "EdDSA"),
		"a harmless jku":  f.SignWith([]byte(`{"alg":"EdDSA","typ":"JWT","kid":"ed-1","jku":"https://idp.example/keys"}`), claims, "EdDSA"),
	} {
		id, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if id.Subject != "Zoë|1" || id.Issuer != "a" || id.Client != "c1" || id.ID != "j" || id.StandsFor != "" || id.Admin ||
			!id.Expires.Equal(time.Unix(1795500060, 5e8)) || id.ACL != nil {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

// The cache must not keep a token alive beyond its end, nor beyond its issuer's keys, nor lend it to
// another issuer.
func TestCache(t *testing.T) {
	f := idpA()
	keys := &movable{set: keysOf(t, f).Keys()}
	clock := now
	v := trust(t, &clock, func(i *jwt.Issuer) { i.Keys = keys }, f)
	token := f.Token(now, nil)
	ask := func(want bool) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); (err == nil) != want {
			t.Fatalf("accepted %v, %v", err == nil, err)
		}
	}
	ask(true)
	ask(true)
	if s := v.Stats(); s.Verified != 1 || s.Cached != 1 {
		t.Fatalf("%+v", s)
	}
	for range 20 { // more than the cache holds
		if _, err := v.Verify(t.Context(), f.Token(now, forge.Claims{"jti": rand()})); err != nil {
			t.Fatal(err)
		}
	}
	ask(true)
	clock = now.Add(time.Hour + time.Minute - time.Second)
	ask(true)
	clock = now.Add(time.Hour + time.Minute)
	ask(false)
	clock = now
	ask(true)
	keys.set = keysOf(t, forge.New(f.URL, f.Audience)).Keys()
	ask(false)
	keys.set = nil // the source has none: fail closed
	ask(false)
	if _, err := v.Verify(t.Context(), token); !strings.Contains(err.Error(), "no keys") {
		t.Error(err)
	}
}

type movable struct {
	jwt.Fixed
	set *jwt.KeySet
}

func (m *movable) Keys() *jwt.KeySet { return m.set }

var counter int

func rand() string { counter++; return strings.Repeat("x", counter) }

func TestUntrustedClock(t *testing.T) {
	f := idpA()
	v, err := jwt.New(jwt.Options{
		Issuers: []jwt.Issuer{{Name: "a", URL: f.URL, Audience: []string{f.Audience}, Keys: keysOf(t, f)}},
		Now:     func() (time.Time, bool) { return now, false }, // the floor
	})
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(1000 * time.Hour)
	if _, err := v.Verify(t.Context(), f.Token(later, forge.Claims{"nbf": later.Unix()})); err != nil {
		t.Errorf("from the future of a clock that is not trusted: %v", err)
	}
	if _, err := v.Verify(t.Context(), f.Token(now.Add(-2*time.Hour), nil)); err == nil {
		t.Error("a token that ended before the floor is accepted")
	}
}

func TestRevoked(t *testing.T) {
	f := idpA()
	clock, revoked := now, ""
	v := trust(t, &clock, func(i *jwt.Issuer) { i.Revoked = func(id *jwt.Identity) bool { return id.ID == revoked } }, f)
	token := f.Token(now, forge.Claims{"jti": "one"})
	id, err := v.Verify(t.Context(), token)
	if err != nil || v.Left(id) != time.Hour+time.Minute {
		t.Fatal(err, v.Left(id))
	}
	revoked = "one"
	if _, err := v.Verify(t.Context(), token); err == nil || v.Left(id) != 0 {
		t.Error("a revoked token is accepted from the cache")
	}
}

func TestDeviceAndScope(t *testing.T) {
	f := idpA()
	clock := now
	v := trust(t, &clock, func(i *jwt.Issuer) { i.DeviceClaim, i.AdminScope = "device", "edgepost:admin" }, f)
	for _, c := range []struct {
		change forge.Claims
		stands string
		admin  bool
	}{
		{nil, "", false},
		{forge.Claims{"device": "lamp1", "scope": "edgepost:administrate x"}, "device/lamp1", false},
		{forge.Claims{"scope": "x edgepost:admin"}, "", true},
		{forge.Claims{"scope": []string{"x", "edgepost:admin"}}, "", true},
		{forge.Claims{"cred": "x"}, "", false},
	} {
		id, err := v.Verify(t.Context(), f.Token(now, c.change))
		if err != nil || id.StandsFor != c.stands || id.Admin != c.admin || id.Credential != "" {
			t.Errorf("%v: %+v, %v", c.change, id, err)
		}
	}
	if _, err := v.Verify(t.Context(), f.Token(now, forge.Claims{"device": 7})); err == nil {
		t.Error("a device that is a number is accepted")
	}
}

func TestSecret(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	set, err := jwt.SecretKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.SecretKey(secret[1:]); err == nil {
		t.Error("a secret of 31 bytes is accepted")
	}
	f := idpA()
	clock := now
	v := trust(t, &clock, func(i *jwt.Issuer) { i.Algorithms, i.Keys = []string{jwt.HS256}, jwt.Fixed{Set: set} }, f)
	payload := []byte(`{"iss":"https://idp.example/a","aud":"edgepost","sub":"s","exp":1795500000}`)
	head := []byte(`{"alg":"HS256","typ":"JWT","kid":"whatever"}`)
	if _, err := v.Verify(t.Context(), forge.HMAC(head, payload, secret)); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), forge.HMAC(head, payload, secret[1:])); err == nil {
		t.Error("another secret is accepted")
	}
	if _, err := v.Verify(t.Context(), f.Sign("EdDSA", forge.EdKey, payload)); err == nil {
		t.Error("EdDSA is accepted from an issuer with a secret")
	}
}

func TestBadIssuers(t *testing.T) {
	f := idpA()
	good := jwt.Issuer{Name: "a", URL: f.URL, Audience: []string{"x"}, Keys: keysOf(t, f)}
	for name, change := range map[string]func(*jwt.Issuer){
		"no keys":             func(i *jwt.Issuer) { i.Keys = nil },
		"no aud":              func(i *jwt.Issuer) { i.Audience = nil },
		"HS256 beside others": func(i *jwt.Issuer) { i.Algorithms = []string{jwt.EdDSA, jwt.HS256} },
		"none":                func(i *jwt.Issuer) { i.Algorithms = []string{"none"} },
	} {
		i := good
		change(&i)
		if _, err := jwt.New(jwt.Options{Issuers: []jwt.Issuer{i}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := jwt.New(jwt.Options{Issuers: []jwt.Issuer{good, good}}); err == nil {
		t.Error("one issuer twice is accepted")
	}
}

func TestKeySets(t *testing.T) {
	edKey := `{"kty":"OKP","crv":"Ed25519","kid":"e","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	small := `{"kty":"RSA","kid":"r","e":"AQAB","n":"` + forge.B64(append([]byte{0x80}, make([]byte, 127)...)) + `"}`
	for doc, want := range map[string]int{
		`{"keys":[` + edKey + `]}`: 1,
		`{"keys":[` + edKey + `,` + small + `,{"kty":"new","kid":3},{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]}`: 1,
		`{"keys":[` + small + `]}`: 0,
		`{"keys":[]}`:              0,
		`{}`:                       0,
		`[]`:                       0,
		``:                         0,
		`{"keys":[` + edKey + `,{"kty":"oct","k":"AAAA"}]}`:                                               0,
		`{"keys":[` + strings.Replace(edKey, `"kid"`, `"d":"AAAA","kid"`, 1) + `]}`:                       0,
		`{"keys":[` + strings.Replace(edKey, `"kid"`, `"use":"enc","kid"`, 1) + `]}`:                      0,
		`{"keys":[` + strings.Replace(edKey, `"kid"`, `"key_ops":["sign"],"kid"`, 1) + `]}`:               0,
		`{"keys":[` + strings.Replace(edKey, `"kid"`, `"alg":"RS256","kid"`, 1) + `]}`:                    0,
		`{"keys":[` + strings.Repeat(edKey+",", 64) + edKey + `]}`:                                        0,
		`{"keys":[` + edKey + `],"pad":"` + strings.Repeat("x", jwt.MaxKeySet) + `"}`:                     0,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"e","x":"AA"}]}`:                                     0,
		`{"keys":[{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"}]}`:                               0,
		`{"keys":[` + strings.Replace(edKey, `"kid"`, `"key_ops":["verify"],"use":"sig","kid"`, 1) + `]}`: 1,
	} {
		set, err := jwt.ParseKeySet([]byte(doc))
		if set.Len() != want || (err == nil) != (want > 0) {
			t.Errorf("%.100s: %d keys, %v", doc, set.Len(), err)
		}
	}
	if jwt.EdKeys(map[string]ed25519.PublicKey{"a": nil, "b": nil}).Len() != 2 {
		t.Error("EdKeys lost a key")
	}
}

// Refusing a token must not cost more than a fixed amount of memory, whatever its length.
func TestRefusalIsCheap(t *testing.T) {
	f := idpA()
	clock := now
	v := trust(t, &clock, nil, f)
	huge := strings.Repeat("a.", 4<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 100
	for range rounds {
		if _, err := v.Verify(t.Context(), huge); err == nil {
			t.Fatal("accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / rounds; n > 64<<10 {
		t.Errorf("%d bytes to refuse 8 MiB", n)
	}
}

func FuzzVerify(fz *testing.F) {
	f := idpA()
	clock := now
	v := trust(fz, &clock, nil, f)
	good := f.Token(now, nil)
	fz.Add(good)
	for _, k := range f.Attacks(now, idpB()) {
		fz.Add(k.Token)
	}
	fz.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), token)
		if err == nil && token != good {
			t.Fatalf("%q is accepted as %q", token, id.Subject)
		}
		if err != nil && errors.As(err, new(*message.Problem)) == false {
			t.Fatal(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	f := idpA()
	clock := now
	payload := []byte(`{"iss":"https://idp.example/a","aud":"edgepost","sub":"s","exp":1795500000,"acl":[{"permission":"allow","action":"all","topic":"room/#"}]}`)
	for alg, kid := range map[string]string{"EdDSA": forge.EdKey, "ES256": forge.ECKey, "RS256": forge.RSAKey} {
		token := f.Sign(alg, kid, payload)
		b.Run(alg+"/cached", func(b *testing.B) {
			v := trust(b, &clock, nil, f)
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/uncached", func(b *testing.B) {
			sets := [2]*jwt.KeySet{keysOf(b, f).Keys(), keysOf(b, f).Keys()}
			keys := &movable{set: sets[0]}
			v := trust(b, &clock, func(i *jwt.Issuer) { i.Keys = keys }, f)
			for n := 0; b.Loop(); n++ {
				keys.set = sets[n&1] // another set empties the cache
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
