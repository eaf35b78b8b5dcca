package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

// Limits of a frame that is read.
const (
	maxLine    = 32 << 10 // a property of 16 KiB, all of it escaped, fits
	maxHeaders = 256
	maxHead    = 128 << 10

	MaxBody = 2 << 20 // a structured event of the largest payload fits
)

// Frame is one frame. Of a header that stands there several times the first counts (§Repeated Header Entries), so
// setting one again changes nothing.
type Frame struct {
	Command string
	Body    []byte
	Text    bool  // content-length is left away, without which brokers make a text message of it
	Dropped int64 // bytes of a body larger than MaxBody, which is not kept

	headers []header
}

type header struct{ name, value string }

// Get returns a header, "" when there is none.
func (f *Frame) Get(name string) string {
	v, _ := f.Look(name)
	return v
}

// Look returns a header, and whether it is there.
func (f *Frame) Look(name string) (string, bool) {
	for _, h := range f.headers {
		if h.name == name {
			return h.value, true
		}
	}
	return "", false
}

// Set adds a header.
func (f *Frame) Set(name, value string) { f.headers = append(f.headers, header{name, value}) }

// Some adds a header that is not empty.
func (f *Frame) Some(name, value string) {
	if value != "" {
		f.Set(name, value)
	}
}

// Headers returns the headers that count, in the order they stand.
func (f *Frame) Headers() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		seen := make(map[string]bool, len(f.headers))
		for _, h := range f.headers {
			if !seen[h.name] && !yield(h.name, h.value) {
				return
			}
			seen[h.name] = true
		}
	}
}

// handshake frames are not escaped, for the sake of STOMP 1.0 (§Value Encoding).
func handshake(command string) bool { return command == "CONNECT" || command == "CONNECTED" }

// append writes the frame. A text without NUL has no content-length.
func (f *Frame) append(b []byte) []byte {
	b = append(append(b, f.Command...), '\n')
	escape := !handshake(f.Command)
	for _, h := range f.headers {
		b = append(appendValue(b, h.name, escape), ':')
		b = append(appendValue(b, h.value, escape), '\n')
	}
	if !f.Text && len(f.Body) > 0 || bytes.IndexByte(f.Body, 0) >= 0 {
		b = strconv.AppendInt(append(b, "content-length:"...), int64(len(f.Body)), 10)
		b = append(b, '\n')
	}
	b = append(append(b, '\n'), f.Body...)
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

// read reads a Frame, behind any heart-beats. The reader's buffer must hold maxLine.
func read(r *bufio.Reader) (*Frame, error) {
	var command []byte
	for len(command) == 0 {
		var err error
		if command, err = line(r); err != nil {
			return nil, err
		}
	}
	f := &Frame{Command: string(command)}
	if err := f.readHeaders(r); err != nil {
		return nil, err
	}
	return f, f.readBody(r)
}

func (f *Frame) readHeaders(r *bufio.Reader) error {
	for size := 0; ; {
		l, err := line(r)
		if err != nil {
			return noEOF(err)
		}
		if len(l) == 0 {
			return nil
		}
		if size += len(l); size > maxHead || len(f.headers) == maxHeaders {
			return fmt.Errorf("a frame %.20q has too many headers; %d, or %d bytes, is the limit", f.Command, maxHeaders, maxHead)
		}
		name, value, ok := strings.Cut(string(l), ":")
		if !ok {
			return fmt.Errorf("a frame %.20q has a header without a colon: %.40q", f.Command, l)
		}
		if !handshake(f.Command) {
			var err2 error
			name, err = unescape(name)
			value, err2 = unescape(value)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
		}
		f.Set(name, value)
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

func (f *Frame) readBody(r *bufio.Reader) error {
	s, ok := f.Look("content-length")
	if !ok {
		return f.readToNUL(r)
	}
	n, err := strconv.ParseUint(s, 10, 40)
	if err != nil {
		return fmt.Errorf("a frame %.20q has the content-length %.20q", f.Command, s)
	}
	if n > MaxBody {
		f.Dropped = int64(n) // below 1<<40
		if _, err := io.CopyN(io.Discard, r, f.Dropped); err != nil {
			return noEOF(err)
		}
	} else if f.Body, err = exactly(r, int(n)); err != nil {
		return err
	}
	end, err := r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if end != 0 {
		return fmt.Errorf("a frame %.20q of %d bytes ends without NUL", f.Command, n)
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

func (f *Frame) readToNUL(r *bufio.Reader) error {
	for {
		part, err := r.ReadSlice(0)
		if err == nil {
			part = part[:len(part)-1]
		}
		if f.Dropped > 0 || len(f.Body)+len(part) > MaxBody {
			f.Dropped += int64(len(f.Body) + len(part))
			f.Body = nil
		} else {
			f.Body = append(f.Body, part...)
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
