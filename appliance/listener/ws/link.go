package ws

import (
	"slices"
	"sync/atomic"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// messageOverhead is about what the envelope adds to topic and payload, in bytes.
const messageOverhead = 192

// link is one session's hold of one subscription; sub 0 is the device's inbox. It implements
// [courier.Link]. Lock order: the shard calls it, so it takes only session.mu and nobody calls an
// Attachment while holding that.
type link struct {
	s      *session
	sub    int32
	closed atomic.Bool // nothing more of it is written
	name   string      // of a durable subscription
	filter message.Filter
	att    courier.Attachment // set before open

	// Guarded by session.mu.
	open    bool // the client knows its number
	refused bool // Deliver said no; Ready is due when there is credit
	lost    courier.Cause
	window  courier.Window
}

func (h *Handler) attachOptions() courier.AttachOptions {
	return courier.AttachOptions{Window: h.o.MaxInflight, AckTimeout: h.o.AckTimeout}
}

// Deliver implements [courier.Link]. Credit is the session's: MaxInflight unacknowledged, MaxBytes
// queued; but a message always fits into an empty queue, and what is unacknowledged already may come
// again.
func (l *link) Deliver(d courier.Delivery) bool {
	s := l.s
	cost := len(d.Msg.Payload) + len(d.Msg.Topic) + messageOverhead
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || l.closed.Load() {
		return false
	}
	if !l.open || s.queued > 0 && s.queued+cost > s.h.o.MaxBytes {
		return l.refuseLocked(d.Seq)
	}
	if d.Seq != 0 {
		if s.unacked >= s.h.o.MaxInflight {
			if !l.window.Take(d.Seq) {
				return l.refuseLocked(d.Seq)
			}
			s.unacked--
		}
		before := l.window.Len()
		l.window.Sent(d.Seq)
		s.unacked += l.window.Len() - before
	}
	s.queued += cost
	s.queueLocked(entry{item: d.Item, link: l, attempt: d.Attempt, expires: d.ExpiresIn, cost: cost})
	return true
}

// Flush implements [courier.Link].
func (l *link) Flush() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.out != nil {
		l.s.startLocked()
	}
}

// refuseLocked remembers that the courier waits for Ready; a volatile message does not wait.
func (l *link) refuseLocked(seq uint64) bool {
	switch {
	case seq == 0:
		l.s.h.dropped.Add(1)
	case !l.refused:
		l.refused = true
		l.s.refused++
	}
	return false
}

// Lost implements [courier.Link].
func (l *link) Lost(why courier.Cause) {
	s := l.s
	switch {
	case why == courier.TakenOver:
		s.bye(codeTakenOver, "taken over", takenOverRetry)
	case why == courier.Stopping:
		s.bye(codeStopping, "stopping", retryAfterStop())
	case l.sub == 0:
		s.bye(codeRevoked, "removed or revoked", 0)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		l.lost = why
		if l.open && s.dropLocked(l) {
			s.replyLocked(appendLost(nil, l.sub))
		}
	}
}

// attach makes a link known whose number the client has just been told.
func (s *session) attach(l *link) {
	s.mu.Lock()
	l.open = true
	refused := l.refused
	if refused {
		l.refused = false
		s.refused--
	}
	s.links = append(s.links, l)
	gone := l.lost != 0
	if gone {
		s.dropLocked(l)
		s.replyLocked(appendLost(nil, l.sub))
	}
	s.mu.Unlock()
	if refused && !gone {
		l.att.Ready()
	}
}

// dropLocked forgets a link and its debts; false when it was forgotten already.
func (s *session) dropLocked(l *link) bool {
	for i, have := range s.links {
		if have != l {
			continue
		}
		s.links = slices.Delete(s.links, i, i+1)
		s.unacked -= l.window.Len()
		l.window = courier.Window{}
		if l.refused {
			l.refused = false
			s.refused--
		}
		l.closed.Store(true)
		return true
	}
	return false
}

func (s *session) linkLocked(sub int32) *link {
	for _, l := range s.links {
		if l.sub == sub {
			return l
		}
	}
	return nil
}

// readyLinks tells the links that were refused that there is credit again: a free place in the window,
// and a queue that is half empty (the writer always gets there). Links take turns.
func (s *session) readyLinks() {
	s.mu.Lock()
	n := s.refused
	s.mu.Unlock()
	for range n {
		l := s.nextReady()
		if l == nil {
			return
		}
		l.att.Ready()
	}
}

// nextReady takes the first refused link and moves it to the end.
func (s *session) nextReady() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == 0 || s.closing || s.unacked >= s.h.o.MaxInflight || s.queued > s.h.o.MaxBytes/2 {
		return nil
	}
	for i, l := range s.links {
		if l.refused {
			l.refused = false
			s.refused--
			copy(s.links[i:], s.links[i+1:])
			s.links[len(s.links)-1] = l
			return l
		}
	}
	return nil
}
