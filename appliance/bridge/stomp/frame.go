//go:build !omit_stomp

package stomp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of a frame that is read.
const (
	maxLine    = 32 << 10 // a property of 16 KiB, all of it escaped, fits
	maxHeaders = 256
	maxHead    = 128 << 10
	maxBody    = 2 << 20 // a structured event of the largest payload fits
)

// frame is one frame of STOMP 1.2. Of a header that stands there several times the first counts (§Repeated Header
// Entries), so writing one never takes one back.
type frame struct {
	command string
	headers []header
	body    []byte
	dropped int64 // bytes of a body larger than maxBody, which is not kept
}

type header struct{ name, value string }

func (f *frame) get(name string) string {
	v, _ := f.look(name)
	return v
}

func (f *frame) look(name string) (string, bool) {
	for _, h := range f.headers {
		if h.name == name {
			return h.value, true
		}
	}
	return "", false
}

func (f *frame) set(name, value string) { f.headers = append(f.headers, header{name, value}) }

// some sets what is not empty.
func (f *frame) some(name, value string) {
	if value != "" {
		f.set(name, value)
	}
}

// handshake frames are not escaped, for the sake of STOMP 1.0 (§Value Encoding).
func handshake(command string) bool { return command == "CONNECT" || command == "CONNECTED" }

// append writes the frame. content-length is written unless the body is a text without NUL, of which brokers make
// a text message only without it.
func (f *frame) append(b []byte, text bool) []byte {
	b = append(append(b, f.command...), '\n')
	escape := !handshake(f.command)
	for _, h := range f.headers {
		b = append(appendValue(b, h.name, escape), ':')
		b = append(appendValue(b, h.value, escape), '\n')
	}
	if !text && len(f.body) > 0 || bytes.IndexByte(f.body, 0) >= 0 {
		b = strconv.AppendInt(append(b, "content-length:"...), int64(len(f.body)), 10)
		b = append(b, '\n')
	}
	b = append(append(b, '\n'), f.body...)
	return append(b, 0)
}

func appendValue(b []byte, s string, escape bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case !escape:
			b = append(b, c)
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == ':':
			b = append(b, `\c`...)
		default:
			b = append(b, c)
		}
	}
	return b
}

var errEscape = errors.New("a header has an escape that STOMP 1.2 does not know")

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errEscape
		}
		switch s[i] {
		case '\\':
			b.WriteByte('\\')
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 'c':
			b.WriteByte(':')
		default:
			return "", errEscape
		}
	}
	return b.String(), nil
}

// read reads a frame, behind any heart-beats. The reader's buffer must hold maxLine.
func read(r *bufio.Reader) (*frame, error) {
	var command []byte
	for len(command) == 0 {
		var err error
		if command, err = line(r); err != nil {
			return nil, err
		}
	}
	f := &frame{command: string(command)}
	if err := f.readHeaders(r); err != nil {
		return nil, err
	}
	return f, f.readBody(r)
}

func (f *frame) readHeaders(r *bufio.Reader) error {
	for size := 0; ; {
		l, err := line(r)
		if err != nil {
			return noEOF(err)
		}
		if len(l) == 0 {
			return nil
		}
		if size += len(l); size > maxHead || len(f.headers) == maxHeaders {
			return fmt.Errorf("a frame %.20q has too many headers; %d, or %d bytes, is the limit", f.command, maxHeaders, maxHead)
		}
		name, value, ok := strings.Cut(string(l), ":")
		if !ok {
			return fmt.Errorf("a frame %.20q has a header without a colon: %.40q", f.command, l)
		}
		if !handshake(f.command) {
			var err2 error
			name, err = unescape(name)
			value, err2 = unescape(value)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
		}
		f.set(name, value)
	}
}

// line reads to the end of a line, which CR may be part of.
func line(r *bufio.Reader) ([]byte, error) {
	l, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || err == nil && len(l) > maxLine {
		return nil, fmt.Errorf("a line of a frame has more than %d bytes; is it STOMP there?", maxLine)
	}
	if err != nil {
		if len(l) > 0 {
			err = noEOF(err)
		}
		return nil, err
	}
	return bytes.TrimSuffix(l[:len(l)-1], []byte{'\r'}), nil
}

func (f *frame) readBody(r *bufio.Reader) error {
	s, ok := f.look("content-length")
	if !ok {
		return f.readToNUL(r)
	}
	n, err := strconv.ParseUint(s, 10, 40)
	if err != nil {
		return fmt.Errorf("a frame %.20q has the content-length %.20q", f.command, s)
	}
	if n > maxBody {
		f.dropped = int64(n) // below 1<<40
		if _, err := io.CopyN(io.Discard, r, f.dropped); err != nil {
			return noEOF(err)
		}
	} else if f.body, err = exactly(r, int(n)); err != nil {
		return err
	}
	end, err := r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if end != 0 {
		return fmt.Errorf("a frame %.20q of %d bytes ends without NUL", f.command, n)
	}
	return nil
}

// exactly reads n bytes; it takes memory as they come.
func exactly(r io.Reader, n int) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, noEOF(err)
	}
	return b.Bytes(), nil
}

func (f *frame) readToNUL(r *bufio.Reader) error {
	for {
		part, err := r.ReadSlice(0)
		if err == nil {
			part = part[:len(part)-1]
		}
		if f.dropped > 0 || len(f.body)+len(part) > maxBody {
			f.dropped += int64(len(f.body) + len(part))
			f.body = nil
		} else {
			f.body = append(f.body, part...)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return noEOF(err)
		}
	}
}

// noEOF makes an end in the middle of a frame an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
