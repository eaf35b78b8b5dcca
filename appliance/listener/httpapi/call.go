package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/codec"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// call is one request on its way through its handler. One goroutine owns it.
type call struct {
	a      *api
	w      http.ResponseWriter
	r      *http.Request
	params [maxParams]string // values of the pattern's placeholders, in order
	query  url.Values
	grant  *auth.Grant // nil on open routes
}

func (c *call) authenticate() error {
	creds, err := auth.FromRequest(c.r)
	if err != nil {
		return err
	}
	c.grant, err = c.a.core.Authenticate(c.r.Context(), creds)
	return err
}

// readQuery parses the query: each parameter at most once, and only those the route knows.
func (c *call) readQuery(rt *route) error {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return message.Problemf(message.CodeBadRequest, "the query of the address is malformed: %v", err)
	}
	for name, values := range q {
		switch {
		case !slices.Contains(rt.query, name) && (name != "ticket" || rt.open):
			known := "none is known here"
			if len(rt.query) > 0 {
				known = "known here: " + strings.Join(rt.query, ", ")
			}
			return message.Problemf(message.CodeBadRequest, "query parameter %.40q is unknown; %s", name, known)
		case len(values) > 1:
			return message.Problemf(message.CodeBadRequest, "query parameter %.40q is there %d times; give it once", name, len(values))
		case !utf8.ValidString(values[0]):
			return message.Problemf(message.CodeBadUTF8, "query parameter %.40q is not valid UTF-8", name)
		}
	}
	c.query = q
	return nil
}

// integer reads a query parameter in a range, def when it is absent.
func (c *call) integer(name string, def, lo, hi uint64) (uint64, error) {
	s := c.query.Get(name)
	if !c.query.Has(name) {
		return def, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, message.Problemf(message.CodeBadRequest, "query parameter %s is %.40q; it must be a number from %d to %d", name, s, lo, hi)
	}
	return n, nil
}

// page reads after and limit of a list that is numbered.
func (c *call) page() (after uint64, limit int, err error) {
	if after, err = c.integer("after", 0, 0, 1<<63); err != nil {
		return 0, 0, err
	}
	n, err := c.integer("limit", defaultPage, 1, maxPage)
	return after, int(n), err
}

// duration reads a query parameter from 0 to [maxWait], def when it is absent.
func (c *call) duration(name string, def time.Duration) (time.Duration, error) {
	if !c.query.Has(name) {
		return def, nil
	}
	return parseDuration("query parameter "+name, c.query.Get(name), maxWait)
}

// id reads a query parameter that names a message; zero when it is absent or empty.
func (c *call) id(name string) (message.ID, error) {
	s := c.query.Get(name)
	if s == "" {
		return message.ID{}, nil
	}
	return message.ParseID(s)
}

// entry reads the first placeholder as the number of a dead letter.
func (c *call) entry() (uint64, error) {
	n, err := strconv.ParseUint(c.params[0], 10, 64)
	if err != nil || n == 0 {
		return 0, message.Problemf(message.CodeBadRequest, "%.40q is not the number of a dead letter", c.params[0])
	}
	return n, nil
}

// body reads the request's body under the limit, which holds before and after decompression, and
// under the time limit.
func (c *call) body(limit int64) ([]byte, error) {
	r := c.r
	encoding, err := contentEncoding(r.Header.Values("Content-Encoding"))
	if err != nil {
		return nil, err
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b, err := readBody(http.MaxBytesReader(c.w, r.Body, limit), encoding, r.ContentLength, limit)
	if err != nil {
		return nil, bodyError(err, limit)
	}
	// The body's deadline ([api.ServeHTTP]) would end a wait.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	return b, nil
}

func readBody(raw io.Reader, encoding string, length, limit int64) ([]byte, error) {
	if encoding == "" && length >= 0 {
		return readSized(raw, length)
	}
	plain, err := codec.Inflate(encoding, raw, limit)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return io.ReadAll(plain)
}

// readSized reads exactly n bytes. What is allocated follows what has arrived, so that a promise of
// a large body costs nothing.
func readSized(r io.Reader, n int64) ([]byte, error) {
	b := make([]byte, 0, min(n, 16<<10))
	for {
		k, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err != nil || int64(len(b)) == n {
			return b, err
		}
		grown := make([]byte, len(b), min(n, 4*int64(cap(b))))
		copy(grown, b)
		b = grown
	}
}

// contentEncoding returns "", "gzip" or "deflate". One coding is enough for anybody (RFC 9110
// §8.4 allows a list), and a stack of them is a way to hide a bomb.
func contentEncoding(headers []string) (string, error) {
	e := strings.ToLower(strings.TrimSpace(strings.Join(headers, ",")))
	switch e {
	case "", "identity":
		return "", nil
	case "gzip", "x-gzip":
		return "gzip", nil
	case "deflate":
		return e, nil
	}
	return "", message.Problemf(message.CodeBadMediaType, "Content-Encoding %.40q is not supported; use gzip, deflate or none", e)
}

func tooLarge(limit int64) error {
	return message.Problemf(message.CodeTooLarge, "the body is larger than %d bytes, the limit here, also when decompressed", limit)
}

// bodyError explains why reading a body failed.
func bodyError(err error, limit int64) error {
	var tooMany *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooMany):
		return tooLarge(limit)
	case message.ProblemOf(err) != nil:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return message.Problemf(codeSlowBody, "the body did not arrive in time")
	}
	return message.Problemf(message.CodeBadRequest, "the body could not be read to its end: %v", err)
}

// document reads the body as one strict JSON document into v.
func (c *call) document(v any) error {
	if err := jsonType(c.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	b, err := c.body(maxDocument)
	if err != nil {
		return err
	}
	return unmarshalStrict(b, v)
}

// jsonType accepts JSON, no type, and the type that curl claims about everything it sends.
func jsonType(contentType string) error {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if t == "" || t == "application/json" || strings.HasSuffix(t, "+json") || t == "application/x-www-form-urlencoded" {
		return nil
	}
	return message.Problemf(message.CodeBadMediaType, "Content-Type %.80q is not supported here; send application/json", t)
}

// write sends a part of the answer under the write deadline; the error says that the client is
// too slow or gone, and there is nobody left to tell.
func (c *call) write(b []byte) bool {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.a.WriteTimeout))
	_, err := c.w.Write(b)
	return err == nil
}

// json answers with a JSON document.
func (c *call) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.answer(status, append(b, '\n'))
}

// answer answers with JSON that is already encoded.
func (c *call) answer(status int, b []byte) error {
	h := c.w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	c.w.WriteHeader(status)
	c.write(b)
	return nil
}

// done answers that it happened and there is nothing to say.
func (c *call) done() error {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.a.WriteTimeout))
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// chunk is about how much of a long answer is written at once.
const chunk = 32 << 10

// list answers with {"name":[items]tail} in parts, so that a long answer is not in memory twice.
func (c *call) list(name string, n int, item func(b []byte, i int) []byte, tail []byte) {
	c.w.Header().Set("Content-Type", "application/json")
	b := append(make([]byte, 0, 4<<10), `{"`+name+`":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if b = item(b, i); len(b) >= chunk {
			if !c.write(b) {
				return
			}
			b = b[:0]
		}
	}
	b = append(append(b, ']'), tail...)
	c.write(append(b, "}\n"...))
}
