package appliance

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// smallDisk is a data directory on a disk of 8 MiB.
func smallDisk(t *testing.T) (data string) {
	t.Helper()
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	return filepath.Join(mount, "data")
}

// fill takes the disk's space beside the data directory, and has the log use up what it kept: until publishers are refused.
func (r *rig) fill(data string) (emptied func()) {
	r.t.Helper()
	foreign := filepath.Join(filepath.Dir(data), "foreign")
	f, err := os.Create(foreign)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4<<10); err == nil; {
		_, err = f.Write(block)
	}
	filler := message.New("a", make([]byte, 16<<10))
	for err = nil; err == nil; {
		_, err = r.a.Publish(context.Background(), filler)
	}
	return func() {
		r.t.Helper()
		if err := os.Remove(foreign); err != nil {
			r.t.Fatal(err)
		}
	}
}

// followed waits until the storage takes writes and the subscriptions are what the register says.
func (r *rig) followed() {
	r.t.Helper()
	for within := time.Now().Add(time.Minute); r.a.core.Health() != nil || r.a.core.behind.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(within) {
			r.t.Fatalf("there is space again: %v", r.a.core.Health())
		}
	}
}

// TestFullDiskKeepsNoDevice: on a full disk a device is removed for good; its inbox goes once there is space, though
// it was the last one, and whoever gets its name then finds nothing in it.
func TestFullDiskKeepsNoDevice(t *testing.T) {
	data := smallDisk(t)
	r := newRig(t, Config{Data: data})
	r.device("lamp1")
	r.admin("POST", "/v1/publish/device/lamp1/in/set", "of the first", 201)
	emptied := r.fill(data)
	r.admin("DELETE", "/v1/devices/lamp1", "", 204)
	r.admin("GET", "/v1/devices/lamp1", "", 404)
	emptied()
	r.followed()
	r.device("lamp1")
	if info, err := r.a.core.c.Info(context.Background(), courier.DeviceInbox("lamp1")); err != nil || info.Depth != 0 {
		t.Errorf("the new lamp1 has %d messages of the old one, %v", info.Depth, err)
	}
}

// TestFullDiskAndAStartKeepNoDevice: the same when the appliance starts anew before the inbox could go. A register that
// was lost meanwhile is not taken for one whose last device was removed.
func TestFullDiskAndAStartKeepNoDevice(t *testing.T) {
	for name, lost := range map[string]bool{"removed": false, "register lost": true} {
		t.Run(name, func(t *testing.T) {
			data := smallDisk(t)
			emptied := func() {}
			func() {
				r, stop := startRig(t, Config{Data: data})
				defer stop()
				r.device("lamp1")
				r.admin("POST", "/v1/publish/device/lamp1/in/set", "of the first", 201)
				emptied = r.fill(data)
				r.admin("DELETE", "/v1/devices/lamp1", "", 204)
			}()
			if lost {
				if err := os.RemoveAll(filepath.Join(data, "registry")); err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(t, Config{Data: data})
			emptied()
			r.followed()
			if has := len(r.a.core.c.Names(courier.Inbox)) > 0; has != lost {
				t.Errorf("the inbox of the removed device is there: %t", has)
			}
		})
	}
}

// TestFullDiskKeepsNoRight: on a full disk rights can be taken away and none can be given.
func TestFullDiskKeepsNoRight(t *testing.T) {
	data := smallDisk(t)
	r := newRig(t, Config{Data: data})
	ctx, inbox := context.Background(), courier.DeviceInbox("lamp1")
	r.admin("POST", "/v1/groups", `{"name":"hall"}`, 201)
	r.admin("POST", "/v1/groups", `{"name":"attic"}`, 201)
	token := r.admin("POST", "/v1/devices", `{"id":"lamp1","groups":["hall"],"rules":{"publish":["a/#","b"]}}`, 201)["token"].(string)
	r.admin("POST", "/v1/users", `{"name":"ann","password":"correct horse battery","rules":{"subscribe":["#"]}}`, 201)
	emptied := r.fill(data)
	r.as(token, "POST", "/v1/publish/b", "x", 507) // it may

	r.admin("PUT", "/v1/devices/lamp1", `{"groups":["hall","attic"],"rules":{"publish":["a/#","b"]}}`, 507)
	r.admin("PUT", "/v1/devices/lamp1", `{"groups":["hall"],"rules":{"publish":["#"]}}`, 507)
	r.admin("PUT", "/v1/devices/lamp1", `{"rules":{"publish":["a/x"]}}`, 204)
	r.as(token, "POST", "/v1/publish/b", "x", 403)
	r.admin("PUT", "/v1/users/ann", `{"rules":{"subscribe":["#"],"deny_subscribe":["private/#"]}}`, 204)
	r.admin("PUT", "/v1/users/ann", `{"rules":{"subscribe":["a/#"]}}`, 204)
	emptied()
	r.followed()
	if info, err := r.a.core.c.Info(ctx, inbox); err != nil || len(info.Filters) != 1 {
		t.Errorf("the inbox has the filters %v, %v", info.Filters, err)
	}
	r.admin("PUT", "/v1/devices/lamp1", `{"groups":["attic"]}`, 204)
}
