package express

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
)

const (
	post = "POST /"
	crlf = "\r\n"
)

// known is the last request of a connection that the lane took: with the same head the next one is the same,
// but for its body.
type known struct {
	head []byte
	r    *http.Request // without a body
}

// read makes head the known one. false: this request is for net/http.
func (n *known) read(head []byte, k *conn) bool {
	if n.r != nil && bytes.Equal(head, n.head) {
		return true
	}
	if !plain(head) {
		return false
	}
	from := k.lane.heads.Get().(*bufio.Reader)
	defer k.lane.heads.Put(from)
	from.Reset(bytes.NewReader(head))
	r, err := http.ReadRequest(from)
	if err != nil {
		return false // net/http knows what to say
	}
	if r.Method != http.MethodPost || r.Proto != "HTTP/1.1" || !plainHost(r.Host) || r.Close || len(r.TransferEncoding) > 0 ||
		r.ContentLength < 0 || r.ContentLength > maxRequest || r.Trailer != nil || r.URL.Host != "" || !usual(r.Header) {
		return false
	}
	r = r.WithContext(k.lane.ctx)
	r.Body = http.NoBody
	r.RemoteAddr = k.c.RemoteAddr().String()
	if !k.lane.o.Takes(r) {
		return false
	}
	n.head, n.r = append(n.head[:0], head...), r
	return true
}

// usual reports whether no header changes what follows on the connection.
func usual(h http.Header) bool {
	for _, name := range [...]string{"Expect", "Upgrade", "Te", "Trailer", "Http2-Settings"} {
		if _, ok := h[name]; ok {
			return false
		}
	}
	c := h["Connection"]
	return len(c) == 0 || len(c) == 1 && strings.EqualFold(c[0], "keep-alive")
}

// plain reports whether the head is lines that end with CR LF, none of them folded, without control characters,
// their names tokens, and with one Host: where it is not, there is more than one way to read it (RFC 9112 §2.2,
// §5, §3.2).
func plain(head []byte) bool {
	hosts := 0
	_, fields, _ := bytes.Cut(head[:len(head)-4], []byte(crlf))
	for _, c := range head[:len(head)-4-len(fields)] {
		if (c < ' ' || c == 0x7f) && c != '\r' && c != '\n' { // the request line, whose end is a CR LF
			return false
		}
	}
	for line := range bytes.SplitSeq(fields, []byte(crlf)) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == 0 {
			return false
		}
		for _, c := range name {
			if !isToken(c) {
				return false
			}
		}
		for _, c := range value {
			if c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
		if bytes.EqualFold(name, []byte("host")) {
			hosts++
		}
	}
	return hosts == 1
}

// isToken reports whether c may be in a token (RFC 9110 §5.6.2).
func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// plainHost reports whether a Host is one that nobody reads in another way.
func plainHost(h string) bool {
	for _, c := range []byte(h) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(".:-_[]", c) >= 0:
		default:
			return false
		}
	}
	return h != ""
}
