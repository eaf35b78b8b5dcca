// Package keyring keeps the keys that the logs on the gateway's flash are encrypted with, and knows where
// the key to those keys comes from.
//
// Three levels. The key encryption key (KEK) is the owner's: it comes from a [Source] and is never
// stored by the ring. The ring holds data keys, 32 random bytes each, encrypted with the KEK. Package
// wal derives from a data key one key for every generation of a log; that is what encrypts frames. So
// another KEK costs one small file and no frame, and who destroys the KEK or the ring has erased all
// of the data.
//
// # On disk
//
// Below the data directory, all of mode 0600:
//
//	keys/ring      JSON: format, source, salt, the data keys, the newest last; then the SHA-256 of that
//	keys/ring.bak  the same again, for a disk that damages the first
//	keys/kek       the KEK of the default source: 32 bytes in hex and a checksum, twice
//	keys/kek.new   during a rotation
//	keys/lock      flock of a process that changes the ring
//
// A data key is stored as 24 bytes of nonce, ciphertext and tag of XChaCha20-Poly1305, with "edgepost
// keyring 1" and the key's id authenticated. Its key is HKDF-SHA256 of the KEK with the ring's salt
// (RFC 5869); of a passphrase it is argon2id first (RFC 9106; 7 MiB, 5 passes, 1 lane). A key's id are
// 16 bits derived from it, so that a log tells a missing key from a wrong one.
//
// # What it protects
//
// The default keeps the KEK beside the data. That protects nothing when the whole medium is lost; it
// makes a factory reset thorough, and it lets the owner put the KEK elsewhere later: on another medium
// (file:), with the service manager, sealed to the machine (credential:, see systemd-creds), or in
// somebody's head and a file that is mounted at start (passphrase_file:). Overwriting a file erases
// nothing for certain on flash: the medium may keep the old page for a while.
package keyring
