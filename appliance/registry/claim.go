package registry

import (
	"context"
	"crypto/sha256"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// ClaimTTL is how long a claim code waits for its use: a device may lie in a box for a while. A code that was made while the
// clock was not trusted waits for ever.
const ClaimTTL = 30 * 24 * time.Hour

// MakeClaim makes a code with which somebody gets the device's token, once; an earlier one ends. Problem: unknown-device.
func (r *Registry) MakeClaim(ctx context.Context, id string) (code string, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	if _, err := r.findDevice(id); err != nil {
		return "", err
	}
	code = auth.NewCode(4) // 69 bits: it may wait for a month
	rec := &record{kind: putClaim, name: id, hash: auth.HashCode(code)}
	if now := r.now(); !now.IsZero() {
		rec.until = now.Add(ClaimTTL).UnixNano()
	}
	if err := r.commit(ctx, []*record{rec}, Change{ClaimMade, id}); err != nil {
		return "", err
	}
	return code, nil
}

// Claim uses a code up: the device gets a new token, and the one before ends. Problems: unauthorized for a code that is
// unknown, used or too old; unavailable while the clock cannot tell.
func (r *Registry) Claim(ctx context.Context, code string) (id, token string, err error) {
	hash := auth.HashCode(code) // looked up by its hash: the time of the look-up tells nothing about the code
	r.change.Lock()
	defer r.change.Unlock()
	id, ok := r.tables.byClaim[hash]
	if !ok {
		return "", "", message.Problemf(message.CodeUnauthorized, "the code is unknown or was used; a new one: edgepost device claim ID")
	}
	if until := r.tables.claims[id].until; until != 0 {
		now := r.now()
		if now.IsZero() {
			return "", "", message.Problemf(message.CodeUnavailable, "the clock is not trusted, so nobody knows whether the code is still good; set the clock, or make a new code")
		}
		if now.UnixNano() >= until {
			return "", "", message.Problemf(message.CodeUnauthorized, "the code is too old; a new one: edgepost device claim ID")
		}
	}
	p, err := r.findDevice(id)
	if err != nil {
		return "", "", err
	}
	token = newToken()
	rec := p.record()
	rec.extra.guessable, rec.extra.old, rec.extra.until = false, [sha256.Size]byte{}, 0
	rec.hash = auth.HashToken(token)
	rec.kind = rec.deviceKind()
	if err := r.commit(ctx, []*record{&rec, {kind: removeClaim, name: id}}, Change{TokenRotated, id}, Change{ClaimEnded, id}); err != nil {
		return "", "", err
	}
	return id, token, nil
}

// HasClaim reports whether a claim code of the device waits for its use.
func (r *Registry) HasClaim(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.tables.claims[id]
	return ok
}
