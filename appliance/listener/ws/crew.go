package ws

import (
	"errors"
	"sync"
	"syscall"
)

// crew writes for the sessions that have something to be written, in the order in which they came to
// have it. It never waits for a client: what a connection does not take at once goes on in a
// goroutine of that session. So a few workers serve all sessions, and what comes for a session while
// it waits for its turn goes out with the same write.
//
// A connection that has no file descriptor of its own (TLS) is not for the crew.
type crew struct {
	h    *Handler
	most int
	busy sync.WaitGroup // workers; they end when nothing waits

	mu      sync.Mutex // guards the rest; taken last
	waiting []*session
	head    int // of waiting: who is next
	workers int
}

// add has the session's writing done. Its writing is set.
func (c *crew) add(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, s)
	if c.workers < c.most {
		c.workers++
		c.busy.Go(c.work)
	}
}

// next is the session whose turn it is; nil ends the worker.
func (c *crew) next() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head == len(c.waiting) {
		c.workers--
		if c.waiting, c.head = c.waiting[:0], 0; cap(c.waiting) > crewKeep {
			c.waiting = nil
		}
		return nil
	}
	s := c.waiting[c.head]
	c.waiting[c.head] = nil
	if c.head++; c.head > len(c.waiting)/2 && c.head >= crewKeep {
		c.waiting, c.head = append(c.waiting[:0], c.waiting[c.head:]...), 0
	}
	return s
}

// crewKeep is how many places of the queue are kept when nothing waits.
const crewKeep = 256

func (c *crew) work() {
	t := c.h.turns.Get().(*turn)
	p := newPen()
	for s := c.next(); s != nil; s = c.next() {
		for s.compose(t) {
			n, err := p.try(s.in.Raw(), t.out)
			if err != nil {
				s.broken(err)
			} else if n < len(t.out) {
				t.out = t.out[n:]
				s.wait(t)
				t = c.h.turns.Get().(*turn)
				break
			}
			t.out = nil
		}
	}
	c.h.putDown(t)
}

// wait has a goroutine of the session's own go on with the turn.
func (s *session) wait(t *turn) {
	s.mu.Lock()
	s.blocked = true
	s.limitLocked()
	s.mu.Unlock()
	go s.write(t) // end waits for it
}

// pen writes to connections as much as they take without waiting.
type pen struct {
	b    []byte
	n    int
	err  error
	once func(fd uintptr) bool
}

func newPen() *pen {
	p := new(pen)
	p.once = p.write // made once, not for every write
	return p
}

func (p *pen) write(fd uintptr) bool {
	for {
		p.n, p.err = syscall.Write(int(fd), p.b) // the net package's descriptors do not block
		if !errors.Is(p.err, syscall.EINTR) {
			return true
		}
	}
}

// try writes what the connection takes now; no error says that this is less than all.
func (p *pen) try(raw syscall.RawConn, b []byte) (n int, err error) {
	p.b = b
	err = raw.Write(p.once)
	if err == nil && !errors.Is(p.err, syscall.EAGAIN) {
		err = p.err
	}
	p.b = nil
	return max(p.n, 0), err
}
