package courier

import (
	"slices"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// parkRoom is how many messages a link that selects may leave aside before the log is told of more. What
// is on its way lies behind them, so they count among the first owed of which a crash knows that they may
// have been sent.
const parkRoom = 1024

// takes reports whether the link selects the topic. The shard's.
func (a *attachment) takes(t message.Topic) bool {
	return len(a.o.Select) == 0 || slices.ContainsFunc(a.o.Select, func(f message.Filter) bool { return f.Match(t) })
}

func (a *attachment) Select(filters []message.Filter) {
	a.post(func() {
		if !slices.Equal(a.o.Select, filters) {
			a.o.Select = filters
			a.sub.state.Unpark()
		}
	})
}

// park leaves a message aside that the link does not take; false when the log must know first that so
// much lies in front of what is sent next. That gives the subscription a turn when it is done.
func (s *shard) park(sub *subscription, a *attachment, seq uint64) bool {
	parked, room := int(sub.state.ParkedLen()), s.room(sub, a.o.Window)
	if sub.durable() && room+parked >= max(sub.reach, sub.granted) {
		if !sub.widening { // if there is no room for a chore, the next tick brings the subscription's turn
			name := sub.spec.Name
			sub.widening = s.chore(func() { s.widen(sub, name, room+2*parked+parkRoom) })
		}
		return false
	}
	sub.state.Park(seq)
	return true
}

// widen has the log know how many of the first owed may be on their way. While the storage takes no
// writes delivery goes on without. Twice as many each time, so that a long backlog costs few records.
func (s *shard) widen(sub *subscription, name string, reach int) {
	defer s.c.lockName(name)()
	there := false
	if err := s.do(s.c.ctx, func() {
		there = s.subs[sub.id] == sub && sub.connected()
		sub.widening = there
	}); err != nil || !there {
		return
	}
	_, err := s.c.ob.Change(s.c.ctx, &outbox.Change{Op: outbox.OpLink, Sub: sub.id, Reach: reach})
	_ = s.do(s.c.ctx, func() { // fails when everything stops
		if sub.widening = false; err != nil {
			sub.granted = reach
		}
		s.touch(sub)
	})
}

// unselected reports whether what is owed waits because the link does not take its topic.
func (s *shard) unselected(sub *subscription, seq uint64) bool {
	if len(sub.links) != 1 || len(sub.links[0].o.Select) == 0 {
		return false
	}
	item, err := s.item(seq)
	return err == nil && !sub.links[0].takes(item.Msg.Topic)
}
