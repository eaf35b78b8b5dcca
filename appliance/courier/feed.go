package courier

import (
	"context"
	"errors"
	"math"
	"slices"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// The courier is the outbox's Feed.
var _ outbox.Feed = (*Courier)(nil)

// Restore takes back a subscription from a snapshot.
func (c *Courier) Restore(state []byte) error {
	sub, err := c.decodeSubscription(state)
	if err != nil {
		return err
	}
	s := c.shardOf(sub.spec.Owner)
	s.subs[sub.id] = sub
	s.plant(sub, true)
	c.enter(s, sub)
	for seq := range sub.withdraw {
		if sub.state.Cancel(seq) {
			s.cancelled[debt{sub.id, seq}] = true
		}
	}
	sub.withdraw = nil
	if sub.spec.Kind == History || sub.spec.Kind == Retained {
		s.recall(sub) // before replay adds to it
	}
	return nil
}

// Committed hands a batch to every shard.
func (c *Courier) Committed(batch []outbox.Entry) {
	if !c.running.Load() {
		for _, s := range c.shards {
			for i := range batch {
				s.apply(&batch[i])
			}
		}
		return
	}
	for _, s := range c.shards {
		s.offer(batch)
	}
	c.news.tell()
}

// lendBytes is about how much of a shard's states is encoded at once: the shard stands still meanwhile,
// and it is held in memory.
const lendBytes = 256 << 10

// Lend puts every durable subscription into a snapshot, a few at a time. A subscription that is made or
// removed meanwhile is in the log behind the position returned.
func (c *Courier) Lend(put func([]byte) error) (uint64, error) {
	from := uint64(math.MaxUint64)
	for _, s := range c.shards {
		var ids []uint64
		err := s.do(context.Background(), func() {
			from = min(from, s.applied)
			for id, sub := range s.subs {
				if sub.durable() {
					ids = append(ids, id)
				}
			}
		})
		if err != nil {
			return 0, err
		}
		for len(ids) > 0 {
			var states [][]byte
			if ids, states, err = s.lendSome(ids); err != nil {
				return 0, err
			}
			for _, b := range states {
				if err := put(b); err != nil {
					return 0, err
				}
			}
		}
	}
	return from, nil
}

// lendSome encodes the first of the subscriptions and returns the others' numbers.
func (s *shard) lendSome(ids []uint64) (rest []uint64, states [][]byte, err error) {
	var failed error
	err = s.do(context.Background(), func() {
		bytes := 0
		for len(ids) > 0 && bytes < lendBytes && failed == nil {
			if sub := s.subs[ids[0]]; sub != nil {
				if sub.connected() {
					sub.used = s.c.ob.Age() // whoever reads it back starts with nobody connected
				}
				var b []byte
				b, failed = sub.encode(s.applied)
				states = append(states, b)
				bytes += len(b)
			}
			ids = ids[1:]
		}
	})
	return ids, states, errors.Join(err, failed)
}

// each runs fn on every shard in turn. An error says that the shards are stopping and that not all
// have run it.
func (c *Courier) each(fn func(s *shard)) error {
	for _, s := range c.shards {
		if err := s.do(context.Background(), func() { fn(s) }); err != nil {
			return err
		}
	}
	return nil
}

// Live lists what is owed in [first, last].
func (c *Courier) Live(first, last uint64, add func(first, last uint64)) error {
	return c.each(func(s *shard) {
		for _, sub := range s.subs {
			sub.state.Each(first, last, func(a, z uint64) bool {
				add(a, z)
				return true
			})
		}
	})
}

// Expired ends what is owed of these messages, which ascend.
func (c *Courier) Expired(seqs []uint64) {
	_ = c.each(func(s *shard) { // fails when everything stops; what is expired is not delivered anyway
		for _, sub := range s.subs {
			if sub.spec.Kind == Final {
				continue
			}
			for _, seq := range sub.owedOf(seqs) {
				if sub.spec.internal() {
					s.unremember(sub, seq)
				} else {
					s.drop(sub, seq, message.Expired, "its time to live ended")
				}
			}
		}
	})
}

// owedOf returns those of the ascending numbers that the subscription owes.
func (s *subscription) owedOf(seqs []uint64) (owed []uint64) {
	if len(seqs) == 0 || s.state.Depth() == 0 {
		return nil
	}
	s.state.Each(seqs[0], seqs[len(seqs)-1], func(first, last uint64) bool {
		i, _ := slices.BinarySearch(seqs, first)
		for ; i < len(seqs) && seqs[i] <= last; i++ {
			owed = append(owed, seqs[i])
		}
		return true
	})
	return owed
}
