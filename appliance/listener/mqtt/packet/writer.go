package packet

import "encoding/binary"

// writer puts fields at the end of b and remembers the first one that may not be written.
type writer struct {
	b   []byte
	err error
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) byte(c byte) { w.b = append(w.b, c) }

func (w *writer) bool(on bool) {
	var c byte
	if on {
		c = 1
	}
	w.byte(c)
}

func (w *writer) uint16(n uint16) { w.b = binary.BigEndian.AppendUint16(w.b, n) }

func (w *writer) id(id uint16) {
	if id == 0 {
		w.fail(errZeroID())
	}
	w.uint16(id)
}

func (w *writer) binary(f []byte, what string) {
	if len(f) > 0xffff {
		w.fail(malformed(what + " is longer than 65535 bytes"))
		return
	}
	w.uint16(uint16(len(f)))
	w.b = append(w.b, f...)
}

func (w *writer) string(s []byte, what string) {
	if !validString(s) {
		w.fail(malformed(what + " is not UTF-8, or holds a NUL"))
		return
	}
	w.binary(s, what)
}

// reserve leaves one byte for the length of what follows and returns where it is.
func (w *writer) reserve() int {
	w.byte(0)
	return len(w.b) - 1
}

// setLength writes at mark the length of everything behind it, and moves that when the length needs
// more than the one byte that was left.
func (w *writer) setLength(mark int) {
	n := len(w.b) - mark - 1
	if n > MaxBody {
		w.fail(&Error{PacketTooLarge, "packet is longer than 268435455 bytes"})
		return
	}
	if more := varintLen(n) - 1; more > 0 {
		var room [3]byte
		w.b = append(w.b, room[:more]...)
		copy(w.b[mark+1+more:], w.b[mark+1:])
	}
	appendVarint(w.b[:mark], n)
}
