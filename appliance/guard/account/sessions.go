package account

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"edgepost/appliance/guard/auth"
)

// How long a session lasts (ASVS 5.0 V7.3).
const (
	IdleTimeout     = 30 * time.Minute
	AbsoluteTimeout = 12 * time.Hour
)

// Bounds of the table, about 150 bytes an entry. One user cannot crowd the others out.
const (
	maxSessions      = 256
	maxSessionsOfOne = 16
)

// Sessions are the people who are signed in.
type Sessions struct {
	now func() time.Time

	mu   sync.Mutex
	open map[[sha256.Size]byte]*session
}

type session struct {
	user       string
	made, used time.Time
}

// ends is when it ends if it is not used any more.
func (s *session) ends() time.Time {
	idle, absolute := s.used.Add(IdleTimeout), s.made.Add(AbsoluteTimeout)
	if idle.Before(absolute) {
		return idle
	}
	return absolute
}

// NewSessions makes an empty table.
func NewSessions(now func() time.Time) *Sessions {
	return &Sessions{now: now, open: make(map[[sha256.Size]byte]*session)}
}

// Open opens a session and returns its id: 32 random bytes as base64url. When too many are open the one that was used longest ago
// ends: of the same user, or of anyone.
func (t *Sessions) Open(user string) string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: see crypto/rand
	id := base64.RawURLEncoding.EncodeToString(secret[:])
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.makeRoomLocked(user)
	t.open[auth.HashToken(id)] = &session{user: user, made: now, used: now}
	return id
}

func (t *Sessions) makeRoomLocked(user string) {
	var oldest, oldestOwn [sha256.Size]byte
	own := 0
	for hash, s := range t.open {
		if o := t.open[oldest]; o == nil || s.used.Before(o.used) {
			oldest = hash
		}
		if s.user == user {
			own++
			if o := t.open[oldestOwn]; o == nil || s.used.Before(o.used) {
				oldestOwn = hash
			}
		}
	}
	switch {
	case own >= maxSessionsOfOne:
		delete(t.open, oldestOwn)
	case len(t.open) >= maxSessions:
		delete(t.open, oldest)
	}
}

// User returns whose session it is, and counts as its use.
func (t *Sessions) User(id string) (string, bool) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[auth.HashToken(id)] // looked up by hash: the time of the look-up tells nothing about the id
	if s == nil || !now.Before(s.ends()) {
		return "", false
	}
	s.used = now
	return s.user, true
}

// Left is how long the session lasts if it is not used any more; 0 when there is none.
func (t *Sessions) Left(id string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[auth.HashToken(id)]
	if s == nil {
		return 0
	}
	return max(s.ends().Sub(t.now()), 0)
}

// End ends a session.
func (t *Sessions) End(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, auth.HashToken(id))
}

// EndOf ends all sessions of a user but the one with the id keep; "" keeps none.
func (t *Sessions) EndOf(user, keep string) {
	kept := auth.HashToken(keep)
	t.mu.Lock()
	defer t.mu.Unlock()
	for hash, s := range t.open {
		if s.user == user && hash != kept {
			delete(t.open, hash)
		}
	}
}

// Sweep forgets the sessions that are over and returns whose they were: connections that began with one are to end.
func (t *Sessions) Sweep() (users []string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for hash, s := range t.open {
		if !now.Before(s.ends()) {
			delete(t.open, hash)
			users = append(users, s.user)
		}
	}
	return users
}

// Session describes a session to people. Its id tells it from others and opens nothing.
type Session struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Made    time.Time `json:"made"`
	Used    time.Time `json:"used"`
	Ends    time.Time `json:"ends"`    // unless it is used
	Present bool      `json:"present"` // it is the one that asks
}

// listed is a session's name in lists: of its hash, which opens nothing, the first 64 bits.
func listed(hash [sha256.Size]byte) string { return hex.EncodeToString(hash[:8]) }

// List describes the sessions of a user, "" of all, by when they were made. present is the id of the one that asks.
func (t *Sessions) List(user, present string) []Session {
	own := auth.HashToken(present)
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []Session{}
	for hash, s := range t.open {
		if (user == "" || s.user == user) && now.Before(s.ends()) {
			list = append(list, Session{ID: listed(hash), User: s.user, Made: s.made.UTC(), Used: s.used.UTC(), Ends: s.ends().UTC(), Present: hash == own})
		}
	}
	slices.SortFunc(list, func(a, b Session) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID)) })
	return list
}

// EndListed ends a session that List named, of the user, "" of anybody, and returns whose it was; false when there is none.
func (t *Sessions) EndListed(user, id string) (whose string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for hash, s := range t.open {
		if listed(hash) == id && (user == "" || s.user == user) {
			delete(t.open, hash)
			return s.user, true
		}
	}
	return user, false
}
