// Package door holds unknown devices at the door while a person permits joining: each waits with what it presented until somebody
// approves or refuses it.
//
//   - The door is closed; a person opens it for some minutes. Nothing of it survives a restart, and a stranger writes nothing
//     to flash.
//   - Of a device there is its name, protocol and address, and the hash of the secret that it presented. Approving pins that hash:
//     the device then connects with the secret that it has.
//   - The same name with another secret is another entry, told apart by a fingerprint: nobody can take the place of a device that
//     waits.
//   - The table is bounded, and so is one address's share of it.
package door

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Bounds.
const (
	DefaultOpen = 10 * time.Minute
	MaxOpen     = time.Hour
	keepFor     = time.Hour // an entry outlives the opening: people take their time
	maxWaiting  = 64
	maxOfOne    = 16 // of one address: a bridge may bring several
)

// Waiting is a device that waits.
type Waiting struct {
	Name        string
	Fingerprint string // 8 hex digits, of the secret
	Via         string // protocol
	From        netip.Addr
	Since, Seen time.Time
	Tries       int
	Short       bool // its secret is too short to be pinned
	Refused     bool
}

// Door is the list of those who wait. Safe for concurrent use.
type Door struct {
	now func() time.Time

	mu      sync.Mutex
	until   time.Time // open until then
	waiting []*waiting
}

type waiting struct {
	Waiting
	hash      [sha256.Size]byte
	guessable bool
}

// New makes a closed door. now may be nil: time.Now.
func New(now func() time.Time) *Door {
	if now == nil {
		now = time.Now
	}
	return &Door{now: now}
}

// Open opens the door for a time, from one minute to [MaxOpen]; 0 is [DefaultOpen]. Those who were refused may come again.
func (d *Door) Open(span time.Duration) error {
	if span == 0 {
		span = DefaultOpen
	}
	if span < time.Minute || span > MaxOpen {
		return message.Problemf(message.CodeBadRequest, "joining can be permitted for 1 to %d minutes", int(MaxOpen/time.Minute))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = d.now().Add(span)
	d.waiting = slices.DeleteFunc(d.waiting, func(w *waiting) bool { return w.Refused })
	return nil
}

// Close closes the door and sends everybody away.
func (d *Door) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until, d.waiting = time.Time{}, nil
}

// Left is how long the door is still open; 0 when it is closed.
func (d *Door) Left() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.until.Sub(d.now()), 0)
}

// Knock takes note of a device that nobody knows. It returns the problem that answers it, [message.CodeWaiting], or nil when the door
// is closed to it: the device is then told what anybody is told.
func (d *Door) Knock(c auth.Credentials) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if !now.Before(d.until) || message.CheckName("device id", c.Name) != nil {
		return nil
	}
	hash := auth.HashToken(c.Token)
	d.forgetLocked(now)
	w := d.findLocked(c.Name, hash)
	if w == nil {
		if d.fullLocked(c.Remote) {
			return nil
		}
		w = &waiting{hash: hash, guessable: auth.Guessable(c.Token)}
		w.Name, w.Fingerprint, w.Via, w.From, w.Since, w.Short = c.Name, fingerprint(hash), c.Via, c.Remote.Unmap(), now, len(c.Token) < auth.MinSecret
		d.waiting = append(d.waiting, w)
	}
	w.Seen = now
	w.Tries++
	switch {
	case w.Refused:
		return nil
	case w.Short:
		return message.Problemf(message.CodeWaiting, "the gateway cannot take %s in with this password: give the device one of at least %d characters", c.Name, auth.MinSecret)
	}
	return message.Problemf(message.CodeWaiting, "%s waits for approval: somebody has to approve it on the gateway; try again", c.Name)
}

func (d *Door) findLocked(name string, hash [sha256.Size]byte) *waiting {
	for _, w := range d.waiting {
		if w.Name == name && w.hash == hash {
			return w
		}
	}
	return nil
}

func (d *Door) fullLocked(from netip.Addr) bool {
	own := 0
	for _, w := range d.waiting {
		if w.From == from.Unmap() {
			own++
		}
	}
	return len(d.waiting) >= maxWaiting || own >= maxOfOne
}

func (d *Door) forgetLocked(now time.Time) {
	d.waiting = slices.DeleteFunc(d.waiting, func(w *waiting) bool { return now.Sub(w.Seen) >= keepFor })
}

// fingerprint tells secrets apart without showing their hash.
func fingerprint(hash [sha256.Size]byte) string {
	sum := sha256.Sum256(append([]byte("edgepost fingerprint "), hash[:]...))
	return hex.EncodeToString(sum[:4])
}

// List returns those who wait, in the order in which they came, without those who were refused.
func (d *Door) List() []Waiting {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgetLocked(d.now())
	list := make([]Waiting, 0, len(d.waiting))
	for _, w := range d.waiting {
		if !w.Refused {
			list = append(list, w.Waiting)
		}
	}
	return list
}

// Pin is the credential of a device that waits.
type Pin struct {
	Hash      [sha256.Size]byte
	Guessable bool
}

// Find returns the credential with which the device waits. The fingerprint may be "" while only one waits under the name.
// Problems: not-found, bad-request.
func (d *Door) Find(name, print string) (Pin, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w, err := d.oneLocked(name, print)
	if err != nil {
		return Pin{}, err
	}
	if w.Short {
		return Pin{}, message.Problemf(message.CodeBadRequest, "the password that %s presents is shorter than %d characters and cannot be pinned; give it a longer one, or add the device", name, auth.MinSecret)
	}
	return Pin{w.hash, w.guessable}, nil
}

// Leave takes everybody off the list who waits under the name: it is somebody's now.
func (d *Door) Leave(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = slices.DeleteFunc(d.waiting, func(w *waiting) bool { return w.Name == name })
}

// Refuse has a device not wait any more until the door is opened anew. Problems: not-found, bad-request.
func (d *Door) Refuse(name, print string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	w, err := d.oneLocked(name, print)
	if err == nil {
		w.Refused = true
	}
	return err
}

func (d *Door) oneLocked(name, print string) (*waiting, error) {
	var found []*waiting
	for _, w := range d.waiting {
		if w.Name == name && !w.Refused && (print == "" || strings.EqualFold(print, w.Fingerprint)) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return nil, message.Problemf(message.CodeNotFound, "no device waits under the name %.70q", name)
	case 1:
		return found[0], nil
	}
	prints := make([]string, len(found))
	for i, w := range found {
		prints[i] = w.Fingerprint + " from " + w.From.String()
	}
	return nil, message.Problemf(message.CodeBadRequest, "%d devices wait under the name %s with different passwords (%s); say which by its fingerprint (join approve -which)",
		len(found), name, strings.Join(prints, ", "))
}
