package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// reader takes fields off the front of a body. After the first error it gives zeros; the caller
// looks at err once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// take returns the next n bytes. Its slice ends at its own last byte, so that appending to a field never
// writes into the next one.
func (r *reader) take(n int, what string) []byte {
	if n > len(r.b) {
		r.fail(malformed("packet ends inside " + what))
		return nil
	}
	f := r.b[:n:n]
	r.b = r.b[n:]
	return f
}

func (r *reader) byte(what string) byte {
	if len(r.b) == 0 {
		r.fail(malformed("packet ends before " + what))
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint16(what string) uint16 {
	if f := r.take(2, what); r.err == nil {
		return binary.BigEndian.Uint16(f)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if f := r.take(4, what); r.err == nil {
		return binary.BigEndian.Uint32(f)
	}
	return 0
}

func (r *reader) varint(what string) int {
	x, n := uvarint(r.b)
	switch {
	case n == 0:
		r.fail(malformed("packet ends inside " + what))
	case n < 0:
		r.fail(malformed(what + " is not a variable byte integer"))
	default:
		r.b = r.b[n:]
	}
	return x
}

// binary reads binary data: a 16-bit length and bytes (5.0 §1.5.6).
func (r *reader) binary(what string) []byte {
	return r.take(int(r.uint16(what)), what)
}

// string reads a UTF-8 string (5.0 §1.5.4).
func (r *reader) string(what string) []byte {
	s := r.binary(what)
	if r.err == nil && !validString(s) {
		r.fail(malformed(what + " is not UTF-8, or holds a NUL"))
	}
	return s
}

// id reads a packet id, which is never 0 [MQTT-2.2.1-3], [MQTT-2.2.1-4]; 3.1.1: [MQTT-2.3.1-1].
func (r *reader) id() uint16 {
	id := r.uint16("packet id")
	if r.err == nil && id == 0 {
		r.fail(errZeroID())
	}
	return id
}

// end reports the first error, or bytes that are left over.
func (r *reader) end(t Type) error {
	if r.err == nil && len(r.b) > 0 {
		return malformed(t.String() + " is longer than its fields")
	}
	return r.err
}

func errZeroID() error { return protocol("packet id is 0") }

// validString reports whether s is well-formed UTF-8 without surrogates [MQTT-1.5.4-1] and without
// U+0000 [MQTT-1.5.4-2]; 3.1.1: [MQTT-1.5.3-1], [MQTT-1.5.3-2]. A byte order mark is an ordinary
// character and stays [MQTT-1.5.4-3]. Control characters and non-characters are discouraged by the
// specification and allowed here.
func validString(s []byte) bool {
	return utf8.Valid(s) && bytes.IndexByte(s, 0) < 0
}
