package registry

import (
	"testing"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// TestImportReplacesEverybody carries one registry into another, over a restart, and keeps the other's epoch.
func TestImportReplacesEverybody(t *testing.T) {
	a := open(t, t.TempDir())
	must(t, a.AddGroup(t.Context(), "hall", "H"))
	token, err := a.AddDevice(t.Context(), Device{ID: "lamp1", Label: "灯", Groups: []string{"hall"}})
	must(t, err)
	_, err = a.AddDevice(t.Context(), Device{ID: "plug", Profile: "tasmota"})
	must(t, err)
	_, err = a.AddKey(t.Context(), Key{Name: "app", Rules: message.Rules{Publish: []message.Filter{"#"}}})
	must(t, err)
	must(t, a.AddUser(t.Context(), User{Name: "ann", Admin: true}, "$argon2id$hash"))
	must(t, a.SetName(t.Context(), "one"))
	_, err = a.MakeClaim(t.Context(), "plug")
	must(t, err)
	export, n := a.Export()
	if n != (Census{Devices: 2, Groups: 1, Keys: 1, Users: 1}) {
		t.Errorf("exported %+v", n)
	}

	dir := t.TempDir()
	b := open(t, dir)
	epoch := b.Epoch()
	must(t, b.AddGroup(t.Context(), "old", ""))
	_, err = b.AddDevice(t.Context(), Device{ID: "app", Groups: []string{"old"}}) // a key's name there
	must(t, err)
	must(t, b.AddUser(t.Context(), User{Name: "bob", Admin: true}, "$argon2id$other"))
	got, principals, err := b.Import(t.Context(), export)
	must(t, err)
	if got != n || len(principals) != 6 {
		t.Errorf("imported %+v, principals %v", got, principals)
	}
	for _, r := range []*Registry{b, reopen(t, b, dir)} {
		b = r
		if err := b.tables.check(); err != nil {
			t.Fatal(err)
		}
		again, _ := b.Export()
		d, _ := b.Device("lamp1")
		if b.Epoch() != epoch || b.Name() != "one" || len(b.Devices()) != 2 || len(b.Groups()) != 1 || len(b.Keys()) != 1 || len(b.Users()) != 1 || d.Label != "灯" || !b.HasClaim("plug") || len(again) == 0 {
			t.Errorf("there are %v, %v, %v, %v", b.Devices(), b.Groups(), b.Keys(), b.Users())
		}
	}
	if e, ok := b.LookupToken(auth.HashToken(token)); !ok || e.Name != "lamp1" {
		t.Errorf("the token is %+v's", e)
	}
}

// TestImportRefuses leaves everything as it is.
func TestImportRefuses(t *testing.T) {
	a := open(t, t.TempDir())
	_, err := a.AddDevice(t.Context(), Device{ID: "lamp1"})
	must(t, err)
	export, _ := a.Export()
	b := open(t, t.TempDir())
	must(t, b.AddUser(t.Context(), User{Name: "bob", Admin: true}, "$argon2id$other"))
	_, _, err = b.Import(t.Context(), export)
	wantCode(t, err, message.CodeLastAdmin)
	for name, bad := range map[string][]byte{
		"nothing": nil, "cut": export[:len(export)-1], "a length": {200}, "a removal": append([]byte{3}, (&record{kind: removeKey, name: "x"}).encode()...), "an unknown kind": {1, 99},
	} {
		if _, _, err := b.Import(t.Context(), bad); err == nil {
			t.Errorf("%s is imported", name)
		}
	}
	if !b.SetUp() || len(b.Devices()) != 0 {
		t.Error("a refused import changed something")
	}
}

// FuzzImport feeds exports; what is taken leaves sound tables.
func FuzzImport(f *testing.F) {
	r := open(f, f.TempDir())
	_, err := r.AddDevice(f.Context(), Device{ID: "lamp1", Label: "L"})
	must(f, err)
	export, _ := r.Export()
	f.Add(export)
	f.Add([]byte{1, 99})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := r.readExport(b, new(Census)); err != nil {
			return
		}
		if _, _, err := r.Import(t.Context(), b); err == nil {
			if err := r.tables.check(); err != nil {
				t.Error(err)
			}
		}
	})
}
