package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
	"edgepost/wal"
)

// model is what the registry must say, kept in the simplest way.
type model struct {
	devices map[string]Device
	keys    map[string]Key
	groups  map[string]string // label
	tokens  map[string]string // token by name
	name    string
	users   map[string]User
	claims  map[string]string // code by device
	had     bool              // a device
}

func newModel(name string) *model {
	return &model{map[string]Device{}, map[string]Key{}, map[string]string{}, map[string]string{}, name, map[string]User{}, map[string]string{}, false}
}

func (m *model) compare(r *Registry) error {
	if err := r.tables.check(); err != nil {
		return err
	}
	if r.SaysWhichDevices() != m.had {
		return fmt.Errorf("that these are all devices is said: %t, want %t", !m.had, m.had)
	}
	if r.Name() != m.name {
		return fmt.Errorf("name %q, want %q", r.Name(), m.name)
	}
	ds, ks, gs := r.Devices(), r.Keys(), r.Groups()
	if len(ds) != len(m.devices) || len(ks) != len(m.keys) || len(gs) != len(m.groups) {
		return fmt.Errorf("%d devices, %d keys, %d groups; want %d, %d, %d", len(ds), len(ks), len(gs), len(m.devices), len(m.keys), len(m.groups))
	}
	for i, d := range ds {
		if i > 0 && ds[i-1].ID >= d.ID {
			return fmt.Errorf("%s and %s are not sorted", ds[i-1].ID, d.ID)
		}
		if want := m.devices[d.ID]; !reflect.DeepEqual(d, want) {
			return fmt.Errorf("device %+v, want %+v", d, want)
		}
	}
	for _, k := range ks {
		if want := m.keys[k.Name]; !reflect.DeepEqual(k, want) {
			return fmt.Errorf("key %+v, want %+v", k, want)
		}
	}
	for _, g := range gs {
		var members []string
		for id, d := range m.devices {
			if slices.Contains(d.Groups, g.Name) {
				members = append(members, id)
			}
		}
		slices.Sort(members)
		if label, ok := m.groups[g.Name]; !ok || label != g.Label || !slices.Equal(members, g.Members) {
			return fmt.Errorf("group %+v, want label %q members %v", g, label, members)
		}
	}
	us := r.Users()
	if len(us) != len(m.users) {
		return fmt.Errorf("%d users, want %d", len(us), len(m.users))
	}
	for _, u := range us {
		if hash, ok := r.Password(u.Name); !reflect.DeepEqual(u, m.users[u.Name]) || !ok || hash != "$hash of "+u.Name {
			return fmt.Errorf("user %+v with %q, want %+v", u, hash, m.users[u.Name])
		}
	}
	for id := range m.devices {
		if _, want := m.claims[id]; r.HasClaim(id) != want {
			return fmt.Errorf("claim code of %s: want %v", id, want)
		}
	}
	for name, token := range m.tokens {
		if e, ok := r.LookupToken(auth.HashToken(token)); !ok || e.Name != name {
			return fmt.Errorf("the token of %s is not known", name)
		}
	}
	return nil
}

