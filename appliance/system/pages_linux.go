package system

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ReleaseCode unmaps the pages of the program's own file that are not used now: a start runs through most of them
// once, and the kernel maps 64 KiB around each that is touched. They stay in the page cache, from where what is used again is
// mapped in some microseconds; but a kernel that needs memory takes unmapped pages first, and keeps executable
// ones that are mapped. What was written to is left alone. It fails where /proc is missing.
func ReleaseCode() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		from, to, ok := clean(lines.Text(), exe)
		if !ok {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return lines.Err()
}

// clean reads a line of /proc/PID/maps: "from-to perms offset device inode path". ok says that it is a part of the
// file and cannot be written to, so that nothing is lost with its pages.
func clean(line, file string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[5] != file || len(f[1]) != 4 || f[1][0] != 'r' || f[1][1] != '-' || f[1][3] != 'p' {
		return 0, 0, false
	}
	a, b, ok := strings.Cut(f[0], "-")
	if !ok {
		return 0, 0, false
	}
	first, err := strconv.ParseUint(a, 16, strconv.IntSize)
	if err != nil {
		return 0, 0, false
	}
	last, err := strconv.ParseUint(b, 16, strconv.IntSize)
	if err != nil || last < first {
		return 0, 0, false
	}
	return uintptr(first), uintptr(last), true
}
