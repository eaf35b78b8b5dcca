package bridges

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is the network between a gateway and its upstream.
type proxy struct {
	addr string
	to   string
	l    net.Listener

	mu    sync.Mutex
	state network
	conns []net.Conn
}

type network int

const (
	whole  network = iota
	cut            // connections end, and new ones too
	silent         // nothing ends and nothing comes through: half-open
)

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, l: l}
	go p.accept()
	t.Cleanup(func() { l.Close(); p.become(cut) })
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		state := p.state
		p.mu.Unlock()
		out, err := net.Dial("tcp", p.to)
		if err != nil || state == cut {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		go p.copy(in, out)
		go p.copy(out, in)
	}
}

// copy carries bytes while the network is whole. What a silent network swallows is swallowed for good: its connection
// carries nothing afterwards either.
func (p *proxy) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	dead := false
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		dead = dead || p.state == silent
		p.mu.Unlock()
		if !dead && n > 0 {
			_, werr := to.Write(b[:n])
			if err == nil {
				err = werr
			}
		}
		if err != nil {
			if !dead || !errors.Is(err, io.EOF) {
				to.Close()
				from.Close()
			}
			return
		}
	}
}

// become changes the network; what ends with a cut ends now.
func (p *proxy) become(n network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = n
	if n != silent {
		for _, c := range p.conns {
			if n == cut {
				c.Close()
			}
		}
	}
	if n == cut {
		p.conns = nil
	}
}
