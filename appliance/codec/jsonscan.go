package codec

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// MaxDepth is how deep a JSON value or an XML document may nest. Payloads nested deeper travel as
// text.
const MaxDepth = 200

// scanner walks JSON text (RFC 8259) without building values, so that a member can be handed on as the
// bytes it came in. The text must be valid UTF-8.
//
// Invariant: b[:i] has been accepted.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) fail(what string) error {
	return message.Problemf(message.CodeBadJSON, "JSON: %s at byte %d", what, s.i)
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte behind white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// take skips white space and c; false when something else stands there.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || c == 0 {
		return false
	}
	s.i++
	return true
}

// end fails unless only white space is left.
func (s *scanner) end() error {
	if s.space(); s.i < len(s.b) {
		return s.fail("more text behind the value")
	}
	return nil
}

// value skips one value and returns its bytes.
func (s *scanner) value(depth int) ([]byte, error) {
	c := s.peek()
	start := s.i
	var err error
	switch {
	case depth > MaxDepth:
		err = s.fail("nested too deep")
	case c == '{':
		err = s.object(depth, nil)
	case c == '[':
		err = s.array(depth)
	case c == '"':
		_, err = s.str()
	case c == '-' || digit(c):
		err = s.number()
	default:
		err = s.word()
	}
	if err != nil {
		return nil, err
	}
	return s.b[start:s.i], nil
}

// object skips an object. each, when given, is called with every member's quoted name and takes over
// scanning its value.
func (s *scanner) object(depth int, each func(name []byte) error) error {
	if !s.take('{') {
		return s.fail("no object")
	}
	if s.take('}') {
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("no member name")
		}
		name, err := s.str()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.fail("no colon")
		}
		if each != nil {
			err = each(name)
		} else {
			_, err = s.value(depth + 1)
		}
		if err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.fail("no comma or closing brace")
		}
	}
}

func (s *scanner) array(depth int) error {
	s.i++
	if s.take(']') {
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.fail("no comma or closing bracket")
		}
	}
}

// str skips a string and returns it with its quotes.
func (s *scanner) str() ([]byte, error) {
	start := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start:s.i], nil
		case c < 0x20:
			return nil, s.fail("a control character inside a string")
		case c == '\\':
			s.i++
			if s.i >= len(s.b) {
				return nil, s.fail("an unfinished string")
			}
			if e := s.b[s.i]; e == 'u' {
				if _, ok := hex4(s.b[s.i+1:]); !ok {
					return nil, s.fail(`a bad \u escape`)
				}
				s.i += 4
			} else if unescape(e) == 0 {
				return nil, s.fail("a bad escape")
			}
		}
	}
	return nil, s.fail("an unfinished string")
}

func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return s.fail("a bad number")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		if s.i++; !s.digits() {
			return s.fail("a bad number")
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("a bad number")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && digit(s.b[s.i]) {
		s.i++
	}
	return s.i > start
}

func (s *scanner) word() error {
	for _, w := range [...]string{"true", "false", "null"} {
		if len(s.b)-s.i >= len(w) && string(s.b[s.i:s.i+len(w)]) == w {
			s.i += len(w)
			return nil
		}
	}
	return s.fail("no value")
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case digit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape returns what the escape letter stands for, 0 for none. \u is not among them.
func unescape(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// unquote returns what a string accepted by [scanner.str] stands for. ok is false when half of a
// surrogate pair is missing, which is not text.
func unquote(q []byte) (text []byte, ok bool) {
	q = q[1 : len(q)-1]
	if bytes.IndexByte(q, '\\') < 0 {
		return q, true
	}
	text = make([]byte, 0, len(q))
	for i := 0; i < len(q); i++ {
		switch {
		case q[i] != '\\':
			text = append(text, q[i])
		case q[i+1] != 'u':
			i++
			text = append(text, unescape(q[i]))
		default:
			r, _ := hex4(q[i+2:])
			i += 5
			if utf16.IsSurrogate(r) {
				if len(q) < i+7 || q[i+1] != '\\' || q[i+2] != 'u' {
					return nil, false
				}
				low, _ := hex4(q[i+3:])
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return nil, false
				}
				i += 6
			}
			text = utf8.AppendRune(text, r)
		}
	}
	return text, true
}

// validJSON reports whether b is one JSON value in UTF-8, nested at most [MaxDepth] deep.
func validJSON(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	s := scanner{b: b}
	_, err := s.value(1)
	return err == nil && s.end() == nil
}
