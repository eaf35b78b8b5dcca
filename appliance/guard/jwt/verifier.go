package jwt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"edgepost/appliance/message"
)

// KeySource is where an issuer's keys come from. It is safe for concurrent use.
type KeySource interface {
	// Keys returns the present keys, the same pointer while they are the same; nil: none that may
	// be used.
	Keys() *KeySet
	// Refresh is called when a token names a key that is not among them. It returns after the source
	// was asked again, at once when that was done a moment ago.
	Refresh(ctx context.Context)
}

// Fixed is a [KeySource] whose keys never change.
type Fixed struct{ Set *KeySet }

// Keys returns the set.
func (f Fixed) Keys() *KeySet { return f.Set }

// Refresh does nothing.
func (f Fixed) Refresh(context.Context) {}

// Issuer is one authority whose tokens are accepted.
type Issuer struct {
	Name        string        // in principals: jwt/<name>/<subject>
	URL         string        // what iss must be, exactly
	Audience    []string      // aud must name one of them
	Algorithms  []string      // empty: EdDSA, ES256 and RS256; only HS256 with a secret
	Types       []string      // what typ may be; "" means that it is absent. Empty: at+jwt and JWT
	Leeway      time.Duration // for clocks that differ; 0 to 10 minutes
	DeviceClaim string        // the claim that names the registered device the token stands for; "": none
	AdminScope  string        // the scope whose tokens may administer; "": none
	Keys        KeySource
	Ask         *Introspection // instead of Keys: the issuer is asked about each token, signed or not

	// Own marks our own issuer: a subject is then a principal of the register.
	Own bool
	// Revoked reports whether a token was ended before its time. nil: none is.
	Revoked func(id *Identity) bool
}

// Identity is what a verified token says. It is immutable.
type Identity struct {
	Issuer     string    // its configured name
	Subject    string    // sub
	StandsFor  string    // the principal of the register that it stands for ("device/lamp1"); "": it is one of its own
	Credential string    // of our own issuer: which credential of that principal it was issued for
	Client     string    // client_id or clientid; may be ""
	ID         string    // jti; may be ""
	Scope      string    // scope, words with blanks between them
	Bound      string    // cnf.x5t#S256: only who shows the certificate with that thumbprint may use it; "": it is not bound
	ACL        *ACL      // nil: it has no claim acl
	Admin      bool      // its scope has the issuer's admin scope
	Issued     time.Time // iat; zero: it does not say
	Expires    time.Time // exp and the leeway

	notBefore time.Time

	from   *issuer
	answer *answer // of an issuer that is asked; else nil
}

// Options are what a [Verifier] needs.
type Options struct {
	Issuers []Issuer
	// Now returns the time and whether it can be trusted; if not, it is the earliest that the time can be.
	Now func() (now time.Time, trusted bool)
	// CacheSize is how many verified tokens are remembered for each issuer; 0: 256, about 1 KiB each.
	CacheSize int
}

const defaultCache = 256

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	issuers []*issuer
	now     func() (time.Time, bool)
	stats   struct{ cached, verified, refused atomic.Int64 }
}

type issuer struct {
	Issuer
	algs  []jose.SignatureAlgorithm
	cache cache
}

// New makes a verifier. The errors are mistakes of a configuration.
func New(o Options) (*Verifier, error) {
	v := &Verifier{now: o.Now}
	if v.now == nil {
		v.now = func() (time.Time, bool) { return time.Now(), true }
	}
	if o.CacheSize <= 0 {
		o.CacheSize = defaultCache
	}
	for _, i := range o.Issuers {
		is, err := newIssuer(i, o.CacheSize)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", i.Name, err)
		}
		if slices.ContainsFunc(v.issuers, func(other *issuer) bool { return other.Name == i.Name || other.URL == i.URL }) {
			return nil, fmt.Errorf("issuer %q: its name or iss is that of another one", i.Name)
		}
		v.issuers = append(v.issuers, is)
	}
	return v, nil
}

