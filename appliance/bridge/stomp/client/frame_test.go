package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func input(s string) *bufio.Reader { return bufio.NewReaderSize(strings.NewReader(s), maxLine+1) }

// The specification's own examples (§Augmented BNF, §Value Encoding, §MESSAGE).
func TestFramesAreRead(t *testing.T) {
	for in, want := range map[string]Frame{
		"MESSAGE\nsubscription:0\nmessage-id:007\ndestination:/queue/a\n\nhello\x00": {Command: "MESSAGE", Body: []byte("hello"), headers: []header{{"subscription", "0"}, {"message-id", "007"}, {"destination", "/queue/a"}}},
		"\n\r\n\nRECEIPT\r\nreceipt-id:1\r\n\r\n\x00\n":                              {Command: "RECEIPT", headers: []header{{"receipt-id", "1"}}},
		"MESSAGE\ncontent-length:3\n\na\x00b\x00":                                    {Command: "MESSAGE", Body: []byte("a\x00b"), headers: []header{{"content-length", "3"}}},
		"MESSAGE\na:b\\cc\\\\d\\n\\r\nk:1\nk:2\ne:\n\n\x00":                          {Command: "MESSAGE", headers: []header{{"a", "b:c\\d\n\r"}, {"k", "1"}, {"k", "2"}, {"e", ""}}},
		"CONNECTED\nserver:a\\cb:c\n\n\x00":                                          {Command: "CONNECTED", headers: []header{{"server", "a\\cb:c"}}},
	} {
		f, err := read(input(in))
		if err != nil || f.Command != want.Command || !bytes.Equal(f.Body, want.Body) || !slices.Equal(f.headers, want.headers) {
			t.Errorf("%q: %+v, %v", in, f, err)
		}
	}
	f := Frame{headers: []header{{"k", "1"}, {"k", "2"}}}
	if f.Get("k") != "1" || f.Get("none") != "" {
		t.Error("the first of a repeated header does not count")
	}
	for name, value := range f.Headers() {
		if name != "k" || value != "1" {
			t.Errorf("%s: %s", name, value)
		}
	}
}

func TestBadFrames(t *testing.T) {
	for in, want := range map[string]string{
		"A\nb\n\n\x00": "without a colon", "A\na:\\t\n\n\x00": "escape", "A\na:\\\n\n\x00": "escape", "A\ncontent-length:x\n\n\x00": "content-length", "A\ncontent-length:-1\n\n\x00": "content-length",
		"A\ncontent-length:1\n\nab": "without NUL", "A\ncontent-length:9\n\nab": "unexpected EOF", "A\n": "unexpected EOF", "A": "unexpected EOF", "A\n\nabc": "unexpected EOF", "": "EOF",
		strings.Repeat("x", maxLine+1) + "\n": "is it STOMP", "A\n" + strings.Repeat("a:b\n", maxHeaders+1) + "\n\x00": "too many headers",
		"A\n" + strings.Repeat("a:"+strings.Repeat("b", maxLine-10)+"\n", 5) + "\n\x00": "too many headers",
	} {
		if _, err := read(input(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", in, err, want)
		}
	}
}

// TestLargeBodies: they are read over, and what follows is read.
func TestLargeBodies(t *testing.T) {
	body := strings.Repeat("x", MaxBody+1)
	in := "MESSAGE\ncontent-length:2097153\n\n" + body + "\x00\nMESSAGE\n\n" + body + "\x00RECEIPT\n\n\x00MESSAGE\n\n" + body[1:] + "\x00"
	r := input(in)
	for _, want := range []struct {
		Command string
		kept    int
		dropped int64
	}{{"MESSAGE", 0, MaxBody + 1}, {"MESSAGE", 0, MaxBody + 1}, {"RECEIPT", 0, 0}, {"MESSAGE", MaxBody, 0}} {
		f, err := read(r)
		if err != nil || f.Command != want.Command || len(f.Body) != want.kept || f.Dropped != want.dropped {
			t.Fatalf("%v: want %+v; %d kept, %d dropped", err, want, len(f.Body), f.Dropped)
		}
	}
}

// TestContentLength: a text goes without, so that brokers make a text message of it; one with NUL cannot.
func TestContentLength(t *testing.T) {
	for _, c := range []struct {
		body string
		text bool
		want string
	}{
		{"hi", true, "SEND\na:\\c\n\nhi\x00"},
		{"hi", false, "SEND\na:\\c\ncontent-length:2\n\nhi\x00"},
		{"h\x00", true, "SEND\na:\\c\ncontent-length:2\n\nh\x00\x00"},
		{"", false, "SEND\na:\\c\n\n\x00"},
	} {
		f := Frame{Command: "SEND", headers: []header{{"a", ":"}}, Body: []byte(c.body), Text: c.text}
		if got := string(f.append(nil)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	f := Frame{Command: "CONNECT", headers: []header{{"passcode", `a\:b`}}}
	if got := string(f.append(nil)); got != "CONNECT\npasscode:a\\:b\n\n\x00" {
		t.Errorf("%q", got)
	}
}

// FuzzRead: whatever comes, reading ends within the limits, and what was understood is written and read the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte("MESSAGE\na:b\\c\n\nhello\x00"))
	f.Add([]byte("MESSAGE\ncontent-length:3\n\na\x00b\x00"))
	f.Add([]byte("\n\r\nERROR\nmessage:no\n\nx\x00"))
	f.Add([]byte("CONNECTED\nversion:1.2\n\n\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), maxLine+1)
		for {
			got, err := read(r)
			if err != nil {
				if _, left := r.Peek(1); left == nil && errors.Is(err, io.EOF) {
					t.Fatal("an end in the middle")
				}
				return
			}
			if len(got.Body) > MaxBody || len(got.headers) > maxHeaders {
				t.Fatalf("%d bytes, %d headers", len(got.Body), len(got.headers))
			}
			again(t, got)
		}
	})
}

// again writes what was read, where the protocol can.
func again(t *testing.T, f *Frame) {
	t.Helper()
	if f.Dropped > 0 || handshake(f.Command) || strings.ContainsRune(f.Command, '\r') {
		return
	}
	w := &Frame{Command: f.Command, Body: f.Body}
	for _, h := range f.headers {
		if h.name != "content-length" {
			w.headers = append(w.headers, h)
		}
	}
	b := w.append(nil)
	if len(b)-len(f.Body) > maxLine {
		return // escaping made it too long
	}
	got, err := read(bufio.NewReaderSize(bytes.NewReader(b), maxLine+1))
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	got.headers = slices.DeleteFunc(got.headers, func(h header) bool { return h.name == "content-length" })
	if got.Command != w.Command || !slices.Equal(got.headers, w.headers) || !bytes.Equal(got.Body, w.Body) {
		t.Fatalf("%+v became %+v", w, got)
	}
}
