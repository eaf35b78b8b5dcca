package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of the loop device; its file is sparse.
const diskBytes = 8 << 30

// disk is the file system that everything is measured on: an ext4 of its own on a loop device where
// that can be made, else a directory.
type disk struct {
	path   string
	what   string // for the report
	loop   string // loop7; "" without
	mount  bool
	device string // /dev/loop7
}

// makeDisk makes the file system below work. Without the rights for a loop device it says so and
// takes a directory.
func makeDisk(ctx context.Context, work string, log io.Writer) (*disk, error) {
	d := &disk{path: filepath.Join(work, "disk")}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return nil, err
	}
	err := d.loopMount(ctx, work)
	if err == nil {
		d.what = "ext4 on a loop device over " + fileSystem(work)
		return d, nil
	}
	if closeErr := d.close(); closeErr != nil {
		return nil, errors.Join(err, closeErr)
	}
	fmt.Fprintf(log, "bench: no loop device (%v); device bytes: not measured\n", err)
	d.what = fileSystem(d.path) + " (device bytes: not measured)"
	return d, nil
}

func (d *disk) loopMount(ctx context.Context, work string) error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	var s unix.Statfs_t
	if err := unix.Statfs(work, &s); err != nil {
		return err
	}
	if int64(s.Bavail)*s.Bsize < diskBytes {
		return fmt.Errorf("less than %d GiB free in %s", diskBytes>>30, work)
	}
	image := filepath.Join(work, "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, diskBytes); err != nil {
		return err
	}
	out, err := command(ctx, "losetup", "--find", "--show", image)
	if err != nil {
		return err
	}
	d.device = strings.TrimSpace(out)
	// Everything is initialised now: what the kernel does later in the background would be counted.
	if _, err := command(ctx, "mkfs.ext4", "-q", "-F", "-N", "65536", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", d.device); err != nil {
		return err
	}
	if _, err := command(ctx, "mount", "-t", "ext4", "-o", "noatime", d.device, d.path); err != nil {
		return err
	}
	d.mount, d.loop = true, filepath.Base(d.device)
	return nil
}

// close unmounts and removes the device.
func (d *disk) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var failed error
	for d.mount {
		_, err := command(ctx, "umount", d.path)
		if err == nil {
			d.mount, failed = false, nil
			break
		}
		failed = err
		select {
		case <-ctx.Done():
			return failed
		case <-time.After(100 * time.Millisecond): // a process that was killed may still hold it
		}
	}
	if d.device != "" {
		_, err := command(ctx, "losetup", "--detach", d.device)
		failed = errors.Join(failed, err)
		d.device, d.loop = "", ""
	}
	return failed
}

// written syncs the file system and returns the bytes that reached its device so far; ok is false
// where that cannot be measured.
func written(loop, path string) (n int64, ok bool) {
	if loop == "" {
		return 0, false
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if unix.Syncfs(int(f.Fd())) != nil {
		return 0, false
	}
	text, err := os.ReadFile("/sys/block/" + loop + "/stat")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 7 {
		return 0, false
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	return sectors * 512, err == nil
}

func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var text bytes.Buffer
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(text.String()))
	}
	return string(out), nil
}

// fileSystem names the type of a path's file system.
func fileSystem(path string) string {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return "an unknown file system"
	}
	switch uint32(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", uint32(s.Type))
}