// step makes one random change to both.
func (m *model) step(t *testing.T, r *Registry, rnd *rand.Rand) {
	t.Helper()
	ctx := context.Background()
	name, group := fmt.Sprint("n", rnd.IntN(12)), fmt.Sprint("g", rnd.IntN(4))
	d, isDevice := m.devices[name]
	_, isKey := m.keys[name]
	rules := message.Rules{}
	if rnd.IntN(2) == 0 {
		rules = message.Rules{Publish: []message.Filter{"a/#", "b/+"}, DenySubscribe: []message.Filter{message.Filter(group)}}
	}
	label := strings.Repeat("x", rnd.IntN(200))
	expect := func(err error, ok bool) bool {
		t.Helper()
		if (err == nil) != ok {
			t.Fatalf("error %v, want success %v", err, ok)
		}
		return ok
	}
	if rnd.IntN(4) == 0 {
		m.stepUser(t, r, rnd, name)
		return
	}
	if _, isUser := m.users[name]; isUser {
		isKey = true // the name is taken all the same
	}
	switch op := rnd.IntN(10); op {
	case 0, 1:
		token, err := r.AddDevice(ctx, Device{ID: name, Label: label, Groups: []string{group}, Rules: rules})
		if expect(err, !isDevice && !isKey) {
			m.devices[name] = Device{ID: name, Label: label, Groups: []string{group}, Rules: rules, Created: day}
			m.groups[group] += ""
			m.tokens[name] = token
		}
	case 2:
		if expect(r.RemoveDevice(ctx, name), isDevice) {
			delete(m.claims, name)
			delete(m.devices, name)
			delete(m.tokens, name)
		}
	case 3:
		if expect(r.UpdateDevice(ctx, Device{ID: name, Label: label, Rules: rules}), isDevice) {
			d.Label, d.Rules, d.Groups = label, rules, nil
			m.devices[name] = d
		}
	case 4:
		token, err := r.RotateDevice(ctx, name, 0)
		if expect(err, isDevice) {
			m.tokens[name] = token
		}
	case 5:
		token, err := r.AddKey(ctx, Key{Name: name, Label: label, Rules: rules, Admin: len(label) > 100})
		if expect(err, !isDevice && !isKey) {
			m.keys[name] = Key{Name: name, Label: label, Rules: rules, Admin: len(label) > 100, Created: day}
			m.tokens[name] = token
		}
	case 6:
		if _, isKey := m.keys[name]; expect(r.RemoveKey(ctx, name), isKey) {
			delete(m.keys, name)
			delete(m.tokens, name)
		}
	default:
		m.stepGroup(r, op, name, group, label, expect)
	}
}

// stepGroup is a change of groups or of the gateway's name.
func (m *model) stepGroup(r *Registry, op int, name, group, label string, expect func(error, bool) bool) {
	ctx := context.Background()
	d, isDevice := m.devices[name]
	_, isGroup := m.groups[group]
	switch {
	case op == 7:
		if expect(r.Join(ctx, group, name), isDevice && isGroup) && !slices.Contains(d.Groups, group) {
			d.Groups = append(slices.Clone(d.Groups), group)
			slices.Sort(d.Groups)
			m.devices[name] = d
		}
	case op == 8 && isGroup && len(label)%2 == 0:
		expect(r.RemoveGroup(ctx, group), true)
		delete(m.groups, group)
		for id, d := range m.devices {
			m.devices[id] = withoutGroup(d, group)
		}
	case op == 8:
		if expect(r.AddGroup(ctx, group, label), !isGroup) {
			m.groups[group] = label
		}
	case len(label)%4 == 0:
		expect(r.SetName(ctx, name), true)
		m.name = name
	default:
		if expect(r.Leave(ctx, group, name), isDevice && isGroup) {
			m.devices[name] = withoutGroup(d, group)
		}
	}
}

func withoutGroup(d Device, group string) Device {
	var groups []string
	for _, g := range d.Groups {
		if g != group {
			groups = append(groups, g)
		}
	}
	d.Groups = groups
	return d
}

// copyDir is what kill -9 leaves: the files as they are, without a clean stop.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func TestRandomLifeAgainstAModel(t *testing.T) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		dir := t.TempDir()
		r := open(t, dir)
		m := newModel(r.Name())
		snapshots := 0
		for i := range 250 {
			m.step(t, r, rnd)
			m.had = m.had || len(m.devices) > 0
			switch rnd.IntN(25) {
			case 0:
				r = reopen(t, r, dir)
			case 1: // killed
				dir = copyDir(t, dir)
				must(t, r.Close())
				r = open(t, dir)
			case 2:
				r.change.Lock()
				must(t, r.ledger.snapshot(r.tables))
				r.change.Unlock()
				snapshots++
			default:
				continue
			}
			if err := m.compare(r); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
			if d := r.Damage(); d != nil {
				t.Fatalf("seed %d step %d: %v", seed, i, d)
			}
		}
		if n := len(r.ledger.log.Snapshots()); snapshots > 2 && n != 2 {
			t.Errorf("%d snapshots are kept", n)
		}
		must(t, r.Close())
	}
}

