package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"edgepost/appliance"
	"edgepost/appliance/guard/keyring"
	"edgepost/wal"
)

// keyFlags name where the key to a data directory comes from, beside -data.
type keyFlags struct{ config, key, to string }

func storageCommands() []*command {
	var rotate, reset keyFlags
	yes := false
	r := &command{name: "storage rotate-key", short: "give an encrypted data directory a new key", flags: newFlags(), local: true}
	r.long = `
It makes a new key to the keys and a new data key. What is encrypted stays readable; an old data key is destroyed at
the first start at which nothing needs it. A running appliance uses the new data key from its next start on.
-to also changes where the key comes from (file:PATH, credential:NAME or passphrase_file:PATH): change
[storage.encryption] key in the configuration to the same. Without it a key file gets a new key in its place.`
	rotate.register(r)
	r.flags.StringVar(&rotate.to, "to", "", "take the new key from `SOURCE`")
	r.run = func(_ context.Context, c *call) error { return c.rotateKey(&rotate) }
	f := &command{name: "factory-reset", short: "destroy the keys and everything in a data directory", flags: newFlags(), local: true}
	f.long = `
The appliance must be stopped. The keys go first: what is encrypted is unreadable from then on, wherever a copy of it
is. Then all messages, devices, keys and users go. Nothing brings them back. Plain data that was on a flash may be
found on it for a while: encrypt before there is something to hide.`
	reset.register(f)
	f.flags.BoolVar(&yes, "yes", false, "really do it")
	f.run = func(_ context.Context, c *call) error { return c.factoryReset(&reset, yes) }
	return []*command{r, f}
}

func (k *keyFlags) register(c *command) {
	c.flags.StringVar(&k.config, "config", "", "read [storage.encryption] from the configuration in `FILE`")
	c.flags.StringVar(&k.key, "key", "", "the key comes from `SOURCE` (default: where it came from last)")
}

// options are what package keyring needs: from the flags, or the configuration file.
func (c *call) keyring(k *keyFlags) (keyring.Options, error) {
	o := keyring.Options{Data: c.data, Source: k.key, Getenv: c.Getenv}
	if k.config != "" {
		cfg, err := appliance.LoadConfig(k.config)
		if err != nil {
			return o, &failure{exitUsage, err.Error(), ""}
		}
		if o.Source == "" {
			o.Source = cfg.Storage.Encryption.Key
		}
		if cfg.Data != "" && !c.given["data"] && c.Getenv("EDGEPOST_DATA") == "" {
			o.Data = cfg.Data
		}
	}
	if _, err := keyring.ParseSource(o.Source); err != nil {
		return o, usage(c.cmd.name, "%s: %v", c.cmd.name, err)
	}
	return o, nil
}

func (c *call) rotateKey(k *keyFlags) error {
	o, err := c.keyring(k)
	if err != nil {
		return err
	}
	if _, err := keyring.ParseSource(k.to); err != nil {
		return usage(c.cmd.name, "%s: -to: %v", c.cmd.name, err)
	}
	ring, err := keyring.Rotate(o, k.to)
	if errors.Is(err, keyring.ErrNone) {
		return &failure{exitFailed, fmt.Sprintf("%s has no keys: nothing in it is encrypted", o.Data), "switch it on with [storage.encryption] enabled = true, and start"}
	}
	if err != nil {
		return err
	}
	id, _ := ring.Current()
	if c.json {
		return c.printValue(struct {
			Key    string `json:"key"`
			Source string `json:"source"`
		}{fmt.Sprintf("%04x", id), ring.Source()})
	}
	return c.print(fmt.Sprintf("The key is new, from %s; data key %04x is used from the next start on.\n", ring.Source(), id))
}

// keys are those of the data directory, nil if there are none that can be had: reports say so.
func (c *call) keys() wal.Keys {
	ring, err := keyring.Open(keyring.Options{Data: c.data, Getenv: c.Getenv, ReadOnly: true})
	if err == nil {
		return ring
	}
	if !errors.Is(err, keyring.ErrNone) {
		c.note("without the key only checksums can be looked at: %v", err)
	}
	return nil
}

// owned are the names that a data directory may hold, left behind by a crash too. What is not ours stays.
var owned = [...]string{"outbox", "registry", "clock", "clock.tmp", "blobs", "tls", "jwks", "oauth", "restored", "control.sock", "keys", ".probe"}

func (c *call) factoryReset(k *keyFlags, yes bool) error {
	o, err := c.keyring(k)
	if err != nil {
		return err
	}
	if err := isLog(filepath.Join(o.Data, "outbox")); err != nil {
		return err
	}
	if !yes {
		return &failure{exitUsage, fmt.Sprintf("this destroys everything in %s for good", o.Data), "really: edgepost factory-reset -yes -data " + shellWord(o.Data)}
	}
	for _, log := range []string{"outbox", "registry"} {
		if err := wal.Free(filepath.Join(o.Data, log)); err != nil {
			return &failure{exitRefused, fmt.Sprintf("%s is in use: stop the appliance first (%v)", o.Data, err), ""}
		}
	}
	failed := keyring.Erase(o)
	for _, name := range owned {
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(o.Data, name)))
	}
	if failed != nil {
		return fmt.Errorf("factory reset is not complete, do it again: %w", failed)
	}
	if c.json {
		return c.printValue(struct {
			Data string `json:"data"`
		}{o.Data})
	}
	return c.print(fmt.Sprintf("The keys and everything in %s are gone.\n", o.Data))
}
