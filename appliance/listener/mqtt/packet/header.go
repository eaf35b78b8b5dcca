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
	return 0, 0, 0, 0, ErrShort
}

// CheckLength reports a remaining length that was written in more bytes than it needs. 5.0 forbids
// that [MQTT-1.5.5-1]; before it there was no such rule, and small devices that always
// write four bytes exist.
func CheckLength(v Version, bodyLen, headerLen int) error { return nil }
