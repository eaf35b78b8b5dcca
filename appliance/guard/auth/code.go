package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

// codeSigns are those of RFC 8628 §6.1: no vowels, so no words, and nothing that looks like something else.
const codeSigns = "BCDFGHJKLMNPQRSTVWXZ"

// NewCode returns a code for people to type: groups of four signs of a set of 20, so 17 random bits a group.
func NewCode(groups int) string {
	var b strings.Builder
	for i := range 4 * groups {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(codeSigns[randomBelow(len(codeSigns))])
	}
	return b.String()
}

func randomBelow(n int) int {
	var b [1]byte
	for {
		_, _ = rand.Read(b[:]) // never fails: see crypto/rand
		if int(b[0]) < 256/n*n {
			return int(b[0]) % n
		}
	}
}

// HashCode is the only form in which a code is kept; case, blanks and dashes do not count.
func HashCode(code string) [sha256.Size]byte {
	return sha256.Sum256([]byte("edgepost code " + strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(code))))
}
