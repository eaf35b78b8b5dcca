package oauth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// Times of tokens and keys.
const (
	DefaultLifetime = 15 * time.Minute
	MaxLifetime     = time.Hour
	DefaultRotation = 90 * 24 * time.Hour
	checkEvery      = time.Hour
	// leeway is what a token may be issued ahead of the clock: behind the second in which its subject's others were ended.
	leeway = 2 * time.Second
)

// Name is that of our own issuer among those that are trusted; no configured one can have it.
const Name = "$own"

// Options configure a [Server]. Dir, Issuer, Now, Age and Since are required.
type Options struct {
	Dir      string        // of the files
	Issuer   string        // the claims iss and aud
	Lifetime time.Duration // of a token; 0: 15 minutes
	Rotation time.Duration // between two keys; 0: 90 days

	Now   func() time.Time                              // the earliest that the time can be
	Age   func() time.Duration                          // a clock that is never set and goes on over restarts
	Since func(kept time.Duration) (past time.Duration) // how long ago an age was that was kept
	Log   *slog.Logger                                  // nil: none
}

// Server signs tokens and knows which are revoked. It is safe for concurrent use.
type Server struct {
	o       Options
	Pending *Pending

	issued atomic.Int64
	latest atomic.Int64 // the highest claim iat that was given out; written under mu, at least for reading

	mu      sync.RWMutex
	keys    *keyring
	revoked *revocations
}

// Open reads the keys and the list of what was revoked, or makes them. The error says that they cannot be stored.
func Open(o Options) (*Server, error) {
	if o.Lifetime <= 0 {
		o.Lifetime = DefaultLifetime
	}
	if o.Rotation <= 0 {
		o.Rotation = DefaultRotation
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	keyPath, revokedPath := filepath.Join(o.Dir, "keys"), filepath.Join(o.Dir, "revoked")
	revoked, failed := openRevoked(revokedPath)
	if failed != nil {
		o.Log.Warn("what was revoked of the access tokens is unreadable; all of them are ended, with new keys", "error", failed)
		if err := os.Remove(keyPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("end all access tokens: %w", err)
		}
	}
	keys, made, err := openKeys(keyPath, o.Age())
	if err != nil {
		return nil, err
	}
	if failed != nil && made {
		if err := revoked.store(nil, nil); err != nil {
			return nil, fmt.Errorf("begin the list of revoked tokens anew: %w", err)
		}
	}
	s := &Server{o: o, keys: keys, revoked: revoked, Pending: newPending(nil)}
	for _, e := range revoked.subjects { // a token may have been issued right afterwards
		s.latest.Store(max(s.latest.Load(), e.Before+1))
	}
	return s, nil
}

// Trust is the server as an issuer whose tokens are accepted.
func (s *Server) Trust() jwt.Issuer {
	return jwt.Issuer{
		Name: Name, URL: s.o.Issuer, Audience: []string{s.o.Issuer}, Algorithms: []string{jwt.EdDSA}, Types: []string{"at+jwt"},
		Leeway: leeway, AdminScope: AdminScope, Keys: source{s}, Own: true, Revoked: s.Revoked,
	}
}

// source gives the keys to a [jwt.Verifier].
type source struct{ s *Server }

func (k source) Keys() *jwt.KeySet {
	k.s.mu.RLock()
	defer k.s.mu.RUnlock()
	return k.s.keys.set
}

func (source) Refresh(context.Context) {}

// Issuer is the server's name, as in the claim iss.
func (s *Server) Issuer() string { return s.o.Issuer }

// Issued is how many tokens were signed since the start.
func (s *Server) Issued() int64 { return s.issued.Load() }

// Subject is whom a token is for.
type Subject struct {
	Principal  string // the claim sub
	Client     string // the claim client_id
	Credential string // mark of the credential that was shown; the token ends with it
	Thumbprint string // x5t#S256 of the certificate that the client showed; "": the token is not bound to one
	Scope      Scope
}

// Token is a signed token.
type Token struct {
	Text    string
	Expires time.Duration // from now
	Scope   string
}

// Description is what a token that holds says (RFC 7662 §2.2).
type Description struct {
	Subject, Client, ID, Scope, Bound string
	Issued, Expires                   time.Time
}

// Issue signs a token.
func (s *Server) Issue(sub Subject) (Token, error) {
	s.mu.RLock()
	key := *s.keys.signer()
	issued := max(s.o.Now().Unix(), s.revoked.before(sub.Principal)+1)
	for last := s.latest.Load(); issued > last && !s.latest.CompareAndSwap(last, issued); {
		last = s.latest.Load()
	}
	s.mu.RUnlock()
	type confirm struct {
		X5T string `json:"x5t#S256"`
	}
	claims := struct {
		Iss   string    `json:"iss"`
		Sub   string    `json:"sub"`
		Aud   string    `json:"aud"`
		Exp   int64     `json:"exp"`
		Iat   int64     `json:"iat"`
		Jti   string    `json:"jti"`
		ID    string    `json:"client_id"`
		Cred  string    `json:"cred"`
		Scope string    `json:"scope,omitempty"`
		ACL   []aclRule `json:"acl,omitempty"`
		Cnf   *confirm  `json:"cnf,omitempty"`
	}{
		s.o.Issuer, sub.Principal, s.o.Issuer, issued + int64(s.o.Lifetime/time.Second), issued, rand.Text(), sub.Client, sub.Credential,
		sub.Scope.Text, sub.Scope.rules, nil,
	}
	if sub.Thumbprint != "" {
		claims.Cnf = &confirm{sub.Thumbprint}
	}
	payload, err := json.Marshal(&claims)
	if err != nil {
		return Token{}, fmt.Errorf("write an access token: %w", err)
	}
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(`{"alg":"EdDSA","typ":"at+jwt","kid":"`+key.id+`"}`)) + "." + b64.EncodeToString(payload)
	text += "." + b64.EncodeToString(ed25519.Sign(key.pair, []byte(text)))
	if len(text) > jwt.MaxToken {
		return Token{}, Errorf(InvalidScope, "the scope is too long for a token of %d bytes", jwt.MaxToken)
	}
	s.issued.Add(1)
	return Token{text, s.o.Lifetime, sub.Scope.Text}, nil
}

