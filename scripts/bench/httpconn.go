package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"time"
)

// httpConn is a lean HTTP/1.1 client on one kept connection, so that the load costs little beside the
// server: the request is bytes made once, of the answer only status, length and body are read.
type httpConn struct {
	c net.Conn
	r *bufio.Reader
}

func dialHTTP(addr string, life time.Duration) (*httpConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(life)) // fails only on a closed connection
	return &httpConn{c, bufio.NewReaderSize(c, 1024)}, nil
}

func (h *httpConn) close() { _ = h.c.Close() }

// post builds a request. headers end with \r\n each.
func post(addr, path, headers string, body []byte) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n", path, addr, headers, len(body))
	return append(b, body...)
}

// call sends a request and returns the answer's body, which is valid until the next call.
func (h *httpConn) call(request []byte, status string) ([]byte, error) {
	if _, err := h.c.Write(request); err != nil {
		return nil, err
	}
	line, err := h.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 12 || string(line[9:12]) != status {
		return nil, fmt.Errorf("answered %q", bytes.TrimSpace(line))
	}
	length := 0
	for {
		if line, err = h.r.ReadSlice('\n'); err != nil {
			return nil, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return nil, err
			}
		}
	}
	body, err := h.r.Peek(length)
	if err != nil {
		return nil, err
	}
	_, err = h.r.Discard(length)
	return body, err
}

// healthy asks /healthz once.
func healthy(addr string) bool {
	h, err := dialHTTP(addr, 2*time.Second)
	if err != nil {
		return false
	}
	defer h.close()
	_, err = h.call(fmt.Appendf(nil, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", addr), "200")
	return err == nil
}
