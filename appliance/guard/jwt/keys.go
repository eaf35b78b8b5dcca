package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Algorithms that are offered, as alg names them.
const (
	EdDSA = string(jose.EdDSA)
	ES256 = string(jose.ES256)
	RS256 = string(jose.RS256)
	HS256 = string(jose.HS256) // only for an issuer with a secret
)

// Limits of a key set.
const (
	MaxKeySet  = 64 << 10 // bytes of the document
	maxKeys    = 64
	maxKeyID   = 256
	minRSA     = 2048 // bits (NIST SP 800-131A)
	maxRSA     = 8192 // a check of one costs as much as 16 of 2,048
	minSecret  = 32   // bytes (RFC 7518 §3.2)
	maxAudien  = 64
	maxSubject = 255 // bytes (OpenID Connect Core §2)
)

// keyRef is how a token names a key: both by its id and by what the key is for.
type keyRef struct{ alg, id string }

// KeySet is an issuer's keys at one moment. It is immutable.
type KeySet struct {
	keys map[keyRef]any
	lone map[string]any // by algorithm: its only key, for tokens without kid; nil when there are several
}

// Len is the number of keys.
func (s *KeySet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// find returns the key for a token, nil when there is none.
func (s *KeySet) find(alg, id string) any {
	switch {
	case s == nil:
		return nil
	case id == "":
		return s.lone[alg]
	}
	return s.keys[keyRef{alg, id}]
}

func newKeySet() *KeySet { return &KeySet{keys: make(map[keyRef]any), lone: make(map[string]any)} }

func (s *KeySet) add(alg, id string, key any) {
	if _, more := s.lone[alg]; more {
		s.lone[alg] = nil
	} else {
		s.lone[alg] = key
	}
	s.keys[keyRef{alg, id}] = key
}

// SecretKey makes the key set of an issuer that signs with HS256 and a secret of at least 32 bytes.
func SecretKey(secret []byte) (*KeySet, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("the secret has %d bytes; HS256 needs %d at least", len(secret), minSecret)
	}
	s := newKeySet()
	s.add(HS256, "", slices.Clone(secret))
	return s, nil
}

// EdKeys makes a key set of Ed25519 keys by key id.
func EdKeys(keys map[string]ed25519.PublicKey) *KeySet {
	s := newKeySet()
	for id, key := range keys {
		s.add(EdDSA, id, key)
	}
	return s
}

// publicKey are the members of a JWK (RFC 7517, 7518 §6) that a check needs. The private ones are there
// to be refused; certificates are left out, since the set's source is what is trusted.
type publicKey struct {
	Kty    string   `json:"kty"`
	Crv    string   `json:"crv,omitempty"`
	X      string   `json:"x,omitempty"`
	Y      string   `json:"y,omitempty"`
	N      string   `json:"n,omitempty"`
	E      string   `json:"e,omitempty"`
	Kid    string   `json:"kid,omitempty"`
	Alg    string   `json:"alg,omitempty"`
	Use    string   `json:"use,omitempty"`
	KeyOps []string `json:"key_ops,omitempty"`
	D      string   `json:"d,omitempty"`
	K      string   `json:"k,omitempty"`
}

// ParseKeySet reads a JWK Set (RFC 7517 §5). Keys of other kinds or for other uses are left out; a
// set that has none left is an error, and so is one with a private key: it is compromised.
func ParseKeySet(doc []byte) (*KeySet, error) {
	if len(doc) > MaxKeySet {
		return nil, fmt.Errorf("the key set has %d bytes; the limit is %d", len(doc), MaxKeySet)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys; the limit is %d", len(set.Keys), maxKeys)
	}
	s := newKeySet()
	for _, raw := range set.Keys {
		var j publicKey
		if json.Unmarshal(raw, &j) != nil {
			continue // its members have other types: a kind that is not known here
		}
		if j.D != "" || j.K != "" {
			return nil, errors.New("the key set shows a private or secret key; nothing that it signs can be trusted")
		}
		if alg, key := j.usable(); key != nil && len(j.Kid) <= maxKeyID {
			s.add(alg, j.Kid, key)
		}
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("the key set has no key for %s, %s or %s", EdDSA, ES256, RS256)
	}
	return s, nil
}

// usable returns the key and the one algorithm it is for; nil when we do not use it.
func (j *publicKey) usable() (alg string, key any) {
	if j.Use != "" && j.Use != "sig" || j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
		return "", nil
	}
	bare := publicKey{Kty: j.Kty, Crv: j.Crv, X: j.X, Y: j.Y, N: j.N, E: j.E}
	doc, err := json.Marshal(&bare)
	if err != nil {
		return "", nil
	}
	var parsed jose.JSONWebKey
	if parsed.UnmarshalJSON(doc) != nil {
		return "", nil
	}
	switch k := parsed.Key.(type) {
	case ed25519.PublicKey:
		alg = EdDSA
	case *ecdsa.PublicKey:
		if alg = ES256; k.Curve != elliptic.P256() {
			return "", nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return "", nil
		}
		alg = RS256
	}
	if alg == "" || j.Alg != "" && j.Alg != alg {
		return "", nil
	}
	return alg, parsed.Key
}
