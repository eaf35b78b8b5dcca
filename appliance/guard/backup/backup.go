// Package backup seals the copy of a gateway that its owner carries away: a tar, encrypted with a passphrase.
//
//	bytes  meaning
//	18     "edgepost backup 1\n"
//	16     salt
//	24     nonce
//	rest   XChaCha20-Poly1305 of the tar; the 58 bytes before are the additional data
//
// The key is argon2id of the passphrase and the salt, with 10 passes over 7 MiB: a backup may lie where others can guess at
// leisure. A wrong passphrase and a changed byte are the same error.
package backup

import (
	"archive/tar"
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"edgepost/appliance/message"
)

const (
	magic     = "edgepost backup 1\n"
	saltBytes = 16
	headBytes = len(magic) + saltBytes + chacha20poly1305.NonceSizeX

	passes = 10
	memory = 7 << 10 // KiB: no more than a password costs on a small gateway

	// MinPassphrase is the least length of a passphrase, in characters.
	MinPassphrase = 12
	// MaxBytes bounds a backup, which is in memory whole.
	MaxBytes = 8 << 20
	maxFiles = 1000
)

// File is one file of a backup.
type File struct {
	Name string // relative, with slashes
	Data []byte
}

func cipherOf(passphrase string, salt []byte) (cipher.AEAD, error) {
	return chacha20poly1305.NewX(argon2.IDKey([]byte(passphrase), salt, passes, memory, 1, chacha20poly1305.KeySize))
}

// Seal packs the files. A Problem when the passphrase is too short or the files are too large.
func Seal(passphrase string, files []File) ([]byte, error) {
	if utf8.RuneCountInString(passphrase) < MinPassphrase {
		return nil, message.Problemf(message.CodeBadRequest, "the passphrase is too short; it needs %d characters, several words are good", MinPassphrase)
	}
	var plain bytes.Buffer
	out := tar.NewWriter(&plain)
	for _, f := range files {
		if err := out.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o600, Size: int64(len(f.Data))}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
		if _, err := out.Write(f.Data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	if err := out.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	if plain.Len() > MaxBytes-headBytes-chacha20poly1305.Overhead {
		return nil, message.Problemf(message.CodeTooLarge, "the backup would have more than %d MiB", MaxBytes>>20)
	}
	head := make([]byte, headBytes, headBytes+plain.Len()+chacha20poly1305.Overhead)
	_, _ = rand.Read(head[copy(head, magic):]) // never fails: see crypto/rand
	aead, err := cipherOf(passphrase, head[len(magic):len(magic)+saltBytes])
	if err != nil {
		return nil, err
	}
	return aead.Seal(head, head[headBytes-chacha20poly1305.NonceSizeX:], plain.Bytes(), head), nil
}

// Open unpacks what Seal made. A Problem when it is no backup, or the passphrase is not the right one.
func Open(passphrase string, b []byte) ([]File, error) {
	if len(b) > MaxBytes || len(b) < headBytes || string(b[:len(magic)]) != magic {
		return nil, message.Problemf(message.CodeBadRequest, "this is not a backup that this version can read")
	}
	head := b[:headBytes]
	aead, err := cipherOf(passphrase, head[len(magic):len(magic)+saltBytes])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, head[headBytes-chacha20poly1305.NonceSizeX:], b[headBytes:], head)
	if err != nil {
		return nil, message.Problemf(message.CodeForbidden, "the passphrase is wrong, or the backup is damaged")
	}
	return unpack(plain)
}

func unpack(plain []byte) ([]File, error) {
	var files []File
	for in := tar.NewReader(bytes.NewReader(plain)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if h.Typeflag != tar.TypeReg || len(files) == maxFiles || !local(h.Name) {
			return nil, message.Problemf(message.CodeBadRequest, "the backup has a file %.80q, which is none of ours", h.Name)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", h.Name, err)
		}
		files = append(files, File{h.Name, data})
	}
}

// local reports whether a name stays where it is unpacked.
func local(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\\\x00") {
			return false
		}
	}
	return true
}
