package wal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Suite says how the data frames of a generation are encrypted. The numbers are part of the format.
type Suite uint8

// The suites. Every build reads all of them; the first is far faster where the processor has AES instructions, the
// second where it has none (and there it does not leak the key through the timing of table look-ups).
const (
	Plain             Suite = 0
	AES256GCM         Suite = 1 // the nonce is the frame's offset
	XChaCha20Poly1305 Suite = 2 // the nonce is 24 random bytes in front of the ciphertext
)

// String returns the name that configuration and reports use.
func (s Suite) String() string {
	switch s {
	case Plain:
		return "plain"
	case AES256GCM:
		return "aes-256-gcm"
	case XChaCha20Poly1305:
		return "xchacha20-poly1305"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

const (
	tagSize     = 16
	maxOverhead = tagSize + chacha20poly1305.NonceSizeX
)

// lead is the number of bytes that stand before the ciphertext.
func (s Suite) lead() int {
	if s == XChaCha20Poly1305 {
		return chacha20poly1305.NonceSizeX
	}
	return 0
}

// overhead is by how much a payload grows when it is encrypted.
func (s Suite) overhead() uint32 {
	if s == Plain {
		return 0
	}
	return uint32(s.lead() + tagSize)
}

// Keys is where a log gets its keys from. Implementations are safe for concurrent use, and answer from memory.
type Keys interface {
	// Current names the key and the suite of generations that are begun from now on. id is not 0, unless the suite
	// is Plain.
	Current() (id uint16, suite Suite)
	// Derive returns 32 bytes that depend on the named key and on all of context: the key of one generation. false
	// if there is no such key.
	Derive(id uint16, context []byte) (key []byte, ok bool)
}

// Encryption is what a log needs to encrypt its data frames and to read them.
type Encryption struct {
	Log  string // names the log: its frames can be read in no other
	Keys Keys   // nil: new generations are plain, and encrypted ones cannot be read
}

// current is the suite and the key of a new generation.
func (s *Encryption) current() (Suite, uint16) {
	if s.Keys == nil {
		return Plain, 0
	}
	id, suite := s.Keys.Current()
	if suite == Plain {
		return Plain, 0
	}
	return suite, id
}

// knows reports whether the key of a generation is at hand.
func (s *Encryption) knows(key uint16) bool {
	if key == 0 {
		return true
	}
	if s.Keys == nil {
		return false
	}
	_, ok := s.Keys.Derive(key, nil)
	return ok
}

// crypter encrypts or decrypts the data frames of one generation. It is for one goroutine.
//
// Invariant: no two frames are encrypted with the same key and nonce. The key depends on the id and on the 64 random bits
// of the generation's salt, so it is this generation's alone; a generation is written by the process that began it and
// never again; and in it offsets only ascend, which encrypt checks.
type crypter struct {
	suite Suite
	key   uint16
	aead  cipher.AEAD
	next  int64  // no frame before this offset may be encrypted
	aad   []byte // name of the log, id of the generation, and room for the header's fields
	nonce [chacha20poly1305.NonceSizeX]byte
}

// keyContext is what the key of a generation is derived from.
func keyContext(log string, suite Suite, id, salt uint64) []byte {
	b := append([]byte("edgepost wal 1\x00"), log...)
	b = append(b, 0, byte(suite))
	b = binary.LittleEndian.AppendUint64(b, id)
	return binary.LittleEndian.AppendUint64(b, salt)
}

// crypter returns the crypter of a generation, nil if that is plain. The error is ErrKey.
func (s *Encryption) crypter(suite Suite, key uint16, id, salt uint64) (*crypter, error) {
	if suite == Plain {
		return nil, nil
	}
	if s.Keys == nil {
		return nil, fmt.Errorf("generation %d: %w", id, ErrKey)
	}
	secret, ok := s.Keys.Derive(key, keyContext(s.Log, suite, id, salt))
	if !ok {
		return nil, fmt.Errorf("generation %d needs key %04x: %w", id, key, ErrKey)
	}
	aead, err := suite.aead(secret)
	if err != nil {
		return nil, fmt.Errorf("generation %d: %w", id, err)
	}
	x := &crypter{suite: suite, key: key, aead: aead}
	x.aad = append(make([]byte, 0, len(s.Log)+1+8+headerFields), s.Log...)
	x.aad = append(x.aad, 0)
	x.aad = binary.LittleEndian.AppendUint64(x.aad, id)
	x.aad = x.aad[:cap(x.aad)]
	return x, nil
}

func (s Suite) aead(secret []byte) (cipher.AEAD, error) {
	switch s {
	case AES256GCM:
		block, err := aes.NewCipher(secret)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case XChaCha20Poly1305:
		return chacha20poly1305.NewX(secret)
	case Plain:
	}
	return nil, fmt.Errorf("%w: %s is not known to this version", ErrKey, s)
}

// bind returns what is authenticated beside the payload: the log, the generation, and every field of the header but the
// checksums.
func (x *crypter) bind(h *header) []byte {
	h.fields(x.aad[len(x.aad)-headerFields:])
	return x.aad
}

// counter is the nonce of AES-GCM: 96 bits that hold the frame's offset in its generation.
func (x *crypter) counter(h *header) []byte {
	n := x.nonce[:12]
	clear(n)
	binary.BigEndian.PutUint32(n[8:], h.offset)
	return n
}

// errNonce says that a frame would have been encrypted with a nonce that was used before. It cannot happen as long as the
// committer keeps the rules above; if it does, nothing is written.
var errNonce = errors.New("a nonce would be used twice")

// room makes b a frame without payload: the header's bytes and those before the ciphertext. x may be nil.
func (x *crypter) room(b []byte) []byte {
	var zero [headerSize + chacha20poly1305.NonceSizeX]byte
	n := headerSize
	if x != nil {
		n += x.suite.lead()
	}
	return append(b[:0], zero[:n]...)
}

// encrypt fills in the header of a data frame, whose payload stands behind room, and encrypts that. It returns the frame, in
// the same memory if that has space for the tag. x may be nil: then the frame stays plain.
func (x *crypter) encrypt(h *header, frame []byte) ([]byte, error) {
	if x == nil {
		h.finish(frame)
		return frame, nil
	}
	if int64(h.offset) < x.next {
		return nil, errNonce
	}
	lead := headerSize + x.suite.lead()
	h.suite, h.key = x.suite, x.key
	h.raw = uint32(len(frame) - lead)
	h.stored = h.raw + x.suite.overhead()
	nonce := x.counter(h)
	if x.suite == XChaCha20Poly1305 {
		nonce = frame[headerSize:lead]
		_, _ = rand.Read(nonce) // never fails
	}
	out := x.aead.Seal(frame[:lead], nonce, frame[lead:], x.bind(h))
	x.next = int64(h.offset) + h.entryLen()
	h.sum(out)
	return out, nil
}

// decrypt decrypts the stored payload of a data frame, in place. x is nil in a plain generation.
// The error is ErrForged.
func (x *crypter) decrypt(h *header, p []byte) ([]byte, error) {
	switch {
	case x == nil && h.suite == Plain:
		return p, nil
	case x == nil || h.suite != x.suite || h.key != x.key:
		return nil, fmt.Errorf("%w: it is not encrypted as its generation is", ErrForged)
	}
	nonce, lead := x.counter(h), x.suite.lead()
	if lead > 0 {
		nonce = p[:lead]
	}
	plain, err := x.aead.Open(p[lead:lead], nonce, p[lead:], x.bind(h))
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}

// nonceOf returns the nonce of an encrypted data frame, for people and tests.
func (f *found) nonceOf() []byte {
	if lead := f.suite.lead(); lead > 0 && len(f.payload) >= lead {
		return f.payload[:lead]
	}
	var x crypter
	return x.counter(&f.header)
}
