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

// queueLocked queues one entry, for which somebody will call startLocked.
func (s *session) queueLocked(e entry) {
	if s.out == nil {
		s.out = s.h.queues.Get().(*queue)
	}
	s.out.entries = append(s.out.entries, e)
}

// replyLocked queues an answer; nothing is answered once the session is closing.
func (s *session) replyLocked(line []byte) {
	if s.closing {
		return
	}
	s.replies += len(line)
	s.queueLocked(entry{line: line})
	s.startLocked()
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

// startLocked has the session written to, unless it is already.
func (s *session) startLocked() {
	switch {
	case s.writing || s.gone:
	case s.in.Raw() != nil:
		s.writing = true
		s.h.crew.add(s)
	default:
		s.writing, s.blocked = true, true
		go s.write(s.h.turns.Get().(*turn)) // end waits for it
	}
}

// turn is what one writer has in hand: the rest of a queue, and what goes out in one write.
type turn struct {
	buf   []byte // headRoom, then out
	out   []byte
	queue *queue
	at    int // of the queue: entries before it are written

	pong           []byte
	ping, farewell bool // farewell: a close frame, after everything else
	closing        bool // messages are not written any more
	cost, replies  int  // of the entries in out
}

// write writes until nothing is left, and waits for the client to take it. compose set the deadline,
// unless the turn is new.
func (s *session) write(t *turn) {
	for len(t.out) > 0 || s.compose(t) {
		if _, err := s.conn.Write(t.out); err != nil {
			s.broken(err)
		}
		t.out = nil
	}
	s.h.putDown(t)
}

// compose makes the next write: one frame of objects and what control frames are due. It is false when there
// is nothing, and the session has no writer any more. Whoever composes for the session, the crew or
// its own goroutine, is its only writer.
func (s *session) compose(t *turn) bool {
	for {
		more, refused := s.due(t)
		if refused {
			s.readyLinks()
		}
		if !more {
			return false
		}
		if s.build(t); len(t.out) > 0 {
			return true
		}
	}
}

// due accounts for what the turn has written and takes what comes next. more is false when there is
// nothing, refused says that links may wait for the room.
func (s *session) due(t *turn) (more, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writtenLocked(t)
	refused = s.refused > 0
	if t.queue == nil {
		t.queue, s.out = s.out, nil
	}
	t.pong, t.ping, t.closing = s.pong, s.ping, s.closing
	s.pong, s.ping = nil, false
	t.farewell = t.queue == nil && s.closing && s.code != 0 && !s.closeSent
	s.closeSent = s.closeSent || t.farewell
	if s.gone || t.queue == nil && t.pong == nil && !t.ping && !t.farewell {
		if s.blocked {
			s.blocked = false
			_ = s.conn.SetWriteDeadline(time.Time{}) // fails on a closed connection only
		}
		*t = turn{buf: t.buf}
		s.writing = false
		s.wake.Signal()
		return false, refused
	}
	if s.blocked {
		s.limitLocked()
	}
	return true, refused
}

// writtenLocked takes off the session's books what is written.
func (s *session) writtenLocked(t *turn) {
	if !s.closing {
		s.queued -= t.cost
	}
	if t.replies > 0 {
		s.replies -= t.replies
		s.wake.Signal()
	}
	if t.farewell {
		s.closeBy = s.h.now() + int64(closeWait)
		_ = s.conn.SetReadDeadline(time.Now().Add(closeWait)) // the reader ends then, if not earlier
	}
	if t.queue != nil && t.at == len(t.queue.entries) {
		s.h.recycle(t.queue)
		t.queue, t.at = nil, 0
	}
	t.cost, t.replies, t.farewell = 0, 0, false
}

// limitLocked gives a write that waits its time: short once the session is closing.
func (s *session) limitLocked() {
	limit := s.h.o.WriteTimeout
	if s.closing {
		limit = min(limit, closeWait)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(limit)) // a connection that is closed says so at the write
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

func (h *Handler) putDown(t *turn) {
	if cap(t.buf) <= 4*batchBytes {
		h.turns.Put(t)
	}
}

// headRoom is kept free in front of a frame's payload for its header: two bytes and up to eight of
// length (RFC 6455 §5.2).
const headRoom = 10

// build encodes as many of the queue's objects as fit into a frame, then the control frames.
func (s *session) build(t *turn) {
	b := append(t.buf[:0], make([]byte, headRoom)...)
	if t.queue != nil {
		b = t.objects(b)
	}
	at := headRoom
	if len(b) > headRoom {
		at = header(b)
	}
	if t.pong != nil {
		b = appendControl(b, websocket.PongMessage, t.pong)
	}
	if t.ping {
		b = appendControl(b, websocket.PingMessage, nil)
	}
	if t.farewell {
		b = appendControl(b, websocket.CloseMessage, websocket.FormatCloseMessage(s.code, s.reason))
	}
	t.buf, t.out = b, b[at:]
}

func (t *turn) objects(b []byte) []byte {
	rest := t.queue.entries[t.at:]
	n := 0
	for n < len(rest) && (len(b) == headRoom || len(b)+rest[n].size() <= batchBytes) {
		e := &rest[n]
		n++
		t.cost += e.cost
		t.replies += len(e.line)
		if e.line == nil && (t.closing || e.link.closed.Load()) {
			continue
		}
		if len(b) > headRoom {
			b = append(b, '\n')
		}
		b = e.appendTo(b)
	}
	t.at += n
	return b
}

// header writes a text frame's header in front of the payload that begins at headRoom, and returns where
// it begins. Frames are made here because gorilla would make each two system calls and two segments.
func header(b []byte) int {
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
	b[at] = final | websocket.TextMessage
	return at
}

// appendControl appends a control frame; its payload has at most 125 bytes (RFC 6455 §5.5).
func appendControl(b []byte, opcode byte, payload []byte) []byte {
	return append(append(b, final|opcode, byte(len(payload))), payload...)
}

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