// Revoked reports whether a token of ours was ended before its time.
func (s *Server) Revoked(id *jwt.Identity) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.revoked.has(id.ID, id.Subject, id.Issued)
}

// RevokeToken ends one token. It is durable on return.
func (s *Server) RevokeToken(id *jwt.Identity) error {
	return s.end(id.ID, id.Subject, id.Expires)
}

// RevokeSubject ends all tokens of a principal that were issued so far. It is durable on return.
func (s *Server) RevokeSubject(principal string) error { return s.end("", principal, time.Time{}) }

// RevokeEverybody ends all tokens that were issued so far. It is durable on return.
func (s *Server) RevokeEverybody() error { return s.end("", everybody, time.Time{}) }

func (s *Server) end(id, subject string, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.revoked.end(id, subject, until, s.o.Now(), s.latest.Load()); err != nil {
		return message.Problemf(message.CodeStorageFailed, "the revocation could not be stored, and is not in effect: %v", err)
	}
	return nil
}

// Rotate has the next key sign from now on; tokens that were signed with the old one stay good until their end. With end
// they end now.
func (s *Server) Rotate(end bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.keys.rotate(s.o.Age(), s.o.Since, end)
	if err != nil && message.ProblemOf(err) == nil {
		err = message.Problemf(message.CodeStorageFailed, "the new key could not be stored, and the old one stays: %v", err)
	}
	return err
}

// Run rotates the keys when their time has come, until ctx is done.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		s.upkeep()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) upkeep() {
	s.mu.Lock()
	due := s.o.Since(time.Duration(s.keys.signer().Since)) >= s.o.Rotation
	s.keys.prune(s.o.Since)
	s.mu.Unlock()
	if !due {
		return
	}
	if err := s.Rotate(false); err != nil {
		s.o.Log.Warn("the key that signs access tokens could not be replaced; it is tried again", "error", err)
		return
	}
	s.o.Log.Info("access tokens are signed with the next key from now on")
}

// KeySet is the document behind jwks_uri.
func (s *Server) KeySet() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys.document()
}

// Key describes a key without its secret.
type Key struct {
	ID    string
	State string
	Since time.Duration // that it is in the state
}

// Keys lists the keys.
func (s *Server) Keys() []Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Key
	for i := range s.keys.keys {
		k := &s.keys.keys[i]
		out = append(out, Key{k.id, k.State, s.o.Since(time.Duration(k.Since))})
	}
	return out
}

// Ended is how many single tokens and how many subjects are on the list of what was revoked.
func (s *Server) Ended() (tokens, subjects int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.revoked.tokens), len(s.revoked.subjects)
}
