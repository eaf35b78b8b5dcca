package appliance

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// keyLines returns the 1-based line of every section, key and list element of a TOML document that
// a decoder has accepted, by dotted key: "http", "http.addr", "history[0].filter",
// "access.anonymous.publish[1]". It exists because the decoder keeps positions only for its own
// errors. For a document that is not valid TOML the result is unspecified, but it ends.
func keyLines(text string) map[string]int {
	lines := map[string]int{}
	for _, k := range keyPlaces(text) {
		if _, ok := lines[k.key]; !ok {
			lines[k.key] = k.line
		}
	}
	return lines
}

// keyPlace is one mention of a key.
type keyPlace struct {
	key  string
	line int
}

// keyPlaces returns every mention of every key, in the order of the document.
func keyPlaces(text string) []keyPlace {
	for _, bom := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} { // what the decoder skips
		if rest, ok := strings.CutPrefix(text, bom); ok {
			text = rest
			break
		}
	}
	s := liner{text: text, line: 1, counts: map[string]int{}}
	section := ""
	for s.skip(" \t\r\n"); s.pos < len(s.text); s.skip(" \t\r\n") {
		before := s.pos
		if s.text[s.pos] == '[' {
			section = s.header()
		} else {
			s.pair(section)
		}
		if s.pos == before { // not TOML
			s.next()
		}
	}
	return s.places
}

// liner walks a TOML document.
type liner struct {
	text   string
	pos    int
	line   int // of pos
	places []keyPlace
	counts map[string]int // of each [[array of tables]], elements so far
}

// skip passes over the given white space and over comments.
func (s *liner) skip(space string) {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '#':
			for s.pos < len(s.text) && s.text[s.pos] != '\n' {
				s.pos++
			}
		case strings.IndexByte(space, c) >= 0:
			s.next()
		default:
			return
		}
	}
}

func (s *liner) next() {
	if s.pos < len(s.text) {
		if s.text[s.pos] == '\n' {
			s.line++
		}
		s.pos++
	}
}

// take passes over lit if it comes next.
func (s *liner) take(lit string) bool {
	if !strings.HasPrefix(s.text[s.pos:], lit) {
		return false
	}
	for range lit {
		s.next()
	}
	return true
}

func (s *liner) mark(key string, line int) { s.places = append(s.places, keyPlace{key, line}) }

// header reads [a.b] or [[a.b]] and returns the key of the table that it opens.
func (s *liner) header() string {
	line := s.line
	s.take("[")
	list := s.take("[")
	parts := s.key()
	s.take("]")
	key := ""
	for i, p := range parts {
		key = join(key, p)
		s.mark(key, line)
		if last := i == len(parts)-1; last && list {
			s.take("]")
			s.counts[key]++
		}
		if n := s.counts[key]; n > 0 {
			key = at(key, n-1)
			s.mark(key, line)
		}
	}
	return key
}

// pair reads key = value.
func (s *liner) pair(section string) {
	line, key := s.line, section
	for _, p := range s.key() {
		key = join(key, p)
		s.mark(key, line)
	}
	s.skip(" \t")
	if s.take("=") {
		s.skip(" \t")
		s.value(key)
	}
}

// key reads a dotted key.
func (s *liner) key() []string {
	var parts []string
	for {
		s.skip(" \t")
		if s.pos >= len(s.text) {
			return parts
		}
		if c := s.text[s.pos]; c == '"' || c == '\'' {
			parts = append(parts, s.str(c))
		} else {
			from := s.pos
			for s.pos < len(s.text) && !strings.ContainsRune(" \t\r\n.=]#\"'{}[,", rune(s.text[s.pos])) {
				s.pos++
			}
			parts = append(parts, s.text[from:s.pos])
		}
		s.skip(" \t")
		if !s.take(".") {
			return parts
		}
	}
}

// value passes over one value and marks what is inside it.
func (s *liner) value(key string) {
	if s.pos >= len(s.text) {
		return
	}
	switch c := s.text[s.pos]; c {
	case '"', '\'':
		s.str(c)
	case '[':
		s.take("[")
		for i := 0; ; i++ {
			s.skip(" \t\r\n,")
			if s.pos >= len(s.text) || s.take("]") {
				return
			}
			before := s.pos
			s.mark(at(key, i), s.line)
			if s.value(at(key, i)); s.pos == before {
				return
			}
		}
	case '{':
		s.take("{")
		for {
			s.skip(" \t\r\n,")
			if s.pos >= len(s.text) || s.take("}") {
				return
			}
			before := s.pos
			if s.pair(key); s.pos == before {
				return
			}
		}
	default:
		for s.pos < len(s.text) && strings.IndexByte(",]}#\r\n", s.text[s.pos]) < 0 {
			s.pos++
		}
	}
}

// str reads a string that starts with quote and returns its contents.
func (s *liner) str(quote byte) string {
	q := string(quote)
	if long := strings.Repeat(q, 3); s.take(long) {
		q = long
	} else {
		s.take(q)
	}
	var b strings.Builder
	for s.pos < len(s.text) {
		if quote == '"' && s.text[s.pos] == '\\' && s.pos+1 < len(s.text) {
			b.WriteString(s.escape())
			continue
		}
		if s.take(q) {
			for len(q) == 3 && s.take(q[:1]) { // """a"""" ends with a quote of its own
			}
			break
		}
		b.WriteByte(s.text[s.pos])
		s.next()
	}
	return b.String()
}

// escape reads one backslash escape of a basic string (TOML 1.0 §String, 1.1 \e and \x).
func (s *liner) escape() string {
	s.next()
	c := s.text[s.pos]
	s.next()
	if i := strings.IndexByte("btnfre", c); i >= 0 {
		return "\b\t\n\f\r\x1b"[i : i+1]
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 {
		return string(c) // a quote, a backslash, or a line ending inside a long string, which no key is
	}
	end := min(s.pos+digits, len(s.text))
	n, err := strconv.ParseUint(s.text[s.pos:end], 16, 32)
	s.pos = end
	if err != nil || !utf8.ValidRune(rune(n)) {
		return ""
	}
	return string(rune(n))
}

// join appends one part to a dotted key, in quotes where TOML wants them.
func join(key, part string) string {
	if key == "" {
		return quoteKey(part)
	}
	return key + "." + quoteKey(part)
}

func quoteKey(part string) string {
	bare := part != ""
	for i := 0; i < len(part) && bare; i++ {
		c := part[i]
		bare = c == '_' || c == '-' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
	}
	if bare {
		return part
	}
	return strconv.Quote(part)
}
