//go:build !omit_rabbitmq

package rabbitmq

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"edgepost/appliance/bridge"
)

// stream is a connection on which the broker's bytes come.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func frameOf(kind byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, 0, 1}, uint32(len(payload)))
	return append(append(b, payload...), 0xCE)
}

// contentOf is a header of a content of so many bytes, with its frames.
func contentOf(size uint64) []byte {
	h := binary.BigEndian.AppendUint64([]byte{0, 60, 0, 0}, size)
	b := frameOf(2, append(h, 0, 0))
	for left := size; left > 0; {
		n := min(left, 100<<10)
		b = append(b, frameOf(3, bytes.Repeat([]byte{'x'}, int(n)))...)
		left -= n
	}
	return b
}

func TestLargeBodiesAreDroppedAndTheRestPasses(t *testing.T) {
	method := frameOf(1, []byte("deliver"))
	var in, want []byte
	for _, size := range []uint64{10, maxBody, maxBody + 1, 0, 5 << 20, 300 << 10} {
		in = append(append(in, method...), contentOf(size)...)
		if size > maxBody {
			want = append(append(want, method...), contentOf(0)...)
		} else {
			want = append(append(want, method...), contentOf(size)...)
		}
	}
	b := &bounded{}
	got, err := io.ReadAll(bridge.NewFramed(stream{Reader: bytes.NewReader(in)}, b.head))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
	}
	for tag, size := range map[uint64]uint64{3: maxBody + 1, 5: 5 << 20} {
		if err := b.swallowed(tag); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has %d bytes", size)) {
			t.Errorf("delivery %d: %v; want %d", tag, err, size)
		}
		if b.swallowed(tag) != nil {
			t.Errorf("delivery %d is remembered for ever", tag)
		}
	}
	if b.swallowed(2) != nil {
		t.Error("the largest that is allowed was dropped")
	}
}

// FuzzBounded: whatever comes, what passes is made of whole frames, none larger than the limit, but for the last.
func FuzzBounded(f *testing.F) {
	f.Add(contentOf(5))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Add(frameOf(2, []byte{1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, _ := io.ReadAll(bridge.NewFramed(stream{Reader: bytes.NewReader(in)}, (&bounded{}).head))
		if len(got) > len(in) {
			t.Fatalf("%d bytes of %d", len(got), len(in))
		}
		for len(got) >= 7 {
			size := int(binary.BigEndian.Uint32(got[3:]))
			if size > maxFrame {
				t.Fatalf("a frame of %d bytes passes", size)
			}
			got = got[min(7+size+1, len(got)):]
		}
	})
}
