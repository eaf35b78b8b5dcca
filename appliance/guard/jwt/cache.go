package jwt

import (
	"crypto/sha256"
	"sync"
)

// cache remembers which tokens of one issuer were verified with its present keys. A key is the SHA-256
// of the whole token, signature included. It is safe for concurrent use.
//
// Invariant: every entry was verified with keys, the set that the cache was last asked with.
type cache struct {
	size int

	mu      sync.Mutex
	keys    *KeySet
	entries map[[sha256.Size]byte]*Identity
}

func (c *cache) get(hash *[sha256.Size]byte, keys *KeySet) *Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followLocked(keys)
	return c.entries[*hash]
}

func (c *cache) put(hash *[sha256.Size]byte, keys *KeySet, id *Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys != keys { // the keys changed while the token was verified
		return
	}
	for victim := range c.entries { // any one: a miss costs a signature check and nothing else
		if len(c.entries) < c.size {
			break
		}
		delete(c.entries, victim)
	}
	c.entries[*hash] = id
}

func (c *cache) drop(hash *[sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, *hash)
}

func (c *cache) followLocked(keys *KeySet) {
	if c.keys != keys || c.entries == nil {
		c.keys, c.entries = keys, make(map[[sha256.Size]byte]*Identity)
	}
}
