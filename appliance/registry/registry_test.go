package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/wal"
)

var day = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string) *Registry {
	t.Helper()
	r, err := Open(dir, Options{Now: func() time.Time { return day }, MachineID: "m1\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func reopen(t testing.TB, r *Registry, dir string) *Registry {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if p := message.ProblemOf(err); p == nil || p.Code != code {
		t.Errorf("error %v, want a problem %q", err, code)
	}
}

// check holds the invariants of tables.
func (t *tables) check() error {
	devices, tokens, users, admins := 0, 0, 0, 0
	for name, p := range t.principals {
		if p.kind == auth.User {
			users++
			if p.admin {
				admins++
			}
			if p.hash != [32]byte{} || p.extra == nil || p.extra.password == "" {
				return fmt.Errorf("user %s has a token or no password", name)
			}
			continue
		}
		tokens++
		if p.name != name || t.byToken[p.hash] != p || !slices.IsSorted(p.groups) {
			return fmt.Errorf("principal %s is stored wrongly", name)
		}
		if p.extra != nil && p.extra.until != 0 {
			if tokens++; t.byToken[p.extra.old] != p {
				return fmt.Errorf("the old token of %s is stored wrongly", name)
			}
		}
		if p.kind == auth.Device {
			devices++
		}
		for _, g := range p.groups {
			if t.groups[g] == nil {
				return fmt.Errorf("%s is in the missing group %s", name, g)
			}
			if _, ok := t.groups[g].members[name]; !ok {
				return fmt.Errorf("group %s does not know its member %s", g, name)
			}
		}
	}
	for _, g := range t.groups {
		for id := range g.members {
			if p := t.device(id); p == nil || !slices.Contains(p.groups, g.name) {
				return fmt.Errorf("%s does not know its group %s", id, g.name)
			}
		}
	}
	if devices != t.devices || users != t.users || admins != t.admins || len(t.byToken) != tokens {
		return fmt.Errorf("%d devices counted as %d, %d users as %d, %d administrators as %d; %d tokens of %d",
			devices, t.devices, users, t.users, admins, t.admins, len(t.byToken), tokens)
	}
	if t.lastGone != "" && devices > 0 {
		return fmt.Errorf("%s is noted as the last device, and there are %d", t.lastGone, devices)
	}
	if len(t.claims) != len(t.byClaim) {
		return fmt.Errorf("%d claim codes, %d ways back", len(t.claims), len(t.byClaim))
	}
	for id, c := range t.claims {
		if t.device(id) == nil || t.byClaim[c.hash] != id {
			return fmt.Errorf("the claim code of %s is stored wrongly", id)
		}
	}
	return nil
}

func TestLifeOfADevice(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	want := Device{
		ID: "lamp1", Label: "灯 im Flur", Groups: []string{"attic", "hall"}, Created: day,
		Rules: message.Rules{Publish: []message.Filter{"tele/${device}/#"}},
	}
	in := want
	in.Groups = []string{"hall", "attic", "hall"}
	token, err := r.AddDevice(ctx, in)
	must(t, err)
	if len(token) != 35 || !strings.HasPrefix(token, "ep_") {
		t.Errorf("token %q", token)
	}
	if !slices.Equal(in.Groups, []string{"hall", "attic", "hall"}) {
		t.Error("the caller's groups were changed")
	}
	for range 2 {
		got, ok := r.Device("lamp1")
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		e, ok := r.LookupToken(auth.HashToken(token))
		if !ok || e.Name != "lamp1" || e.Kind != auth.Device || !slices.Equal(e.Groups, want.Groups) {
			t.Fatalf("%+v", e)
		}
		if g, ok := r.Group("hall"); !ok || !slices.Equal(g.Members, []string{"lamp1"}) {
			t.Fatalf("%+v", g)
		}
		r = reopen(t, r, dir)
	}

	must(t, r.UpdateDevice(ctx, Device{ID: "lamp1", Label: "x", Groups: []string{"attic"}}))
	want.Label, want.Groups, want.Rules = "x", []string{"attic"}, message.Rules{}
	if got, _ := r.Device("lamp1"); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if _, ok := r.LookupToken(auth.HashToken(token)); !ok {
		t.Fatal("an update touched the token")
	}

	second, err := r.RotateDevice(ctx, "lamp1", 0)
	must(t, err)
	r = reopen(t, r, dir)
	if _, ok := r.LookupToken(auth.HashToken(token)); ok {
		t.Error("the old token is still good")
	}
	if _, ok := r.LookupToken(auth.HashToken(second)); !ok {
		t.Error("the new token is not good")
	}

	must(t, r.RemoveDevice(ctx, "lamp1"))
	r = reopen(t, r, dir)
	if _, ok := r.LookupToken(auth.HashToken(second)); ok || r.HasDevice("lamp1") {
		t.Error("a removed device is still there")
	}
	if g, _ := r.Group("attic"); len(g.Members) != 0 {
		t.Errorf("%+v", g)
	}
}

func TestTheTokenIsNotOnDisk(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	token, err := r.AddDevice(context.Background(), Device{ID: "lamp1"})
	must(t, err)
	must(t, r.Close())
	hash := auth.HashToken(token)
	found := false
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), token) || strings.Contains(string(b), "m1\n") {
			t.Errorf("a secret stands in %s", path)
		}
		found = found || strings.Contains(string(b), string(hash[:]))
		return err
	}))
	if !found {
		t.Error("this test does not see what is written")
	}
}

