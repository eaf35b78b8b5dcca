package ws

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipeListener hands out the server ends of net.Pipe, so that a whole server runs inside a
// testing/synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// wire is a client that can also break the rules: it writes any frame and keeps what it reads.
type wire struct {
	conn net.Conn
	br   *bufio.Reader
	resp *http.Response

	mu     sync.Mutex
	frames []wireFrame // read, not yet taken
	err    error
	paused chan struct{} // non-nil: the reader waits for it to be closed
}

type wireFrame struct {
	op      byte
	payload []byte
}

// dialWire upgrades; the headers are "Name: value" lines.
func dialWire(conn net.Conn, headers ...string) (*wire, error) {
	w := &wire{conn: conn, br: bufio.NewReader(conn)}
	req := "GET /v1/ws HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(headers, "", ""), "\r\n")
	if _, err := io.WriteString(conn, req); err != nil {
		return nil, err
	}
	var err error
	w.resp, err = http.ReadResponse(w.br, nil)
	return w, err
}

// listen collects frames until the connection ends.
func (w *wire) listen() {
	for {
		w.mu.Lock()
		paused := w.paused
		w.mu.Unlock()
		if paused != nil {
			<-paused
		}
		f, err := readWireFrame(w.br)
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.mu.Unlock()
			return
		}
		w.frames = append(w.frames, f)
		w.mu.Unlock()
	}
}

func (w *wire) take() []wireFrame {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.frames
	w.frames = nil
	return f
}

func (w *wire) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil
}

func (w *wire) pause(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.paused = make(chan struct{})
		return
	}
	close(w.paused)
	w.paused = nil
}

func readWireFrame(r *bufio.Reader) (wireFrame, error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return wireFrame{}, err
	}
	if h[0]&0x80 == 0 || h[0]&0x70 != 0 || h[1]&0x80 != 0 {
		return wireFrame{}, fmt.Errorf("server sent a frame head %x", h)
	}
	n := uint64(h[1])
	var ext [8]byte
	switch n {
	case 126:
		if _, err := io.ReadFull(r, ext[6:]); err != nil {
			return wireFrame{}, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	case 127:
		if _, err := io.ReadFull(r, ext[:]); err != nil {
			return wireFrame{}, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	}
	if n > 16<<20 {
		return wireFrame{}, errors.New("server sent a frame above 16 MiB")
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return wireFrame{h[0] & 0xf, p}, err
}

// rawFrame encodes a masked frame; head is FIN, RSV bits and opcode.
func rawFrame(head byte, payload []byte) []byte {
	b := []byte{head}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 0x80|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}

func (w *wire) text(s string) error { return w.raw(rawFrame(0x81, []byte(s))) }

func (w *wire) raw(b []byte) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := w.conn.Write(b)
	return err
}

// lines are the objects of all text frames.
func lines(t *testing.T, frames []wireFrame) []string {
	t.Helper()
	var out []string
	for _, f := range frames {
		if f.op != 1 {
			continue
		}
		if bytes.HasSuffix(f.payload, []byte("\n")) {
			t.Errorf("frame ends with a newline: %q", f.payload)
		}
		out = append(out, strings.Split(string(f.payload), "\n")...)
	}
	return out
}

func closeCode(frames []wireFrame) int {
	for _, f := range frames {
		if f.op == 8 && len(f.payload) >= 2 {
			return int(binary.BigEndian.Uint16(f.payload))
		}
	}
	return 0
}
