package courier

import (
	"errors"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// touch gives the subscription a turn.
func (s *shard) touch(sub *subscription) {
	if !sub.queued {
		sub.queued = true
		s.dirty = append(s.dirty, sub)
	}
}

// pump gives every subscription that wants one a turn.
func (s *shard) pump() {
	turn := s.dirty
	s.dirty = s.spare
	now := time.Now()
	var age int64 // a system call, so once for all
	if len(turn) > 0 {
		age = s.c.ob.Age()
	}
	for _, sub := range turn {
		sub.queued = false
		switch {
		case len(sub.links) > 0:
			if s.push(sub, now, age) {
				s.touch(sub)
			}
		case sub.pull != nil:
			s.serve(sub, now)
		}
		s.schedule(sub)
	}
	clear(turn)
	if s.spare = turn[:0]; cap(turn) > dirtyKeep {
		s.spare = nil
	}
}

// dirtyKeep is how many places of the list of those that want a turn are kept.
const dirtyKeep = 4096

// push transmits what the window and the link have room for; true when it stopped for fairness only.
func (s *shard) push(sub *subscription, now time.Time, age int64) (more bool) {
	defer sub.flush()
	for range turnSize {
		a := sub.free()
		if a == nil {
			return false
		}
		d, ok := s.next(sub, now, age)
		if !ok {
			return false
		}
		if !a.takes(d.Msg.Topic) {
			if !s.park(sub, a, d.Seq) {
				return false
			}
			continue // counts as a transmission: it cost a look at the message
		}
		if !a.link.Deliver(d) {
			a.stuck = true
			continue
		}
		if sub.spec.Kind == Shared {
			if sub.held == nil {
				sub.held = make(map[uint64]*attachment)
			}
			sub.held[d.Seq] = a
		}
		a.loaded = true
		s.count.sent.Add(1)
		var deadline time.Time
		if a.o.AckTimeout > 0 {
			deadline = now.Add(a.o.AckTimeout)
		}
		s.sent(sub, d, now, deadline)
		if d.Backlog {
			a.filled()
		}
		if a.o.AutoSettle {
			sub.state.Ack(d.Seq)
			s.settle(sub, d.Seq, message.Sent, d.Attempt, "")
		}
	}
	return true
}

// flush has the links write what they were handed.
func (s *subscription) flush() {
	for _, a := range s.links {
		if a.loaded {
			a.loaded = false
			a.link.Flush()
		}
	}
}

// next finds what to transmit next, ending on the way what must not be transmitted any more. age is
// the present on the age clock, read once a turn.
func (s *shard) next(sub *subscription, now time.Time, age int64) (Delivery, bool) {
	for {
		c, ok := sub.state.Next(now)
		if !ok || sub.moving[c.Seq] || s.tooLoose(sub) { // one that moves waits for the log
			return Delivery{}, false
		}
		item, err := s.item(c.Seq)
		if err != nil {
			if outbox.Gone(err) || errors.Is(err, errNoMessage) {
				s.drop(sub, c.Seq, message.Lost, "the record is damaged or gone")
				continue
			}
			s.c.o.Log.Error("reading a message failed", "seq", c.Seq, "error", err)
			return Delivery{}, false
		}
		expires := s.c.expiry(&sub.spec, item.Msg)
		switch {
		case expires != 0 && expires <= age:
			s.drop(sub, c.Seq, message.Expired, "its time to live ended before it could be sent")
			continue
		case sub.durable() && !sub.spec.internal() && !item.direct && !sub.matches(item.Msg.Topic):
			s.drop(sub, c.Seq, message.Cancelled, "no longer subscribed")
			continue
		case !s.allowed(sub, item.Msg.Topic):
			s.drop(sub, c.Seq, message.Dead, "forbidden: the rules no longer allow it")
			continue
		}
		d := Delivery{Item: item, Seq: c.Seq, Attempt: c.Attempt, Direct: item.direct, Retained: sub.shown[c.Seq], Backlog: sub.state.Backlog(c.Seq)}
		if expires != 0 {
			d.ExpiresIn = time.Duration(expires - age)
		}
		return d, true
	}
}

// expiry is when the message ends for a subscription, on today's age axis; 0 never.
func (c *Courier) expiry(s *Spec, m *message.Message) int64 {
	own := c.ob.Expiry(m)
	if s.TTL == 0 {
		return own
	}
	limit := c.ob.Placed(m.Age) + int64(s.TTL)
	if own == 0 {
		return limit
	}
	return min(limit, own)
}

var errNoMessage = errors.New("the record is not a message")

// item reads a message, from memory when it came by lately.
func (s *shard) item(seq uint64) (*Item, error) {
	if it := s.items.get(seq); it != nil {
		return it, nil
	}
	e, err := s.c.ob.Read(seq)
	if err != nil {
		return nil, err
	}
	if e.Kind != outbox.KindMessage {
		return nil, errNoMessage
	}
	e.Msg.Payload = slices.Clone(e.Msg.Payload) // or one message keeps its whole frame in memory
	it := s.items.put(seq, e.Msg)
	it.direct = e.Target != 0
	return it, nil
}
