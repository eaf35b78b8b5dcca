package registry

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	old, err := r.AddDevice(ctx, Device{ID: "lamp3"})
	must(t, err)
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
	_, err = r.AddDevice(ctx, Device{ID: "late"})
	wantCode(t, err, message.CodeStorageFull)

	r = reopen(t, r, dir) // still full
	if r.HasDevice("lamp1") || !r.HasDevice("lamp2") || len(r.Keys()) > 0 {
		t.Errorf("after a start: %v, %v", r.Devices(), r.Keys())
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
