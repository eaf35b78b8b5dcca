package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// wsConn is a lean WebSocket client (RFC 6455): text frames of several objects, one a line. Its
// masking key is zero, so that masking costs the load nothing; the server unmasks all the same. One
// goroutine reads; writing is safe for all.
type wsConn struct {
	c  net.Conn
	r  *bufio.Reader
	in []byte

	mu  sync.Mutex // guards out and the order of frames
	out []byte
}

// dialWS upgrades and says hello; an empty hello is the anonymous one.
func dialWS(addr, hello string, life time.Duration) (*wsConn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(life)) // fails only on a closed connection
	w := &wsConn{c: c, r: bufio.NewReaderSize(c, 4096)}
	if err := w.open(addr, hello); err != nil {
		w.close()
		return nil, fmt.Errorf("open WebSocket: %w", err)
	}
	return w, nil
}

func (w *wsConn) close() { _ = w.c.Close() }

func (w *wsConn) open(addr, hello string) error {
	if _, err := fmt.Fprintf(w.c, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := w.r.ReadString('\n')
		if err != nil {
			return err
		}
		if first && !strings.HasPrefix(line, "HTTP/1.1 101 ") {
			return fmt.Errorf("answered %q", strings.TrimSpace(line))
		}
		if line == "\r\n" {
			break
		}
	}
	if hello == "" {
		hello = `{"hello":{}}`
	}
	return w.ask(hello, `"welcome":`)
}

// ask sends one object and reads frames until an object with want comes. Only for before the messages.
func (w *wsConn) ask(object, want string) error {
	if err := w.send([]byte(object)); err != nil {
		return err
	}
	for {
		frame, err := w.read()
		switch {
		case err != nil:
			return err
		case bytes.Contains(frame, []byte(want)):
			return nil
		case bytes.Contains(frame, []byte(`"error":`)):
			return fmt.Errorf("answered %s", frame)
		}
	}
}

const (
	opText  = 0x81 // FIN and the opcode
	opClose = 0x88
	opPing  = 0x89
	opPong  = 0x8a
)

func (w *wsConn) send(payload []byte) error { return w.write(opText, payload) }

func (w *wsConn) write(op byte, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.out[:0], op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, 0, 0, 0, 0)
	w.out = append(b, payload...)
	_, err := w.c.Write(w.out)
	return err
}

// read returns the next text frame's payload, valid until the next read.
func (w *wsConn) read() ([]byte, error) {
	for {
		op, payload, err := w.frame()
		switch {
		case err != nil:
			return nil, err
		case op == opText:
			return payload, nil
		case op == opPing:
			if err := w.write(opPong, payload); err != nil {
				return nil, err
			}
		case op == opClose:
			if len(payload) >= 2 {
				return nil, fmt.Errorf("closed with %d %s", binary.BigEndian.Uint16(payload), payload[2:])
			}
			return nil, errors.New("closed without a code")
		}
	}
}

func (w *wsConn) frame() (op byte, payload []byte, err error) {
	head, err := w.r.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	op, n := head[0], uint64(head[1])
	_, _ = w.r.Discard(2) // they are there
	if extra := map[uint64]int{126: 2, 127: 8}[n]; extra > 0 {
		head, err := w.r.Peek(extra)
		if err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range head {
			n = n<<8 | uint64(b)
		}
		_, _ = w.r.Discard(extra)
	}
	if n > 1<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	if int(n) > cap(w.in) {
		w.in = make([]byte, n)
	}
	w.in = w.in[:n]
	_, err = io.ReadFull(w.r, w.in)
	return op, w.in, err
}

// How the objects that the appliance sends begin (package ws).
const (
	messageMark = `{"msg":`
	errorMark   = `"error":`
	byeMark     = `{"bye":`
	seqMark     = `"seq":`
	idMark      = `{"id":`
)

// number reads the digits behind the mark; ok is false without the mark.
func number(line []byte, mark string) (n uint64, ok bool) {
	i := bytes.Index(line, []byte(mark))
	if i < 0 {
		return 0, false
	}
	for _, c := range line[i+len(mark):] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// trouble finds what must not come in a measurement.
func trouble(frame []byte) error {
	if bytes.Contains(frame, []byte(byeMark)) || bytes.Contains(frame, []byte(errorMark)) {
		return fmt.Errorf("the server said %.300s", frame)
	}
	return nil
}
