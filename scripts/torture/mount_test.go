package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is a file system of our own: ext4 in a file, or memory.
type disk struct {
	t      *testing.T
	dir    string // where it is mounted
	image  string // "" for memory
	loop   string
	device bool // it is mounted
}

// newDisk makes and mounts ext4 of so many MiB.
func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	needs(t, "mkfs.ext4", "losetup", "mount", "umount")
	d := &disk{t: t, dir: t.TempDir(), image: filepath.Join(t.TempDir(), "disk.img")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	out, err := exec.Command("losetup", "--find", "--show", d.image).CombinedOutput()
	if err != nil {
		cannot(t, fmt.Sprintf("no loop device: %v: %s", err, out))
	}
	d.loop = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		d.unmount()
		d.command("losetup", "--detach", d.loop)
	})
	d.mount()
	return d
}

// newMemory mounts a tmpfs of so many MiB.
func newMemory(t *testing.T, mib int64) *disk {
	t.Helper()
	needs(t, "mount", "umount")
	d := &disk{t: t, dir: t.TempDir()}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "tmpfs", d.dir).CombinedOutput(); err != nil {
		cannot(t, fmt.Sprintf("no tmpfs: %v: %s", err, out))
	}
	d.device = true
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	d.command("mount", "-t", "ext4", d.loop, d.dir)
	d.device = true
}

// unmount waits for nobody: whoever uses it must be gone.
func (d *disk) unmount() {
	d.t.Helper()
	if d.device {
		d.command("umount", d.dir)
	}
	d.device = false
}

// data is the data directory on the disk: a folder, because ext4's root holds lost+found.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

// cut takes the power from the file system: nothing that is not on the device will reach it, the
// journal neither.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const shutdown, withoutJournal = 0x8004587d, 2 // FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH
	flags := uint32(withoutJournal)
	//nolint:gosec // an ioctl takes an address
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		cannot(d.t, fmt.Sprintf("this kernel cannot shut a file system down: %v", errno))
	}
}
