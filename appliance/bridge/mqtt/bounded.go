//go:build !omit_mqtt

package mqtt

import (
	"fmt"
	"net"
)

// maxPacket is the largest packet that is read: a structured event of the largest payload fits. The library would
// allocate whatever the first bytes of a packet announce, up to 256 MiB.
const maxPacket = 2<<20 + 64<<10

// bounded follows the packets' lengths and fails at one that is too large, before it is read. One goroutine reads.
type bounded struct {
	net.Conn
	state  int // bytes of the header read: 0 the type is next, else a byte of the length
	length int
	left   int // bytes of the packet's body still to come
}

// Read implements [net.Conn].
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if b.left > 0 {
			k := min(b.left, len(rest))
			b.left -= k
			rest = rest[k:]
			continue
		}
		c := rest[0]
		rest = rest[1:]
		if b.state == 0 {
			b.state, b.length = 1, 0
			continue
		}
		b.length |= int(c&0x7f) << (7 * (b.state - 1))
		if b.state++; c&0x80 != 0 && b.state <= 4 {
			continue
		}
		if b.length > maxPacket {
			return 0, fmt.Errorf("the broker announces a packet of %d bytes; the limit is %d", b.length, maxPacket)
		}
		b.state, b.left = 0, b.length
	}
	return n, err
}
