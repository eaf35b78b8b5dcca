package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"edgepost/appliance/guard/seal"
)

// extra is what only some principals have.
//
// Invariant: of a device password is "", of a user everything else is zero; old is zero exactly when until is 0; sealKey is
// zero exactly when form is None.
type extra struct {
	profile   string
	guessable bool              // the token was chosen by a person: guesses are worth something
	old       [sha256.Size]byte // token before the last, while it is still good
	until     int64             // unix ns: how long that is
	password  string            // of a user: PHC string
	form      seal.Form         // of a device: how its payloads are sealed
	sealKey   seal.Key          // with what
}

func (e *extra) append(b []byte) []byte {
	b = appendString(b, e.profile)
	b = appendBool(b, e.guessable)
	b = append(b, e.old[:]...)
	return binary.AppendVarint(b, e.until)
}

func (e *extra) decode(c *cursor) {
	e.profile = c.string()
	e.guessable = c.bool()
	copy(e.old[:], c.take(sha256.Size))
	e.until = c.varint()
	if (e.until == 0) != (e.old == [sha256.Size]byte{}) {
		c.bad = true
	}
}

func (e *extra) appendSeal(b []byte) []byte {
	return append(append(b, byte(e.form)), e.sealKey[:]...)
}

func (e *extra) decodeSeal(c *cursor) {
	if b := c.take(1); len(b) == 1 {
		e.form = seal.Form(b[0])
	}
	copy(e.sealKey[:], c.take(seal.KeyBytes))
	if e.form == seal.None || e.form > seal.Binary || e.sealKey == (seal.Key{}) { // else it were the shorter kind
		c.bad = true
	}
}

// oldGood reports whether the token before the last is good at a time; zero, which is a clock that is not trusted, is never
// within a grace.
func (e *extra) oldGood(now time.Time) bool {
	return e.until != 0 && !now.IsZero() && now.UnixNano() < e.until
}
