package codec

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"edgepost/appliance/message"
)

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// AppendMessage appends the fields that every JSON message object of ours shares, without the braces
// and without a comma at either end (DESIGN §8):
//
//	"seq":4712,"id":"k3f9w2xq-4712","topic":"a/b","ct":"text/plain","time":"2026-11-23T06:00:00.000Z",
//	"priority":4,"from":"app","properties":{"k":"v","twice":["1","2"]},"response":"a/c",
//	"correlation_base64":"…","data":{…} | "text":"…" | "data_base64":"…"
//
// seq and id are left out of a volatile message, time while the clock is not trusted, and all that
// is empty; topic, priority and the payload always stand. The payload is "data" when its content
// type is JSON and it is valid JSON (the same bytes; only when it has line breaks, white space is
// removed), else "text" when it is text or has no content type and is valid UTF-8, else
// "data_base64". The result is valid JSON on one line: even U+2028 and U+2029 are escaped.
// It allocates only when dst is too small.
func AppendMessage(dst []byte, m *message.Message) []byte {
	if !m.ID.IsZero() {
		dst = append(dst, `"seq":`...)
		dst = strconv.AppendUint(dst, m.Seq, 10)
		dst = append(dst, `,"id":"`...)
		dst = append(dst, m.ID.Epoch...)
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, m.ID.Seq, 10)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"topic":`...)
	dst = AppendString(dst, string(m.Topic))
	dst = appendField(dst, `,"ct":`, m.ContentType)
	if !m.Time.IsZero() {
		dst = append(dst, `,"time":"`...)
		dst = m.Time.UTC().AppendFormat(dst, timeLayout)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"priority":`...)
	dst = strconv.AppendUint(dst, uint64(m.Priority), 10)
	dst = appendField(dst, `,"from":`, m.From)
	dst = appendProperties(dst, m.Properties)
	dst = appendField(dst, `,"response":`, string(m.Response))
	if len(m.Correlation) > 0 {
		dst = append(dst, `,"correlation_base64":`...)
		dst = appendBase64(dst, m.Correlation)
	}
	return appendPayload(dst, m)
}

func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return AppendString(append(dst, name...), value)
}

// appendProperties writes each key once, where it first stands.
func appendProperties(dst []byte, ps []message.Property) []byte {
	if len(ps) == 0 {
		return dst
	}
	sep := `,"properties":{`
	for i := range ps {
		n := 0
		for j := range ps {
			if ps[j].Key != ps[i].Key {
				continue
			}
			if n++; j < i {
				n = 0
				break
			}
		}
		if n == 0 {
			continue
		}
		dst = append(dst, sep...)
		sep = ","
		dst = AppendString(dst, ps[i].Key)
		dst = append(dst, ':')
		if n == 1 {
			dst = AppendString(dst, ps[i].Value)
			continue
		}
		open := byte('[')
		for j := i; j < len(ps); j++ {
			if ps[j].Key == ps[i].Key {
				dst = AppendString(append(dst, open), ps[j].Value)
				open = ','
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendPayload(dst []byte, m *message.Message) []byte {
	f := formOf(m.ContentType)
	switch {
	case f == formJSON && validJSON(m.Payload):
		return appendOneLine(append(dst, `,"data":`...), m.Payload)
	case f != formBinary && utf8.Valid(m.Payload):
		return AppendString(append(dst, `,"text":`...), m.Payload)
	}
	return appendBase64(append(dst, `,"data_base64":`...), m.Payload)
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string: quotes, backslashes, control characters, U+2028 and
// U+2029 are escaped, and bytes that are not UTF-8 become U+FFFD.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := decodeRune(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, hexDigits[r&0xf])
			default:
				i += size
				continue
			}
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func decodeRune[S ~string | ~[]byte](s S) (rune, int) {
	var b [utf8.UTFMax]byte
	return utf8.DecodeRune(b[:copy(b[:], s)])
}

// appendOneLine appends valid JSON so that it has no line break: as it is when it has none, else
// without white space between its tokens.
func appendOneLine(dst, b []byte) []byte {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 && !bytes.Contains(b, []byte("\u2028")) && !bytes.Contains(b, []byte("\u2029")) {
		return append(dst, b...)
	}
	quoted := false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		case c == '"':
			quoted = !quoted
		case c == '\\':
			dst = append(dst, c)
			i++
			c = b[i]
		case c == 0xe2 && b[i+1] == 0x80 && b[i+2]&^1 == 0xa8: // valid UTF-8, so two bytes follow
			dst = append(dst, `\u202`...)
			i += 2
			c = hexDigits[b[i]&0xf]
		}
		dst = append(dst, c)
	}
	return dst
}