func TestLedgerStaysSmall(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	_, err := r.AddDevice(ctx, Device{ID: "lamp1"})
	must(t, err)
	label := strings.Repeat("x", maxLabel)
	rules := message.Rules{Publish: slices.Repeat([]message.Filter{message.Filter(strings.Repeat("y", maxFilter))}, maxFilters)}
	for range 40 { // 64 KiB each
		must(t, r.UpdateDevice(ctx, Device{ID: "lamp1", Label: label, Rules: rules}))
	}
	must(t, r.UpdateDevice(ctx, Device{ID: "lamp1"}))
	if n := r.ledger.log.Size(); n > 2<<20 {
		t.Errorf("the ledger of one device has %d bytes", n)
	}
	for i := range 3 * manyStarts {
		r = reopen(t, r, dir)
		must(t, r.SetName(ctx, fmt.Sprint("n", i)))
	}
	if n := r.ledger.generations(); n > 2*manyStarts {
		t.Errorf("%d generations after %d starts", n, 3*manyStarts)
	}
	if d, ok := r.Device("lamp1"); !ok || d.Label != "" {
		t.Errorf("%+v", d)
	}
}

// flip damages every place in dir where text stands, and returns how many there were.
func flip(t *testing.T, dir, text string) (n int) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte(text)) {
			return err
		}
		for i := bytes.Index(b, []byte(text)); i >= 0; i = bytes.Index(b, []byte(text)) {
			b[i] ^= 0x40
			n++
		}
		return os.WriteFile(path, b, 0o600)
	}))
	return n
}

func TestDamagedRecordIsReportedAndTheRestOpens(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	for _, id := range []string{"before", "victim", "after"} {
		_, err := r.AddDevice(ctx, Device{ID: id})
		must(t, err)
	}
	must(t, r.Close())
	if flip(t, dir, "victim") == 0 {
		t.Fatal("nothing was damaged")
	}
	r = open(t, dir)
	if !r.HasDevice("before") || !r.HasDevice("after") || r.HasDevice("victim") {
		t.Errorf("%+v", r.Devices())
	}
	if d := r.Damage(); len(d) != 1 || !strings.Contains(d[0], "damaged") {
		t.Errorf("%v", d)
	}
	_, err := r.AddDevice(ctx, Device{ID: "victim"})
	must(t, err)
}

func TestDamagedSnapshotFallsBack(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	snapshot := func() {
		r.change.Lock()
		defer r.change.Unlock()
		must(t, r.ledger.snapshot(r.tables))
	}
	add := func(id string) {
		_, err := r.AddDevice(ctx, Device{ID: id})
		must(t, err)
	}
	add("one")
	snapshot()
	add("two")
	snapshot()
	add("three")
	newest := r.ledger.base
	must(t, r.Close())
	if flip(t, findGeneration(t, dir, newest), "two") == 0 {
		t.Fatal("nothing was damaged")
	}
	r = open(t, dir)
	for _, id := range []string{"one", "two", "three"} {
		if !r.HasDevice(id) {
			t.Errorf("%s is lost: %v", id, r.Damage())
		}
	}
	if len(r.Damage()) == 0 {
		t.Error("the damage is not reported")
	}
	snapshot()
	if got := r.ledger.log.Snapshots(); len(got) != 2 || slices.Contains(got, newest) {
		t.Errorf("snapshots %v; the damaged one is %d", got, newest)
	}
}

// findGeneration returns the folder whose name ends with the id.
func findGeneration(t *testing.T, dir string, id uint64) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.IsDir() && strings.Contains(e.Name(), fmt.Sprintf("%08d", id)) {
			return filepath.Join(dir, e.Name())
		}
	}
	t.Fatalf("no generation %d", id)
	return ""
}

