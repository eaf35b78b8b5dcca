package courier

import (
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// sent notes a transmission.
func (s *shard) sent(sub *subscription, d Delivery, now, deadline time.Time) {
	sub.state.Sent(d.Seq, now, deadline)
	if d.Msg.ID.Seq != d.Seq {
		if sub.alias == nil {
			sub.alias = make(map[uint64]uint64)
		}
		sub.alias[d.Msg.ID.Seq] = d.Seq
	}
	if d.Msg.Receipt != message.NoReceipt {
		if sub.asked == nil {
			sub.asked = make(map[uint64]*Item)
		}
		sub.asked[d.Seq] = d.Item
	}
}

// drop ends what is owed from outside of the protocol, but not what is on its way to another subscription.
func (s *shard) drop(sub *subscription, seq uint64, state message.State, reason string) {
	if sub.moving[seq] {
		return
	}
	_, fails := sub.state.Attempts(seq)
	if _, ok := sub.state.Drop(seq); ok {
		s.settle(sub, seq, state, fails, reason)
	}
}

// settle records how a debt ended, counts it and tells who asked. The state has forgotten it.
func (s *shard) settle(sub *subscription, seq uint64, state message.State, attempts int, reason string) {
	s.count.ended(state)
	item, id := sub.forget(seq)
	t := outbox.Settlement{Sub: sub.id, Seq: seq, State: state, Attempts: attempts, Reason: reason}
	if state == message.Dead || state == message.Expired {
		if it, err := s.item(seq); err == nil {
			t.Bytes = int64(len(it.Msg.Payload) + len(it.Msg.Topic))
		}
	}
	if sub.durable() {
		s.c.ob.Settle(t)
		if sub.loose++; sub.loose == looseRoom/2 {
			_ = s.c.ob.SettleSoon() // asked again when there is no room left
		}
	} else {
		s.recent[s.ended%len(s.recent)] = ended{seq: seq, name: sub.spec.Name, state: state, attempts: attempts, reason: reason}
		s.ended++
	}
	s.c.finals.ended(seq)
	s.c.announce(sub, t, item, id)
}

// tied notes that a settlement of the subscription is durable.
func (s *shard) tied(sub *subscription) {
	if sub.loose--; sub.loose == looseRoom-1 {
		s.touch(sub)
	}
	sub.loose = max(sub.loose, 0)
}

// tooLoose reports whether sending more would be more than a crash could flag. While the storage takes
// no writes nothing becomes durable, and delivery goes on without.
func (s *shard) tooLoose(sub *subscription) bool {
	return sub.loose >= looseRoom && s.c.ob.SettleSoon() == nil
}

// forget drops what is remembered of a message on its way: the message, if a receipt was asked for, and
// its id's number.
func (s *subscription) forget(seq uint64) (item *Item, id uint64) {
	id = seq
	s.pull.took(seq)
	if len(s.asked)+len(s.held)+len(s.shown)+len(s.again)+len(s.withdraw)+len(s.gifts)+len(s.alias) == 0 {
		return nil, id // nearly always
	}
	item = s.asked[seq]
	delete(s.asked, seq)
	delete(s.held, seq)
	delete(s.shown, seq)
	delete(s.again, seq)
	delete(s.withdraw, seq)
	delete(s.gifts, seq)
	for first, place := range s.alias {
		if place == seq {
			delete(s.alias, first)
			id = first
		}
	}
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
			sub.pull.took(seq)
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
