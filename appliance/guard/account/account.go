// Package account is how people come in: the one-time set-up code, passwords, and the sessions that they open.
//
//   - A password is kept as an argon2id hash, a PHC string, so that its parameters can grow: who signs in with an older one gets
//     a new hash. One hash is computed at a time, because each takes 7 MiB; four more may wait.
//   - Guesses are slowed per address and account ([auth.Backoff]) before anything is computed. There is no lockout. An unknown name and
//     a wrong password are one answer, in words and in time.
//   - A session is a random id that the browser keeps as a cookie; here there is only its hash. It ends after 30 minutes of
//     silence, after 12 hours, at sign-out, when the password changes and at a restart.
//   - The set-up code exists only until there is an administrator, here only as a hash, and only the newest counts.
//
// All exported things are safe for concurrent use. Nothing here does I/O; the register keeps the hashes.
package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"sync"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Users is where the hashes of passwords are kept.
type Users interface {
	// Password returns the hash of a user's password.
	Password(name string) (string, bool)
	// SetPassword replaces it, durably.
	SetPassword(ctx context.Context, name, hash string) error
}

// Desk lets people in.
type Desk struct {
	users    Users
	sessions *Sessions
	backoff  *auth.Backoff
	hashing  *hashing

	mu   sync.Mutex
	code [sha256.Size]byte // of the set-up; zero: none was made
}

// New makes a desk. now may be nil: time.Now.
func New(users Users, now func() time.Time) *Desk {
	if now == nil {
		now = time.Now
	}
	return &Desk{users: users, sessions: NewSessions(now), backoff: auth.NewBackoff(now), hashing: newHashing()}
}

// Sessions returns the table of sessions.
func (d *Desk) Sessions() *Sessions { return d.sessions }

// NewCode makes a set-up code; only the newest counts.
func (d *Desk) NewCode() string {
	code := auth.NewCode(2) // 34 random bits, and guesses are slowed
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = auth.HashCode(code)
	return code
}

// The accounts that guesses of codes count for: no user has such a name.
const (
	setUpAccount = "/setup"
	claimAccount = "/claim"
)

// CheckCode reports whether it is the set-up code. Problems: unauthorized, too-many.
func (d *Desk) CheckCode(code string, from netip.Addr) error {
	if wait := d.backoff.Begin(from, setUpAccount); wait > 0 {
		return auth.TooSoon(wait)
	}
	hash := auth.HashCode(code)
	d.mu.Lock()
	same := subtle.ConstantTimeCompare(hash[:], d.code[:]) == 1 // no code has the hash zero
	d.mu.Unlock()
	if !same {
		return message.Problemf(message.CodeUnauthorized, "this is not the set-up code; it is on the gateway's console, and edgepost admin code gives a new one")
	}
	d.backoff.Succeeded(from, setUpAccount)
	return nil
}

// EndCode ends the set-up code.
func (d *Desk) EndCode() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = [sha256.Size]byte{}
}

// Guess slows guesses of claim codes: it returns the problem of who has to wait, else a function that takes the try back
// because it was right.
func (d *Desk) Guess(from netip.Addr) (right func(), err error) {
	if wait := d.backoff.Begin(from, claimAccount); wait > 0 {
		return nil, auth.TooSoon(wait)
	}
	return func() { d.backoff.Succeeded(from, claimAccount) }, nil
}

// Hash checks a new password against what is too easy to guess, and hashes it. Problems: bad-request, too-many.
func (d *Desk) Hash(ctx context.Context, name, password string) (string, error) {
	if err := checkPassword(name, password); err != nil {
		return "", err
	}
	return d.hashing.hash(ctx, password)
}

// Verify checks a password. Problems: unauthorized, too-many.
func (d *Desk) Verify(ctx context.Context, name, password string, from netip.Addr) error {
	if len(password) > maxPassword || message.CheckName("user name", name) != nil {
		return wrong()
	}
	if wait := d.backoff.Begin(from, name); wait > 0 {
		return auth.TooSoon(wait)
	}
	hash, known := d.users.Password(name)
	if !known {
		hash = nobody
	}
	ok, old, err := d.hashing.check(ctx, hash, password)
	switch {
	case err != nil:
		return err
	case !ok || !known:
		return wrong()
	}
	d.backoff.Succeeded(from, name)
	if old {
		if hash, err := d.hashing.hash(ctx, password); err == nil {
			_ = d.users.SetPassword(ctx, name, hash) // the old hash is good too
		}
	}
	return nil
}

// SignIn checks a password and opens a session.
func (d *Desk) SignIn(ctx context.Context, name, password string, from netip.Addr) (session string, err error) {
	if err := d.Verify(ctx, name, password, from); err != nil {
		return "", err
	}
	return d.sessions.Open(name), nil
}

func wrong() error {
	return message.Problemf(message.CodeUnauthorized, "unknown name or wrong password")
}
