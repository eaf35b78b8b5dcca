package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"
)

const (
	keysDir  = "keys"
	ringName = keysDir + "/ring"
	lockName = keysDir + "/lock"

	ringFormat   = 1
	maxRingBytes = 64 << 10 // some 300 data keys
)

// ringFile is keys/ring.
type ringFile struct {
	Format int       `json:"format"`
	Source string    `json:"source"`
	Salt   []byte    `json:"salt"`
	Keys   []ringKey `json:"keys"`
}

type ringKey struct {
	ID      string `json:"id"` // four hex digits
	Created int64  `json:"created,omitempty"`
	Wrapped []byte `json:"wrapped"` // nonce, ciphertext, tag
}

// readRing returns the ring's file or, if that is damaged, its copy. The error is ErrNone, ErrTorn, or a newer format.
func readRing(data string) (*ringFile, error) {
	var failed error
	for _, name := range []string{ringName, ringName + ".bak"} {
		f, err := readCopy(filepath.Join(data, name))
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil {
		return nil, ErrNone
	}
	return nil, fmt.Errorf("%w: %w", ErrTorn, failed)
}

func readCopy(path string) (*ringFile, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxRingBytes+1))
	if err != nil {
		return nil, err
	}
	return parseRing(path, b)
}

// parseRing checks the checksum behind the JSON, then the JSON.
func parseRing(path string, b []byte) (*ringFile, error) {
	end := bytes.LastIndexByte(bytes.TrimRight(b, "\n"), '\n')
	if end < 0 || len(b) > maxRingBytes {
		return nil, fmt.Errorf("%s is no keyring", path)
	}
	sum := sha256.Sum256(b[:end+1])
	if hex.EncodeToString(sum[:]) != string(bytes.TrimSpace(b[end+1:])) {
		return nil, fmt.Errorf("the checksum of %s is wrong", path)
	}
	var f ringFile
	if err := json.Unmarshal(b[:end], &f); err != nil {
		return nil, fmt.Errorf("%s is no keyring: %w", path, err)
	}
	if f.Format != ringFormat || len(f.Keys) == 0 {
		return nil, fmt.Errorf("%s has format %d, this version reads %d; a newer one wrote it", path, f.Format, ringFormat)
	}
	return &f, nil
}

// wrapKey is what encrypts data keys.
func wrapKey(kek, salt []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, kek, salt, "edgepost keyring 1 wrap", chacha20poly1305.KeySize)
}

func bound(id string) []byte { return []byte("edgepost keyring 1\x00" + id) }

// open decrypts the data keys. The error is ErrWrong.
func (f *ringFile) open(kek []byte) ([]dataKey, error) {
	key, err := wrapKey(kek, f.Salt)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	out := make([]dataKey, 0, len(f.Keys))
	for _, k := range f.Keys {
		if len(k.Wrapped) < aead.NonceSize() {
			return nil, ErrWrong
		}
		secret, err := aead.Open(nil, k.Wrapped[:aead.NonceSize()], k.Wrapped[aead.NonceSize():], bound(k.ID))
		id, perr := strconv.ParseUint(k.ID, 16, 16)
		if err != nil || perr != nil || len(secret) != keyBytes || uint16(id) != idOf(secret) {
			return nil, fmt.Errorf("%w: it is another one than the data was encrypted with", ErrWrong)
		}
		out = append(out, dataKey{id: uint16(id), secret: secret, created: k.Created})
	}
	return out, nil
}

// storeLocked writes both copies, one after the other, each durable and whole at any moment.
func (r *Ring) storeLocked() error {
	key, err := wrapKey(r.kek, r.salt)
	if err != nil {
		return err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return err
	}
	f := ringFile{Format: ringFormat, Source: r.source.String(), Salt: r.salt}
	for _, k := range r.keys {
		id := fmt.Sprintf("%04x", k.id)
		nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+keyBytes+aead.Overhead())
		_, _ = rand.Read(nonce) // never fails
		f.Keys = append(f.Keys, ringKey{ID: id, Created: k.created, Wrapped: aead.Seal(nonce, nonce, k.secret, bound(id))})
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	sum := sha256.Sum256(b)
	b = append(b, hex.EncodeToString(sum[:])+"\n"...)
	for _, name := range []string{ringName, ringName + ".bak"} {
		if err := replaceFile(filepath.Join(r.data, name), b); err != nil {
			return err
		}
	}
	return nil
}

func nowSeconds() int64 { return time.Now().Unix() }

// sameCopies reports whether both copies are there and the same.
func sameCopies(data string) bool {
	a, err := os.ReadFile(filepath.Join(data, ringName))
	b, err2 := os.ReadFile(filepath.Join(data, ringName+".bak"))
	return err == nil && err2 == nil && bytes.Equal(a, b)
}

// lock keeps two processes from changing the ring at the same time; the second waits.
func lock(data string) (unlock func(), err error) {
	path := filepath.Join(data, lockName)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		err = syncDir(data)
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", filepath.Dir(path), err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock keyring: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock keyring: %w", err)
	}
	return func() { f.Close() }, nil
}
