// Package usage reads what this process takes of the machine: processor, memory, disk. Each call is a system call or one
// small file below /proc; what cannot be read is 0. All functions are safe for concurrent use.
package usage

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that the process has used since it started, in the kernel and outside, all threads together.
func CPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// RSS is the memory of the process that is in RAM now, in bytes, its program included.
func RSS() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	return rss(b) * int64(os.Getpagesize())
}

// rss is the second number of statm: pages.
func rss(statm []byte) int64 {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return n
}

// Written is how many bytes the process has had the kernel write to storage since it started: whole pages, as flash sees
// them, without the file system's own journal. 0 where the kernel does not count it.
func Written() int64 {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	return written(b)
}

func written(io []byte) int64 {
	for line := range bytes.Lines(io) {
		if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
			return n
		}
	}
	return 0
}

// Disk is the file system that holds a path.
type Disk struct {
	Total, Free int64 // bytes; free is what a process without privileges may still use
	InMemory    bool  // it does not survive a power cut
}

// DiskOf describes the file system that holds the path.
func DiskOf(path string) Disk {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return Disk{}
	}
	return Disk{
		Total: int64(s.Blocks) * int64(s.Bsize), Free: int64(s.Bavail) * int64(s.Bsize), //nolint:unconvert // the fields' types differ by architecture
		InMemory: uint32(s.Type) == unix.TMPFS_MAGIC || uint32(s.Type) == unix.RAMFS_MAGIC,
	}
}
