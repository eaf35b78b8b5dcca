package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// TicketTTL is how long a ticket waits for its use: a page opens its stream at once.
const TicketTTL = 30 * time.Second

// Bounds of the table, 100 bytes an entry. One principal cannot crowd the others out.
const (
	maxTickets      = 1024
	maxTicketsOfOne = 64
)

// Tickets are one-use credentials for clients that cannot send a header, as EventSource and
// WebSocket in browsers: a ticket in a URL may end up in a log, but it is used by then. Safe for
// concurrent use; tickets do not survive a restart.
type Tickets struct {
	now func() time.Time

	mu   sync.Mutex
	open map[[sha256.Size]byte]ticket
}

type ticket struct {
	principal string
	grant     *Grant // when a token with an end proved it: the ticket must not outlive that; else nil
	ends      time.Time
}

// NewTickets makes an empty table.
func NewTickets(now func() time.Time) *Tickets {
	return &Tickets{now: now, open: make(map[[sha256.Size]byte]ticket)}
}

// Issue makes a ticket for the principal and says how long it is valid. When too many are open the
// oldest one ends: of the same principal, or of anyone.
func (t *Tickets) Issue(g *Grant) (string, time.Duration) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: see crypto/rand
	s := base64.RawURLEncoding.EncodeToString(secret[:])
	k := ticket{principal: g.Principal(), ends: t.now().Add(TicketTTL)}
	if g.token != nil {
		k.grant = g
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.makeRoomLocked(k.principal, t.now())
	t.open[HashToken(s)] = k
	return s, TicketTTL
}

func (t *Tickets) makeRoomLocked(principal string, now time.Time) {
	var oldest, oldestOwn [sha256.Size]byte
	var ends, endsOwn time.Time
	own := 0
	for hash, k := range t.open {
		if !now.Before(k.ends) {
			delete(t.open, hash)
			continue
		}
		if ends.IsZero() || k.ends.Before(ends) {
			oldest, ends = hash, k.ends
		}
		if k.principal == principal {
			own++
			if endsOwn.IsZero() || k.ends.Before(endsOwn) {
				oldestOwn, endsOwn = hash, k.ends
			}
		}
	}
	switch {
	case own >= maxTicketsOfOne:
		delete(t.open, oldestOwn)
	case len(t.open) >= maxTickets:
		delete(t.open, oldest)
	}
}

// Redeem uses a ticket up and returns its principal, and the grant if it has an end of its own (else
// nil); false when the ticket is unknown, used or too old.
func (t *Tickets) Redeem(s string) (principal string, g *Grant, ok bool) {
	hash := HashToken(s) // looked up by hash: the time of the look-up tells nothing about the ticket
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.open[hash]
	delete(t.open, hash)
	if !ok || !now.Before(k.ends) {
		return "", nil, false
	}
	return k.principal, k.grant, true
}
