//go:build unix

package quiet

import (
	"io"
	"os"
	"syscall"
)

// readAvailable reads from a non-blocking descriptor what is there. The error is
// [syscall.EAGAIN] when nothing is.
func readAvailable(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, err
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
