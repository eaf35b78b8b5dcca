package guard

import (
	"net"
	"net/netip"
	"sync/atomic"
)

// Sources says which addresses may connect. The zero value lets in what is private: loopback,
// RFC 1918, link-local and unique local addresses (RFC 4193).
//
// 100.64.0.0/10 (RFC 6598) is not among them: behind a carrier's NAT those are other customers. An
// overlay network that uses it, or a LAN with global IPv6 addresses, is a prefix in Allow.
type Sources struct {
	WAN   bool           // every address may connect
	Allow []netip.Prefix // these too
}

// Allowed reports whether a connection from the address may be served. It allocates nothing.
func (s *Sources) Allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if s.WAN || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return true
	}
	for _, p := range s.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Listener wraps l so that Accept closes connections from elsewhere and returns only the others.
// Connections without an IP address (Unix sockets) are let through: the file system guards those.
func (s Sources) Listener(l net.Listener) *Listener { return &Listener{Listener: l, sources: s} }

// Listener is what [Sources.Listener] returns.
type Listener struct {
	net.Listener
	sources Sources
	refused atomic.Int64
}

// Accept waits for the next connection from an allowed source.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.sources.allowedConn(c.RemoteAddr()) {
			return c, nil
		}
		l.refused.Add(1)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset: the source keeps no state here, not even TIME_WAIT
		}
		_ = c.Close()
	}
}

// Refused counts the connections that were closed because of their source.
func (l *Listener) Refused() int64 { return l.refused.Load() }

func (s *Sources) allowedConn(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return s.Allowed(a.AddrPort().Addr())
	case *net.UnixAddr:
		return true
	default:
		ap, err := netip.ParseAddrPort(a.String())
		return err == nil && s.Allowed(ap.Addr())
	}
}
