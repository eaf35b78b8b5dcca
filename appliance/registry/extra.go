package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// extra is what only some principals have.
//
// Invariant: of a device password is "", of a user everything else is zero; old is zero exactly when until is 0.
type extra struct {
	profile   string
	guessable bool              // the token was chosen by a person: guesses are worth something
	old       [sha256.Size]byte // token before the last, while it is still good
	until     int64             // unix ns: how long that is
	password  string            // of a user: PHC string
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

// oldGood reports whether the token before the last is good at a time; zero, which is a clock that is not trusted, is never
// within a grace.
func (e *extra) oldGood(now time.Time) bool {
	return e.until != 0 && !now.IsZero() && now.UnixNano() < e.until
}
