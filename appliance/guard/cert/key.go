package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
)

// Fingerprint names a public key: "sha256/" and base64 of the SHA-256 of its SubjectPublicKeyInfo, as in
// RFC 7469 §2.4 and as curl's --pinnedpubkey takes it with // for /.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

func newKey() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return k, nil
}

// loadKey reads a key of ours, or makes it where there is none. A damaged one is not replaced: people may
// have noted its fingerprint.
func loadKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := newKey()
		if err != nil {
			return nil, err
		}
		return k, writeFile(path, encodeKey(k))
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block != nil {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if k, ok := k.(*ecdsa.PrivateKey); ok {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("%s is damaged; bring it back from a backup, or delete it: a new one has another fingerprint", path)
}

func encodeKey(k *ecdsa.PrivateKey) []byte {
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil // P-256 always marshals
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

func encodeCerts(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// loadCert reads the first certificate of a file; nil when there is none, or it does not belong to the
// key.
func loadCert(path string, key crypto.Signer) (*x509.Certificate, error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, nil
	}
	if c, err := x509.ParseCertificate(block.Bytes); err == nil && sameKey(c.PublicKey, key.Public()) {
		return c, nil
	}
	return nil, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// goodKey refuses keys that are too weak, or of kinds that clients of TLS 1.2 and 1.3 do not use.
func goodKey(k crypto.PublicKey) error {
	switch k := k.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); 2048 <= n && n <= 4096 {
			return nil
		}
	}
	return errors.New("its key must be ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits")
}

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	b[0] &= 0x7f           // positive in 16 bytes (RFC 5280 §4.1.2.2 allows 20)
	b[0] |= 0x40           // and never short
	return new(big.Int).SetBytes(b[:])
}
