package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"math"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// Verifier checks JSON Web Tokens; package jwt has one. It is safe for concurrent use.
type Verifier interface {
	// Verify returns what the token says; the error is a [message.Problem].
	Verify(ctx context.Context, token string) (*jwt.Identity, error)
	// Left is how long the identity still holds; 0: not any more.
	Left(id *jwt.Identity) time.Duration
	// Revoked reports whether it was ended before its time.
	Revoked(id *jwt.Identity) bool
	// Opaque reports whether an issuer is asked about tokens such as this one, which is no JSON Web Token.
	Opaque(token string) bool
	// Knows reports whether there is an issuer with that name.
	Knows(issuer string) bool
}

// Forever is how long a grant holds that has no end.
const Forever = time.Duration(math.MaxInt64)

const (
	subjectPrefix = "jwt/"
	// maxSubjects bounds the table, about 1 KiB an entry. Only tokens of configured issuers get in.
	maxSubjects = 4096
	// maxSubjectName bounds what one subject takes in principals and topics, after escaping.
	maxSubjectName = 255
)

// subjects are the principals that only their tokens tell about.
//
// Invariant: newest of a principal is the grant of the token that was issued last among those it
// has shown, or of any one when that has ended. An ended one stays until the room is needed: what
// waits for a session that is just being closed must not be judged by no rules at all.
type subjects struct {
	verify Verifier
	used   chan struct{} // holds one signal: a token was accepted

	mu   sync.Mutex
	seen map[string]*Grant // by principal
}

func newSubjects(v Verifier) *subjects {
	return &subjects{verify: v, used: make(chan struct{}, 1), seen: make(map[string]*Grant)}
}

// newest returns what the principal's newest token allows; false when none was seen since the start.
// A nil table has seen none.
func (s *subjects) newest(principal string) (*Grant, bool) {
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.seen[principal]
	return g, ok
}

// note takes over what a token allows. changed says that the newest is another one now; ok is false when
// there is no room.
func (s *subjects) note(g *Grant) (changed, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.seen[g.principal]
	if known && (g.token == old.token || g.token.Issued.Before(old.token.Issued) && s.verify.Left(old.token) > 0) {
		return false, true
	}
	if !known && len(s.seen) >= maxSubjects {
		for p, other := range s.seen {
			if s.verify.Left(other.token) == 0 {
				delete(s.seen, p)
			}
		}
		if len(s.seen) >= maxSubjects {
			return false, false
		}
	}
	s.seen[g.principal] = g
	return true, true
}

// checkJWT says for whom a JSON Web Token stands; a refused one is a failed sign-in.
func (a *Authenticator) checkJWT(ctx context.Context, c *Credentials) (*Grant, error) {
	g, err := a.subjectOf(ctx, c)
	return g, a.failed(err, c)
}

// failed counts a refused token as a failed sign-in.
func (a *Authenticator) failed(err error, c *Credentials) error {
	if p := message.ProblemOf(err); p != nil && p.Code == message.CodeUnauthorized {
		if wait := a.throttle.failed(c.Remote); wait > 0 {
			return TooSoon(wait)
		}
	}
	return err
}

// subjectOf says for whom a JSON Web Token stands. A name beside it may be anything that is not
// registered: MQTT 3.1.1 has no password without a user name. A registered one must be the token's.
func (a *Authenticator) subjectOf(ctx context.Context, c *Credentials) (*Grant, error) {
	id, err := a.subjects.verify.Verify(ctx, c.Token)
	if err != nil {
		return nil, err
	}
	g := newSubject(id)
	switch {
	case id.Bound != "" && id.Bound != c.Shown:
		return nil, unauthorized("the token is bound to a certificate that this connection does not show")
	case id.StandsFor != "":
		if g, err = a.standsFor(id, c.Name); err != nil {
			return nil, err
		}
	case len(g.Name) > maxSubjectName:
		return nil, unauthorized("the token is refused: its sub is too long")
	default:
		if _, registered := a.dir.Lookup(c.Name); registered {
			return nil, unauthorized("the token is not that of %.64q; leave the name out, or use that one's own token", c.Name)
		}
		changed, ok := a.subjects.note(g)
		if !ok {
			return nil, message.Problemf(message.CodeTooMany, "%d subjects of issuers are in use, the limit; try again when some of their tokens have ended", maxSubjects)
		}
		if changed {
			a.changes.Add(1)
		}
	}
	select {
	case a.subjects.used <- struct{}{}:
	default:
	}
	return g, nil
}

