package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgepost/wal"
)

var _ wal.Keys = (*Ring)(nil)

func options(t testing.TB) Options {
	t.Helper()
	return Options{Data: t.TempDir(), Suite: wal.AES256GCM, Getenv: func(string) string { return "" }}
}

func mustOpen(t testing.TB, o Options) *Ring {
	t.Helper()
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// derived is what the newest key makes of a context.
func derived(t testing.TB, r *Ring) (uint16, string) {
	t.Helper()
	id, _ := r.Current()
	b, ok := r.Derive(id, []byte("context"))
	if !ok || len(b) != 32 {
		t.Fatalf("%d bytes, %v", len(b), ok)
	}
	return id, string(b)
}

func put(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMakeAndOpen(t *testing.T) {
	o := options(t)
	if Exists(o.Data) {
		t.Error("a ring before there is one")
	}
	off := o
	off.Suite = wal.Plain
	if _, err := Open(off); !errors.Is(err, ErrNone) {
		t.Errorf("without a ring and without encryption: %v", err)
	}
	if list, _ := os.ReadDir(o.Data); len(list) > 0 {
		t.Errorf("that made %v", list)
	}
	id, key := derived(t, mustOpen(t, o))
	if again, same := derived(t, mustOpen(t, o)); again != id || same != key {
		t.Error("another key at the second start")
	}
	r := mustOpen(t, off)
	if _, suite := r.Current(); suite != wal.Plain {
		t.Errorf("switched off, but new data is %s", suite)
	}
	if _, same := derived(t, r); same != key {
		t.Error("switched off, the old key is gone")
	}
	if b, _ := r.Derive(id, []byte("another context")); string(b) == key {
		t.Error("the context does not count")
	}
	if _, ok := r.Derive(id+1, nil); ok {
		t.Error("a key that nobody made")
	}
	err := filepath.WalkDir(o.Data, func(path string, d os.DirEntry, err error) error {
		if info, err := d.Info(); err != nil || d.Type().IsRegular() && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamage: a flipped bit anywhere in one of the files costs nothing; what is lost for good is said clearly.
func TestDamage(t *testing.T) {
	o := options(t)
	_, key := derived(t, mustOpen(t, o))
	for _, name := range []string{ringName, ringName + ".bak", "keys/kek"} {
		path := filepath.Join(o.Data, name)
		whole := get(t, path)
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 4
			put(t, path, string(b), 0o600)
			look := o
			look.ReadOnly = true
			r, err := Open(look)
			if err != nil {
				t.Fatalf("%s, byte %d: %v", name, i, err)
			}
			if _, same := derived(t, r); same != key {
				t.Fatalf("%s, byte %d: another key", name, i)
			}
		}
		if name == "keys/kek" {
			put(t, path, string(whole), 0o600)
			continue
		}
		mustOpen(t, o) // heals
		if !sameCopies(o.Data) {
			t.Errorf("%s was not made whole", name)
		}
	}
	put(t, filepath.Join(o.Data, ringName), "rubbish", 0o600)
	put(t, filepath.Join(o.Data, ringName+".bak"), "rubbish", 0o600)
	if _, err := Open(o); !errors.Is(err, ErrTorn) {
		t.Errorf("both copies are damaged: %v", err)
	}
}

func TestWrongKey(t *testing.T) {
	o := options(t)
	mustOpen(t, o)
	kek := filepath.Join(o.Data, "keys/kek")
	put(t, kek, string(formatKey(make([]byte, keyBytes))), 0o600)
	if _, err := Open(o); !errors.Is(err, ErrWrong) {
		t.Errorf("another key: %v", err)
	}
	if err := os.Remove(kek); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "file:keys/kek") {
		t.Errorf("no key: %v", err)
	}
	if _, err := os.Stat(kek); err == nil {
		t.Error("a new key was made although there is data that it does not open")
	}
	put(t, kek, "hello", 0o600)
	if _, err := Open(o); !errors.Is(err, errKeyFile) {
		t.Errorf("rubbish: %v", err)
	}
	put(t, kek, "hello", 0o600)
	if err := os.Chmod(kek, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
}

func TestSources(t *testing.T) {
	secrets := t.TempDir()
	put(t, filepath.Join(secrets, "kek"), strings.Repeat("k", 32), 0o400)
	put(t, filepath.Join(secrets, "short"), "k", 0o400)
	put(t, filepath.Join(secrets, "phrase"), "correct horse battery staple\n", 0o600)
	put(t, filepath.Join(secrets, "poor"), "secret\n", 0o600)
	env := func(name string) string {
		if name == "CREDENTIALS_DIRECTORY" {
			return secrets
		}
		return ""
	}
	for source, want := range map[string]string{
		"file:keys/kek":                             "",
		"file:" + filepath.Join(secrets, "made"):    "",
		"credential:kek":                            "",
		"credential:short":                          "at least 16",
		"credential:absent":                         "no such file",
		"credential:../kek":                         "plain name",
		"passphrase_file:" + secrets + "/phrase":    "",
		"passphrase_file:" + secrets + "/poor":      "at least 12",
		"passphrase_file:" + secrets + "/not-there": "no such file",
		"tpm2:0x81000001":                           "not a place for a key",
		"keys/kek":                                  "not a place for a key",
	} {
		o := options(t)
		o.Source, o.Getenv = source, env
		r, err := Open(o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
		if err != nil {
			continue
		}
		_, key := derived(t, r)
		o.Source = "" // the ring remembers
		if _, same := derived(t, mustOpen(t, o)); same != key {
			t.Errorf("%s: another key at the second start", source)
		}
	}
	o := options(t)
	o.Source = "credential:kek"
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY") {
		t.Errorf("without the service manager: %v", err)
	}
}

// TestMovedKey: the owner moves the key file, and says so in the configuration.
func TestMovedKey(t *testing.T) {
	o := options(t)
	_, key := derived(t, mustOpen(t, o))
	to := filepath.Join(t.TempDir(), "usb")
	put(t, to, string(get(t, filepath.Join(o.Data, "keys/kek"))), 0o600)
	if err := os.Remove(filepath.Join(o.Data, "keys/kek")); err != nil {
		t.Fatal(err)
	}
	moved := o
	moved.Source = "file:" + to
	if _, same := derived(t, mustOpen(t, moved)); same != key {
		t.Error("another key")
	}
	if r := mustOpen(t, o); r.Source() != "file:"+to { // who has no configuration finds it as well
		t.Error(r.Source())
	}
}

func TestRotate(t *testing.T) {
	o := options(t)
	id, key := derived(t, mustOpen(t, o))
	kek := get(t, filepath.Join(o.Data, "keys/kek"))
	r, err := Rotate(o, "")
	if err != nil {
		t.Fatal(err)
	}
	next, _ := derived(t, r)
	if next == id || bytes.Equal(get(t, filepath.Join(o.Data, "keys/kek")), kek) {
		t.Error("nothing was changed")
	}
	r = mustOpen(t, o)
	if b, ok := r.Derive(id, []byte("context")); !ok || string(b) != key {
		t.Error("the old data key is gone")
	}
	if now, _ := r.Current(); now != next {
		t.Errorf("%04x, want %04x", now, next)
	}
	to := filepath.Join(t.TempDir(), "phrase")
	put(t, to, "correct horse battery staple", 0o600)
	if _, err := Rotate(o, "passphrase_file:"+to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(o.Data, "keys/kek")); err == nil {
		t.Error("the old key file is still there")
	}
	if _, err := Rotate(o, ""); err == nil || !strings.Contains(err.Error(), "-to") {
		t.Errorf("a passphrase into itself: %v", err)
	}
	r = mustOpen(t, o)
	if b, ok := r.Derive(id, []byte("context")); !ok || string(b) != key || len(r.keys) != 3 {
		t.Error("the old data keys are gone", len(r.keys))
	}
	if err := r.Forget([]uint16{next}); err != nil {
		t.Fatal(err)
	}
	r = mustOpen(t, o)
	if _, ok := r.Derive(id, nil); ok || len(r.keys) != 2 {
		t.Error("the forgotten key is still there", len(r.keys))
	}
	if _, err := Rotate(options(t), ""); !errors.Is(err, ErrNone) {
		t.Errorf("without a ring: %v", err)
	}
}

// TestRotateInterrupted stops a rotation after every step that the disk sees, and opens what is there.
func TestRotateInterrupted(t *testing.T) {
	o := options(t)
	id, key := derived(t, mustOpen(t, o))
	before := snapshotOf(t, o.Data)
	if _, err := Rotate(o, ""); err != nil {
		t.Fatal(err)
	}
	after := snapshotOf(t, o.Data)
	newKEK := after["kek"]
	states := []map[string][]byte{
		{"ring": before["ring"], "ring.bak": before["ring.bak"], "kek": before["kek"]},
		{"ring": before["ring"], "ring.bak": before["ring.bak"], "kek": before["kek"], "kek.new": newKEK[:len(newKEK)/3]},
		{"ring": before["ring"], "ring.bak": before["ring.bak"], "kek": before["kek"], "kek.new": newKEK},
		{"ring": after["ring"], "ring.bak": before["ring.bak"], "kek": before["kek"], "kek.new": newKEK},
		{"ring": after["ring"], "ring.bak": after["ring.bak"], "kek": before["kek"], "kek.new": newKEK},
		{"ring": after["ring"], "ring.bak": after["ring.bak"], "kek": bytes.Repeat([]byte("0"), len(newKEK)), "kek.new": newKEK},
		{"ring": after["ring"], "ring.bak": after["ring.bak"], "kek": newKEK},
	}
	for i, files := range states {
		o := options(t)
		if err := os.Mkdir(filepath.Join(o.Data, keysDir), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			put(t, filepath.Join(o.Data, keysDir, name), string(b), 0o600)
		}
		look := o
		look.ReadOnly = true
		for _, o := range []Options{look, o, o} {
			r, err := Open(o)
			if err != nil {
				t.Fatalf("state %d: %v", i, err)
			}
			if b, ok := r.Derive(id, []byte("context")); !ok || string(b) != key {
				t.Fatalf("state %d: the data key is gone", i)
			}
		}
		if !sameCopies(o.Data) {
			t.Errorf("state %d: the second copy is not as the first", i)
		}
		if _, err := Rotate(o, ""); err != nil {
			t.Errorf("state %d: rotate again: %v", i, err)
		}
	}
}

func snapshotOf(t testing.TB, data string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"ring", "ring.bak", "kek"} {
		out[name] = get(t, filepath.Join(data, keysDir, name))
	}
	return out
}

func TestErase(t *testing.T) {
	o := options(t)
	mustOpen(t, o)
	if err := Erase(o); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(filepath.Join(o.Data, keysDir))
	if err != nil || len(list) != 1 || list[0].Name() != "lock" {
		t.Errorf("%v %v", list, err)
	}
	if err := Erase(o); err != nil {
		t.Errorf("twice: %v", err)
	}
}

// TestNoSecretOnDisk: neither a data key nor anything but the KEK's own file tells the KEK.
func TestNoSecretOnDisk(t *testing.T) {
	o := options(t)
	r := mustOpen(t, o)
	ring := string(get(t, filepath.Join(o.Data, ringName)))
	for _, secret := range [][]byte{r.kek, r.keys[0].secret} {
		for _, form := range []string{string(secret), hexOf(secret), base64Of(secret)} {
			if strings.Contains(ring, form) {
				t.Error("the ring holds a secret in the open")
			}
		}
	}
}

func TestSuites(t *testing.T) {
	for name, want := range map[string]wal.Suite{"aes-256-gcm": wal.AES256GCM, "XChaCha20-Poly1305": wal.XChaCha20Poly1305, "auto": Auto(), "": Auto()} {
		if got, err := ParseSuite(name); err != nil || got != want {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	if Auto() == wal.Plain {
		t.Error("auto is plain")
	}
	const des = "DES is not offered: 56-bit key, withdrawn; use aes-256-gcm or xchacha20-poly1305"
	if _, err := ParseSuite("des"); err == nil || err.Error() != des {
		t.Errorf("%v", err)
	}
	var refused []string
	for _, name := range []string{"DES", "des-cbc", "3DES", "DES_EDE3_CBC", "tripledes", "rc4", "arcfour", "md5"} {
		_, err := ParseSuite(name)
		if err == nil || !strings.Contains(err.Error(), "not offered") || !strings.Contains(err.Error(), "use aes-256-gcm") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		refused = append(refused, strings.Fields(err.Error())[0])
	}
	if want := []string{"DES", "DES", "3DES", "3DES", "3DES", "RC4", "RC4", "MD5"}; !slices.Equal(refused, want) {
		t.Error(refused)
	}
	if _, err := ParseSuite("rot13"); err == nil || !strings.Contains(err.Error(), "xchacha20") {
		t.Error(err)
	}
}

func FuzzRing(f *testing.F) {
	o := options(f)
	mustOpen(f, o)
	f.Add(get(f, filepath.Join(o.Data, ringName)))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRing("ring", b)
		if err != nil {
			return
		}
		if _, err := r.open(make([]byte, keyBytes)); err == nil {
			t.Error("a ring opened with a key that nobody chose")
		}
	})
}

func hexOf(b []byte) string    { return hex.EncodeToString(b) }
func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