func newIssuer(i Issuer, cacheSize int) (*issuer, error) {
	if i.Name == "" || i.URL == "" || len(i.Audience) == 0 || (i.Keys == nil) == (i.Ask == nil) {
		return nil, errors.New("it needs a name, iss, aud and a source of keys, or somebody to ask")
	}
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{EdDSA, ES256, RS256}
	}
	if slices.Contains(i.Algorithms, HS256) && len(i.Algorithms) > 1 {
		return nil, errors.New("HS256 cannot be mixed with other algorithms: a public key must never serve as a secret")
	}
	is := &issuer{Issuer: i, cache: cache{size: cacheSize}}
	for _, a := range i.Algorithms {
		if !slices.Contains([]string{EdDSA, ES256, RS256, HS256}, a) {
			return nil, fmt.Errorf("algorithm %.20q is not offered; there are EdDSA, ES256, RS256, and HS256 with a secret", a)
		}
		is.algs = append(is.algs, jose.SignatureAlgorithm(a))
	}
	if len(i.Types) == 0 {
		is.Types = []string{"at+jwt", "JWT"}
	}
	return is, nil
}

// Own reports whether our own issuer signed the token.
func (id *Identity) Own() bool { return id.from != nil && id.from.Own }

// Ends is the claim exp, without the leeway that Expires has.
func (id *Identity) Ends() time.Time { return id.Expires.Add(-id.from.Leeway) }

// Stats count tokens since the start.
type Stats struct {
	Cached   int64 // accepted without a look at the signature
	Verified int64 // accepted
	Refused  int64
}

// Stats returns the counters.
func (v *Verifier) Stats() Stats {
	return Stats{v.stats.cached.Load(), v.stats.verified.Load(), v.stats.refused.Load()}
}

// Knows reports whether there is an issuer with that name.
func (v *Verifier) Knows(name string) bool {
	return slices.ContainsFunc(v.issuers, func(i *issuer) bool { return i.Name == name })
}

// Verify returns what a token says if it holds now. The error is a [message.Problem] with
// [message.CodeUnauthorized] that names what is wrong. It waits for an issuer's keys when the
// token names one that is not known, see [KeySource], at most until ctx is done.
func (v *Verifier) Verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) <= MaxToken {
		hash := sha256.Sum256([]byte(token))
		for _, is := range v.issuers {
			if is.Keys == nil {
				continue // its answers have a memory of their own
			}
			id := is.cache.get(&hash, is.Keys.Keys())
			switch {
			case id == nil:
			case v.Left(id) > 0:
				v.stats.cached.Add(1)
				return id, nil
			default:
				is.cache.drop(&hash)
			}
		}
	}
	id, err := v.verify(ctx, token)
	if err != nil {
		v.stats.refused.Add(1)
		return nil, message.Problemf(message.CodeUnauthorized, "the token is refused: %v", err)
	}
	v.stats.verified.Add(1)
	return id, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (*Identity, error) {
	if v.Opaque(token) {
		return v.opaque(ctx, token)
	}
	rawHeader, rawClaims, err := split(token)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(rawHeader)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(rawClaims)
	if err != nil {
		return nil, err
	}
	iss, err := c.text("iss")
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(v.issuers, func(i *issuer) bool { return i.URL == iss })
	if iss == "" || at < 0 {
		return nil, errors.New("no issuer is configured that has its iss; see [[issuer]]")
	}
	is := v.issuers[at]
	if is.Ask != nil {
		return v.asked(ctx, is, token)
	}
	if !slices.Contains(is.Algorithms, h.Alg) {
		return nil, errors.New("its alg is not one of the issuer's")
	}
	if !h.typed(is.Types) {
		return nil, errors.New("its typ is not one of the issuer's")
	}
	keys, err := is.check(ctx, h, token)
	if err != nil {
		return nil, err
	}
	id, err := is.identity(c)
	if err != nil {
		return nil, err
	}
	if err := v.holds(id); err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(token))
	is.cache.put(&hash, keys, id)
	return id, nil
}

