package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4/json" // names are exact, and no name comes twice

	withdrawn "edgepost/appliance/guard/cipher"
)

// Sizes in bytes.
const (
	KeyBytes   = 32
	idBytes    = 4
	nonceBytes = 12
	tagBytes   = 16
)

// Errors of [Box.Open], to test for with errors.Is. The error itself says more.
var (
	ErrForm  = errors.New("it has not the form of a sealed payload that is offered here")
	ErrKey   = errors.New("it is sealed with another key")
	ErrTopic = errors.New("it was sealed for another topic")
	ErrTag   = errors.New("it does not open: another key, another topic, or it was changed on its way")
)

// Key is a secret that a device shares with whoever seals for it. The zero Key is none.
type Key [KeyBytes]byte

// NewKey makes a random key.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// jwk is the form in which keys are shown and read: RFC 7517, RFC 7518 §6.4.
type jwk struct {
	Type   string `json:"kty"`
	Alg    string `json:"alg,omitempty"`
	KeyID  string `json:"kid,omitempty"`
	Secret string `json:"k"`
}

const maxJWK = 4 << 10

// ParseKey reads a key as a JSON Web Key: kty "oct", k with 32 bytes; alg, if it is there, "A256GCM" or "dir"; kid,
// if it is there, the one that follows from the key. Errors never show the key.
func ParseKey(b []byte) (k Key, err error) {
	var w jwk
	if len(b) > maxJWK {
		return k, fmt.Errorf("read key: it has %d bytes; a JSON Web Key has at most %d", len(b), maxJWK)
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return k, errors.New(`read key: it is not a JSON Web Key: {"kty":"oct","k":"…"}`)
	}
	if w.Type != "oct" {
		return k, fmt.Errorf(`read key: kty is %.20q; it must be "oct"`, w.Type)
	}
	if w.Alg != "" && w.Alg != encGCM && w.Alg != algDir {
		if err := withdrawn.Withdrawn(w.Alg, encGCM); err != nil {
			return k, fmt.Errorf("read key: alg: %w", err)
		}
		return k, fmt.Errorf("read key: alg is %.20q; it must be %q", w.Alg, encGCM)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(w.Secret)
	if err != nil || len(secret) != KeyBytes {
		return k, fmt.Errorf("read key: k must be %d bytes in base64url without padding", KeyBytes)
	}
	k = Key(secret)
	switch {
	case k == Key{}:
		return Key{}, errors.New("read key: k is all zeros, which is no secret")
	case w.KeyID != "" && w.KeyID != k.ID():
		return Key{}, fmt.Errorf("read key: kid is %.20q, but of this key it is %s; it is damaged, or leave kid away", w.KeyID, k.ID())
	}
	return k, nil
}

// ID names the key: the first four bytes of its SHA-256, in hex. Two keys of one device differ in it but for one chance in
// four thousand million.
func (k Key) ID() string {
	id := k.id()
	return hex.EncodeToString(id[:])
}

func (k Key) id() [idBytes]byte {
	sum := sha256.Sum256(k[:])
	return [idBytes]byte(sum[:idBytes])
}

// JWK shows the key as a JSON Web Key, in one line without its end.
func (k Key) JWK() []byte {
	return fmt.Appendf(nil, `{"kty":"oct","alg":"A256GCM","kid":"%s","k":"%s"}`, k.ID(), base64.RawURLEncoding.EncodeToString(k[:]))
}

// Format implements [fmt.Formatter]: a key that is printed by mistake shows its id and nothing more.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "key %s", k.ID()) }

// Box seals and opens with one key. It is safe for concurrent use.
type Box struct {
	id   [idBytes]byte
	aead cipher.AEAD
}

// NewBox makes a key ready for use.
func NewBox(k Key) *Box {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return &Box{id: k.id(), aead: aead}
}

// KeyID is the id of the box's key, see [Key.ID].
func (b *Box) KeyID() string { return hex.EncodeToString(b.id[:]) }

// Content is what a sealed payload holds.
type Content struct {
	Payload []byte
	Type    string           // its media type, "" unknown; [Binary] does not carry it
	Nonce   [nonceBytes]byte // no honest sender uses one twice with the same key
}

// Seal seals a payload for a topic, under a new random nonce. f must not be [None].
func (b *Box) Seal(f Form, topic string, c Content) []byte {
	_, _ = rand.Read(c.Nonce[:]) // never fails
	return b.seal(f, topic, c)
}

func (b *Box) seal(f Form, topic string, c Content) []byte {
	if f == Binary {
		return b.sealBinary(topic, c)
	}
	return b.sealJWE(topic, c)
}

// Open opens what was sealed for the topic. Errors: [ErrForm], [ErrKey], [ErrTopic], [ErrTag].
func (b *Box) Open(f Form, topic string, sealed []byte) (Content, error) {
	switch f {
	case JWE:
		return b.openJWE(topic, sealed)
	case Binary:
		return b.openBinary(topic, sealed)
	case None:
	}
	return Content{}, ErrForm
}
