package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
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
	plain, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || !secure {
		return plain, err
	}
	conf, err := c.TLS(host)
	if err == nil {
		t := tls.Client(plain, conf)
		if err = t.HandshakeContext(ctx); err == nil {
			return t, nil
		}
		err = Classify(fmt.Errorf("TLS handshake: %w", err))
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = Errorf(Temporary, "%w; does the port speak TLS?", err)
		}
	}
	_ = plain.Close()
	return nil, err
}
