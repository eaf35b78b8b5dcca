package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Limits of enrolment.
const (
	// MaxEnrol is the most devices of one [Registry.AddDevices]: they share one frame of the ledger.
	MaxEnrol  = 10_000
	maxSecret = 1 << 10
)

// Enrolment is a device that is to be registered, and where its token comes from: the caller's, the
// hash of one that it presented, or, with neither, a new one.
type Enrolment struct {
	Device
	Token     string            // [auth.MinSecret] to 1,024 bytes of ASCII, without blanks; "" none
	Pinned    [sha256.Size]byte // [auth.HashToken] of what the device presented; zero: none
	Guessable bool              // of Pinned: its secret is shorter than a random one would be
}

// RowError says which of several devices was refused.
type RowError struct {
	Row int // from 0
	Err error
}

func (e *RowError) Error() string { return fmt.Sprintf("device %d: %v", e.Row+1, e.Err) }

// Unwrap returns the reason.
func (e *RowError) Unwrap() error { return e.Err }

// AddDevice registers a device and returns its token, which cannot be read again. Groups that do
// not exist are made. Problems: exists, bad-name, bad-filter, bad-request, too-many.
func (r *Registry) AddDevice(ctx context.Context, d Device) (token string, err error) {
	tokens, err := r.AddDevices(ctx, []Enrolment{{Device: d}})
	if row, ok := errors.AsType[*RowError](err); ok {
		return "", row.Err
	}
	if err != nil {
		return "", err
	}
	return tokens[0], nil
}

// AddDevices registers all devices or none, and returns the tokens it made: "" for a device that brought
// its own. A refused device is named by a [RowError]; its problems are those of AddDevice.
func (r *Registry) AddDevices(ctx context.Context, list []Enrolment) (tokens []string, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	if len(list) > MaxEnrol {
		return nil, message.Problemf(message.CodeTooMany, "%d devices at once; the most is %d", len(list), MaxEnrol)
	}
	b := enrolling{r: r, names: make(map[string]bool, len(list)), hashes: make(map[[sha256.Size]byte]bool, len(list)), groups: map[string]bool{}}
	for i := range list {
		if err := b.add(list[i]); err != nil {
			return nil, &RowError{Row: i, Err: err}
		}
	}
	if err := r.commit(ctx, slices.Concat(b.newGroups, b.devices), slices.Concat(b.groupChanges, b.changes)...); err != nil {
		return nil, err
	}
	return b.tokens, nil
}

// enrolling collects the records of several devices, each checked against the register and those before it.
type enrolling struct {
	r                     *Registry
	names, groups         map[string]bool
	hashes                map[[sha256.Size]byte]bool
	tokens                []string
	newGroups, devices    []*record
	groupChanges, changes []Change
}

func (b *enrolling) add(e Enrolment) error {
	if err := message.CheckName("device id", e.ID); err != nil {
		return err
	}
	if err := b.r.checkFree(e.ID); err != nil {
		return err
	}
	switch {
	case b.names[e.ID]:
		return message.Problemf(message.CodeExists, "a device named %s is in this list already", e.ID)
	case len(b.r.tables.principals)+len(b.devices) >= MaxPrincipals:
		return message.Problemf(message.CodeTooMany, "there are %d devices, keys and users; that is the most", MaxPrincipals)
	}
	if err := b.r.checkDevice(&e.Device); err != nil {
		return err
	}
	rec := &record{name: e.ID, label: e.Label, groups: e.Groups, rules: copyRules(e.Rules), created: b.r.created()}
	rec.extra.profile = e.Profile
	if err := b.secret(&e, rec); err != nil {
		return err
	}
	rec.kind = rec.deviceKind()
	for _, name := range e.Groups {
		if b.r.tables.groups[name] == nil && !b.groups[name] {
			b.groups[name] = true
			b.newGroups = append(b.newGroups, &record{kind: putGroup, name: name})
			b.groupChanges = append(b.groupChanges, Change{GroupAdded, name})
		}
	}
	if len(b.r.tables.groups)+len(b.newGroups) > MaxGroups {
		return message.Problemf(message.CodeTooMany, "there are %d groups; that is the most", MaxGroups)
	}
	b.names[e.ID] = true
	b.devices, b.changes = append(b.devices, rec), append(b.changes, Change{DeviceAdded, e.ID})
	return nil
}

