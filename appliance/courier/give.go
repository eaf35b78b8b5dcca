package courier

import (
	"time"

	"edgepost/appliance/outbox"
)

// Give implements [Member].
func (a *attachment) Give(seqs []uint64, name string) {
	a.post(func() {
		var list []outbox.Gift
		for _, seq := range seqs {
			if a.has(seq) && a.sub.state.Flying(seq) {
				list = append(list, outbox.Gift{Move: outbox.Move{Sub: a.sub.id, Seq: seq}})
			}
		}
		if len(list) > 0 {
			a.s.give(a.sub, list, name)
		}
	})
}

// give has the debts moved by somebody who may wait for the log.
func (s *shard) give(sub *subscription, list []outbox.Gift, name string) {
	age := s.c.ob.Age()
	for i := range list {
		g := &list[i]
		if it, err := s.item(g.Seq); err == nil {
			if at := s.c.expiry(&sub.spec, it.Msg); at != 0 {
				g.TTL = max(time.Duration(at-age), 1)
			}
		}
		if sub.moving == nil {
			sub.moving = make(map[uint64]bool)
		}
		sub.moving[g.Seq] = true
	}
	if !s.chore(func() { s.move(sub, list, name) }) {
		s.ashore(sub, list)
	}
}

// move makes the debts those of the named subscription. Neither that one nor the group ends meanwhile, and nothing is withdrawn.
func (s *shard) move(sub *subscription, list []outbox.Gift, name string) {
	defer s.c.lockName(name)()
	defer s.c.ob.Still()()
	_, to, err := s.c.find(name)
	if err == nil {
		var owed []outbox.Gift
		if err = s.do(s.c.ctx, func() { owed = s.giveable(sub, list) }); err == nil {
			err = s.c.ob.Give(owed, to)
		}
	}
	if err != nil {
		s.c.o.Log.Warn("messages of a shared subscription could not be given to a member's session; they go to any member", "session", name, "error", err)
	}
	_ = s.do(s.c.ctx, func() { s.ashore(sub, list) }) // fails when everything stops
}

// giveable returns those of the debts that the group still has and that were not withdrawn by now.
func (s *shard) giveable(sub *subscription, list []outbox.Gift) (owed []outbox.Gift) {
	for i := range list {
		if seq := list[i].Seq; s.subs[sub.id] == sub && sub.state.Owes(seq) && !sub.withdraw[seq] {
			owed = append(owed, list[i])
		}
	}
	return owed
}

// ashore ends a move: what is still owed goes to any member.
func (s *shard) ashore(sub *subscription, list []outbox.Gift) {
	now := time.Now()
	for i := range list {
		seq := list[i].Seq
		delete(sub.moving, seq)
		delete(sub.held, seq)
		sub.state.Return(seq, now)
	}
	s.withdrawn(sub)
	s.touch(sub)
}
