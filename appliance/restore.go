package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/backup"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// restored is where keys of a backup wait in the data directory for the next start, which puts them in their place: what runs
// has the old ones open.
const restored = "restored"

// carried are the directories of keys and certificates that a backup holds.
func carried() []string { return []string{"tls", "oauth"} }

// Names in a backup.
const (
	aboutFile    = "about.json"
	registerFile = "register"
	bridgesFile  = "bridges.json"
	configFile   = "edgepost.toml"
)

// Backup packs devices, groups, keys, users, bridges made over the API, certificates and the configuration's text, encrypted with
// the passphrase. Messages are not in it, and no files that configurations name.
func (k *core) Backup(ctx context.Context, g *auth.Grant, passphrase string) (b []byte, err error) {
	defer func() { k.audited(ctx, g, "backup", "", err) }()
	if err := admin(g); err != nil {
		return nil, err
	}
	register, n := k.reg.Export()
	about, err := json.Marshal(map[string]any{"gateway": k.reg.Name(), "time": time.Now().UTC(), "holds": n})
	if err != nil {
		return nil, err
	}
	made, err := k.bridges.export(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up the bridges: %w", err)
	}
	files := []backup.File{{Name: aboutFile, Data: about}, {Name: registerFile, Data: register}, {Name: bridgesFile, Data: made}}
	if k.configText != "" {
		files = append(files, backup.File{Name: configFile, Data: []byte(k.configText)})
	}
	for _, dir := range carried() {
		err := filepath.WalkDir(filepath.Join(k.data, dir), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && (!d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".")) {
				return nil
			}
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			rel, relErr := filepath.Rel(k.data, path)
			files = append(files, backup.File{Name: filepath.ToSlash(rel), Data: data})
			return errors.Join(err, relErr)
		})
		if err != nil {
			return nil, fmt.Errorf("back up %s: %w", dir, err)
		}
	}
	return backup.Seal(passphrase, files)
}

// Restore replaces devices, groups, keys and users by those of a backup, and makes its bridges: they work at once. Its certificates
// and keys wait for the next start. All connections and sessions of people and programs end.
func (k *core) Restore(ctx context.Context, g *auth.Grant, passphrase string, b []byte) (r httpapi.Restored, err error) {
	defer func() { k.audited(ctx, g, "restore", "", err) }()
	if err := admin(g); err != nil {
		return r, err
	}
	files, err := backup.Open(passphrase, b)
	if err != nil {
		return r, err
	}
	i := slices.IndexFunc(files, func(f backup.File) bool { return f.Name == registerFile })
	if i < 0 {
		return r, message.Problemf(message.CodeBadRequest, "the backup has no register")
	}
	k.changes.Lock()
	defer k.changes.Unlock()
	if err := k.Health(); err != nil {
		return r, err // the subscriptions could not follow
	}
	var principals []string
	if r.Census, principals, err = k.importRegister(ctx, files[i].Data); err != nil {
		return r, err
	}
	if r.Restart, err = k.keepForStart(files); err != nil {
		return r, err
	}
	err = k.lag(k.reconcile(ctx))
	for _, f := range files {
		switch f.Name {
		case configFile:
			r.Config = string(f.Data)
		case bridgesFile:
			var failed error
			r.Bridges, r.Problems, failed = k.bridges.restore(ctx, f.Data)
			err = errors.Join(err, failed)
		}
	}
	for _, p := range principals {
		if user, ok := strings.CutPrefix(p, "user/"); ok {
			k.desk.Sessions().EndOf(user, "")
		}
		k.kick(p)
	}
	return r, k.later(err)
}

func (k *core) importRegister(ctx context.Context, register []byte) (registry.Census, []string, error) {
	n, principals, err := k.reg.Import(ctx, register)
	if err != nil && message.ProblemOf(err) == nil {
		return n, nil, message.Problemf(message.CodeBadRequest, "the backup cannot be restored: %v", err)
	}
	return n, principals, err
}

// keepForStart writes the keys of a backup where the next start finds them; waits is false when it has none.
func (k *core) keepForStart(files []backup.File) (waits bool, err error) {
	place := filepath.Join(k.data, restored)
	if err := os.RemoveAll(place); err != nil {
		return false, fmt.Errorf("restore keys: %w", err)
	}
	for _, f := range files {
		dir, _, nested := strings.Cut(f.Name, "/")
		if !nested || !slices.Contains(carried(), dir) {
			continue
		}
		path := filepath.Join(place, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return false, fmt.Errorf("restore keys: %w", err)
		}
		if err := writeDurably(path, f.Data); err != nil {
			return false, fmt.Errorf("restore keys: %w", err)
		}
		waits = true
	}
	return waits, nil
}

func writeDurably(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// putRestored puts the keys of a restored backup in their place, at a start. A crash on the way leaves the rest to the next.
func putRestored(data string) error {
	place := filepath.Join(data, restored)
	for _, dir := range carried() {
		from, to := filepath.Join(place, dir), filepath.Join(data, dir)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(os.RemoveAll(to), os.Rename(from, to)); err != nil {
			return fmt.Errorf("put restored keys in their place: %w", err)
		}
	}
	return os.RemoveAll(place)
}