// secret gives the device its token.
func (b *enrolling) secret(e *Enrolment, rec *record) error {
	token := ""
	switch {
	case e.Pinned != [sha256.Size]byte{}:
		rec.hash, rec.extra.guessable = e.Pinned, e.Guessable
	case e.Token != "":
		if len(e.Token) < auth.MinSecret || len(e.Token) > maxSecret || strings.ContainsFunc(e.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return message.Problemf(message.CodeBadRequest, "the token of %s has %d bytes or signs that are not allowed: %d to %d of ASCII without blanks", e.ID, len(e.Token), auth.MinSecret, maxSecret)
		}
		rec.hash, rec.extra.guessable = auth.HashToken(e.Token), auth.Guessable(e.Token)
	default:
		token = newToken()
		rec.hash = auth.HashToken(token)
	}
	if b.r.tables.byToken[rec.hash] != nil || b.hashes[rec.hash] {
		return message.Problemf(message.CodeExists, "the token of %s is another's already; each device needs its own", e.ID)
	}
	b.hashes[rec.hash] = true
	b.tokens = append(b.tokens, token)
	return nil
}

// RotateDevice gives a device a new token. The old one ends now, or after the grace, in which both are good; it needs a
// clock that is trusted. Problems: unknown-device, bad-request, unavailable.
func (r *Registry) RotateDevice(ctx context.Context, id string, grace time.Duration) (token string, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findDevice(id)
	if err != nil {
		return "", err
	}
	token = newToken()
	rec := p.record()
	rec.extra.guessable, rec.extra.old, rec.extra.until = false, [sha256.Size]byte{}, 0
	if grace > 0 {
		now := r.now()
		if now.IsZero() {
			return "", message.Problemf(message.CodeUnavailable, "the clock is not trusted, so nobody would know when the grace ends; rotate without one, or set the clock first")
		}
		rec.extra.guessable = p.extra != nil && p.extra.guessable
		rec.extra.old, rec.extra.until = p.hash, now.Add(grace).UnixNano()
	}
	rec.hash = auth.HashToken(token)
	rec.kind = rec.deviceKind()
	if err := r.revoke(ctx, []*record{&rec}, Change{TokenRotated, id}); err != nil {
		return "", err
	}
	return token, nil
}

// EndGraces forgets the tokens whose grace is over, and returns the devices that had them: whoever still
// uses one is to be disconnected.
func (r *Registry) EndGraces(ctx context.Context) (ended []string, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	now := r.now()
	if now.IsZero() {
		return nil, nil
	}
	var records []*record
	var changes []Change
	for _, p := range r.tables.byToken { // a grace is rare: most look-ups are all of it
		if p.extra == nil || p.extra.until == 0 || p.extra.oldGood(now) || slices.Contains(ended, p.name) {
			continue
		}
		rec := p.record()
		rec.extra.old, rec.extra.until, rec.extra.guessable = [sha256.Size]byte{}, 0, false
		rec.kind = rec.deviceKind()
		records, changes, ended = append(records, &rec), append(changes, Change{TokenRotated, p.name}), append(ended, p.name)
	}
	if len(records) == 0 {
		return nil, nil
	}
	if err := r.revoke(ctx, records, changes...); err != nil {
		return nil, err
	}
	return ended, nil
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newToken returns "ep_" and 32 signs, 190 random bits.
func newToken() string {
	token := []byte("ep_")
	var pool [64]byte
	for len(token) < 3+32 {
		_, _ = rand.Read(pool[:]) // never fails: see crypto/rand
		for _, b := range pool {
			// 248 is the last multiple of 62: above it the first signs would come more often.
			if b < 248 && len(token) < 3+32 {
				token = append(token, base62[b%62])
			}
		}
	}
	return string(token)
}
