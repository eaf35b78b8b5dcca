//go:build !omit_rabbitmq

package rabbitmq

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

const (
	maxBody  = 2 << 20   // a structured event of the largest payload fits
	maxFrame = 256 << 10 // twice what is negotiated
	frameEnd = 0xCE
)

// bounded keeps large bodies from the library, which would gather any: of a message whose header announces more than
// maxBody it passes on an empty one and drops the rest. The broker numbers the deliveries of a channel from 1
// without a hole, so counting the headers tells which it was. One goroutine reads.
type bounded struct {
	net.Conn
	r    *bufio.Reader
	buf  []byte // what was read and not passed on
	keep []byte // the frame's room
	skip uint64 // bytes of bodies still to be dropped
	seen uint64 // content headers

	mu    sync.Mutex
	large map[uint64]uint64 // sizes by delivery tag
}

func newBounded(c net.Conn) *bounded {
	return &bounded{Conn: c, r: bufio.NewReaderSize(c, 16<<10), keep: make([]byte, 0, 4<<10)}
}

// Read implements [net.Conn].
func (b *bounded) Read(p []byte) (int, error) {
	for len(b.buf) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	return n, nil
}

// next reads a frame (AMQP 0-9-1 §4.2.3): type, channel, size, payload, end.
func (b *bounded) next() error {
	f := b.keep[:7]
	if _, err := io.ReadFull(b.r, f); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(f[3:])
	if size > maxFrame {
		return fmt.Errorf("the broker announces a frame of %d bytes; the limit is %d: does it speak AMQP 0-9-1?", size, maxFrame)
	}
	if need := 7 + int(size) + 1; cap(f) < need {
		f = append(make([]byte, 0, need), f...)
		b.keep = f
	}
	f = f[:7+int(size)+1]
	if _, err := io.ReadFull(b.r, f[7:]); err != nil {
		return err
	}
	if f[len(f)-1] != frameEnd {
		return fmt.Errorf("a frame of the broker ends with %#x; does it speak AMQP 0-9-1?", f[len(f)-1])
	}
	b.pass(f, uint64(size))
	return nil
}

// pass hands a frame on, or drops it.
func (b *bounded) pass(f []byte, size uint64) {
	switch f[0] {
	case 2: // content header (§4.2.6.1): class, weight, body size
		if size < 12 {
			break
		}
		b.seen++
		if n := binary.BigEndian.Uint64(f[11:]); n > maxBody {
			binary.BigEndian.PutUint64(f[11:], 0)
			b.skip = n
			b.note(b.seen, n)
		}
	case 3: // body
		if b.skip > 0 {
			b.skip -= min(b.skip, size)
			return
		}
	}
	b.buf = f
}

func (b *bounded) note(tag, size uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.large == nil {
		b.large = make(map[uint64]uint64)
	}
	b.large[tag] = size
}

// swallowed reports whether the delivery's body was dropped, and how large it was.
func (b *bounded) swallowed(tag uint64) (size uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, ok = b.large[tag]
	delete(b.large, tag)
	return size, ok
}
