package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"edgepost/appliance/guard/auth"
)

// Times and bounds of the device authorization grant (RFC 8628).
const (
	CodeLife   = 10 * time.Minute
	Interval   = 5 * time.Second // between two polls; each that comes earlier adds as much
	keepEnded  = CodeLife        // so that who still polls is told that it was too slow
	maxPending = 64
	maxOfOne   = 16 // requests of one address
)

// Request is one device's wish for a token, until it is granted, refused or too old.
type Request struct {
	Client string // the client_id: a name that nobody has proved
	Scope  Scope
	From   netip.Addr
	Left   time.Duration
}

// Codes are the two codes of a request.
type Codes struct {
	Device string // that the device polls with: 130 random bits
	User   string // that a person types: 8 signs of 20, 34.6 random bits
}

// Decision is what a person said to it.
type Decision struct {
	Approved bool
	By       string // principal
	Keep     bool   // the client also gets a secret of its own
}

type request struct {
	Request
	device   [sha256.Size]byte // hash of the device code
	user     [sha256.Size]byte // hash of the user code
	ends     time.Time
	interval time.Duration
	polled   time.Time
	decision *Decision
}

// Pending are the requests of devices. Safe for concurrent use. Codes are kept as hashes.
type Pending struct {
	now func() time.Time

	mu   sync.Mutex
	list []*request // oldest first; at most maxPending that are not too old, and as many that are
}

func newPending(now func() time.Time) *Pending {
	if now == nil {
		now = time.Now
	}
	return &Pending{now: now}
}

// Begin takes a request. The error is an [Error].
func (p *Pending) Begin(client string, scope Scope, from netip.Addr) (Codes, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.forgetLocked(now.Add(-keepEnded))
	live, own := 0, 0
	for _, r := range p.list {
		if now.Before(r.ends) {
			live++
			if r.From == from {
				own++
			}
		}
	}
	if live >= maxPending || own >= maxOfOne {
		return Codes{}, Errorf(TemporarilyUnavailable, "too many devices wait for approval; try again later")
	}
	device, user := rand.Text(), auth.NewCode(2)
	for p.findLocked(user, now) != nil {
		user = auth.NewCode(2)
	}
	if len(p.list) >= 2*maxPending {
		p.forgetLocked(now)
	}
	p.list = append(p.list, &request{
		Request: Request{Client: client, Scope: scope, From: from}, device: auth.HashToken(device), user: auth.HashCode(user),
		ends: now.Add(CodeLife), interval: Interval, polled: now,
	})
	return Codes{device, user}, nil
}

// Find returns the request with a user code that nobody has decided yet.
func (p *Pending) Find(code string) (Request, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	r := p.findLocked(code, now)
	if r == nil || r.decision != nil {
		return Request{}, false
	}
	out := r.Request
	out.Left = r.ends.Sub(now)
	return out, true
}

// Decide grants or refuses a request; false when there is none with the code any more.
func (p *Pending) Decide(code string, d Decision) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.findLocked(code, p.now())
	if r == nil || r.decision != nil {
		return false
	}
	r.decision = &d
	return true
}

// Poll is the device's question (RFC 8628 §3.4); a granted request is answered once. The error is an [Error].
func (p *Pending) Poll(device, client string) (Request, Decision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	hash := auth.HashToken(device)
	for i, r := range p.list {
		if r.device != hash || r.Client != client {
			continue
		}
		early := now.Sub(r.polled) < r.interval
		r.polled = now
		switch {
		case !now.Before(r.ends):
			p.dropLocked(i)
			return Request{}, Decision{}, Errorf(ExpiredToken, "the codes are older than %v; begin again", CodeLife)
		case r.decision == nil && early:
			r.interval += Interval
			return Request{}, Decision{}, Errorf(SlowDown, "wait %d s between two requests from now on", int(r.interval/time.Second))
		case r.decision == nil:
			return Request{}, Decision{}, Errorf(AuthorizationPending, "nobody has entered the user code yet")
		}
		p.dropLocked(i)
		if !r.decision.Approved {
			return Request{}, Decision{}, Errorf(AccessDenied, "a person refused it")
		}
		return r.Request, *r.decision, nil
	}
	return Request{}, Decision{}, Errorf(InvalidGrant, "the device code is unknown, used, or another client's")
}

// findLocked finds the request with a user code that is not too old.
func (p *Pending) findLocked(code string, now time.Time) *request {
	user := auth.HashCode(code)
	for _, r := range p.list {
		if r.user == user && now.Before(r.ends) {
			return r
		}
	}
	return nil
}

func (p *Pending) dropLocked(i int) { p.list = append(p.list[:i], p.list[i+1:]...) }

// forgetLocked drops what ended before then.
func (p *Pending) forgetLocked(then time.Time) {
	keep := p.list[:0]
	for _, r := range p.list {
		if then.Before(r.ends) {
			keep = append(keep, r)
		}
	}
	clear(p.list[len(keep):])
	p.list = keep
}