// newSubject makes the grant of a token that stands for nobody registered. Its name and its
// principal hold signs that no device's and no key's have.
func newSubject(id *jwt.Identity) *Grant {
	sub := escape(id.Subject)
	return &Grant{
		Kind: Subject, Name: sub + "@" + id.Issuer, Admin: id.Admin,
		principal: subjectPrefix + id.Issuer + "/" + sub, token: id,
	}
}

// escape makes a subject a part of a topic and of a principal: what is not A-Z a-z 0-9 . _ : - becomes
// %XX, so that no wildcard, slash or @ is left, and two subjects never become the same.
func escape(sub string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(sub); i++ {
		switch c := sub[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._:-", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteString(string([]byte{'%', hex[c>>4], hex[c&15]}))
		}
	}
	return b.String()
}

// standsFor makes the grant of a token that stands for a registered device or key: what that may do
// now, narrowed by the token.
func (a *Authenticator) standsFor(id *jwt.Identity, name string) (*Grant, error) {
	version := a.dir.Version()
	e, ok := a.entryOf(id)
	switch {
	case !ok:
		return nil, unauthorized("the token is refused: it stands for %.80q, which is not registered, or has another credential by now", id.StandsFor)
	case name != "" && name != e.Name:
		return nil, unauthorized("the token is that of %.64q, not of %.64q", e.Name, name)
	}
	return a.grant(&e, version).narrow(id), nil
}

// entryOf finds who a token stands for. One of our own issuer ends with the credential that it was
// issued for.
func (a *Authenticator) entryOf(id *jwt.Identity) (Entry, bool) {
	kind, name, _ := strings.Cut(id.StandsFor, "/")
	e, ok := a.dir.Lookup(name)
	return e, ok && e.Kind.String() == kind && (e.Kind == Device || e.Kind == Key) &&
		(id.Credential == "" || id.Credential == CredentialMark(e.TokenHash) || id.Credential == CredentialMark(e.OldHash))
}

// CredentialMark names a credential in a token of our own issuer, without telling its hash.
func CredentialMark(tokenHash [sha256.Size]byte) string {
	h := sha256.Sum256(append([]byte("edgepost credential mark\x00"), tokenHash[:]...))
	return base64.RawURLEncoding.EncodeToString(h[:12])
}

// narrow returns the grant as the token has it: it ends with the token, and administers only if
// the token says so too.
func (g *Grant) narrow(id *jwt.Identity) *Grant {
	n := *g
	n.token = id
	n.Admin = g.Admin && id.Admin
	return &n
}

// AfterEnd returns the grant without its end: for what was promised while it held, as a will is. A
// revoked one still ends.
func (g *Grant) AfterEnd() *Grant {
	if g.token == nil {
		return g
	}
	n := *g
	n.ended = true
	return &n
}

// Left is how long the grant holds: [Forever] unless a JSON Web Token proved it; 0: not any more.
// While the clock is not trusted it may turn out to be less.
func (a *Authenticator) Left(g *Grant) time.Duration {
	if g.token == nil || a.subjects == nil {
		return Forever
	}
	if g.token.StandsFor != "" {
		if _, ok := a.entryOf(g.token); !ok {
			return 0
		}
	}
	if g.ended {
		if a.subjects.verify.Revoked(g.token) {
			return 0
		}
		return Forever
	}
	return a.subjects.verify.Left(g.token)
}

// Now returns what the grant's principal may do at the moment, as far as the grant's own token reaches: a
// session holds the grant it began with, and rules change and end while it lasts. The error is a
// [message.Problem] with [message.CodeUnauthorized].
func (a *Authenticator) Now(g *Grant) (*Grant, error) {
	if a.Left(g) == 0 {
		return nil, unauthorized("the token has ended; get a new one")
	}
	if g.Kind == Subject || g.Kind == Bridge { // a bridge that is removed does not run any more
		return g, nil
	}
	current, ok := a.Current(g.principal)
	if !ok {
		return nil, unauthorized("%s is not registered any more", g.principal)
	}
	if g.token != nil {
		current = current.narrow(g.token)
		current.ended = g.ended
	}
	return current, nil
}

// Exists reports whether the principal may come back: it is registered, or its issuer is configured.
func (a *Authenticator) Exists(principal string) bool {
	if rest, ok := strings.CutPrefix(principal, subjectPrefix); ok {
		issuer, _, _ := strings.Cut(rest, "/")
		return a.subjects != nil && a.subjects.verify.Knows(issuer)
	}
	_, ok := a.Current(principal)
	return ok
}

// TokenUsed is signalled after a JSON Web Token was accepted, so that somebody watches for its end.
// Without issuers it never is.
func (a *Authenticator) TokenUsed() <-chan struct{} {
	if a.subjects == nil {
		return nil
	}
	return a.subjects.used
}
