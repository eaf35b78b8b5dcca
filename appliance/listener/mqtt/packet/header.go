package packet

import "errors"

// MaxBody is the longest remaining length: 268,435,455 bytes (5.0 §2.1.4).
const MaxBody = 1<<28 - 1

// ErrShort says that the bytes end before the header does: read more.
var ErrShort = errors.New("mqtt packet: header is not complete")

// ReadHeader reads the fixed header at the start of b: the type, the four flag bits, the length of
// what follows (0 to [MaxBody]) and its own length (2 to 5). The error is [ErrShort], or an [Error]
// that no further byte can mend. The caller compares headerLen+bodyLen with its limit before it
// makes room for the body, and in 5.0 calls [CheckLength].
func ReadHeader(b []byte) (t Type, flags byte, bodyLen, headerLen int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, 0, ErrShort
	}
	t, flags = Type(b[0]>>4), b[0]&0x0f
	if t == 0 {
		return 0, 0, 0, 0, malformed("packet type 0 is forbidden") // §2.1.2
	}
	for i := 1; i <= 4; i++ {
		if i >= len(b) {
			return 0, 0, 0, 0, ErrShort
		}
		bodyLen |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return t, flags, bodyLen, i + 1, nil
		}
	}
	return 0, 0, 0, 0, malformed("remaining length is longer than four bytes") // §1.5.5
}

// CheckLength reports a remaining length that was written in more bytes than it needs. 5.0 forbids
// that [MQTT-1.5.5-1]; before it there was no such rule, and small devices that always
// write four bytes exist.
func CheckLength(v Version, bodyLen, headerLen int) error {
	if v == V5 && headerLen != 1+varintLen(bodyLen) {
		return malformed("remaining length is longer than it needs to be")
	}
	return nil
}

// checkFlags holds the fixed header's low bits of everything but PUBLISH to their one value
// [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1];
// 3.1.1: [MQTT-2.2.2-1], [MQTT-2.2.2-2]. MQTT 3.1 marks a repeated packet of any kind with DUP.
func checkFlags(v Version, t Type, flags byte) error {
	if v == V31 {
		flags &^= 0x08
	}
	if flags != fixedFlags(t) {
		return malformed("reserved flags of " + t.String() + " are not what they must be")
	}
	return nil
}

func fixedFlags(t Type) byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return 0x02
	default:
		return 0
	}
}

// uvarint reads a variable byte integer (5.0 §1.5.5). n is its length: 0 when b ends inside it, -1
// when it has more than four bytes or more than it needs [MQTT-1.5.5-1].
func uvarint(b []byte) (x, n int) {
	for i, c := range b {
		if i == 4 {
			return 0, -1
		}
		x |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, -1
			}
			return x, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

func varintLen(x int) int {
	switch {
	case x < 1<<7:
		return 1
	case x < 1<<14:
		return 2
	case x < 1<<21:
		return 3
	default:
		return 4
	}
}

func appendVarint(b []byte, x int) []byte {
	for x >= 0x80 {
		b = append(b, byte(x)|0x80)
		x >>= 7
	}
	return append(b, byte(x))
}
