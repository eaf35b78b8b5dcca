package keyring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"edgepost/wal"
)

// Options are what [Open] needs.
type Options struct {
	Data   string                   // the data directory
	Source string                   // of the KEK; "": the one that the ring was made with, else [DefaultSource]
	Suite  wal.Suite                // of what is written from now on; Plain: nothing new is encrypted
	Getenv func(name string) string // nil: os.Getenv

	ReadOnly bool // change nothing on disk: for programs that only look
}

// Ring holds the data keys. Its methods are safe for concurrent use and answer from memory; it is what
// package wal calls Keys.
type Ring struct {
	data   string
	suite  wal.Suite
	source Source

	mu   sync.Mutex
	salt []byte
	kek  []byte
	keys []dataKey // the newest last
}

// dataKey is one key of the ring.
type dataKey struct {
	id      uint16
	secret  []byte
	created int64 // unix seconds by the machine's clock, for people
}

// Errors to test for with errors.Is.
var (
	ErrNone  = errors.New("there is no keyring")
	ErrWrong = errors.New("the key does not open the keyring")
	ErrTorn  = errors.New("the keyring is damaged, and so is its second copy")
)

// Open opens the ring of a data directory. With a Suite it makes one if there is none, and with it the
// KEK if that is a file. Without, a ring that is not there is ErrNone. The errors say what to do.
func Open(o Options) (*Ring, error) {
	if !o.ReadOnly && (o.Suite != wal.Plain || Exists(o.Data)) {
		unlock, err := lock(o.Data)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	return openLocked(o)
}

func openLocked(o Options) (*Ring, error) {
	f, err := readRing(o.Data)
	if errors.Is(err, ErrNone) && o.Suite != wal.Plain && !o.ReadOnly {
		return create(o)
	}
	if err != nil {
		return nil, err
	}
	r, err := open(o, f)
	if err == nil && !o.ReadOnly && (!sameCopies(o.Data) || r.source.String() != f.Source) {
		err = r.storeLocked()
	}
	return r, err
}

// Exists reports whether the data directory has a ring, readable or not.
func Exists(data string) bool {
	_, err := os.Lstat(filepath.Join(data, ringName))
	_, err2 := os.Lstat(filepath.Join(data, ringName+".bak"))
	return err == nil || err2 == nil
}

func open(o Options, f *ringFile) (*Ring, error) {
	want := o.Source
	if want == "" {
		want = f.Source
	}
	r := &Ring{data: o.Data, suite: o.Suite, salt: f.Salt}
	var err error
	if r.source, err = ParseSource(want); err != nil {
		return nil, err
	}
	path, err := r.source.path(o.Data, o.getenv)
	if err != nil {
		return nil, err
	}
	err = r.try(f, path)
	if next := path + ".new"; err != nil && r.source.kind == fileSource && r.try(f, next) == nil {
		// A rotation was interrupted after the ring had been written: finish it.
		err = nil
		if !o.ReadOnly {
			if err = os.Rename(next, path); err == nil {
				err = syncDir(filepath.Dir(path))
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open keyring with %s: %w", r.source, err)
	}
	return r, nil
}

// try reads the KEK at path and opens the data keys with it.
func (r *Ring) try(f *ringFile, path string) error {
	secret, err := r.source.read(path)
	if err != nil {
		return err
	}
	kek := r.source.stretch(secret, f.Salt)
	keys, err := f.open(kek)
	if err != nil {
		return err
	}
	r.kek, r.keys = kek, keys
	return nil
}

func (o *Options) getenv(name string) string {
	if o.Getenv == nil {
		return os.Getenv(name)
	}
	return o.Getenv(name)
}

// create makes a ring with one data key. Whatever a start before has made of it and not finished serves.
func create(o Options) (*Ring, error) {
	source, err := ParseSource(o.Source)
	if err != nil {
		return nil, err
	}
	r := &Ring{data: o.Data, suite: o.Suite, source: source, salt: make([]byte, 16)}
	_, _ = rand.Read(r.salt) // never fails
	path, err := source.path(o.Data, o.getenv)
	if err != nil {
		return nil, err
	}
	secret, err := source.read(path)
	if errors.Is(err, os.ErrNotExist) && source.kind == fileSource {
		secret, err = newKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("make keyring with %s: %w", source, err)
	}
	r.kek = source.stretch(secret, r.salt)
	r.addLocked()
	if err := r.storeLocked(); err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	return r, nil
}

// addLocked makes a new data key the newest.
func (r *Ring) addLocked() {
	k := dataKey{secret: make([]byte, keyBytes), created: nowSeconds()}
	for k.id == 0 || slices.ContainsFunc(r.keys, func(x dataKey) bool { return x.id == k.id }) {
		_, _ = rand.Read(k.secret) // never fails
		k.id = idOf(k.secret)
	}
	r.keys = append(r.keys, k)
}

// idOf is a fingerprint of a data key. It tells nothing about the key that 16 bits less of guessing would
// matter for.
func idOf(secret []byte) uint16 {
	b := expand(secret, "edgepost keyring 1 id", 2)
	return binary.BigEndian.Uint16(b)
}

func expand(secret []byte, context string, n int) []byte {
	b, err := hkdf.Expand(sha256.New, secret, context, n)
	if err != nil { // only if more than 8160 bytes are asked for
		return nil
	}
	return b
}

// Current is the key for what is written from now on; the suite is Plain when nothing is to be
// encrypted.
func (r *Ring) Current() (uint16, wal.Suite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[len(r.keys)-1].id, r.suite
}

// Derive returns 32 bytes that depend on a data key and on context; false if there is no such data key.
func (r *Ring) Derive(id uint16, context []byte) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		if k.id == id {
			return expand(k.secret, "edgepost data 1\x00"+string(context), keyBytes), true
		}
	}
	return nil, false
}

// Source says where the KEK comes from.
func (r *Ring) Source() string { return r.source.String() }

// Forget destroys the data keys that are not in use any more, except the newest: what was encrypted with them is
// erased wherever a copy of it may be. inUse are the ids that the logs still need.
func (r *Ring) Forget(inUse []uint16) error {
	unlock, err := lock(r.data)
	if err != nil {
		return err
	}
	defer unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := readRing(r.data)
	if err != nil {
		return err
	}
	keys, err := f.open(r.kek)
	if err != nil { // somebody rotates the KEK meanwhile; the next start sees to it
		return nil
	}
	newest := keys[len(keys)-1].id
	current := r.keys[len(r.keys)-1].id
	keep := slices.DeleteFunc(slices.Clone(keys), func(k dataKey) bool {
		return k.id != newest && k.id != current && !slices.Contains(inUse, k.id)
	})
	if len(keep) == len(keys) {
		return nil
	}
	r.salt, r.keys = f.Salt, keep
	if err := r.storeLocked(); err != nil {
		return fmt.Errorf("forget old keys: %w", err)
	}
	return nil
}
