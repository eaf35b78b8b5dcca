package ws

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/codec"
	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

const (
	batchBytes = 16 << 10 // of objects in one frame and one write; a larger object goes alone
	queueKeep  = 256      // entries of an emptied queue that is kept for another session
)

// entry is one object to be written: an answer that is ready, or a message that is encoded when its
// turn comes, so that the shard does not pay for it.
type entry struct {
	line    []byte // an answer; then the rest is empty
	item    *courier.Item
	link    *link
	attempt int
	expires time.Duration
	cost    int // bytes that were counted in session.queued
}

// size is about what the entry adds to a frame.
func (e *entry) size() int { return max(len(e.line), e.cost) }

type queue struct{ entries []entry }

// put queues one entry and makes sure that somebody writes it.
func (s *session) putLocked(e entry) {
	if s.out == nil {
		s.out = s.h.queues.Get().(*queue)
	}
	s.out.entries = append(s.out.entries, e)
	s.startLocked()
}

// replyLocked queues an answer; nothing is answered once the session is closing.
func (s *session) replyLocked(line []byte) {
	if s.closing {
		return
	}
	s.replies += len(line)
	s.putLocked(entry{line: line})
}

func (s *session) reply(line []byte) {
	s.mu.Lock()
	s.replyLocked(line)
	s.mu.Unlock()
}

// fail answers with a problem.
func (s *session) fail(id []byte, p *message.Problem) { s.reply(appendError(nil, id, p)) }

// bye ends the session: the messages that wait are dropped (they are owed again), what was answered
// is written, then bye and a close frame. It returns false, so that the reader can return it.
func (s *session) bye(code int, reason string, retry time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byeLocked(code, reason, retry)
	return false
}

func (s *session) byeLocked(code int, reason string, retry time.Duration) {
	if !s.closing {
		s.replyLocked(appendBye(nil, code, reason, retry))
		s.closeLocked(code, reason)
	}
}

// closeLocked makes the session accept nothing more; code 0 sends no close frame.
func (s *session) closeLocked(code int, reason string) {
	defer s.wake.Signal()
	if s.closing {
		return
	}
	s.closing, s.code, s.reason = true, code, reason
	if s.out != nil {
		kept := s.out.entries[:0]
		for _, e := range s.out.entries {
			s.queued -= e.cost
			if e.line != nil {
				kept = append(kept, e)
			}
		}
		clear(s.out.entries[len(kept):])
		s.out.entries = kept
	}
	if code != 0 {
		s.startLocked()
	}
}

// startLocked starts the writer unless it runs.
func (s *session) startLocked() {
	if !s.writing && !s.gone {
		s.writing = true
		go s.write() // end waits for it
	}
}

// write writes until nothing is left. It is the only writer of the connection's frames; the one
// exception is gorilla's own close 1002 from the reader, which gorilla serialises.
func (s *session) write() {
	buf := s.h.buffers.Get().(*[]byte)
	for {
		w, more := s.due()
		if !more {
			break
		}
		if err := s.flush(w, buf); err != nil {
			s.broken(err)
		}
	}
	if cap(*buf) <= 4*batchBytes {
		s.h.buffers.Put(buf)
	}
}

// work is what one turn of the writer has to do.
type work struct {
	pong  []byte
	ping  bool
	queue *queue
	close bool // comes after everything else
}

// due takes what is to be written; false when there is nothing, and the writer has ended.
func (s *session) due() (work, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := work{pong: s.pong, ping: s.ping, queue: s.out}
	w.close = s.out == nil && s.closing && s.code != 0 && !s.closeSent
	if s.gone || (w.pong == nil && !w.ping && w.queue == nil && !w.close) {
		s.writing = false
		s.wake.Signal()
		return work{}, false
	}
	s.pong, s.ping, s.out = nil, false, nil
	s.closeSent = s.closeSent || w.close
	return w, true
}

func (s *session) flush(w work, buf *[]byte) error {
	deadline := time.Now().Add(s.h.o.WriteTimeout)
	if w.pong != nil {
		if err := s.conn.WriteControl(websocket.PongMessage, w.pong, deadline); err != nil {
			return err
		}
	}
	if w.ping {
		if err := s.conn.WriteControl(websocket.PingMessage, nil, deadline); err != nil {
			return err
		}
	}
	if w.queue != nil {
		if err := s.drain(w.queue, buf); err != nil {
			return err
		}
		s.h.recycle(w.queue)
	}
	if !w.close {
		return nil
	}
	err := s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(s.code, s.reason), deadline)
	_ = s.conn.SetReadDeadline(time.Now().Add(closeWait)) // the reader ends then, if not earlier
	return err
}

// broken ends a session that cannot be written to; closing the connection wakes the reader.
func (s *session) broken(err error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		s.h.slow.Add(1)
	}
	s.cut()
}

func (h *Handler) recycle(q *queue) {
	if cap(q.entries) <= queueKeep {
		clear(q.entries)
		q.entries = q.entries[:0]
		h.queues.Put(q)
	}
}

// drain writes a queue, many objects to a frame.
func (s *session) drain(q *queue, buf *[]byte) error {
	for rest := q.entries; len(rest) > 0; {
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		b := append((*buf)[:0], make([]byte, headRoom)...)
		n, cost, replies := 0, 0, 0
		for n < len(rest) && (len(b) == headRoom || len(b)+rest[n].size() <= batchBytes) {
			e := &rest[n]
			n++
			cost += e.cost
			replies += len(e.line)
			if e.line == nil && (closing || e.link.closed.Load()) {
				continue
			}
			if len(b) > headRoom {
				b = append(b, '\n')
			}
			b = e.appendTo(b)
		}
		*buf, rest = b, rest[n:]
		if len(b) > headRoom {
			if err := s.send(b); err != nil {
				return err
			}
		}
		s.mu.Lock()
		if !s.closing {
			s.queued -= cost
		}
		s.replies -= replies
		s.wake.Signal()
		s.mu.Unlock()
		s.readyLinks()
	}
	return nil
}

// headRoom is kept free in front of a frame's payload for its header: two bytes and up to eight of
// length (RFC 6455 §5.2).
const headRoom = 10

// send writes one text frame whose payload begins at headRoom, in one write: gorilla would make it two
// system calls and two segments. A Write to a connection is whole, so gorilla's own close frame from
// the reader cannot come in between.
func (s *session) send(b []byte) error {
	n, at := len(b)-headRoom, 0
	switch {
	case n < 126:
		at = headRoom - 2
		b[at+1] = byte(n)
	case n < 1<<16:
		at = headRoom - 4
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
	b[at] = 0x80 | websocket.TextMessage
	conn := s.conn.NetConn()
	if now := s.h.now(); s.deadlineSet == 0 || now-s.deadlineSet > int64(deadlineEvery) {
		s.deadlineSet = now
		_ = conn.SetWriteDeadline(time.Now().Add(s.h.o.WriteTimeout)) // a connection that is closed says so below
	}
	_, err := conn.Write(b[at:])
	return err
}

// deadlineEvery: the write deadline is moved no more often, so it is this much early at most.
const deadlineEvery = time.Second

// form is the key under which a message's encoding is shared by all sessions.
type form struct{}

func (e *entry) appendTo(b []byte) []byte {
	if e.line != nil {
		return append(b, e.line...)
	}
	b = appendMessageHead(b, e.link.sub, e.attempt, e.expires)
	b = append(b, e.item.Encoded(form{}, encode)...)
	return append(b, "}}"...)
}

func encode(m *message.Message) []byte {
	return codec.AppendMessage(make([]byte, 0, len(m.Payload)+len(m.Topic)+messageOverhead), m)
}
