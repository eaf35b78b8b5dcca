package courier

import (
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// drop ends what is owed from outside of the protocol.
func (s *shard) drop(sub *subscription, seq uint64, state message.State, reason string) bool {
	_, fails := sub.state.Attempts(seq)
	if _, ok := sub.state.Drop(seq); !ok {
		return false
	}
	s.settle(sub, seq, state, fails, reason)
	return true
}

// settle records how a debt ended, counts it and tells who asked. The state has forgotten it.
func (s *shard) settle(sub *subscription, seq uint64, state message.State, attempts int, reason string) {
	s.c.count.ended(state)
	item, id := sub.forget(seq)
	t := outbox.Settlement{Sub: sub.id, Seq: seq, State: state, Attempts: attempts, Reason: reason}
	if state == message.Dead || state == message.Expired {
		if it, err := s.item(seq); err == nil {
			t.Bytes = int64(len(it.Msg.Payload) + len(it.Msg.Topic))
		}
	}
	if sub.durable() {
		s.c.ob.Settle(t)
	} else {
		s.recent[s.ended%len(s.recent)] = ended{seq: seq, name: sub.spec.Name, state: state, attempts: attempts, reason: reason}
		s.ended++
	}
	s.c.finals.ended(seq)
	s.c.announce(sub, t, item, id)
}

// forget drops what is remembered of a message on its way: the message, if a receipt was asked for, and
// its id's number.
func (sub *subscription) forget(seq uint64) (item *Item, id uint64) {
	item, id = sub.asked[seq], seq
	delete(sub.asked, seq)
	delete(sub.held, seq)
	delete(sub.shown, seq)
	delete(sub.withdraw, seq)
	for first, place := range sub.alias {
		if place == seq {
			delete(sub.alias, first)
			id = first
		}
	}
	sub.order.Take(seq)
	return item, id
}

// timeouts runs the timers that are due.
func (s *shard) timeouts() {
	now := time.Now()
	for {
		sub := s.timers.due(now)
		if sub == nil {
			return
		}
		sub.state.Timeouts(now, func(seq uint64, v delivery.Verdict) {
			sub.order.Take(seq)
			if v == delivery.Exhausted {
				s.settle(sub, seq, message.Dead, s.c.policy(&sub.spec).MaxAttempts, "not acknowledged in time, too many attempts")
			}
		})
		s.withdrawn(sub)
		s.touch(sub)
		s.schedule(sub)
	}
}

// withdrawn settles what was cancelled while it was on its way and has come back.
func (s *shard) withdrawn(sub *subscription) {
	for _, seq := range sub.state.Withdrawn() {
		s.settle(sub, seq, message.Cancelled, 0, withdrawnReason)
	}
}

func (s *shard) schedule(sub *subscription) {
	at, ok := sub.state.Wake()
	if !ok || !sub.connected() {
		at = time.Time{}
	}
	s.timers.set(sub, at)
}
