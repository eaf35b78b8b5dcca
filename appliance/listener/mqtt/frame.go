package mqtt

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"

	"edgepost/appliance/listener/mqtt/packet"
)

const (
	idleBytes    = 512      // a connection without a raw descriptor waits with this much
	frameBytes   = 16 << 10 // read at once when there is more
	frameKeepMax = 64 << 10 // a larger buffer is given to the garbage collector
	batchBytes   = 16 << 10 // written at once; a larger packet goes alone
	queueKeep    = 256      // entries of an emptied queue that is kept for another session
)

// pools hold what a session needs only while something happens on its connection.
type pools struct {
	frames  sync.Pool // *frame, while input is handled or a packet is incomplete
	idle    sync.Pool // *[]byte of idleBytes, while a connection without a raw descriptor waits
	queues  sync.Pool // *queue, while messages wait to be written
	buffers sync.Pool // *[]byte, while a session writes
}

func (p *pools) init() {
	p.frames.New = func() any { return &frame{buf: make([]byte, frameBytes)} }
	p.idle.New = func() any { b := make([]byte, idleBytes); return &b }
	p.queues.New = func() any { return new(queue) }
	p.buffers.New = func() any { b := make([]byte, 0, batchBytes); return &b }
}

func (p *pools) putFrame(f *frame) {
	f.packet.Clear()
	f.n = 0
	if cap(f.buf) <= frameKeepMax {
		p.frames.Put(f)
	}
}

func (p *pools) putBuffer(b *[]byte) {
	if cap(*b) <= frameKeepMax {
		*b = (*b)[:0]
		p.buffers.Put(b)
	}
}

func (p *pools) putQueue(q *queue) {
	if cap(q.entries) <= queueKeep {
		clear(q.entries)
		q.entries = q.entries[:0]
		p.queues.Put(q)
	}
}

// frame holds input, and the packet that is decoded from it; both are reused by all sessions.
type frame struct {
	buf    []byte
	n      int // bytes of input in buf
	packet packet.Packet
}

// input is one connection's reading end. It holds memory only while there is input: an idle TCP
// connection waits in the poller without any buffer. The session's reader owns it.
type input struct {
	conn  net.Conn
	pools *pools
	raw   syscall.RawConn            // nil: the connection cannot be read without a buffer
	wait  waiter                     // nil: neither can it be waited for without one
	try   func(fd uintptr) (ok bool) // reads what is there into frame
	err   error                      // of try
	frame *frame                     // nil while nothing is there, or only rest
	rest  []byte                     // part of a packet, while a connection that needs no buffer waits for more of it
	need  int                        // bytes of the packet that is incomplete, if known
	hot   bool                       // input comes faster than idleBytes at a time
}

func newInput(conn net.Conn, p *pools) input {
	in := input{conn: conn, pools: p}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	in.wait, _ = conn.(waiter)
	return in
}

// waiter is a connection that can be waited for without a buffer, as one of TLS.
type waiter interface {
	Wait() error // returns when Read has something, if only an error
}

// fill waits for input and reads it behind what is in the frame. An error may come with input.
func (in *input) fill() error {
	switch {
	case in.frame != nil:
		in.grow()
		n, err := in.conn.Read(in.frame.buf[in.frame.n:])
		in.frame.n += n
		in.hot = n >= idleBytes
		return err
	case in.raw != nil:
		return in.fillRaw()
	case in.wait != nil:
		return in.fillWaiting()
	default:
		b := in.pools.idle.Get().(*[]byte)
		n, err := in.conn.Read(*b)
		if n > 0 {
			in.frame = in.pools.frames.Get().(*frame)
			in.frame.n = copy(in.frame.buf, (*b)[:n])
		}
		in.pools.idle.Put(b)
		in.hot = n == idleBytes
		return err
	}
}

// fillRaw takes a buffer only when the poller says that there is something to read.
func (in *input) fillRaw() error {
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
func (in *input) fillWaiting() error {
	if err := in.wait.Wait(); err != nil {
		return err
	}
	f := in.pools.frames.Get().(*frame)
	had := copy(f.buf, in.rest)
	n, err := in.conn.Read(f.buf[had:])
	if n == 0 {
		in.pools.frames.Put(f)
		return err
	}
	f.n = had + n
	in.frame, in.rest = f, nil
	return err
}

func (in *input) readFD(fd uintptr) bool {
	f := in.pools.frames.Get().(*frame)
	had := copy(f.buf, in.rest)
	n, err := readAvailable(fd, f.buf[had:])
	if n > 0 {
		f.n = had + n
		in.frame, in.rest = f, nil
		return true
	}
	in.pools.frames.Put(f)
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	in.err = err
	return true
}

// grow makes room behind the input. The length that a packet announces is not believed: the buffer
// at most doubles each time it is full.
func (in *input) grow() {
	f := in.frame
	if f.n < len(f.buf) {
		return
	}
	want := max(in.need, len(f.buf)+1)
	b := slices.Grow(f.buf, min(want, 2*len(f.buf))-len(f.buf))
	f.buf = b[:cap(b)]
}

// took drops n bytes of input that are handled, and gives the frame back when nothing is left.
func (in *input) took(n int) {
	f := in.frame
	f.n = copy(f.buf, f.buf[n:f.n])
	switch {
	case f.n > 0 && !in.blind() && in.need <= frameBytes && f.n < frameBytes:
		in.rest = append([]byte(nil), f.buf[:f.n]...) // nobody can hold a whole buffer by sending half a packet
		in.drop()
	case f.n > 0 || in.hot && in.blind():
		if cap(f.buf) > frameKeepMax && in.need <= frameBytes && f.n <= frameBytes { // the large packet is through
			f.buf = append(make([]byte, 0, frameBytes), f.buf[:f.n]...)[:frameBytes]
		}
	default:
		in.drop()
	}
}

// blind reports whether only a read with a buffer shows that there is input.
func (in *input) blind() bool { return in.raw == nil && in.wait == nil }

// drop gives the frame back.
func (in *input) drop() {
	if in.frame != nil {
		in.pools.putFrame(in.frame)
		in.frame = nil
	}
}