func TestNamesShareOneSpace(t *testing.T) {
	ctx := context.Background()
	r := open(t, t.TempDir())
	_, err := r.AddDevice(ctx, Device{ID: "a"})
	must(t, err)
	_, err = r.AddKey(ctx, Key{Name: "b", Admin: true})
	must(t, err)
	_, err = r.AddDevice(ctx, Device{ID: "a"})
	wantCode(t, err, message.CodeExists)
	_, err = r.AddDevice(ctx, Device{ID: "b"})
	wantCode(t, err, message.CodeExists)
	_, err = r.AddKey(ctx, Key{Name: "a"})
	wantCode(t, err, message.CodeExists)
	wantCode(t, r.RemoveDevice(ctx, "b"), message.CodeUnknownDevice)
	wantCode(t, r.RemoveKey(ctx, "a"), message.CodeNotFound)
	if r.HasDevice("b") {
		t.Error("a key is a device")
	}
	if _, ok := r.Key("a"); ok {
		t.Error("a device is a key")
	}
	if ks := r.Keys(); len(ks) != 1 || ks[0].Name != "b" || !ks[0].Admin || !ks[0].Created.Equal(day) {
		t.Errorf("%+v", ks)
	}
}

func TestBadInput(t *testing.T) {
	ctx := context.Background()
	r := open(t, t.TempDir())
	_, err := r.AddDevice(ctx, Device{ID: "ok"})
	must(t, err)
	long := message.Filter(strings.Repeat("a", maxFilter+1))
	for _, c := range []struct {
		name, code string
		err        error
	}{
		{"id", message.CodeBadName, second(r.AddDevice(ctx, Device{ID: "-x"}))},
		{"empty id", message.CodeBadName, second(r.AddDevice(ctx, Device{}))},
		{"group in device", message.CodeBadName, second(r.AddDevice(ctx, Device{ID: "x", Groups: []string{"a/b"}}))},
		{"label", message.CodeBadRequest, second(r.AddDevice(ctx, Device{ID: "x", Label: "a\nb"}))},
		{"long label", message.CodeBadRequest, second(r.AddDevice(ctx, Device{ID: "x", Label: strings.Repeat("x", maxLabel+1)}))},
		{"filter", message.CodeBadFilter, second(r.AddDevice(ctx, Device{ID: "x", Rules: message.Rules{DenySubscribe: []message.Filter{"a/#/b"}}}))},
		{"long filter", message.CodeBadFilter, second(r.AddDevice(ctx, Device{ID: "x", Rules: message.Rules{Publish: []message.Filter{long}}}))},
		{"filters", message.CodeBadRequest, second(r.AddDevice(ctx, Device{ID: "x", Rules: message.Rules{Publish: slices.Repeat([]message.Filter{"a"}, 65)}}))},
		{"key", message.CodeBadName, second(r.AddKey(ctx, Key{Name: ""}))},
		{"key filter", message.CodeBadFilter, second(r.AddKey(ctx, Key{Name: "k", Rules: message.Rules{Publish: []message.Filter{""}}}))},
		{"key placeholder", message.CodeBadFilter, second(r.AddKey(ctx, Key{Name: "k", Rules: message.Rules{Publish: []message.Filter{"a/${device}"}}}))},
		{"group", message.CodeBadName, r.AddGroup(ctx, "a b", "")},
		{"update unknown", message.CodeUnknownDevice, r.UpdateDevice(ctx, Device{ID: "no"})},
		{"update group", message.CodeUnknownGroup, r.UpdateDevice(ctx, Device{ID: "ok", Groups: []string{"no"}})},
		{"update filter", message.CodeBadFilter, r.UpdateDevice(ctx, Device{ID: "ok", Rules: message.Rules{Publish: []message.Filter{"#/a"}}})},
		{"rotate", message.CodeUnknownDevice, second(r.RotateDevice(ctx, "no", 0))},
		{"remove group", message.CodeUnknownGroup, r.RemoveGroup(ctx, "no")},
		{"join group", message.CodeUnknownGroup, r.Join(ctx, "no", "ok")},
		{"leave group", message.CodeUnknownGroup, r.Leave(ctx, "no", "ok")},
		{"name", message.CodeBadName, r.SetName(ctx, "a b")},
	} {
		if p := message.ProblemOf(c.err); p == nil || p.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, c.err, c.code)
		}
	}
	must(t, r.AddGroup(ctx, "g", ""))
	wantCode(t, r.AddGroup(ctx, "g", ""), message.CodeExists)
	wantCode(t, r.Join(ctx, "g", "no"), message.CodeUnknownDevice)
	if n := len(r.Devices()); n != 1 {
		t.Errorf("%d devices after refused changes", n)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.AddGroup(stopped, "late", ""); !errors.Is(err, context.Canceled) || r.HasGroup("late") {
		t.Errorf("a cancelled change: %v", err)
	}
}

