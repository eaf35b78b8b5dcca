package ws

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"
)

// collect decodes a client's bytes as a session does, cut into pieces of the given size: each message with
// its opcode in front, each control frame likewise. ended is a breach or a close frame, partial the beginning of a frame at the end.
func collect(in []byte, piece int) (got [][]byte, ended, partial bool) {
	var buf, message []byte
	var begun byte
	for len(in) > 0 {
		n := min(piece, len(in))
		buf, in = append(buf, in[:n]...), in[n:]
		for {
			h, err := readHead(buf)
			if err != nil && !errors.Is(err, errShort) {
				return got, true, false
			}
			if h.length > 1<<62 { // gorilla's sums overflow; the session's limits are lower
				return got, true, true
			}
			if err != nil || uint64(len(buf)-h.size) < h.length {
				break
			}
			payload := buf[h.size : h.size+int(h.length)]
			unmask(payload, h.key)
			buf = buf[h.size+int(h.length):]
			switch {
			case h.opcode == websocket.CloseMessage:
				return got, true, false
			case h.opcode > websocket.BinaryMessage:
				got = append(got, append([]byte{h.opcode}, payload...))
				continue
			case (h.opcode == continuation) != (begun != 0):
				return got, true, false
			case h.opcode != continuation:
				begun, message = h.opcode, nil
			}
			message = append(message, payload...)
			if h.final {
				got = append(got, append([]byte{begun}, message...))
				begun = 0
			}
		}
	}
	return got, false, len(buf) > 0
}

// byGorilla decodes them with the library.
func byGorilla(t *testing.T, in []byte) (got [][]byte, ended bool) {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() { _, _ = io.Copy(io.Discard, client) }() // what gorilla answers; ends with the pipe
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	conn, err := new(websocket.Upgrader).Upgrade(hijacked{httptest.NewRecorder(), server}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	control := func(opcode byte) func(string) error {
		return func(payload string) error {
			got = append(got, append([]byte{opcode}, payload...))
			return nil
		}
	}
	conn.SetPingHandler(control(websocket.PingMessage))
	conn.SetPongHandler(control(websocket.PongMessage))
	go func() { // ends when the bytes are read, or the pipe is closed
		_, _ = client.Write(in)
		_ = client.Close()
	}()
	for {
		kind, payload, err := conn.ReadMessage()
		if err != nil {
			return got, !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) // which is the bytes' end
		}
		got = append(got, append([]byte{byte(kind)}, payload...))
	}
}

// hijacked is a response whose connection is given.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// FuzzInbound decodes any bytes as frames, in pieces of any size, and has gorilla's reader say the same.
func FuzzInbound(f *testing.F) {
	long := bytes.Repeat([]byte("0123456789"), 30)
	for _, seed := range [][]byte{
		rawFrame(0x81, []byte("hello")),
		rawFrame(0x82, long),
		append(rawFrame(0x01, long[:130]), append(rawFrame(0x89, []byte("p")), rawFrame(0x80, long[:3])...)...),
		rawFrame(0x88, []byte{3, 0xe8}), rawFrame(0x80, nil), rawFrame(0x09, nil), rawFrame(0x89, long[:126]), rawFrame(0xc1, nil), rawFrame(0x83, nil),
		append(rawFrame(0x01, nil), rawFrame(0x81, nil)...),
		{0x81, 5, 'h', 'e', 'l', 'l', 'o'},
		{0x81, 0xfe, 0, 1, 0, 0, 0, 0, 'x'},
		{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		rawFrame(0x81, bytes.Repeat([]byte{0xff}, 1<<16)),
	} {
		f.Add(seed, 1)
		f.Add(seed, 1<<20)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		got, ended, partial := collect(bytes.Clone(in), max(piece, 1))
		want, wantEnded := byGorilla(t, in)
		if len(got) != len(want) || ended != wantEnded && !partial { // gorilla judges a header before it is complete
			t.Fatalf("%x: %d parts, ended %v; gorilla has %d, ended %v", in, len(got), ended, len(want), wantEnded)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("%x: part %d is %q; gorilla has %q", in, i, got[i], want[i])
			}
		}
	})
}

func TestUnmask(t *testing.T) {
	key := [keyBytes]byte{1, 2, 0xf0, 0xff}
	for n := range 40 {
		b, want := make([]byte, n), make([]byte, n)
		for i := range b {
			b[i] = byte(3 * i)
			want[i] = b[i] ^ key[i%keyBytes]
		}
		if unmask(b, key); !bytes.Equal(b, want) {
			t.Errorf("%d bytes: %x, want %x", n, b, want)
		}
	}
}

func TestClosing(t *testing.T) {
	for _, c := range []struct {
		payload string
		code    int
		bad     bool
	}{
		{"", 1005, false},
		{"\x03\xe8", 1000, false},
		{"\x03\xe8bye", 1000, false},
		{"\x0f\xa0", 4000, false},
		{"\x03\xf6", 1014, false},
		{"\x03", 0, true},
		{"\x03\xe8\xff", 0, true},
		{"\x00\x00", 0, true},
		{"\x03\xec", 0, true},
		{"\x03\xed", 0, true},
		{"\x03\xf7", 0, true},
		{"\x07\xd0", 0, true},
		{"\x13\x88", 0, true},
	} {
		code, err := closing([]byte(c.payload))
		if code != c.code || (err != nil) != c.bad {
			t.Errorf("%q: code %d, error %v", c.payload, code, err)
		}
	}
}
