package keyring

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"
)

// DefaultSource keeps the KEK beside the data; see the package comment for what that protects.
const DefaultSource = "file:keys/kek"

// Source is where the KEK comes from: "file:PATH" (made if it is not there), "credential:NAME" (a file
// of that name in $CREDENTIALS_DIRECTORY) or "passphrase_file:PATH". A relative PATH begins at the data
// directory.
type Source struct {
	kind, where string
}

const (
	fileSource       = "file"
	credentialSource = "credential"
	passphraseSource = "passphrase_file"
)

// ParseSource reads a source; "" is [DefaultSource].
func ParseSource(s string) (Source, error) {
	if s == "" {
		s = DefaultSource
	}
	kind, where, ok := strings.Cut(s, ":")
	if ok && where != "" && !strings.ContainsAny(where, "\x00\n") {
		switch kind {
		case fileSource, passphraseSource:
			return Source{kind, where}, nil
		case credentialSource:
			if where == filepath.Base(where) && where != "." && where != ".." {
				return Source{kind, where}, nil
			}
			return Source{}, fmt.Errorf("%.80q names a path; a credential is a plain name such as \"credential:edgepost-kek\"", s)
		}
	}
	return Source{}, fmt.Errorf("%.80q is not a place for a key; \"file:PATH\", \"credential:NAME\" or \"passphrase_file:PATH\"", s)
}

func (s Source) String() string { return s.kind + ":" + s.where }

// path is the file that the source reads.
func (s Source) path(data string, getenv func(string) string) (string, error) {
	if s.kind == credentialSource {
		dir := getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("%s: CREDENTIALS_DIRECTORY is not set; the service manager sets it for the service (LoadCredential= of systemd)", s)
		}
		return filepath.Join(dir, s.where), nil
	}
	if filepath.IsAbs(s.where) {
		return s.where, nil
	}
	return filepath.Join(data, s.where), nil
}

const (
	keyBytes      = 32
	leastSecret   = 16      // bytes of a credential
	leastPhrase   = 12      // bytes of a passphrase
	maxSecretFile = 4 << 10 // a wrong file is refused before it is read

	argonMemory, argonPasses = 7 << 10, 5 // KiB; what a router with 64 MiB can give (OWASP's smallest)
)

// read returns the secret as it is in the file of the source; path is where that is.
func (s Source) read(path string) ([]byte, error) {
	b, err := readSecret(path, s.kind != credentialSource) // the service manager sets the mode of a credential
	if err != nil {
		return nil, err
	}
	switch s.kind {
	case fileSource:
		return parseKey(path, b)
	case passphraseSource:
		b = bytes.TrimRight(b, "\r\n")
		if len(b) < leastPhrase {
			return nil, fmt.Errorf("the passphrase in %s has %d bytes; at least %d, better five words", path, len(b), leastPhrase)
		}
	default:
		if len(b) < leastSecret {
			return nil, fmt.Errorf("the credential in %s has %d bytes; at least %d random ones (head -c 32 /dev/urandom)", path, len(b), leastSecret)
		}
	}
	return b, nil
}

// stretch makes the KEK of the secret. It takes 7 MiB and a tenth of a second or more for a passphrase.
func (s Source) stretch(secret, salt []byte) []byte {
	if s.kind != passphraseSource {
		return secret
	}
	return argon2.IDKey(secret, salt, argonPasses, argonMemory, 1, keyBytes)
}

func readSecret(path string, private bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err == nil && private && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s can be read by others (mode %#o); chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("read key: %s is larger than %d bytes; is it a key?", path, maxSecretFile)
	}
	return b, nil
}

const keyMark = "edgepost-kek-1"

// errKeyFile says that a key file holds no key that can be read.
var errKeyFile = errors.New("no key in it can be read")

// formatKey is a key as its file holds it: a line, twice, so that a flipped bit does not cost all data.
func formatKey(key []byte) []byte {
	sum := sha256.Sum256(append([]byte(keyMark), key...))
	line := fmt.Sprintf("%s %x %x\n", keyMark, key, sum[:4])
	return []byte(line + line)
}

// parseKey returns the key of the first whole line.
func parseKey(path string, b []byte) ([]byte, error) {
	const n = len(keyMark) + 1 + 2*keyBytes + 1 + 8 // of a line, without its end
	for _, from := range []int{0, n + 1} {
		if len(b) < from+n {
			break
		}
		line := string(b[from : from+n])
		key, err := hex.DecodeString(line[len(keyMark)+1:][:2*keyBytes])
		if err == nil && strings.HasPrefix(string(formatKey(key)), line) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("read key %s: %w; restore the file from a copy", path, errKeyFile)
}

// newKey writes a new random key to path, which must not exist, and makes it durable.
func newKey(path string) ([]byte, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := writeFile(path, formatKey(key), os.O_EXCL); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// writeFile writes a file of mode 0600 and makes it and its name durable.
func writeFile(path string, b []byte, flag int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// replaceFile is writeFile beside the old file, which is there until the new one is whole.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := writeFile(tmp, b, os.O_TRUNC); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) { // as package wal
		return err
	}
	return nil
}
