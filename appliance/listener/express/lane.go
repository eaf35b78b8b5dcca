package express

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Options are what [New] needs; all are required.
type Options struct {
	Handler       http.Handler
	Takes         func(r *http.Request) bool // is it answered shortly, without streaming? It must not keep r
	HeaderTimeout time.Duration              // from the connection to its first byte
	IdleTimeout   time.Duration              // between requests
	WriteTimeout  time.Duration
	Log           *slog.Logger
}

// Lane serves the connections of a listener, and is the listener of an [http.Server] that gets those that it
// does not go on with. Safe for concurrent use.
type Lane struct {
	net.Listener
	o       Options
	ctx     context.Context
	cancel  context.CancelFunc
	handed  chan accepted
	serving sync.WaitGroup // the accepting goroutine and one a connection
	heads   sync.Pool      // of *bufio.Reader

	mu   sync.Mutex // guards open
	open map[*conn]struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// New begins to accept from l. Somebody must call Accept until [Lane.Close], and [Lane.Wait] then.
func New(l net.Listener, o Options) *Lane {
	x := &Lane{Listener: l, o: o, handed: make(chan accepted), open: make(map[*conn]struct{})}
	x.heads.New = func() any { return bufio.NewReaderSize(nil, 1<<10) }
	x.ctx, x.cancel = context.WithCancel(context.Background())
	x.serving.Go(x.accept)
	return x
}

func (x *Lane) accept() {
	for {
		c, err := x.Listener.Accept()
		if err != nil {
			if !x.hand(nil, err) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		k := &conn{lane: x, c: c}
		x.mu.Lock()
		closed := x.ctx.Err() != nil
		if !closed {
			x.open[k] = struct{}{}
		}
		x.mu.Unlock()
		if closed {
			_ = c.Close()
			continue // Accept will say so
		}
		x.serving.Go(k.serve)
	}
}

// hand gives a connection or an error to Accept; false when the lane is closed.
func (x *Lane) hand(c net.Conn, err error) bool {
	select {
	case x.handed <- accepted{c, err}:
		return true
	case <-x.ctx.Done():
		return false
	}
}

// Accept returns the next connection that is not for the lane.
func (x *Lane) Accept() (net.Conn, error) {
	select {
	case a := <-x.handed:
		return a.conn, a.err
	case <-x.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the listener, the contexts of requests, and connections that wait for one. Those that are being
// answered end behind the answer.
func (x *Lane) Close() error {
	x.cancel()
	err := x.Listener.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := range x.open {
		k.interrupt()
	}
	return err
}

// Wait waits behind Close for the last answers. When ctx ends before, the connections are cut and its error is
// returned.
func (x *Lane) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends when the connections do, which are cut below at the latest
		defer close(done)
		x.serving.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	x.mu.Lock()
	for k := range x.open {
		_ = k.c.Close()
	}
	x.mu.Unlock()
	<-done
	return ctx.Err()
}

func (x *Lane) forget(k *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, k)
}

// passed is a connection with what was read from it and not used.
type passed struct {
	net.Conn
	rest []byte // nil when it was read
}

// Bare is the connection itself, for who keeps it for long; nil while something is unread here.
func (p *passed) Bare() net.Conn {
	if len(p.rest) > 0 {
		return nil
	}
	return p.Conn
}

// CloseWrite ends our direction; net/http asks for it.
func (p *passed) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SyscallConn is the connection's descriptor, for those who write without waiting and wait without a buffer.
// There is none while something is unread here that the descriptor does not have any more.
func (p *passed) SyscallConn() (syscall.RawConn, error) {
	if c, ok := p.Conn.(syscall.Conn); ok && len(p.rest) == 0 {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (p *passed) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.rest)
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		p.rest = nil
	}
	return n, nil
}
