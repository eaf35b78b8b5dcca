// Package forge makes JSON Web Tokens for tests: right ones, and wrong ones of every class that was
// ever accepted by a library or a messaging product. Every listener is shown the same list.
package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"sync"
	"time"
)

// Issuer can sign like a real authority. Its methods panic on a failing random source only.
type Issuer struct {
	URL      string
	Audience string

	ed  ed25519.PrivateKey
	ec  *ecdsa.PrivateKey
	rsa func() *rsa.PrivateKey // made when it is first needed: it takes a second on a busy machine
}

// Key ids of an [Issuer].
const (
	EdKey  = "ed-1"
	ECKey  = "ec-1"
	RSAKey = "rsa-1"
	EncKey = "enc-1" // the RSA key again, published for encryption
)

// New makes an issuer with fresh keys.
func New(url, audience string) *Issuer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return &Issuer{URL: url, Audience: audience, ed: ed, ec: ec, rsa: sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		must(err)
		return k
	})}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// B64 is base64url without padding.
func B64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// KeySet is the document behind jwks_uri.
func (i *Issuer) KeySet() []byte {
	point, err := i.ec.PublicKey.Bytes() // 4, x, y
	must(err)
	k := i.rsa()
	rsaKey := func(id, use string) map[string]string {
		return map[string]string{
			"kty": "RSA", "kid": id, "use": use, "n": B64(k.N.Bytes()), "e": B64(big.NewInt(int64(k.E)).Bytes()),
		}
	}
	return mustJSON(map[string]any{"keys": []map[string]string{
		{"kty": "OKP", "crv": "Ed25519", "kid": EdKey, "use": "sig", "alg": "EdDSA", "x": B64(i.ed.Public().(ed25519.PublicKey))},
		{"kty": "EC", "crv": "P-256", "kid": ECKey, "use": "sig", "x": B64(point[1:33]), "y": B64(point[33:])},
		rsaKey(RSAKey, "sig"),
		rsaKey(EncKey, "enc"),
	}})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// Claims are a claims set or a header; nil values are left out.
type Claims map[string]any

// Claims returns what a good token says, valid from a minute ago for an hour, changed by the given ones; nil
// removes one.
func (i *Issuer) Claims(now time.Time, change Claims) Claims {
	c := Claims{
		"iss": i.URL, "aud": i.Audience, "sub": "alice", "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
		"acl": []Claims{{"permission": "allow", "action": "all", "topic": "room/#"}},
	}
	return c.with(change)
}

func (c Claims) with(change Claims) Claims {
	for name, v := range change {
		if v == nil {
			delete(c, name)
		} else {
			c[name] = v
		}
	}
	return c
}

// Token makes a good token, signed with Ed25519.
func (i *Issuer) Token(now time.Time, change Claims) string {
	return i.Sign("EdDSA", EdKey, mustJSON(i.Claims(now, change)))
}

// Sign signs any payload with the issuer's key for the algorithm.
func (i *Issuer) Sign(alg, kid string, payload []byte) string {
	return i.SignWith(mustJSON(Claims{"alg": alg, "typ": "at+jwt", "kid": kid}), payload, alg)
}

// SignWith signs with the key for the algorithm whatever the header says.
func (i *Issuer) SignWith(header, payload []byte, alg string) string {
	text := B64(header) + "." + B64(payload)
	return text + "." + B64(i.signature(alg, []byte(text)))
}

func (i *Issuer) signature(alg string, text []byte) []byte {
	sum := sha256.Sum256(text)
	switch alg {
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		must(err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "ES256-DER":
		sig, err := ecdsa.SignASN1(rand.Reader, i.ec, sum[:])
		must(err)
		return sig
	case "RS256":
		sig, err := rsa.SignPKCS1v15(rand.Reader, i.rsa(), crypto.SHA256, sum[:])
		must(err)
		return sig
	case "PS256":
		sig, err := rsa.SignPSS(rand.Reader, i.rsa(), crypto.SHA256, sum[:], nil)
		must(err)
		return sig
	}
	return ed25519.Sign(i.ed, text)
}

// HMAC signs with a secret, as HS256 does.
func HMAC(header, payload, secret []byte) string {
	text := B64(header) + "." + B64(payload)
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(text))
	return text + "." + B64(h.Sum(nil))
}

// zeroDER is r = s = 0 in DER, of CVE-2022-21449.
func zeroDER() []byte {
	b, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int), new(big.Int)})
	must(err)
	return b
}
