package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// A frame's first two bytes and its masking key (RFC 6455 §5.2).
const (
	final        = 0x80
	reserved     = 0x70
	opcodes      = 0x0f
	masked       = 0x80
	lengths      = 0x7f
	keyBytes     = 4
	continuation = 0
	maxControl   = 125 // bytes of a control frame's payload (RFC 6455 §5.5)
)

// head is the header of a client's frame.
type head struct {
	opcode byte
	final  bool
	size   int    // bytes of the header itself
	length uint64 // of the payload
	key    [keyBytes]byte
}

var errShort = errors.New("the frame's header is incomplete")

// breach is what a client did against RFC 6455; it ends the connection with 1002.
type breach string

func (b breach) Error() string { return string(b) }

// readHead decodes the header at the beginning of b. errShort asks for more; what is wrong with the first
// two bytes and the length is said at once. Whether a frame may come now is not judged here.
func readHead(b []byte) (h head, err error) {
	if len(b) < 2 {
		return h, errShort
	}
	h = head{opcode: b[0] & opcodes, final: b[0]&final != 0, size: 2, length: uint64(b[1] & lengths)}
	control := false
	switch h.opcode {
	case continuation, websocket.TextMessage, websocket.BinaryMessage:
	case websocket.CloseMessage, websocket.PingMessage, websocket.PongMessage:
		control = true
	default:
		return h, breach(fmt.Sprintf("opcode %d is not known", h.opcode))
	}
	switch {
	case b[0]&reserved != 0: // no extension was agreed on
		return h, breach("a reserved bit is set")
	case b[1]&masked == 0:
		return h, breach("a client's frame must be masked")
	case control && !h.final:
		return h, breach("a control frame is in fragments")
	case control && h.length > maxControl:
		return h, breach("a control frame is longer than 125 bytes")
	}
	wide := 0
	switch h.length {
	case 126:
		wide = 2
	case 127:
		wide = 8
	}
	if len(b) < 2+wide {
		return h, errShort
	}
	switch wide {
	case 2:
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 8:
		h.length = binary.BigEndian.Uint64(b[2:])
	}
	switch {
	case h.length > math.MaxInt64:
		return h, breach("a length has its highest bit set")
	case len(b) < 2+wide+keyBytes:
		return h, errShort
	}
	h.size += wide + copy(h.key[:], b[2+wide:])
	return h, nil
}

// unmask changes the payload in place (RFC 6455 §5.3).
func unmask(b []byte, key [keyBytes]byte) {
	k := binary.LittleEndian.Uint32(key[:])
	wide := uint64(k)<<32 | uint64(k)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i%keyBytes]
	}
}

// closing decodes the payload of a close frame (RFC 6455 §5.5.1, §7.4).
func closing(payload []byte) (code int, err error) {
	switch len(payload) {
	case 0:
		return websocket.CloseNoStatusReceived, nil
	case 1:
		return 0, breach("a close frame has half a code")
	}
	code = int(binary.BigEndian.Uint16(payload))
	switch {
	case code >= 3000 && code <= 4999, code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
	default:
		return 0, breach(fmt.Sprintf("close code %d must not be sent", code))
	}
	if !utf8.Valid(payload[2:]) {
		return 0, breach("a close frame's reason is not valid UTF-8")
	}
	return code, nil
}

// fragments are the beginning of a message that is incomplete.
type fragments struct {
	opcode  byte
	payload []byte
}

// size is how many bytes have come; nil has none.
func (f *fragments) size() int {
	if f == nil {
		return 0
	}
	return len(f.payload)
}
