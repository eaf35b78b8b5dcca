package oauth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// States of a key.
const (
	current = "current" // signs
	next    = "next"    // published, signs later
	retired = "retired" // published as long as a token may be about that it signed
)

const (
	keepRetired = MaxLifetime + time.Minute
	maxRetired  = 16 // somebody rotates by a script in a loop
	maxFile     = 1 << 20
	fileFormat  = 1
)

// signingKey is one key pair.
type signingKey struct {
	Seed  []byte `json:"seed"` // Ed25519, RFC 8032
	State string `json:"state"`
	Since int64  `json:"since"` // ns, of the clock's age: when it came into the state

	id   string // RFC 7638
	pair ed25519.PrivateKey
}

type keyFile struct {
	Format int          `json:"format"`
	Keys   []signingKey `json:"keys"`
}

// keyring are the keys. The server's mutex guards it.
//
// Invariant: there is exactly one current and one next key, and what is in keys is in the file.
type keyring struct {
	path string
	keys []signingKey
	set  *jwt.KeySet // of all keys; changes with them
}

func newKey(state string, age time.Duration) signingKey {
	_, pair, _ := ed25519.GenerateKey(rand.Reader) // never fails: see crypto/rand
	k := signingKey{Seed: pair.Seed(), State: state, Since: int64(age)}
	k.derive()
	return k
}

// derive fills in what follows from the seed.
func (k *signingKey) derive() {
	k.pair = ed25519.NewKeyFromSeed(k.Seed)
	thumb := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + k.x() + `"}`))
	k.id = base64.RawURLEncoding.EncodeToString(thumb[:])
}

func (k *signingKey) public() ed25519.PublicKey { return k.pair.Public().(ed25519.PublicKey) } //nolint:forcetypeassert // as documented

func (k *signingKey) x() string { return base64.RawURLEncoding.EncodeToString(k.public()) }

// openKeys reads the keys. made says that there were none, or none that could be read, so that no token holds that was
// issued before.
func openKeys(path string, age time.Duration) (r *keyring, made bool, err error) {
	r = &keyring{path: path}
	b, err := readFile(path)
	if err == nil {
		if r.keys, err = parseKeys(b); err == nil {
			r.changed()
			return r, false, nil
		}
	}
	damaged := err
	if errors.Is(err, fs.ErrNotExist) {
		damaged = nil
	}
	if err := r.store([]signingKey{newKey(current, age), newKey(next, age)}); err != nil {
		return nil, false, fmt.Errorf("make keys for access tokens: %w", errors.Join(err, damaged))
	}
	return r, true, nil
}

func parseKeys(b []byte) ([]signingKey, error) {
	var f keyFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	count := map[string]int{}
	for i := range f.Keys {
		k := &f.Keys[i]
		if len(k.Seed) != ed25519.SeedSize {
			return nil, errors.New("a seed has the wrong length")
		}
		k.derive()
		count[k.State]++
	}
	if f.Format != fileFormat || count[current] != 1 || count[next] != 1 || len(f.Keys) > maxRetired+2 {
		return nil, errors.New("there must be one current and one next key")
	}
	return f.Keys, nil
}

// store makes the keys those of the file, then its own.
func (r *keyring) store(keys []signingKey) error {
	b, err := json.MarshalIndent(keyFile{fileFormat, keys}, "", "  ")
	if err != nil {
		return err
	}
	if err := jwt.WriteFile(r.path, append(b, '\n')); err != nil {
		return err
	}
	r.keys = keys
	r.changed()
	return nil
}

func (r *keyring) changed() {
	public := make(map[string]ed25519.PublicKey, len(r.keys))
	for i := range r.keys {
		public[r.keys[i].id] = r.keys[i].public()
	}
	r.set = jwt.EdKeys(public)
}

func (r *keyring) signer() *signingKey {
	return &r.keys[slices.IndexFunc(r.keys, func(k signingKey) bool { return k.State == current })]
}

// rotate has the next key sign from now on. With end nothing stays published that signed until now.
func (r *keyring) rotate(age time.Duration, since func(time.Duration) time.Duration, end bool) error {
	var keys []signingKey
	for _, k := range r.keys {
		switch {
		case k.State == next:
			k.State, k.Since = current, int64(age)
		case end, k.State == retired && since(time.Duration(k.Since)) > keepRetired:
			continue
		case k.State == current:
			k.State, k.Since = retired, int64(age)
		}
		keys = append(keys, k)
	}
	if len(keys) > maxRetired+1 {
		return message.Problemf(message.CodeTooMany, "the keys were rotated %d times within %v; wait until the tokens of the first of them have ended", maxRetired, keepRetired)
	}
	return r.store(append(keys, newKey(next, age)))
}

// prune drops keys whose tokens have all ended; they stay when that cannot be stored.
func (r *keyring) prune(since func(time.Duration) time.Duration) {
	keys := slices.DeleteFunc(slices.Clone(r.keys), func(k signingKey) bool {
		return k.State == retired && since(time.Duration(k.Since)) > keepRetired
	})
	if len(keys) < len(r.keys) {
		_ = r.store(keys) // tried again an hour later
	}
}

// document is the key set (RFC 7517 §5, RFC 8037 §2).
func (r *keyring) document() []byte {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
		X   string `json:"x"`
	}
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	for i := range r.keys {
		doc.Keys = append(doc.Keys, jwk{"OKP", "Ed25519", jwt.EdDSA, "sig", r.keys[i].id, r.keys[i].x()})
	}
	b, _ := json.Marshal(&doc) // texts: it cannot fail
	return append(b, '\n')
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}
