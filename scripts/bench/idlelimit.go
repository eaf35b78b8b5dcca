package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"runtime/debug"
	"syscall"
)

// bareIdle is a child: the limit of an idle connection in Go. It accepts connections, waits for each in a
// goroutine that holds no buffer, and knows nothing about any of them, until its standard input ends.
func bareIdle(arguments) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	if err := answer(l.Addr().String()); err != nil {
		return err
	}
	go func() { // the process ends with it
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go bareWait(c)
		}
	}()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() { // each asks for what a server does after a wave of connections
		debug.FreeOSMemory()
		if err := answer(true); err != nil {
			return err
		}
	}
	return lines.Err()
}

// bareWait returns when the connection ends.
func bareWait(c net.Conn) {
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // the end of the connection is what it waits for
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		return err != syscall.EAGAIN
	})
}

// idleLimit measures it.
func (b *bench) idleLimit(ctx context.Context, n int) (m idled, err error) {
	var addr string
	t, err := b.talk(&addr, "bare-idle")
	if err != nil {
		return m, err
	}
	defer t.end(syscall.SIGKILL)
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var done bool
	if err := t.ask("trim", &done); err != nil { // the first one makes what all need
		return m, err
	}
	m = idled{Server: "bare connections", Connections: n, Before: own(t.pid())}
	for i := range conns {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return m, err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return m, err
	}
	if err := t.ask("trim", &done); err != nil {
		return m, err
	}
	m.After, m.All = own(t.pid()), resident(t.pid())
	m.Each = (m.After - m.Before) / float64(n)
	return m, nil
}
