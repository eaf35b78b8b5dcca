package express

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

const (
	firstBuffer = 2 << 10     // bytes of a connection's buffer at the beginning
	maxRequest  = 16 << 10    // head and body; a larger request goes to net/http
	patience    = time.Second // from a request's first byte to its last; a slower one goes to net/http
)

// conn is one connection. All but what mu guards belongs to its goroutine.
//
// Invariant: buf[:have] is what was read and is not answered.
type conn struct {
	lane   *Lane
	c      net.Conn
	buf    []byte
	have   int
	known  known
	answer answer
	body   bytes.Reader
	r      http.Request

	mu     sync.Mutex
	closed bool // the lane is: no further request is read
}

// interrupt ends a wait for a request, and forbids the next one.
func (k *conn) interrupt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	_ = k.c.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}

// await sets the deadline of the next read; false when the lane is closed.
func (k *conn) await(until time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		_ = k.c.SetReadDeadline(until) // as above
	}
	return !k.closed
}

func (k *conn) serve() {
	defer k.lane.forget(k)
	mine := true
	defer func() {
		if p := recover(); p != nil && !aborted(p) {
			k.lane.o.Log.Error("request panicked", "remote", k.c.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
		}
		if mine {
			_ = k.c.Close() // nobody reads its error
		}
	}()
	k.answer.conn = k
	k.buf = make([]byte, firstBuffer)
	for first := true; ; first = false {
		switch k.next(first) {
		case taken:
			continue
		case strange:
			if k.await(time.Time{}) {
				_ = k.c.SetWriteDeadline(time.Time{}) // the last answer's
				mine = !k.lane.hand(&passed{k.c, bytes.Clone(k.buf[:k.have])}, nil)
			}
		case ended:
		}
		return
	}
}

// aborted reports whether a handler panicked to end its connection without a word.
func aborted(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// outcome is what became of a request.
type outcome int

const (
	taken   outcome = iota // it is answered
	strange                // it is for net/http
	ended                  // there is none
)

// next reads and answers one request.
func (k *conn) next(first bool) outcome {
	until := time.Now().Add(k.patience(first))
	blank := 4 // bytes of line ends behind a body that net/http overlooks, for old clients
	if first {
		blank = 0
	}
	for head := 0; ; {
		for ; blank > 0 && k.have > 0 && (k.buf[0] == '\r' || k.buf[0] == '\n'); blank-- {
			k.have = copy(k.buf, k.buf[1:k.have])
		}
		verdict, size := k.look(&head)
		switch {
		case verdict == strange:
			return strange
		case verdict == taken:
			if !k.serveOne(k.buf[head:size]) {
				return ended
			}
			k.have = copy(k.buf, k.buf[size:k.have])
			return taken
		}
		if k.have == len(k.buf) {
			k.buf = append(k.buf, make([]byte, len(k.buf))...)
		}
		if !k.await(until) {
			return ended
		}
		n, err := k.c.Read(k.buf[k.have:])
		switch {
		case n > 0:
		case err != nil && k.have > 0:
			return strange // net/http knows what to say
		case err != nil:
			return ended
		}
		if k.have == 0 && n > 0 {
			until = time.Now().Add(patience)
		}
		k.have += n
	}
}

// patience is how long the beginning of a request may take from now on.
func (k *conn) patience(first bool) time.Duration {
	switch {
	case k.have > 0:
		return patience
	case first:
		return k.lane.o.HeaderTimeout
	}
	return k.lane.o.IdleTimeout
}

// look judges what was read: taken is a whole request of that size, ended means that more must be read. head is
// where the body begins, 0 while that is not known.
func (k *conn) look(head *int) (verdict outcome, size int) {
	b := k.buf[:k.have]
	if *head == 0 {
		if n := min(len(b), len(post)); string(b[:n]) != post[:n] {
			return strange, 0
		}
		i := bytes.Index(b, []byte(crlf+crlf))
		switch {
		case i < 0 && (len(b) >= maxRequest || bareLF(b)):
			return strange, 0
		case i < 0:
			return ended, 0
		}
		*head = i + 4
		if !k.known.read(b[:*head], k) {
			return strange, 0
		}
	}
	size = *head + int(k.known.r.ContentLength)
	switch {
	case size > maxRequest:
		return strange, 0
	case size > len(b):
		return ended, 0
	}
	return taken, size
}

// bareLF reports whether a line ends without a CR: net/http takes that for an end, too.
func bareLF(b []byte) bool {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			return true
		}
	}
	return false
}

// serveOne calls the handler and sends its answer; false when the connection ends with it.
func (k *conn) serveOne(body []byte) bool {
	k.r = *k.known.r
	k.body.Reset(body)
	k.r.Body = http.NoBody
	if len(body) > 0 {
		k.r.Body = requestBody{&k.body}
	}
	k.answer.reset()
	k.lane.o.Handler.ServeHTTP(&k.answer, &k.r)
	last := k.lane.ctx.Err() != nil
	_ = k.c.SetWriteDeadline(time.Now().Add(k.lane.o.WriteTimeout)) // fails only on a closed connection
	_, err := k.c.Write(k.answer.bytes(last))
	return err == nil && !last
}

// requestBody is the body of a request that was read as a whole.
type requestBody struct{ *bytes.Reader }

func (requestBody) Close() error { return nil }
