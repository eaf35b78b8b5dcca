package forge

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// Attack is one token that must be refused.
type Attack struct {
	Name  string
	Token string
}

// Attacks returns tokens that must all be refused by whoever trusts the issuer; other is an issuer that is
// trusted too, for attacks from one on the other.
func (i *Issuer) Attacks(now time.Time, other *Issuer) []Attack {
	list := i.signatures(now, other)
	list = append(list, i.headers(now)...)
	list = append(list, i.claimSets(now)...)
	return append(list, i.shapes(now)...)
}

// signatures are about who signed, and how.
func (i *Issuer) signatures(now time.Time, other *Issuer) []Attack {
	good := mustJSON(i.Claims(now, nil))
	head := func(alg string) []byte { return mustJSON(Claims{"alg": alg, "typ": "at+jwt", "kid": EdKey}) }
	public := i.ed.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(&i.rsa().PublicKey)
	must(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	stranger := New(i.URL, i.Audience)
	token := i.Token(now, nil)
	last := strings.LastIndexByte(token, '.') + 1
	es := B64(mustJSON(Claims{"alg": "ES256", "typ": "at+jwt", "kid": ECKey})) + "." + B64(good) + "."
	list := []Attack{
		{"alg HS256 with the public key's bytes", HMAC(head("HS256"), good, public)},
		{"alg HS256 with the public key in PEM", HMAC(mustJSON(Claims{"alg": "HS256", "typ": "at+jwt", "kid": RSAKey}), good, text)},
		{"alg HS256 with the key set's text", HMAC(head("HS256"), good, i.KeySet())},
		{"alg HS256 with an empty secret", HMAC(head("HS256"), good, nil)},
		{"kid is a path, empty secret", HMAC(mustJSON(Claims{"alg": "HS256", "typ": "at+jwt", "kid": "../../../../dev/null"}), good, nil)},
		{"kid is SQL", HMAC(mustJSON(Claims{"alg": "HS256", "typ": "at+jwt", "kid": "x' UNION SELECT 'k"}), good, []byte("k"))},
		{"another claims set under the signature", strings.Join([]string{
			strings.Split(token, ".")[0],
			B64(mustJSON(i.Claims(now, Claims{"sub": "root"}))), token[last:],
		}, ".")},
		{"a stranger's key under our kid", stranger.Token(now, nil)},
		{"another trusted issuer's key under our iss", other.Sign("EdDSA", EdKey, good)},
		{"our key under another trusted issuer's iss", i.Sign("EdDSA", EdKey, mustJSON(other.Claims(now, nil)))},
		{"an unknown kid", i.Sign("EdDSA", "ed-2", good)},
		{"no kid, and a stranger's key", stranger.SignWith(mustJSON(Claims{"alg": "EdDSA", "typ": "at+jwt"}), good, "EdDSA")},
		{"alg EdDSA, kid of the RSA key", i.SignWith(mustJSON(Claims{"alg": "EdDSA", "typ": "at+jwt", "kid": RSAKey}), good, "RS256")},
		{"alg RS256, kid of the Ed25519 key", i.SignWith(mustJSON(Claims{"alg": "RS256", "typ": "at+jwt", "kid": EdKey}), good, "EdDSA")},
		{"a key for encryption", i.SignWith(mustJSON(Claims{"alg": "RS256", "typ": "at+jwt", "kid": EncKey}), good, "RS256")},
		{"alg PS256, not offered", i.SignWith(mustJSON(Claims{"alg": "PS256", "typ": "at+jwt", "kid": RSAKey}), good, "PS256")},
		{"alg RS256 with a PSS signature", i.SignWith(mustJSON(Claims{"alg": "RS256", "typ": "at+jwt", "kid": RSAKey}), good, "PS256")},
		{"ES256 with r = s = 0", es + B64(make([]byte, 64))},
		{"ES256 with r = s = 0 in DER", es + B64(zeroDER())},
		{"ES256 with the signature in DER", i.SignWith(mustJSON(Claims{"alg": "ES256", "typ": "at+jwt", "kid": ECKey}), good, "ES256-DER")},
		{"a short signature", token[:last+40]},
		{"one bit of the signature", token[:last] + flip(token[last:])},
	}
	for _, alg := range []string{"none", "NoNe", "NONE", "nOnE", "", "HS512", "RS384", "eddsa", "EdDSA ", "Ed25519"} {
		list = append(list, Attack{fmt.Sprintf("alg %q", alg), i.SignWith(head(alg), good, "EdDSA")})
	}
	return append(list,
		Attack{"alg none without a signature", B64(head("none")) + "." + B64(good) + "."},
		Attack{"alg EdDSA without a signature", B64(head("EdDSA")) + "." + B64(good) + "."},
		Attack{"alg none, two words", B64(head("none")) + "." + B64(good)},
	)
}

// flip changes the first sign of a word.
func flip(word string) string {
	if word[0] == 'A' {
		return "B" + word[1:]
	}
	return "A" + word[1:]
}

// headers are about what the header brings with it.
func (i *Issuer) headers(now time.Time) []Attack {
	good := mustJSON(i.Claims(now, nil))
	stranger := New(i.URL, i.Audience)
	own := map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": "mine", "x": B64(stranger.ed.Public().(ed25519.PublicKey))}
	by := func(who *Issuer, change Claims) string {
		return who.SignWith(mustJSON(Claims{"alg": "EdDSA", "typ": "at+jwt", "kid": EdKey}.with(change)), good, "EdDSA")
	}
	return []Attack{
		{"jwk in the header", by(stranger, Claims{"jwk": own})},
		{"jwk in the header under its own kid", by(stranger, Claims{"jwk": own, "kid": "mine"})},
		{"jwk in the header, no kid", by(stranger, Claims{"jwk": own, "kid": nil})},
		{"jku in the header", by(stranger, Claims{"jku": "https://127.0.0.1:1/jwks.json", "kid": "mine"})},
		{"x5u in the header", by(stranger, Claims{"x5u": "https://127.0.0.1:1/cert.pem", "kid": "mine"})},
		{"x5c in the header", by(stranger, Claims{"x5c": []string{"MIIB"}, "kid": "mine"})},
		{"unknown crit", by(i, Claims{"crit": []string{"exp2"}, "exp2": 1})},
		{"empty crit", by(i, Claims{"crit": []string{}})},
		{"b64 false", by(i, Claims{"crit": []string{"b64"}, "b64": false})},
		{"b64 false without crit", by(i, Claims{"b64": false})},
		{"zip", by(i, Claims{"zip": "DEF"})},
		{"typ logout+jwt", by(i, Claims{"typ": "logout+jwt"})},
		{"typ dpop+jwt", by(i, Claims{"typ": "dpop+jwt"})},
		{"no typ", by(i, Claims{"typ": nil})},
		{"kid is a number", by(i, Claims{"kid": 1})},
		{"a kid of 5,000 bytes", by(i, Claims{"kid": strings.Repeat("k", 5000)})},
		{"alg twice: none, EdDSA", i.SignWith([]byte(`{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"`+EdKey+`"}`), good, "EdDSA")},
		{"alg twice: EdDSA, none", i.SignWith([]byte(`{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":"`+EdKey+`"}`), good, "EdDSA")},
		{"the header is a list", i.SignWith([]byte(`["EdDSA"]`), good, "EdDSA")},
		{"the header is not UTF-8", i.SignWith([]byte("{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\""+EdKey+"\",\"x\":\"\xff\"}"), good, "EdDSA")},
	}
}

// claimSets are about what the token says; all signatures are right.
func (i *Issuer) claimSets(now time.Time) []Attack {
	said := func(name string, change Claims) Attack { return Attack{name, i.Token(now, change)} }
	text := func(name, payload string) Attack { return Attack{name, i.Sign("EdDSA", EdKey, []byte(payload))} }
	good := string(mustJSON(i.Claims(now, nil)))
	rule := func(permission, action, topic string) []Claims {
		return []Claims{{"permission": permission, "action": action, "topic": topic}}
	}
	return []Attack{
		said("a stranger's iss", Claims{"iss": "https://evil.example"}),
		said("iss with a slash more", Claims{"iss": i.URL + "/"}),
		said("no iss", Claims{"iss": nil}),
		said("iss is a list", Claims{"iss": []string{i.URL}}),
		said("another aud", Claims{"aud": "somebody-else"}),
		said("no aud", Claims{"aud": nil}),
		said("an empty aud", Claims{"aud": []string{}}),
		said("aud is an object", Claims{"aud": Claims{"x": i.Audience}}),
		said("a part of the aud", Claims{"aud": i.Audience[:len(i.Audience)-1]}),
		said("no exp", Claims{"exp": nil}),
		said("exp long ago", Claims{"exp": now.Add(-time.Hour).Unix()}),
		said("exp is a text", Claims{"exp": fmt.Sprint(now.Add(time.Hour).Unix())}),
		said("exp is negative", Claims{"exp": -1}),
		said("exp is zero", Claims{"exp": 0}),
		said("exp is true", Claims{"exp": true}),
		said("exp beyond the year 9999", Claims{"exp": 1e15}),
		text("exp 1e400", strings.Replace(good, `"exp":`, `"exp":1e400,"old":`, 1)),
		said("nbf in the future", Claims{"nbf": now.Add(time.Hour).Unix()}),
		said("nbf is a text", Claims{"nbf": "now"}),
		said("iat in the future", Claims{"iat": now.Add(time.Hour).Unix()}),
		said("no sub", Claims{"sub": nil}),
		said("an empty sub", Claims{"sub": ""}),
		said("sub is a number", Claims{"sub": 7}),
		said("sub with a line break", Claims{"sub": "alice\nroot"}),
		said("sub with a NUL", Claims{"sub": "alice\x00"}),
		said("sub with half a surrogate", Claims{"sub": "alice\ufffd"}),
		said("a sub of 300 bytes", Claims{"sub": strings.Repeat("s", 300)}),
		text("sub is not UTF-8", strings.Replace(good, `"alice"`, "\"al\xffice\"", 1)),
		text("sub twice", strings.Replace(good, `"sub":"alice"`, `"sub":"alice","sub":"root"`, 1)),
		text("a second object behind the first", good+good),
		text("the claims are a list", "["+good+"]"),
		text("the claims are null", "null"),
		text("the claims are a text", `"`+i.URL+`"`),
		said("acl is a text", Claims{"acl": "all"}),
		said("acl with an unknown permission", Claims{"acl": rule("maybe", "all", "#")}),
		said("acl with an unknown action", Claims{"acl": rule("allow", "pub", "#")}),
		said("acl with a broken filter", Claims{"acl": rule("allow", "all", "a/#/b")}),
		said("acl with an unknown placeholder", Claims{"acl": rule("allow", "all", "${everything}")}),
		said("acl that denies what is not known", Claims{"acl": rule("deny", "all", "${clientid}/#")}),
	}
}

// shapes are about the text itself.
func (i *Issuer) shapes(now time.Time) []Attack {
	good := i.Token(now, nil)
	parts := strings.Split(good, ".")
	serialized := mustJSON(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
	return []Attack{
		{"JSON serialization", string(serialized)},
		{"a line break in the signature", good[:len(good)-4] + "\n" + good[len(good)-4:]},
		{"padding", good + "=="},
		{"the other base64 alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(i.withSigns(now))},
		{"stray bits in the last sign", good[:len(good)-1] + stray(good[len(good)-1])},
		{"four words", good + ".AA"},
		{"five words, as JWE has", parts[0] + ".." + parts[1] + "." + parts[2] + ".AA"},
		{"an empty claims set", parts[0] + ".." + parts[2]},
		{"two tokens", good + "." + good},
		{"7,000 dots", strings.Repeat(".", 7000)},
		{"7,000 dots and signs", strings.Repeat("a.", 3500)},
		{"a good token of 9 KiB", i.Token(now, Claims{"pad": strings.Repeat("p", 6600)})},
		{"deep claims", i.Sign("EdDSA", EdKey, []byte(strings.Repeat("[", 2500)+strings.Repeat("]", 2500)))},
	}
}

// withSigns is a good token with a sign in which the two alphabets differ.
func (i *Issuer) withSigns(now time.Time) string {
	for n := range 1000 {
		if t := i.Token(now, Claims{"n": n}); strings.ContainsAny(t, "-_") {
			return t
		}
	}
	panic("no token of a thousand has a sign that differs")
}

// stray sets the bits of the last sign that encode nothing: an Ed25519 signature of 64 bytes has
// 86 signs, the last of which carries two bits.
func stray(last byte) string {
	const signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(signs[strings.IndexByte(signs, last)|1])
}
