package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// settleSecure is longer than settle: handshakes leave garbage, which edgepost gives back to the system within ten seconds
// of a wave of connections.
const settleSecure = 12 * time.Second

// idleSecure measures connections over TLS 1.3 that do nothing: WebSocket, and MQTT with one filter.
func idleSecure(ctx context.Context, b *bench, n int) (table, error) {
	t := table{
		Title: "Resident memory of one idle connection over TLS",
		Notes: []string{"After the handshake nothing but the greeting was said; measured 12 s after the last one, when the garbage of the handshakes is given back. Go's TLS keeps a buffer as large as the largest record that came: up to 16 KiB more."},
	}
	var all []idled
	for _, c := range []struct {
		what string
		open func(g *gateway, i int) (func(), error)
	}{
		{"WebSocket, greeted", func(g *gateway, _ int) (func(), error) {
			c, err := dialTLS(g.https)
			if err != nil {
				return nil, err
			}
			w := &wsConn{c: c, r: bufio.NewReaderSize(c, 4096)}
			return w.close, w.open(g.https, "")
		}},
		{"MQTT, one filter of QoS 1", func(g *gateway, i int) (func(), error) {
			c, err := dialTLS(g.mqtts)
			if err != nil {
				return nil, err
			}
			m := &mqttConn{c: c, r: bufio.NewReaderSize(c, 4096)}
			return m.close, errors.Join(m.open(fmt.Sprintf("s%d", i), true), m.subscribe(fmt.Sprintf("bench/%d", i), 1))
		}},
	} {
		m, err := b.idleSecureOf(ctx, n, c.open)
		if err != nil {
			return t, fmt.Errorf("%s: %w", c.what, err)
		}
		all = append(all, m)
		t.Rows = append(t.Rows, alone(round(float64(n))+" connections, "+c.what, perConnection(m), "≤ 17 KiB"))
	}
	t.Figures = all
	return t, nil
}

func (b *bench) idleSecureOf(ctx context.Context, n int, open func(g *gateway, i int) (func(), error)) (m idled, err error) {
	g, err := newGateway(b)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return m, err
	}
	return idle(ctx, "edgepost over TLS", g.pid(), n, false, settleSecure, func(i int) (func(), error) { return open(g, i) })
}

func dialTLS(addr string) (net.Conn, error) {
	d := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 10 * time.Second},
		Config:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // our own server on this machine
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(2 * time.Minute))
}
