package cert

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what strangers can make us hold.
const (
	handshakeTimeout = 10 * time.Second // an ESP8266 takes 2 to 5 s
	refuseWait       = time.Second      // for the client's end of a connection that is refused
	maxHandshakes    = 256              // at the same time; about 10 MiB
	maxOfSource      = 128              // of one address, or of one IPv6 /64
)

// Protocol is what is spoken inside TLS.
type Protocol uint8

// The protocols. HTTP says by ALPN which version it speaks; MQTT clients that offer anything by ALPN are not
// refused for it.
const (
	HTTP Protocol = iota
	MQTT
)

// Listener accepts TCP connections and returns those whose handshake is done: a [Conn], or for HTTP/2,
// which net/http only speaks on that, a [tls.Conn]. Make one with [Keeper.Listener].
type Listener struct {
	net.Listener
	keeper *Keeper
	proto  Protocol
	log    *slog.Logger

	ready  chan net.Conn
	failed chan error
	ctx    context.Context
	cancel context.CancelFunc
	busy   sync.WaitGroup // the accepting goroutine and the handshakes

	refused atomic.Int64

	mu      sync.Mutex
	pending []*pending // oldest first
	sources map[netip.Addr]int
}

// pending is a connection whose handshake is not done.
type pending struct {
	conn   net.Conn
	source netip.Addr
}

// Listener does the handshakes of l's connections until it is closed, which closes l too.
func (k *Keeper) Listener(l net.Listener, proto Protocol) *Listener {
	t := &Listener{
		Listener: l, keeper: k, proto: proto, log: k.o.Log,
		ready: make(chan net.Conn), failed: make(chan error), sources: make(map[netip.Addr]int),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.busy.Go(t.run)
	return t
}

// Refused counts the connections that ended in their handshake.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept waits for the next connection whose handshake is done.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the listener and the handshakes, and waits for them.
func (l *Listener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.mu.Lock()
	for _, p := range l.pending {
		_ = p.conn.Close() // its handshake sees it
	}
	l.mu.Unlock()
	l.busy.Wait()
	return err
}

func (l *Listener) run() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			if p := l.begin(c); p != nil {
				l.busy.Go(func() { l.handshake(p) })
			}
			continue
		}
		select {
		case l.failed <- err: // whoever accepts knows what can be tried again
		case <-l.ctx.Done():
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// begin takes a place for a handshake; nil when its source has too many. When all places are taken
// the oldest handshake loses its own: it is the one that has been idle for longest.
func (l *Listener) begin(c net.Conn) *pending {
	p := &pending{conn: c, source: sourceOf(c.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || l.sources[p.source] >= maxOfSource && !p.source.IsLoopback() {
		l.refused.Add(1)
		_ = c.Close()
		return nil
	}
	if len(l.pending) >= maxHandshakes {
		oldest := l.pending[0]
		l.dropLocked(oldest)
		_ = oldest.conn.Close() // its handshake sees it
	}
	l.pending = append(l.pending, p)
	l.sources[p.source]++
	return p
}

func (l *Listener) dropLocked(p *pending) {
	for i, q := range l.pending {
		if q == p {
			l.pending = append(l.pending[:i], l.pending[i+1:]...)
			if l.sources[p.source]--; l.sources[p.source] == 0 {
				delete(l.sources, p.source)
			}
			return
		}
	}
}

// handshake ends with the connection accepted or closed. Its stack, which needs 8 KiB, ends with it.
func (l *Listener) handshake(p *pending) {
	w := newWire(p.conn)
	t := tls.Server(w, l.keeper.config(l.proto))
	_ = p.conn.SetDeadline(time.Now().Add(handshakeTimeout)) // fails only on a closed connection
	err := t.HandshakeContext(l.ctx)
	var c net.Conn
	if err == nil {
		c, err = l.keeper.admit(t, w)
	}
	if err != nil {
		l.refused.Add(1)
		l.log.Debug("TLS handshake failed", "remote", p.conn.RemoteAddr(), "error", err)
		l.refuse(err, w)
	}
	l.mu.Lock()
	l.dropLocked(p)
	l.mu.Unlock()
	if err != nil {
		return
	}
	_ = p.conn.SetDeadline(time.Time{})
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		_ = w.Close()
	}
}

// admit makes the connection of a finished handshake.
func (k *Keeper) admit(t *tls.Conn, w *wire) (net.Conn, error) {
	state := t.ConnectionState()
	device := ""
	if len(state.PeerCertificates) > 0 {
		var err error
		if device, err = k.devices.attach(state.PeerCertificates[0], w); err != nil {
			return nil, err
		}
	}
	if state.NegotiatedProtocol == "h2" {
		return t, nil
	}
	return newConn(t, w, device), nil
}

// refuse closes the connection so that the client can read why: closing it with unread input resets it, and
// takes TLS's alert with it.
func (l *Listener) refuse(why error, w *wire) {
	if l.proto == HTTP {
		explain(why)
	}
	_ = w.CloseWrite() // if it fails, so does the read below
	_ = w.SetReadDeadline(time.Now().Add(refuseWait))
	_, _ = io.Copy(io.Discard, io.LimitReader(w.Conn, 64<<10))
	_ = w.Close()
}

// explain answers a browser that speaks plain HTTP to this port.
func explain(err error) {
	var r tls.RecordHeaderError
	if !errors.As(err, &r) || r.Conn == nil {
		return
	}
	switch string(r.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(r.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis port speaks HTTPS: begin the address with https://\n")
	}
}

// sourceOf is the address that a connection counts for.
func sourceOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}
