package express

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer collects what a handler answers.
type answer struct {
	conn   *conn
	header http.Header
	status int
	body   []byte
	out    []byte
}

func (a *answer) reset() {
	if a.header == nil {
		a.header = make(http.Header, 12)
	}
	clear(a.header)
	a.status, a.body = 0, a.body[:0]
}

// Header is the answer's header.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sets the status; the first one counts. There are no interim answers.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

// Write collects.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, b...)
	return len(b), nil
}

// SetReadDeadline does nothing: the body has been read.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: the lane sets one.
func (a *answer) SetWriteDeadline(time.Time) error { return nil }

// oneLine keeps a value from ending its line.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

// bytes is the whole answer, valid until the next one. With last it says that the connection ends.
func (a *answer) bytes(last bool) []byte {
	a.WriteHeader(http.StatusOK)
	b := strconv.AppendInt(append(a.out[:0], "HTTP/1.1 "...), int64(a.status), 10)
	b = append(append(append(b, ' '), http.StatusText(a.status)...), "\r\n"...)
	for name, values := range a.header {
		if name == "Content-Length" || name == "Date" || name == "Connection" {
			continue
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n") {
				v = oneLine.Replace(v)
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	b = append(time.Now().UTC().AppendFormat(append(b, "Date: "...), http.TimeFormat), "\r\n"...)
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(a.body)), 10), "\r\n\r\n"...)
		b = append(b, a.body...)
	} else {
		b = append(b, "\r\n"...)
	}
	a.out = b
	if cap(a.body) > maxRequest {
		a.body = nil
	}
	return b
}
