package registry

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// TestFullDiskKeepsNobodyIn: on a full disk nobody is added, and removals and new tokens are durable all the same.
func TestFullDiskKeepsNobodyIn(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	dir, ctx := filepath.Join(mount, "registry"), context.Background()
	r := open(t, dir)
	for _, id := range []string{"lamp1", "lamp2"} {
		_, err := r.AddDevice(ctx, Device{ID: id})
		must(t, err)
	}
	old, err := r.AddDevice(ctx, Device{ID: "lamp3", Rules: message.Rules{Publish: []message.Filter{"a/#"}}})
	must(t, err)
	for _, name := range []string{"ann", "guest"} {
		must(t, r.AddUser(ctx, User{Name: name, Admin: true}, "$hash"))
	}
	_, err = r.AddKey(ctx, Key{Name: "app", Admin: true})
	must(t, err)
	foreign := filepath.Join(mount, "foreign")
	fillDisk(t, foreign)
	for i := 0; ; i++ { // what its last block has room for still goes in
		if _, err = r.AddDevice(ctx, Device{ID: "more" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Label: "takes what is left of the space"}); err != nil {
			break
		}
	}
	wantCode(t, err, message.CodeStorageFull)
	must(t, r.RemoveDevice(ctx, "lamp1"))
	must(t, r.RemoveKey(ctx, "app"))
	token, err := r.RotateDevice(ctx, "lamp3", 0)
	must(t, err)
	must(t, r.UpdateDevice(ctx, Device{ID: "lamp3"}))
	wantCode(t, r.UpdateDevice(ctx, Device{ID: "lamp3", Label: strings.Repeat("x", maxLabel)}), message.CodeStorageFull)
	must(t, r.UpdateUser(ctx, User{Name: "guest"}))
	_, err = r.AddDevice(ctx, Device{ID: "late"})
	wantCode(t, err, message.CodeStorageFull)

	r = reopen(t, r, dir) // still full
	if r.HasDevice("lamp1") || !r.HasDevice("lamp2") || len(r.Keys()) > 0 {
		t.Errorf("after a start: %v, %v", r.Devices(), r.Keys())
	}
	if d, _ := r.Device("lamp3"); len(d.Rules.Publish) > 0 {
		t.Errorf("lamp3 still may publish to %v", d.Rules.Publish)
	}
	if u, _ := r.User("guest"); u.Admin {
		t.Error("guest still may administer")
	}
	if _, ok := r.LookupToken(auth.HashToken(old)); ok {
		t.Error("the old token is good")
	}
	if _, ok := r.LookupToken(auth.HashToken(token)); !ok {
		t.Error("the new token is not good")
	}
	must(t, os.Remove(foreign))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err = r.AddDevice(ctx, Device{ID: "late"}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	must(t, err)
}

// fillDisk takes all the space there is.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 4<<10); !errors.Is(err, unix.ENOSPC); {
		_, err = f.Write(block)
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// TestWhichUpdatesNarrow: those that take rights away and give none.
func TestWhichUpdatesNarrow(t *testing.T) {
	ctx, r := context.Background(), open(t, t.TempDir())
	for _, name := range []string{"hall", "attic"} {
		must(t, r.AddGroup(ctx, name, ""))
	}
	rules := func(publish ...message.Filter) message.Rules {
		return message.Rules{Publish: publish, Subscribe: []message.Filter{"#"}}
	}
	_, err := r.AddDevice(ctx, Device{ID: "lamp1", Groups: []string{"hall"}, Profile: "tasmota", Rules: rules("a/#")})
	must(t, err)
	for what, c := range map[string]struct {
		to   Device
		want bool
	}{
		"the same":                      {Device{Groups: []string{"hall"}, Profile: "tasmota", Rules: rules("a/#")}, false},
		"another label":                 {Device{Label: "x", Groups: []string{"hall"}, Profile: "tasmota", Rules: rules("a/#")}, false},
		"a smaller filter":              {Device{Groups: []string{"hall"}, Profile: "tasmota", Rules: rules("a/+/x")}, true},
		"a smaller filter and a larger": {Device{Groups: []string{"hall"}, Profile: "tasmota", Rules: rules("a/x", "b")}, false},
		"no group":                      {Device{Profile: "tasmota", Rules: rules("a/#")}, true}, // though it may still read along
		"no group, and fewer rules":     {Device{Profile: "tasmota", Rules: rules()}, true},
		"another group":                 {Device{Groups: []string{"attic"}, Profile: "tasmota", Rules: rules()}, false},
		"no profile":                    {Device{Groups: []string{"hall"}, Rules: rules("a/#")}, true},
		"another profile":               {Device{Groups: []string{"hall"}, Profile: "shelly"}, false},
		"nothing":                       {Device{}, true},
		"a denial":                      {Device{Groups: []string{"hall"}, Profile: "tasmota", Rules: message.Rules{Publish: []message.Filter{"a/#"}, DenyPublish: []message.Filter{"a/x"}, Subscribe: []message.Filter{"#"}}}, true},
	} {
		if c.to.ID = "lamp1"; r.Narrows(c.to) != c.want {
			t.Errorf("%s narrows: %t", what, !c.want)
		}
	}
	if r.Narrows(Device{ID: "nobody"}) {
		t.Error("a device that is not there narrows")
	}
}