func second(_ string, err error) error { return err }

func TestWatchSeesChangesInOrderAndAfterTheyAreVisible(t *testing.T) {
	ctx := context.Background()
	r := open(t, t.TempDir())
	var seen []Change
	before := r.Version()
	r.Watch(func(c Change) {
		if c.Kind == DeviceAdded && !r.HasDevice(c.Name) || c.Kind == DeviceRemoved && r.HasDevice(c.Name) {
			t.Errorf("%+v is announced before it is visible", c)
		}
		if v := r.Version(); v == before {
			t.Errorf("%+v did not change the version", c)
		}
		seen = append(seen, c)
	})
	_, err := r.AddDevice(ctx, Device{ID: "a", Groups: []string{"g"}})
	must(t, err)
	_, err = r.AddDevice(ctx, Device{ID: "b", Groups: []string{"g"}})
	must(t, err)
	must(t, r.Leave(ctx, "g", "b"))
	must(t, r.Leave(ctx, "g", "b")) // nothing to do: no change
	must(t, r.Join(ctx, "g", "b"))
	must(t, r.Join(ctx, "g", "b"))
	_, err = r.RotateDevice(ctx, "b", 0)
	must(t, err)
	must(t, r.RemoveGroup(ctx, "g"))
	_, err = r.AddKey(ctx, Key{Name: "k"})
	must(t, err)
	must(t, r.RemoveKey(ctx, "k"))
	must(t, r.RemoveDevice(ctx, "a"))
	must(t, r.SetName(ctx, "gw"))
	must(t, r.SetName(ctx, "gw"))
	want := []Change{
		{GroupAdded, "g"},
		{DeviceAdded, "a"},
		{DeviceAdded, "b"},
		{DeviceChanged, "b"},
		{DeviceChanged, "b"},
		{TokenRotated, "b"},
		{GroupRemoved, "g"},
		{DeviceChanged, "a"},
		{DeviceChanged, "b"},
		{KeyAdded, "k"},
		{KeyRemoved, "k"},
		{DeviceRemoved, "a"},
		{NameChanged, "gw"},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("%v, want %v", seen, want)
	}
	if d, _ := r.Device("b"); len(d.Groups) != 0 {
		t.Errorf("%+v is in a removed group", d)
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	name, epoch := r.Name(), r.Epoch()
	if len(name) != 11 || !strings.HasPrefix(name, "ep-") || message.CheckName("gateway name", name) != nil || len(epoch) != 8 {
		t.Fatalf("%q %q", name, epoch)
	}
	must(t, r.SetName(context.Background(), "cellar"))
	r = reopen(t, r, dir)
	if r.Name() != "cellar" || r.Epoch() != epoch {
		t.Errorf("%q %q after a restart", r.Name(), r.Epoch())
	}
	must(t, r.Close())
	for _, c := range []struct {
		machine string
		same    bool
	}{{"", true}, {"m1", true}, {"m2", false}, {"m2", true}, {"m1", false}} {
		r, err := Open(dir, Options{MachineID: c.machine})
		must(t, err)
		if same := r.Epoch() == epoch; same != c.same {
			t.Errorf("machine %q: epoch is the same: %v", c.machine, same)
		}
		if same := r.Name() == "cellar"; same && !c.same {
			t.Errorf("machine %q: the copy keeps the name", c.machine)
		}
		epoch = r.Epoch()
		must(t, r.Close())
	}
}

func TestSecondProcessAndForeignFolder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, wal.ErrLocked) {
		t.Errorf("%v", err)
	}
	other := t.TempDir()
	must(t, os.WriteFile(filepath.Join(other, "holiday.jpg"), []byte("x"), 0o600))
	if _, err := Open(other, Options{}); !errors.Is(err, wal.ErrForeign) {
		t.Errorf("%v", err)
	}
}

