package bridge

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"time"
)

// Dial opens the network connection to an address, over TLS where secure. ports gives the port of a scheme for an
// address without one. The connection notices a dead peer by TCP's own probes within about two minutes; protocols
// with heartbeats notice earlier.
func (c *Config) Dial(ctx context.Context, u *url.URL, ports map[string]string, secure bool) (net.Conn, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = ports[u.Scheme]
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 5}}
	addr := net.JoinHostPort(host, port)
	if !secure {
		return d.DialContext(ctx, "tcp", addr)
	}
	conf, err := c.TLS(host)
	if err != nil {
		return nil, err
	}
	t := tls.Dialer{NetDialer: &d, Config: conf}
	return t.DialContext(ctx, "tcp", addr)
}
