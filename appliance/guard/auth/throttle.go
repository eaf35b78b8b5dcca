package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Five failures at once, then one in two seconds: the figure of CrowdSec's ssh-bf (5 in 10 s).
const (
	failureBurst  = 5
	failureRefill = 2 * time.Second
	maxSources    = 4096 // about 250 KiB when an attacker fills it
	evictSample   = 8
)

// throttle limits failed authentications per source address; IPv6 sources count by /64, which is
// what one household has. Loopback is never limited. Sources without an address share one bucket.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex
	sources map[netip.Addr]time.Time // when the source's bucket is full again
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sources: make(map[netip.Addr]time.Time)}
}

// failed counts one failure. It returns 0 while the source has failures left, else how long until
// the next one is counted.
func (t *throttle) failed(from netip.Addr) time.Duration {
	from = sourceOf(from)
	if from.IsLoopback() {
		return 0
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	full, known := t.sources[from]
	if full.Before(now) {
		full = now
	}
	full = full.Add(failureRefill)
	if over := full.Sub(now) - failureBurst*failureRefill; over > 0 {
		return over
	}
	if !known && len(t.sources) >= maxSources {
		t.evictLocked()
	}
	t.sources[from] = full
	return 0
}

// evictLocked forgets the most harmless of a few sources; looking at all of them would give an
// attacker with many addresses a lever.
func (t *throttle) evictLocked() {
	var victim netip.Addr
	var full time.Time
	n := 0
	for a, f := range t.sources {
		if n == 0 || f.Before(full) {
			victim, full = a, f
		}
		if n++; n == evictSample {
			break
		}
	}
	delete(t.sources, victim)
}

func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
