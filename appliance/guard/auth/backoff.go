package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of a [Backoff].
const (
	freeFailures  = 5                // before the first delay
	forgetAfter   = 10 * time.Minute // of silence
	leastDelay    = 2 * time.Second
	mostDelay     = 15 * time.Minute
	maxBackoff    = 4096 // about 600 KiB when an attacker fills it
	failuresOfOne = 4 * freeFailures
)

// Backoff slows guesses of what people choose: passwords, short tokens, codes. Five failures in ten minutes for an address and an
// account are free, and twenty for an address; from then on each doubles the delay before the next try is looked at, from 2 s up to
// 15 min. There is no lockout: an account's owner elsewhere does not notice. IPv6 addresses count by /64. Safe for
// concurrent use.
type Backoff struct {
	now func() time.Time

	mu    sync.Mutex
	tries map[backoffKey]*tries
}

// backoffKey is an address with an account, or with "" for all accounts of the address.
type backoffKey struct {
	from    netip.Addr
	account string
}

type tries struct {
	failed int
	last   time.Time // the last failure
	until  time.Time // when the next try is looked at
}

// NewBackoff makes an empty table.
func NewBackoff(now func() time.Time) *Backoff {
	return &Backoff{now: now, tries: make(map[backoffKey]*tries)}
}

// Begin counts a try as failed and returns 0, or returns how long to wait before it would be looked at. Tries that run at the same
// time count each.
func (b *Backoff) Begin(from netip.Addr, account string) time.Duration {
	from = sourceOf(from)
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := [2]backoffKey{{from, account}, {from: from}}
	for _, k := range keys {
		if t := b.tries[k]; t != nil && now.Before(t.until) {
			return t.until.Sub(now)
		}
	}
	for i, k := range keys {
		free := freeFailures
		if i == 1 {
			free = failuresOfOne
		}
		b.failLocked(k, now, free)
	}
	return 0
}

func (b *Backoff) failLocked(k backoffKey, now time.Time, free int) {
	t := b.tries[k]
	if t == nil {
		if len(b.tries) >= maxBackoff {
			b.evictLocked()
		}
		t = &tries{}
		b.tries[k] = t
	}
	if now.Sub(t.last) >= forgetAfter && !now.Before(t.until.Add(forgetAfter)) {
		t.failed = 0
	}
	t.failed++
	t.last = now
	if over := t.failed - free; over >= 0 {
		t.until = now.Add(min(leastDelay<<min(over, 20), mostDelay))
	}
}

// Succeeded forgets the failures of the account at this address, and takes this try back from the address's own.
func (b *Backoff) Succeeded(from netip.Addr, account string) {
	from = sourceOf(from)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tries, backoffKey{from, account})
	if t := b.tries[backoffKey{from: from}]; t != nil {
		t.failed--
		t.until = time.Time{}
	}
}

// evictLocked forgets the most harmless of a few.
func (b *Backoff) evictLocked() {
	var victim backoffKey
	n := 0
	for k, t := range b.tries {
		if n == 0 || t.failed < b.tries[victim].failed {
			victim = k
		}
		if n++; n == evictSample {
			break
		}
	}
	delete(b.tries, victim)
}
