package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"edgepost/appliance/bridge/mapping"
	"edgepost/scripts/brokers"
)

// stompClient is STOMP 1.2 as bare as it can be: bodies without NUL, headers without escapes but for the colon.
type stompClient struct {
	addr string
	up   net.Conn

	mu      sync.Mutex // guards what follows
	waiting map[string]func(error)
	out     []byte
}

func dialStomp(ctx context.Context, addr string) (net.Conn, *bufio.Reader, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "CONNECT\naccept-version:1.2\nhost:/\nlogin:%s\npasscode:%s\n\n\x00", brokers.User, brokers.Password)
	r := bufio.NewReaderSize(conn, 64<<10)
	f, err := stompFrame(r)
	if err == nil && !bytes.HasPrefix(f, []byte("CONNECTED")) {
		err = fmt.Errorf("the broker answers %.100q", f)
	}
	return conn, r, err
}

// stompFrame reads a frame, without the NUL behind it.
func stompFrame(r *bufio.Reader) ([]byte, error) {
	f, err := r.ReadSlice(0)
	if err != nil {
		return nil, err
	}
	f = bytes.TrimLeft(f[:len(f)-1], "\n")
	if bytes.HasPrefix(f, []byte("ERROR")) {
		return nil, fmt.Errorf("the broker says %.300q", f)
	}
	return f, nil
}

func stompHeader(f []byte, name string) string {
	_, v, _ := bytes.Cut(f, []byte("\n"+name+":"))
	v, _, _ = bytes.Cut(v, []byte("\n"))
	return string(v)
}

func openStomp(ctx context.Context, addr string) (client, error) {
	conn, r, err := dialStomp(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &stompClient{addr: addr, up: conn, waiting: make(map[string]func(error))}
	go c.confirm(r) // until close
	return c, nil
}

func (c *stompClient) confirm(r *bufio.Reader) {
	for {
		f, err := stompFrame(r)
		var answered []func(error)
		c.mu.Lock()
		if err == nil {
			id := stompHeader(f, "receipt-id")
			answered = append(answered, c.waiting[id])
			delete(c.waiting, id)
		} else {
			for _, fn := range c.waiting {
				answered = append(answered, fn)
			}
			clear(c.waiting)
		}
		c.mu.Unlock()
		for _, fn := range answered {
			if fn != nil {
				fn(err)
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *stompClient) prepare(context.Context, string) error { return nil } // ActiveMQ makes queues on their first use

func (c *stompClient) send(w *mapping.Wire, answered func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[w.ID] = answered
	c.out = append(c.out[:0], "SEND\ndestination:"+w.Address+"\npersistent:true\nreceipt:"+w.ID+"\npriority:"...)
	c.out = append(strconv.AppendUint(c.out, uint64(w.Priority), 10), "\nJMSXGroupID:"+w.Key+"\namq-msg-type:bytes\n"...)
	for _, h := range w.Headers {
		c.out = append(c.out, "cloudEvents_"+h.Key+":"+strings.ReplaceAll(h.Value, ":", `\c`)+"\n"...)
	}
	c.out = append(append(strconv.AppendInt(append(c.out, "content-length:"...), int64(len(w.Body)), 10), "\n\n"...), w.Body...)
	_, err := c.up.Write(append(c.out, 0))
	return err
}

func (c *stompClient) receive(ctx context.Context, from string, got func()) error {
	conn, r, err := dialStomp(ctx, c.addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	fmt.Fprintf(conn, "SUBSCRIBE\nid:0\ndestination:%s\nack:client-individual\nactivemq.prefetchSize:64\n\n\x00", from)
	for {
		f, err := stompFrame(r)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(f, []byte("MESSAGE")) {
			continue
		}
		if _, err := fmt.Fprintf(conn, "ACK\nid:%s\n\n\x00", stompHeader(f, "ack")); err != nil {
			return err
		}
		got()
	}
}

func (c *stompClient) close() { _ = c.up.Close() }
