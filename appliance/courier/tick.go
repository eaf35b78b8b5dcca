package courier

import (
	"fmt"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// maxShare is the part of the log's budget that one subscription may hold: a quarter (DESIGN §6).
const maxShare = 4

// tick is the slow housekeeping of a shard.
func (s *shard) tick() {
	age := s.c.ob.Age()
	ages := s.c.ob.Ages()
	for _, sub := range s.subs {
		if sub.spec.internal() {
			s.retire(sub)
			continue
		}
		if sub.connected() {
			s.touch(sub) // if reading the log failed, or the log took no settlements, it goes on now
		}
		if sub.pull != nil && len(sub.pull.waits) == 0 && sub.state.InFlight() == 0 && s.c.ob.Since(sub.used) > unlinkWait {
			sub.left = "has not fetched for a while"
			s.lose(sub, Removed) // its reader has not come back, and has nothing
		}
		if s.left(sub) {
			name := sub.spec.Name
			s.chore(func() { s.unlink(sub, name) })
		}
		if sub.spec.TTL > 0 {
			s.outdated(sub, age, ages)
		}
		s.limit(sub)
		sub.state.Trim()
		s.retire(sub)
	}
}

// retire ends what nobody needs any more.
func (s *shard) retire(sub *subscription) {
	if s.unused(sub) {
		name := sub.spec.Name
		s.chore(func() { s.end(sub, name) })
	}
}

// left reports whether the log still speaks of a link that is gone and will not come back soon.
func (s *shard) left(sub *subscription) bool {
	return sub.reach > 0 && !sub.connected() && sub.durable() && s.c.ob.Since(sub.used) > unlinkWait
}

// unused reports whether nobody has come for the subscription for so long that it ends.
func (s *shard) unused(sub *subscription) bool {
	switch sub.spec.Kind {
	case Will: // a client that comes back soon writes its will into the same place
		return sub.spent() && s.c.ob.Since(sub.used) > unlinkWait
	case Named:
		return !sub.connected() && s.c.ob.Since(sub.used) > s.c.o.Unused
	default:
		return s.forgotten(sub)
	}
}

// choreRoom bounds the chores that wait; what finds no room comes up again at the next tick.
const choreRoom = 256

// chore has fn run where it may wait; false when there is no room. It never blocks.
func (s *shard) chore(fn func()) bool {
	select {
	case s.c.chores <- fn:
		return true
	default:
		return false
	}
}

func (c *Courier) work() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case fn := <-c.chores:
			fn()
		}
	}
}

// unlink has the log know that nothing of the subscription is on its way any more.
func (s *shard) unlink(sub *subscription, name string) {
	defer s.c.lockName(name)() // or a link comes before the record and is announced in front of it
	idle := false
	if err := s.do(s.c.ctx, func() { idle = s.subs[sub.id] == sub && s.left(sub) }); err != nil || !idle {
		return
	}
	if _, err := s.c.ob.Change(s.c.ctx, &outbox.Change{Op: outbox.OpUnlink, Sub: sub.id}); err == nil {
		_ = s.do(s.c.ctx, func() {}) // fails when everything stops
	}
}

// end removes a subscription that is still unused.
func (s *shard) end(sub *subscription, name string) {
	defer s.c.lockName(name)()
	over := false
	if err := s.do(s.c.ctx, func() { over = s.subs[sub.id] == sub && s.unused(sub) }); err != nil || !over {
		return
	}
	if sub.spec.Kind != Will {
		s.c.o.Log.Info("subscription ended: nobody used it", "subscription", name)
	}
	_ = s.c.conclude(s.c.ctx, s, sub.id) // if that fails, the next tick tries again
}

// outdated ends the oldest debts that are older than the subscription keeps messages.
func (s *shard) outdated(sub *subscription, age int64, ages func(uint64) (int64, bool)) {
	for range turnSize * turnSize {
		seq, ok := sub.state.Oldest()
		if !ok {
			return
		}
		if from, known := ages(seq); known && from+int64(sub.spec.TTL) > age {
			return
		}
		item, err := s.item(seq)
		switch {
		case outbox.Gone(err):
			s.drop(sub, seq, message.Lost, "the record is damaged or gone")
		case err != nil || s.c.expiry(&sub.spec, item.Msg) > age:
			return
		default:
			s.drop(sub, seq, message.Expired, "older than this subscription keeps messages")
		}
	}
}

// limit enforces the subscription's share of the log: past it direct publishes are refused, and what
// broadcasts add pushes the oldest into the dead letters.
func (s *shard) limit(sub *subscription) {
	most := s.c.ob.Budget() / maxShare / s.c.ob.AverageRecord()
	if over := sub.state.Depth() > most; over != sub.over {
		sub.over = over
		s.c.setOver(sub.spec.Name, over)
	}
	if near := sub.state.Depth() > most*4/5; near != sub.near {
		if sub.near = near; near {
			s.c.say("$edge/alarm/backlog", struct {
				Subscription string `json:"subscription"`
				Owed         int64  `json:"owed"`
				Limit        int64  `json:"limit"`
			}{sub.spec.Name, sub.state.Depth(), most})
		}
	}
	excess := sub.state.Depth() - most - most/16
	if excess <= 0 {
		return
	}
	s.c.o.Log.Warn("subscription holds more than its share of the log; its oldest messages become dead letters",
		"subscription", sub.spec.Name, "owed", sub.state.Depth(), "limit", most)
	reason := fmt.Sprintf("overflow: more than %d messages waited", most)
	for ; excess > 0; excess-- {
		seq, ok := sub.state.Oldest()
		if !ok {
			return
		}
		s.drop(sub, seq, message.Dead, reason)
	}
}

// limitEvery is how many messages a subscription takes between two looks at its share, beside the
// tick.
const limitEvery = 1024

// Over reports whether the subscription holds its whole share of the log, so that a message
// addressed to it alone is to be refused.
func (c *Courier) Over(name string) bool {
	if c.overs.Load() == 0 {
		return false
	}
	c.dirMu.RLock()
	defer c.dirMu.RUnlock()
	return c.over[name]
}

func (c *Courier) setOver(name string, over bool) {
	c.dirMu.Lock()
	defer c.dirMu.Unlock()
	if over == c.over[name] {
		return
	}
	if over {
		c.over[name] = true
	} else {
		delete(c.over, name)
	}
	c.overs.Store(int64(len(c.over)))
}