func TestRecordsOfOtherVersions(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	_, err := r.ledger.log.AppendWait(context.Background(), wal.Record{Data: []byte{byte(putDevice), 200}})
	must(t, err)
	r = reopen(t, r, dir) // a damaged record of a known kind is reported
	if d := r.Damage(); len(d) != 1 {
		t.Errorf("%v", d)
	}
	_, err = r.ledger.log.AppendWait(context.Background(), wal.Record{Data: []byte{77, 1, 'x'}})
	must(t, err)
	must(t, r.Close())
	_, err = Open(dir, Options{})
	var kind unknownKind
	if !errors.As(err, &kind) || kind != 77 || !strings.Contains(err.Error(), "kind 77") {
		t.Errorf("%v", err)
	}
}

func TestRecordsSurviveTheirEncoding(t *testing.T) {
	for _, want := range []record{
		{kind: putGateway, name: "gw", epoch: "abcdefgh", machine: "00ff"},
		{
			kind: putDevice, name: "d", label: "灯", groups: []string{"a", "b"}, created: -5, hash: auth.HashToken("x"),
			rules: message.Rules{Publish: []message.Filter{"a"}, DenyPublish: []message.Filter{"b"}, Subscribe: []message.Filter{"c"}, DenySubscribe: []message.Filter{"d", "e"}},
		},
		{kind: removeDevice, name: "d"},
		{kind: putGroup, name: "g", label: "l"},
		{kind: removeGroup, name: "g"},
		{kind: putKey, name: "k", admin: true, hash: auth.HashToken("y")},
		{kind: removeKey, name: "k"},
		{kind: covers, covers: 1 << 40},
		{kind: putDevice2, name: "d", extra: extra{profile: "tasmota", guessable: true, old: auth.HashToken("o"), until: 77}, hash: auth.HashToken("z")},
		{kind: putDevice3, name: "d", extra: extra{form: seal.Binary, sealKey: seal.Key{1}}, hash: auth.HashToken("z")},
		{kind: putUser, name: "u", label: "l", admin: true, created: 3, extra: extra{password: "$argon2id$"}},
		{kind: removeUser, name: "u"},
		{kind: putClaim, name: "d", until: 12, hash: auth.HashCode("BCDF")},
		{kind: removeClaim, name: "d"},
	} {
		b := want.encode()
		got, err := decode(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		for i := range b {
			if _, err := decode(b[:i]); err == nil {
				t.Errorf("kind %d cut at %d is accepted", want.kind, i)
			}
		}
		if _, err := decode(append(b, 0)); err == nil {
			t.Errorf("kind %d with a tail is accepted", want.kind)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&record{kind: putDevice, name: "d", groups: []string{"a"}, created: 1}).encode())
	f.Add((&record{kind: putKey, name: "k", admin: true}).encode())
	f.Add((&record{kind: putGateway, name: "g", epoch: "abcdefgh"}).encode())
	f.Add((&record{kind: covers, covers: 9}).encode())
	f.Add((&record{kind: putDevice2, name: "d", extra: extra{profile: "p", guessable: true}}).encode())
	f.Add((&record{kind: putDevice3, name: "d", extra: extra{form: seal.JWE, sealKey: seal.Key{31: 9}}}).encode())
	f.Add((&record{kind: putUser, name: "u", admin: true, extra: extra{password: "x"}}).encode())
	f.Add((&record{kind: putClaim, name: "d", until: 5}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(r.encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v, %v after %+v", again, err, r)
		}
		tb := newTables()
		tb.apply(&record{kind: putDevice, name: "d", groups: []string{"a"}})
		tb.apply(&r)
		tb.apply(&record{kind: removeGroup, name: "a"})
		tb.apply(&record{kind: removeDevice, name: "d"})
	})
}
