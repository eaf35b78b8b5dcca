package codec

import (
	"strings"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// EscapeHeader writes an attribute's value as an HTTP header value: space, the double quote, percent
// and everything outside printable ASCII is percent-encoded (CloudEvents HTTP binding 1.0.2
// §3.1.3.2).
func EscapeHeader(value string) string {
	n := 0
	for i := 0; i < len(value); i++ {
		if escapes(value[i]) {
			n++
		}
	}
	if n == 0 {
		return value
	}
	const upper = "0123456789ABCDEF"
	b := make([]byte, 0, len(value)+2*n)
	for i := 0; i < len(value); i++ {
		if c := value[i]; escapes(c) {
			b = append(b, '%', upper[c>>4], upper[c&0xf])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func escapes(c byte) bool { return c <= ' ' || c == '"' || c == '%' || c >= 0x7f }

// UnescapeHeader is the inverse: one round of percent-decoding, behind the removal of double quotes around the
// value or a part of it. The error is a [message.Problem].
func UnescapeHeader(value string) (string, error) {
	if !strings.ContainsAny(value, `%"`) {
		return checked(value)
	}
	b := make([]byte, 0, len(value))
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(value):
			i++
			b = append(b, value[i])
		case c == '%':
			v, ok := hex4([]byte("00" + value[min(i+1, len(value)):min(i+3, len(value))]))
			if !ok {
				return "", message.Problemf(message.CodeBadRequest, "the header value %.60q has a bad percent escape", value)
			}
			b = append(b, byte(v))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return checked(string(b))
}

func checked(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", message.Problemf(message.CodeBadUTF8, "the header value %.60q is not valid UTF-8", s)
	}
	return s, nil
}
