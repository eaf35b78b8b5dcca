package bridges

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is the network between a gateway and its upstream.
type proxy struct {
	addr string // where it listens
	to   string

	mu    sync.Mutex
	state network
	conns map[*carried]bool
}

type network int

const (
	whole  network = iota
	cut            // connections end, and new ones too
	silent         // nothing ends and nothing comes through: half-open
)

// carried is one connection with its other half, nil in a network that was silent when it came.
type carried struct {
	in, out net.Conn
	dead    bool // it was swallowed: it carries nothing any more, its end neither
}

func (c *carried) close() {
	c.in.Close()
	if c.out != nil {
		c.out.Close()
	}
}

// newProxy listens on an address, "" for any.
func newProxy(t *testing.T, addr, to string) *proxy {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, conns: map[*carried]bool{}}
	t.Cleanup(func() { l.Close(); p.become(cut) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(in)
		}
	}()
	return p
}

// carry dials the other half and carries bytes both ways.
func (p *proxy) carry(in net.Conn) {
	c := &carried{in: in}
	p.mu.Lock()
	state := p.state
	p.mu.Unlock()
	if state == whole {
		if out, err := net.Dial("tcp", p.to); err == nil {
			c.out = out
		}
	}
	p.mu.Lock()
	c.dead = state == silent || p.state == silent
	if p.state == cut || c.out == nil && !c.dead {
		p.mu.Unlock()
		c.close()
		return
	}
	p.conns[c] = true
	p.mu.Unlock()
	if c.out != nil {
		go p.copy(c, in, c.out)
	}
	p.copy(c, c.out, in)
}

func (p *proxy) copy(c *carried, to io.Writer, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		dead := c.dead
		if err != nil && !dead {
			delete(p.conns, c)
		}
		p.mu.Unlock()
		if n > 0 && !dead {
			if _, werr := to.Write(b[:n]); werr != nil && err == nil {
				continue // the other direction ends it
			}
		}
		if err == nil {
			continue
		}
		if !dead {
			c.close()
		}
		return
	}
}

// become changes the network; what ends with a cut ends now.
func (p *proxy) become(n network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = n
	for c := range p.conns {
		switch n {
		case cut:
			c.close()
			delete(p.conns, c)
		case silent:
			c.dead = true
		case whole:
		}
	}
}
