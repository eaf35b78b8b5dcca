package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"edgepost/appliance/message"
)

// Parameters of new hashes: as strong as OWASP's row for 7 MiB, which a gateway with 64 MiB can spare for a moment. 22 to 28 ms on
// amd64, about 100 ms on 32 bits.
const (
	argonMemory  = 7168 // KiB
	argonTime    = 5
	argonThreads = 1
	saltBytes    = 16
	keyBytes     = 32
)

// Limits.
const (
	minPassword = 8   // characters: NIST SP 800-63B §3.1.1.2 with our throttling
	maxPassword = 256 // bytes; a hash takes the same time for all of them
	maxWaiting  = 4   // hashes that wait for their turn
)

// nobody is the hash that a password for an unknown name is compared with, of no password: it takes as long.
const nobody = "$argon2id$v=19$m=7168,t=5,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// common are the first that anybody tries, and what this gateway is called.
const common = " password password1 passw0rd 12345678 123456789 1234567890 11111111 00000000 qwertyui qwertyuiop qwerty123 asdfghjkl iloveyou " +
	"princess football baseball sunshine superman trustno1 letmein1 welcome1 administrator admin123 admin1234 changeme changeit edgepost gateway1 "

// checkPassword refuses what is guessed first.
func checkPassword(name, password string) error {
	lower := strings.ToLower(password)
	switch {
	case !utf8.ValidString(password):
		return message.Problemf(message.CodeBadRequest, "the password is not valid UTF-8")
	case utf8.RuneCountInString(password) < minPassword:
		return message.Problemf(message.CodeBadRequest, "the password is too short: at least %d characters, better 15", minPassword)
	case len(password) > maxPassword:
		return message.Problemf(message.CodeBadRequest, "the password has %d bytes; at most %d", len(password), maxPassword)
	case strings.Contains(common, " "+lower+" "), strings.Trim(lower, lower[:1]) == "", lower == strings.ToLower(name):
		return message.Problemf(message.CodeBadRequest, "the password is one of the first that anybody tries; take another")
	}
	return nil
}

// hashing computes one hash at a time.
type hashing struct {
	turn  chan struct{} // holds one while a hash is computed
	queue chan struct{} // holds one for each that computes or waits
}

func newHashing() *hashing {
	return &hashing{turn: make(chan struct{}, 1), queue: make(chan struct{}, 1+maxWaiting)}
}

// enter waits for a turn; leave ends it.
func (h *hashing) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, message.Problemf(message.CodeTooMany, "too many people sign in at this moment; try again in a few seconds")
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; <-h.queue }, nil
	case <-ctx.Done():
		<-h.queue
		return nil, ctx.Err()
	}
}

func (h *hashing) hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	var salt [saltBytes]byte
	_, _ = rand.Read(salt[:]) // never fails: see crypto/rand
	key := argon2.IDKey([]byte(password), salt[:], argonTime, argonMemory, argonThreads, keyBytes)
	return phc{memory: argonMemory, time: argonTime, threads: argonThreads, salt: salt[:], key: key}.String(), nil
}

// check compares a password with a hash; old says that the hash was made with other parameters than today's.
func (h *hashing) check(ctx context.Context, hash, password string) (ok, old bool, err error) {
	p, err := parsePHC(hash)
	if err != nil {
		return false, false, err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	key := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key))) //nolint:gosec // parsePHC bounds it
	ok = subtle.ConstantTimeCompare(key, p.key) == 1
	old = p.memory != argonMemory || p.time != argonTime || p.threads != argonThreads || len(p.key) != keyBytes
	return ok, old, nil
}

// phc is a hash in the PHC string format: $argon2id$v=19$m=7168,t=5,p=1$SALT$KEY, base64 without padding.
type phc struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads, b64(p.salt), b64(p.key))
}

var errHash = errors.New("the hash of the password is damaged")

// parsePHC reads a hash; its bounds keep a damaged one from taking all memory.
func parsePHC(s string) (phc, error) {
	var p phc
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil || n != 3 {
		return p, errHash
	}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.key, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	switch {
	case err1 != nil, err2 != nil, len(p.salt) < 8, len(p.salt) > 64, len(p.key) < 16, len(p.key) > 64:
		return p, errHash
	case p.memory < 8, p.memory > 64<<10, p.time < 1, p.time > 64, p.threads < 1, p.threads > 8, p.String() != s:
		return p, errHash
	}
	return p, nil
}