// check verifies the signature and returns the keys that it did it with.
func (i *issuer) check(ctx context.Context, h *header, token string) (*KeySet, error) {
	keys := i.Keys.Keys()
	key := keys.find(h.Alg, h.Kid)
	if i.Algorithms[0] == HS256 {
		key = keys.find(HS256, "") // the one secret, whatever kid says
	}
	if key == nil {
		i.Keys.Refresh(ctx)
		keys = i.Keys.Keys()
		key = keys.find(h.Alg, h.Kid)
	}
	switch {
	case keys.Len() == 0:
		return nil, errors.New("there are no keys of its issuer")
	case key == nil:
		return nil, errors.New("its issuer has no such key")
	}
	signed, err := jose.ParseSignedCompact(token, i.algs)
	if err != nil {
		return nil, errors.New("it is malformed")
	}
	if _, err := signed.Verify(key); err != nil {
		return nil, errors.New("its signature is wrong")
	}
	return keys, nil
}

// identity reads the claims of a token whose signature is right.
func (i *issuer) identity(c claims) (*Identity, error) {
	id := &Identity{Issuer: i.Name, from: i}
	audience, err := c.texts("aud")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(i.Audience, a) }) {
		return nil, errors.New("it is not meant for us: its aud has none of the configured names")
	}
	for _, f := range []struct {
		claim string
		into  *string
	}{{"sub", &id.Subject}, {"client_id", &id.Client}, {"jti", &id.ID}} {
		if *f.into, err = c.text(f.claim); err != nil {
			return nil, err
		}
	}
	if id.Client == "" {
		if id.Client, err = c.text("clientid"); err != nil {
			return nil, err
		}
	}
	if id.Subject == "" || len(id.Subject) > maxSubject {
		return nil, fmt.Errorf("it has no sub of 1 to %d bytes", maxSubject)
	}
	if id.ACL, err = parseACL(c["acl"], names{client: id.Client, user: id.Subject}); err != nil {
		return nil, err
	}
	if id.Expires, err = c.date("exp"); err != nil {
		return nil, err
	}
	if id.Expires.IsZero() {
		return nil, errors.New("it has no exp, so it would never end")
	}
	id.Expires = id.Expires.Add(i.Leeway)
	if id.Issued, err = c.date("iat"); err != nil {
		return nil, err
	}
	if id.notBefore, err = c.date("nbf"); err != nil {
		return nil, err
	}
	if id.Bound, err = c.bound(); err != nil {
		return nil, err
	}
	return id, i.place(id, c)
}

// place says for whom the token stands, and whether it may administer.
func (i *issuer) place(id *Identity, c claims) error {
	switch {
	case i.Own:
		var err error
		id.StandsFor = id.Subject
		if id.Credential, err = c.text("cred"); err != nil {
			return err
		}
	case i.DeviceClaim != "":
		device, err := c.text(i.DeviceClaim)
		if err != nil {
			return err
		}
		if device != "" {
			id.StandsFor = "device/" + device
		}
	}
	scopes, err := c.texts("scope") // a text of words (RFC 8693 §4.2), or a list as some issuers write it
	if err != nil && i.AdminScope == "" {
		return nil // nobody asks
	}
	words := strings.Fields(strings.Join(scopes, " "))
	id.Scope = strings.Join(words, " ")
	id.Admin = i.AdminScope != "" && slices.Contains(words, i.AdminScope)
	return err
}

// holds judges the token's dates.
func (v *Verifier) holds(id *Identity) error {
	now, trusted := v.now()
	latest := now.Add(id.from.Leeway)
	switch {
	case !now.Before(id.Expires):
		return errors.New("it has expired; get a new one")
	case trusted && id.notBefore.After(latest):
		return errors.New("it is not valid yet (nbf); compare the clocks")
	case trusted && id.Issued.After(latest):
		return errors.New("it was issued in the future (iat); compare the clocks")
	case v.Revoked(id):
		return errors.New("it was revoked")
	}
	return nil
}

// Left is how long the identity still holds; 0: not any more. While the clock is not trusted it may
// turn out to be less, so who waits for the end asks again from time to time.
func (v *Verifier) Left(id *Identity) time.Duration {
	now, _ := v.now()
	if v.Revoked(id) {
		return 0
	}
	left := max(id.Expires.Sub(now), 0)
	if id.answer != nil {
		left = min(left, id.answer.left(id))
	}
	return left
}

// Revoked reports whether the token was ended before its time.
func (v *Verifier) Revoked(id *Identity) bool {
	return id.from.Revoked != nil && id.from.Revoked(id) || id.answer != nil && id.answer.revoked(id)
}
