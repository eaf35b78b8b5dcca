package appliance

import (
	"errors"
	"fmt"
	"slices"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/keyring"
	"edgepost/wal"
)

// EncryptionConfig is section [storage.encryption]: the log and the register encrypted on the flash. It
// holds for what is written from the next start on; what is plain ages out, or is encrypted when
// cleaning carries it forward.
type EncryptionConfig struct {
	Enabled bool   `key:"enabled"`
	Cipher  string `key:"cipher"` // auto, aes-256-gcm or xchacha20-poly1305; default auto, by the processor
	Key     string `key:"key"`    // where the key to the keys comes from, see package keyring; "": where it came from last, at first "file:keys/kek"
}

func (k *checker) encryption(e *EncryptionConfig) {
	if _, err := keyring.ParseSuite(e.Cipher); err != nil {
		k.mistake("storage.encryption.cipher", "%s", err)
	}
	if _, err := keyring.ParseSource(e.Key); err != nil {
		k.mistake("storage.encryption.key", "%s", err)
	}
}

// Keyring is what package keyring needs to open the keys of this configuration's data directory.
func (c *Config) Keyring() keyring.Options {
	o := keyring.Options{Data: c.Data, Source: c.Storage.Encryption.Key}
	if c.Storage.Encryption.Enabled {
		o.Suite, _ = keyring.ParseSuite(c.Storage.Encryption.Cipher) // Validate has refused what it does not know
	}
	return o
}

// openKeys opens the keyring, or makes it when encryption is switched on. It is nil where nothing is
// encrypted and nothing is to be.
func (a *Appliance) openKeys() error {
	ring, err := keyring.Open(a.cfg.Keyring())
	switch {
	case errors.Is(err, keyring.ErrNone):
		return nil
	case errors.Is(err, keyring.ErrWrong), errors.Is(err, keyring.ErrTorn):
		return fmt.Errorf("%w; nothing was changed: put the right key back (%s of the data directory), or give up what is encrypted: edgepost factory-reset", err, "keys")
	case err != nil:
		return err
	}
	a.core.ring = ring
	return nil
}

// encryption is what the log of that name needs of the keyring.
func (a *Appliance) encryption(log string) wal.Encryption {
	if a.core.ring == nil {
		return wal.Encryption{Log: log}
	}
	return wal.Encryption{Log: log, Keys: a.core.ring}
}

// share is how much of the log and the register is encrypted.
func (a *Appliance) share() wal.Share {
	s, r := a.core.ob.Encrypted(), a.core.reg.Encrypted()
	return wal.Share{Encrypted: s.Encrypted + r.Encrypted, Plain: s.Plain + r.Plain, Keys: append(s.Keys, r.Keys...)}
}

// forgetKeys destroys the data keys that nothing needs any more: those from before a rotation.
func (a *Appliance) forgetKeys() {
	if a.core.ring == nil {
		return
	}
	keys := a.share().Keys
	slices.Sort(keys)
	if err := a.core.ring.Forget(slices.Compact(keys)); err != nil {
		a.o.Log.Warn("old data keys are kept, the keyring cannot be written", "error", err)
	}
}

// encryptionStatus adds what of the flash is encrypted.
func (a *Appliance) encryptionStatus(st *courier.Status) {
	st.Encryption = wal.Plain.String()
	if a.core.ring == nil {
		return
	}
	_, suite := a.core.ring.Current()
	s := a.share()
	st.Encryption, st.LogEncrypted, st.LogPlain = suite.String(), s.Encrypted, s.Plain
	if suite != wal.Plain && s.Plain > 0 {
		st.Warnings = append(st.Warnings, fmt.Sprintf("%s of the log and the register are from before encryption and still plain on the disk; they go with cleaning, see [storage] retain_age", FormatSize(s.Plain)))
	}
}
