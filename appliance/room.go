package appliance

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"edgepost/appliance/system"
)

// room limits the connections that are open at the same time; more wait in the kernel's queue.
type room struct {
	net.Listener
	free chan struct{}
	end  sync.Once
	done chan struct{}
}

func newRoom(l net.Listener, most int) *room {
	return &room{Listener: l, free: make(chan struct{}, most), done: make(chan struct{})}
}

// taken is how many connections are open; a nil room has none.
func (r *room) taken() int {
	if r == nil {
		return 0
	}
	return len(r.free)
}

// Accept waits for room, then for a connection.
func (r *room) Accept() (net.Conn, error) {
	select {
	case r.free <- struct{}{}:
	case <-r.done:
		return nil, net.ErrClosed
	}
	c, err := r.Listener.Accept()
	if err != nil {
		<-r.free
		return nil, err
	}
	return &roomConn{Conn: c, room: r}, nil
}

// Close ends the listener and whoever waits for room.
func (r *room) Close() error {
	r.end.Do(func() { close(r.done) })
	return r.Listener.Close()
}

// roomConn gives its room back once, when it is closed.
type roomConn struct {
	net.Conn
	room *room
	left atomic.Bool
}

// CloseWrite ends our direction, for those who want to hear the end of the other.
func (c *roomConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SyscallConn is the connection's descriptor, for those who write without waiting.
func (c *roomConn) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *roomConn) Close() error {
	if !c.left.Swap(true) {
		<-c.room.free
	}
	return c.Conn.Close()
}

// Waves of connections leave grown stacks and garbage that the collector would keep for later. On a
// gateway nothing comes later: after a wave the memory goes back to the system.
const (
	trimEvery = time.Second
	trimAfter = 100 // connections that came or went
	trimStill = 2   // and no more than this in trimEvery: the wave is over
)

// trim gives memory back after each wave of connections, once it is over, and the code that only the start ran.
func trim(ctx context.Context, log *slog.Logger, connections func() int) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	trimmed, before, started := 0, 0, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := connections()
		still := now-before <= trimStill && before-now <= trimStill
		if still && !started {
			started = true
			if err := system.ReleaseCode(); err != nil {
				log.Debug("the code that only the start ran stays mapped", "error", err)
			}
		}
		if still && (now-trimmed >= trimAfter || trimmed-now >= trimAfter) {
			debug.FreeOSMemory()
			trimmed = now
		}
		before = now
	}
}
