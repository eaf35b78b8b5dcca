package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes TCP connections on, until a test has the network fail.
type proxy struct {
	addr string // where it listens
	to   string

	mu    sync.Mutex
	conns map[*proxied]bool
	down  bool // connections are closed as they come
	mute  bool // they are taken, and nothing is passed on
}

// proxied is one connection with its other half.
type proxied struct {
	in, out net.Conn
	mute    bool // for ever: its end is never told
}

// newProxy listens on an address, "" for any.
func newProxy(t *testing.T, addr, to string) *proxy {
	t.Helper()
	if addr == "" {
		addr = nowhere
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, conns: map[*proxied]bool{}}
	t.Cleanup(func() {
		l.Close()
		p.cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(c)
		}
	}()
	return p
}

func (p *proxy) pass(in net.Conn) {
	c := &proxied{in: in}
	p.mu.Lock()
	down, mute := p.down, p.mute
	p.mu.Unlock()
	if !down && !mute {
		if out, err := net.Dial("tcp", p.to); err == nil {
			c.out = out
		}
	}
	p.mu.Lock()
	if p.down || c.out == nil && !mute {
		p.mu.Unlock()
		c.close()
		return
	}
	c.mute = p.mute
	p.conns[c] = true
	p.mu.Unlock()
	if c.out == nil {
		p.copy(c, nil, in)
		return
	}
	go p.copy(c, in, c.out)
	p.copy(c, c.out, in)
}

// copy passes one direction on. A muted connection swallows what comes, its end too.
func (p *proxy) copy(c *proxied, to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		mute := c.mute
		p.mu.Unlock()
		if n > 0 && !mute && to != nil {
			if _, werr := to.Write(buf[:n]); werr != nil && err == nil {
				err = werr
			}
		}
		if err == nil {
			continue
		}
		p.mu.Lock()
		mute = c.mute
		if !mute {
			delete(p.conns, c)
		}
		p.mu.Unlock()
		if !mute {
			c.close()
		}
		return
	}
}

func (c *proxied) close() {
	c.in.Close()
	if c.out != nil {
		c.out.Close()
	}
}

// cut closes all connections, and those that come, until restore.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		c.close()
		delete(p.conns, c)
	}
}

// swallow is a network that forgets: connections stay open and nothing passes any more, and new ones get no answer
// until restore. The old ones are never heard of again.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
	for c := range p.conns {
		c.mute = true
	}
}

// restore lets new connections through.
func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.mute = false, false
}
