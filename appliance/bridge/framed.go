package bridge

import (
	"bufio"
	"io"
	"net"
)

// Framed lets a connector look at what an upstream sends before the library of the protocol does: libraries make room
// for as much as a peer announces. One goroutine reads.
type Framed struct {
	net.Conn
	r    *bufio.Reader
	head func(r *bufio.Reader) (Frame, error)
	now  Frame
}

// Frame is one frame that comes.
type Frame struct {
	Head []byte // what was read of it, and is passed on; it need not be what was read
	Rest uint64 // bytes that follow
	Drop bool   // neither is passed on
}

// NewFramed wraps a connection. head reads as much of a frame as it must see: an error ends the connection; io.EOF
// before the first byte is its end, not an error.
func NewFramed(c net.Conn, head func(r *bufio.Reader) (Frame, error)) *Framed {
	return &Framed{Conn: c, r: bufio.NewReaderSize(c, 16<<10), head: head}
}

// Read implements [net.Conn].
func (f *Framed) Read(p []byte) (n int, err error) {
	for len(f.now.Head) == 0 && f.now.Rest == 0 {
		if f.now, err = f.head(f.r); err != nil {
			f.now = Frame{}
			return 0, err
		}
		if f.now.Drop {
			if _, err := io.CopyN(io.Discard, f.r, int64(f.now.Rest)); err != nil {
				return 0, err
			}
			f.now = Frame{}
		}
	}
	if len(f.now.Head) > 0 {
		n = copy(p, f.now.Head)
		f.now.Head = f.now.Head[n:]
		return n, nil
	}
	n, err = f.r.Read(p[:min(uint64(len(p)), f.now.Rest)])
	f.now.Rest -= uint64(n)
	return n, err
}
