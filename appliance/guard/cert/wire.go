package cert

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// wire is the TCP connection below a [tls.Conn]. After the handshake of a [Conn] its Read does not
// wait: when nothing is there it fails with errDry, which TLS takes for a timeout and survives. So the
// waiting is done above TLS, with a shallow stack and without a buffer.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil: the connection cannot be read without waiting

	// Owned by whoever reads.
	eager bool // Read does not wait
	empty bool // the last read took all that was there
	buf   []byte
	n     int
	err   error
	try   func(fd uintptr) bool // w.readFD, made once: a method value allocates

	closing atomic.Bool
	onClose func() // nil: nobody wants to know
	closed  atomic.Bool
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// dry says that nothing is there to be read. TLS forgets a temporary [net.Error], every other error
// ends the connection.
type dry struct{}

func (dry) Error() string   { return "nothing to read" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

var errDry net.Error = dry{}

// Read implements [net.Conn].
func (w *wire) Read(b []byte) (int, error) {
	switch {
	case !w.eager:
		return w.Conn.Read(b)
	case w.empty:
		return 0, errDry
	case len(b) == 0:
		return 0, nil
	}
	w.buf = b
	err := w.raw.Read(w.try)
	w.buf = nil
	if err == nil {
		err = w.err
	}
	w.err = nil
	if err != nil {
		return 0, err
	}
	w.empty = w.n < len(b)
	return w.n, nil
}

func (w *wire) readFD(fd uintptr) bool {
	w.n, w.err = readAvailable(fd, w.buf)
	return true
}

// wait returns when there may be something to read, or the connection failed, or its deadline is over.
func (w *wire) wait() error {
	asked := false
	err := w.raw.Read(func(fd uintptr) bool {
		if asked { // the poller has been waited for
			return true
		}
		asked = true
		return readable(fd)
	})
	w.empty = false
	return err
}

// Write implements [net.Conn]. What TLS says at the end is said without waiting: a client that does
// not read must not hold up who closes the connection.
func (w *wire) Write(b []byte) (int, error) {
	if !w.closing.Load() || w.raw == nil {
		return w.Conn.Write(b)
	}
	n, err := 0, error(nil)
	if werr := w.raw.Write(func(fd uintptr) bool {
		n, err = writeAvailable(fd, b)
		return true
	}); werr != nil {
		return 0, werr
	}
	if err == nil && n < len(b) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// SetWriteDeadline implements [net.Conn].
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.closing.Load() && w.raw != nil {
		return nil // TLS sets one of its own at the end, and waits for it
	}
	return w.Conn.SetWriteDeadline(t)
}

// CloseWrite ends our direction of TCP.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements [net.Conn].
func (w *wire) Close() error {
	if w.closed.Swap(true) {
		return net.ErrClosed
	}
	if w.onClose != nil {
		w.onClose()
	}
	return w.Conn.Close()
}
