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
			if a.has(seq) && a.sub.state.Flying(seq) && !a.sub.moving[seq] {
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

// move makes the debts those of the named subscription, which does not end meanwhile.
func (s *shard) move(sub *subscription, list []outbox.Gift, name string) {
	defer s.c.lockName(name)()
	_, to, err := s.c.find(name)
	if err == nil {
		err = s.c.ob.Give(list, to)
	}
	if err != nil {
		s.c.o.Log.Warn("messages of a shared subscription could not be given to a member's session; they go to any member", "session", name, "error", err)
	}
	_ = s.do(s.c.ctx, func() { s.ashore(sub, list) }) // fails when everything stops
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
