package quiet

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
)

const (
	// BlockBytes are read at once when there is more.
	BlockBytes = 16 << 10
	// KeepMax is the largest buffer that is kept for another connection, in bytes.
	KeepMax   = 64 << 10
	idleBytes = 512 // a connection that cannot be waited for without a buffer waits with this much
)

// Buffers lends room to any number of connections while they have input. Make it with [NewBuffers]; it is safe for
// concurrent use.
type Buffers struct {
	blocks sync.Pool // *block
	idle   sync.Pool // *[]byte of idleBytes
}

// NewBuffers makes an empty pool.
func NewBuffers() *Buffers {
	b := new(Buffers)
	b.blocks.New = func() any { return &block{b: make([]byte, BlockBytes)} }
	b.idle.New = func() any { b := make([]byte, idleBytes); return &b }
	return b
}

// block holds input.
type block struct {
	b []byte
	n int // bytes of input in b
}

// Input is one connection's reading end. One goroutine at a time uses it; it must not be copied once Fill was
// called.
type Input struct {
	conn    net.Conn
	buffers *Buffers
	raw     syscall.RawConn            // nil: there is no descriptor to read from
	try     func(fd uintptr) (ok bool) // reads what is there into block
	err     error                      // of try
	block   *block                     // nil while nothing is there, or only rest
	rest    string                     // an incomplete part, while a connection that needs no buffer waits for more
	need    int                        // bytes that are needed behind the start, if known
	waits   bool                       // conn is a waiter
	hot     bool                       // input comes faster than idleBytes at a time
}

// waiter is a connection that can be waited for without a buffer, as one of TLS.
type waiter interface {
	Wait() error // returns when Read has something, if only an error
}

// New reads from a connection that nobody else reads from.
func New(conn net.Conn, b *Buffers) Input {
	in := Input{conn: conn, buffers: b}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	_, in.waits = conn.(waiter)
	return in
}

// Raw is the connection's descriptor; nil when it has none. It is always the same, and may be asked for by any goroutine.
func (in *Input) Raw() syscall.RawConn { return in.raw }

// Fill waits for input and reads it behind what was not taken. An error may come with input.
func (in *Input) Fill() error {
	switch {
	case in.block != nil:
		in.grow()
		n, err := in.conn.Read(in.block.b[in.block.n:])
		in.block.n += n
		in.hot = n >= idleBytes
		return err
	case in.raw != nil:
		return in.fillRaw()
	case in.waits:
		return in.fillWaiting()
	default:
		b := in.buffers.idle.Get().(*[]byte)
		n, err := in.conn.Read(*b)
		if n > 0 {
			in.block = in.buffers.blocks.Get().(*block)
			in.block.n = copy(in.block.b, (*b)[:n])
		}
		in.buffers.idle.Put(b)
		in.hot = n == idleBytes
		return err
	}
}

// fillRaw takes a buffer only when the poller says that there is something to read.
func (in *Input) fillRaw() error {
	if in.try == nil {
		in.try = in.readFD // made once: a method value allocates
	}
	err := in.raw.Read(in.try)
	if err == nil {
		err = in.err
	}
	in.err = nil
	return err
}

// fillWaiting does the same for a connection that is no descriptor.
func (in *Input) fillWaiting() error {
	if err := in.conn.(waiter).Wait(); err != nil {
		return err
	}
	f := in.buffers.blocks.Get().(*block)
	had := copy(f.b, in.rest)
	n, err := in.conn.Read(f.b[had:])
	if n == 0 {
		in.buffers.blocks.Put(f)
		return err
	}
	f.n = had + n
	in.block, in.rest = f, ""
	return err
}

func (in *Input) readFD(fd uintptr) bool {
	f := in.buffers.blocks.Get().(*block)
	had := copy(f.b, in.rest)
	n, err := readAvailable(fd, f.b[had:])
	if n > 0 {
		f.n = had + n
		in.block, in.rest = f, ""
		return true
	}
	in.buffers.blocks.Put(f)
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	in.err = err
	return true
}

// Bytes is the input that was not taken, valid until Fill, Took or Drop. It may be changed; its capacity is what is
// held.
func (in *Input) Bytes() []byte {
	if in.block == nil {
		return nil
	}
	return in.block.b[:in.block.n]
}

// Held reports whether a buffer is held, so that the next Fill waits in a deeper stack.
func (in *Input) Held() bool { return in.block != nil }

// grow makes room behind the input. What is needed is announced by the peer and not believed: the buffer
// at most doubles each time it is full.
func (in *Input) grow() {
	f := in.block
	if f.n < len(f.b) {
		return
	}
	want := max(in.need, len(f.b)+1)
	b := slices.Grow(f.b, min(want, 2*len(f.b))-len(f.b))
	f.b = b[:cap(b)]
}

// Took drops n bytes of input that are handled, and gives the buffer back unless what is left needs it: a part
// that will have need bytes when it is complete; 0: not known.
func (in *Input) Took(n, need int) {
	f := in.block
	in.need = need
	f.n = copy(f.b, f.b[n:f.n])
	switch {
	case f.n > 0 && !in.Blind() && need <= BlockBytes && f.n < BlockBytes:
		in.rest = string(f.b[:f.n]) // nobody can hold a whole buffer by sending half a packet
		in.Drop()
	case f.n > 0 || in.hot && in.Blind():
		if cap(f.b) > KeepMax && need <= BlockBytes && f.n <= BlockBytes { // what was large is through
			f.b = append(make([]byte, 0, BlockBytes), f.b[:f.n]...)[:BlockBytes]
		}
	default:
		in.Drop()
	}
}

// Blind reports whether only a read with a buffer shows that there is input, so that even an idle connection
// holds one.
func (in *Input) Blind() bool { return in.raw == nil && !in.waits }

// Drop forgets the input that is held and gives the buffer back.
func (in *Input) Drop() {
	f := in.block
	if f == nil {
		return
	}
	in.block, f.n = nil, 0
	if cap(f.b) <= KeepMax {
		in.buffers.blocks.Put(f)
	}
}
