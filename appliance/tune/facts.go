// Package tune turns what the machine is into what the appliance allows itself: [Read] looks,
// [Decide] is a pure function from [Facts] to [Limits] that gives a reason for every choice. The
// numbers come from measurements on small routers; the tests hold them.
//
// Go itself reads CPU quotas of a control group but not its memory limit (golang/go#75164): without
// GOMEMLIMIT a process with 45 MiB of live data dies in a group of 64 MiB, with it the same process lives.
// A limit that the owner set in the environment or the configuration wins over these.
package tune

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what [Read] found out. Sizes are in bytes; 0 means unknown or, for limits, none.
type Facts struct {
	MemTotal     int64
	MemAvailable int64
	MemLimit     int64   // the tightest memory limit of the control group and all above it
	CPUs         int     // usable processors
	CPUQuota     float64 // the tightest CPU quota, in processors
	DiskTotal    int64   // of the file system that holds the data directory
	DiskFree     int64   // what an unprivileged writer may still use
	DataUsed     int64   // what the data directory holds already
	InMemory     bool    // the data directory does not survive a power cut
}

// Read collects the facts. root is where /proc and /sys begin: "/", or a copy in a test. data is
// the data directory, which must exist for the disk's facts. What cannot be read stays 0; there is always
// an answer.
func Read(root, data string) Facts {
	f := Facts{CPUs: runtime.NumCPU()}
	for line := range bytes.Lines(readFile(root, "proc/meminfo")) {
		name, value, _ := strings.Cut(string(line), ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "MemTotal":
			f.MemTotal = kib << 10
		case "MemAvailable": // since Linux 3.14
			f.MemAvailable = kib << 10
		}
	}
	for line := range bytes.Lines(readFile(root, "proc/self/cgroup")) {
		_, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		f.group(root, controllers, group)
	}
	f.disk(data)
	return f
}

// group takes the limits of one control group and of all groups above it. In a container the path may name
// groups that only the host sees; then its own files stand at the top.
func (f *Facts) group(root, controllers, group string) {
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		if controllers == "" { // version 2; beside version 1 it is mounted at "unified"
			for _, at := range [...]string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
				f.memory(readFile(root, at, dir, "memory.max"))
				quota, period, _ := strings.Cut(strings.TrimSpace(string(readFile(root, at, dir, "cpu.max"))), " ")
				f.quota(quota, period)
			}
		}
		for c := range strings.SplitSeq(controllers, ",") {
			switch c {
			case "memory":
				f.memory(readFile(root, "sys/fs/cgroup/memory", dir, "memory.limit_in_bytes"))
			case "cpu":
				for _, at := range [...]string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"} {
					f.quota(string(readFile(root, at, dir, "cpu.cfs_quota_us")), string(readFile(root, at, dir, "cpu.cfs_period_us")))
				}
			}
		}
		if dir == "/" {
			return
		}
	}
}

// memory takes one limit. "max" (version 2) and huge numbers (version 1) mean none.
func (f *Facts) memory(limit []byte) {
	n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
	if err == nil && n > 0 && n < 1<<50 && (f.MemLimit == 0 || n < f.MemLimit) {
		f.MemLimit = n
	}
}

// quota takes one quota, in microseconds of CPU per period. "max" and -1 mean none.
func (f *Facts) quota(quota, period string) {
	q, err1 := strconv.ParseFloat(strings.TrimSpace(quota), 64)
	p, err2 := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if err1 == nil && err2 == nil && q > 0 && p > 0 && (f.CPUQuota == 0 || q/p < f.CPUQuota) {
		f.CPUQuota = q / p
	}
}

func (f *Facts) disk(data string) {
	var s unix.Statfs_t
	if unix.Statfs(data, &s) == nil {
		// The fields differ in type from one architecture to the next.
		f.DiskTotal = int64(s.Blocks) * int64(s.Bsize)
		f.DiskFree = int64(s.Bavail) * int64(s.Bsize)
		f.InMemory = uint32(s.Type) == unix.TMPFS_MAGIC || uint32(s.Type) == unix.RAMFS_MAGIC
	}
	// Files may go while we look; then they do not count.
	_ = filepath.WalkDir(data, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read is not ours
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			f.DataUsed += info.Size()
		}
		return nil
	})
}

// readFile returns a small file's content, nil when there is none.
func readFile(root string, elem ...string) []byte {
	b, err := os.ReadFile(filepath.Join(append([]string{root}, elem...)...))
	if err != nil || len(b) > 64<<10 {
		return nil
	}
	return b
}
