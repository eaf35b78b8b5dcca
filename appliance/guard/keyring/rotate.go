package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"edgepost/wal"
)

// Rotate gives the ring of a data directory another KEK and a new data key. to is the source of the new KEK; "" makes a
// new one in the file of the present source. What is encrypted already stays readable, with the old data keys
// under the new KEK; a running appliance goes on with the keys it has, and uses the new one from its next
// start on. A crash at any point leaves a ring that opens with the old or with the new KEK, whichever is there.
func Rotate(o Options, to string) (*Ring, error) {
	if !Exists(o.Data) {
		return nil, ErrNone
	}
	unlock, err := lock(o.Data)
	if err != nil {
		return nil, err
	}
	defer unlock()
	o.Suite, o.ReadOnly = wal.Plain, false
	r, err := openLocked(o)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == "" {
		to = r.source.String()
	}
	next, err := ParseSource(to)
	if err != nil {
		return nil, err
	}
	path, err := next.path(o.Data, o.getenv)
	if err != nil {
		return nil, err
	}
	same := next == r.source
	if same && next.kind != fileSource {
		return nil, fmt.Errorf("the key comes from %s, which only its owner changes: put the new one beside it and name that with -to", r.source)
	}
	old, err := r.source.path(o.Data, o.getenv)
	if err != nil {
		return nil, err
	}
	if err := r.rewrap(next, path, same); err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	if !same && r.source.kind == fileSource {
		err = destroy(old)
	}
	r.source = next
	return r, err
}

// rewrap reads or makes the next KEK and stores the ring under it.
func (r *Ring) rewrap(next Source, path string, same bool) error {
	at := path
	if same { // the present file stays until the ring has been written
		at = path + ".new"
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	var secret []byte
	err := os.ErrNotExist
	if !same {
		secret, err = next.read(at)
	}
	if errors.Is(err, os.ErrNotExist) && next.kind == fileSource {
		secret, err = newKey(at)
	}
	if err != nil {
		return err
	}
	source := r.source
	r.salt = make([]byte, 16)
	_, _ = rand.Read(r.salt) // never fails
	r.kek, r.source = next.stretch(secret, r.salt), next
	r.addLocked()
	err = r.storeLocked()
	r.source = source
	if err != nil || !same {
		return err
	}
	if err := overwrite(path); err != nil {
		return err
	}
	if err := os.Rename(at, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Erase destroys every key of a data directory: the ring, and the KEK if its source is a file. After it nothing that was
// encrypted can be read by anybody, wherever a copy of it is. It is no error if there is no ring.
func Erase(o Options) error {
	source := o.Source
	if f, err := readRing(o.Data); err == nil && source == "" {
		source = f.Source
	}
	paths := []string{filepath.Join(o.Data, ringName), filepath.Join(o.Data, ringName+".bak")}
	if s, err := ParseSource(source); err == nil && s.kind == fileSource {
		path, err := s.path(o.Data, o.getenv)
		if err != nil {
			return err
		}
		paths = append([]string{path, path + ".new"}, paths...)
	}
	var failed error
	for _, path := range paths {
		if err := destroy(path); err != nil {
			failed = errors.Join(failed, fmt.Errorf("erase keys: %w", err))
		}
	}
	return failed
}

// destroy overwrites a file and removes it, durably.
func destroy(path string) error {
	err := overwrite(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// overwrite writes zeros over a file. A flash may still keep the old page for a while.
func overwrite(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Repeat("0", int(min(info.Size(), maxRingBytes))))
	return errors.Join(err, f.Sync(), f.Close())
}