func TestClosedRegistryRefusesChangesAndStillReads(t *testing.T) {
	ctx := context.Background()
	r := open(t, t.TempDir())
	_, err := r.AddDevice(ctx, Device{ID: "a"})
	must(t, err)
	must(t, r.Close())
	_, err = r.AddDevice(ctx, Device{ID: "b"})
	wantCode(t, err, message.CodeUnavailable)
	if !r.HasDevice("a") || r.HasDevice("b") {
		t.Error("the tables do not say what is durable")
	}
}

func TestReadersAndWritersTogether(t *testing.T) {
	ctx := context.Background()
	r := open(t, t.TempDir())
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, d := range r.Devices() {
					if e, ok := r.Lookup(d.ID); ok && e.Kind != auth.Device {
						t.Error("not a device")
					}
				}
				r.Groups()
				r.HasGroup("g")
			}
		})
	}
	for i := range 50 {
		id := fmt.Sprint("d", i%5)
		if r.HasDevice(id) {
			must(t, r.RemoveDevice(ctx, id))
			continue
		}
		_, err := r.AddDevice(ctx, Device{ID: id, Groups: []string{"g"}})
		must(t, err)
	}
	close(done)
	wg.Wait()
}

func TestTenThousandDevices(t *testing.T) {
	if testing.Short() {
		t.Skip("writes two megabytes")
	}
	const n = 10_000
	dir := t.TempDir()
	r := open(t, dir)
	fill(t, r, n)
	must(t, r.Close())

	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	r = nil
	before := heap()
	start := time.Now()
	r = open(t, dir)
	opened := time.Since(start)
	used := heap() - before
	t.Logf("%d devices: open %v, heap %d KiB", n, opened, used>>10)
	if used > 6<<20 {
		t.Errorf("%d devices take %d bytes of heap", n, used)
	}
	if len(r.Devices()) != n || !r.HasDevice("device-09999") {
		t.Error("devices are missing")
	}
	must(t, r.tables.check())
}

// fill adds devices past the fsync of each, in one go.
func fill(t testing.TB, r *Registry, n int) {
	t.Helper()
	r.change.Lock()
	defer r.change.Unlock()
	var records []*record
	for i := range n {
		rec := &record{
			kind: putDevice, name: fmt.Sprintf("device-%05d", i), groups: []string{fmt.Sprint("g", i%10)},
			created: day.UnixNano(), hash: auth.HashToken(fmt.Sprint(i)),
		}
		if records = append(records, rec); len(records) == 500 || i == n-1 {
			must(t, r.commit(context.Background(), records))
			records = nil
		}
	}
}

func BenchmarkHasDevice(b *testing.B) {
	r := open(b, b.TempDir())
	fill(b, r, 1000)
	b.ReportAllocs()
	for b.Loop() {
		r.HasDevice("device-00500")
	}
}
