//go:build !omit_mqtt

package mqtt

import (
	"bytes"
	"io"
	"net"
	"testing"

	"edgepost/appliance/bridge"
)

// piece is a connection that gives its bytes a few at a time.
type piece struct {
	net.Conn
	r    *bytes.Reader
	step int
}

func (p *piece) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.step)]) }

// packet is one packet of a type with a body of n bytes.
func packet(n int) []byte {
	b := []byte{0x30}
	for rest := n; ; {
		c := byte(rest & 0x7f)
		if rest >>= 7; rest > 0 {
			c |= 0x80
		}
		if b = append(b, c); rest == 0 {
			return append(b, make([]byte, n)...)
		}
	}
}

// Packets up to the limit pass as they are, however they are cut; a larger one ends the connection at its header.
func TestBounded(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 1, 127, 128, 16_384, 300, 0, 0, 2_097_152, 5, maxPacket} {
		stream = append(stream, packet(n)...)
	}
	for _, step := range []int{1 << 20, 4096, 7} {
		got, err := io.ReadAll(bridge.NewFramed(&piece{r: bytes.NewReader(stream), step: step}, bounded))
		if err != nil || !bytes.Equal(got, stream) {
			t.Errorf("step %d: %d of %d bytes, %v", step, len(got), len(stream), err)
		}
	}
	for _, wrong := range [][]byte{packet(maxPacket + 1), {0x30, 0xff, 0xff, 0xff, 0x7f}, {0x30, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		if _, err := io.ReadAll(bridge.NewFramed(&piece{r: bytes.NewReader(append(packet(9), wrong...)), step: 3}, bounded)); err == nil {
			t.Errorf("% x… passes", wrong[:5])
		}
	}
}
