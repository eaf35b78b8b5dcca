package courier

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// sessionEnded is why a message of a group ends that was sent to a member's session, or may have been, and was not acknowledged: it
// must not go to another member [MQTT-4.8.2-5].
const sessionEnded = "its session ended before it was acknowledged, and what was sent with QoS 2 goes to nobody else"

// conclude ends a durable subscription with all it owes. What a group had given it ends dead when it was sent, or may have been,
// and is the group's again otherwise: first the copies go back, each in one frame with the record that ends the debt here, then
// the dead letters ride in the frame of the record that ends the subscription, or in an earlier one. So a crash between leaves
// the subscription with the rest. The caller has its name locked; no message comes to it or to the group meanwhile.
func (c *Courier) conclude(ctx context.Context, s *shard, id uint64) error {
	defer c.ob.Still()()
	if err := s.giveBack(id); err != nil {
		return err
	}
	if _, err := c.ob.Change(ctx, &outbox.Change{Op: outbox.OpDelete, Sub: id}); err != nil {
		return err
	}
	return s.do(c.ctx, func() {})
}

// giveBack ends what groups had given the subscription. After an error it goes on as before, without what went back already.
func (s *shard) giveBack(id uint64) error {
	var back map[uint64][]outbox.Gift
	have := false
	if err := s.do(s.c.ctx, func() {
		if sub := s.subs[id]; sub != nil && len(sub.gifts) > 0 {
			back, have = s.unsent(sub), true
		}
	}); err != nil || !have {
		return err
	}
	var failed error
	for group, list := range back {
		if failed == nil {
			failed = s.c.ob.Give(list, group)
		}
	}
	return cmp.Or(s.do(s.c.ctx, func() { s.gaveBack(id, failed == nil) }), failed)
}

// unsent lists by group what can go back, in its order, and keeps it from being sent.
func (s *shard) unsent(sub *subscription) map[uint64][]outbox.Gift {
	back := make(map[uint64][]outbox.Gift)
	age := s.c.ob.Age()
	for seq, group := range sub.gifts {
		if sends, _ := sub.state.Attempts(seq); sends > 0 || !s.c.has(group) {
			continue
		}
		it, err := s.item(seq)
		if err != nil {
			continue
		}
		g := outbox.Gift{Move: outbox.Move{Sub: sub.id, Seq: seq}}
		if at := s.c.ob.Expiry(it.Msg); at != 0 {
			g.TTL = max(time.Duration(at-age), 1)
		}
		back[group] = append(back[group], g)
		if sub.moving == nil {
			sub.moving = make(map[uint64]bool)
		}
		sub.moving[seq] = true
	}
	for _, list := range back {
		slices.SortFunc(list, func(a, b outbox.Gift) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return back
}

// gaveBack ends the rest, or lets it be sent again when the log took no copies.
func (s *shard) gaveBack(id uint64, ok bool) {
	sub := s.subs[id]
	if sub == nil {
		return
	}
	sub.moving = nil
	s.touch(sub)
	if !ok {
		return
	}
	for seq := range sub.gifts {
		_, err := s.item(seq)
		switch sends, _ := sub.state.Attempts(seq); {
		case sub.withdraw[seq]: // cancelled, as all else that the subscription owes
		case sends > 0:
			s.drop(sub, seq, message.Dead, sessionEnded)
		case outbox.Gone(err):
			s.drop(sub, seq, message.Lost, "the record is damaged or gone")
		default:
			s.drop(sub, seq, message.Dead, "its session ended, and so has the shared subscription that it came from")
		}
	}
}

// has reports whether the subscription of that number is there.
func (c *Courier) has(id uint64) bool {
	c.dirMu.RLock()
	defer c.dirMu.RUnlock()
	_, ok := c.byID[id]
	return ok
}

// appendGifts appends what [giftFormat] has beside the rest, if there is anything.
func (s *subscription) appendGifts(b []byte) []byte {
	if len(s.gifts) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(s.gifts)))
	for seq, group := range s.gifts {
		b = binary.AppendUvarint(binary.AppendUvarint(b, seq), group)
	}
	return b
}

func (s *subscription) decodeGifts(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errState
	}
	b = b[n:]
	for range count {
		seq, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errState
		}
		group, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return nil, errState
		}
		if s.gifts == nil {
			s.gifts = make(map[uint64]uint64)
		}
		s.gifts[seq], b = group, b[n+k:]
	}
	return b, nil
}
