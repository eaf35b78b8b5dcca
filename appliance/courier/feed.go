package courier

import (
	"context"
	"math"

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

// Lend puts every durable subscription into a snapshot, shard by shard.
func (c *Courier) Lend(put func([]byte) error) (uint64, error) {
	from := uint64(math.MaxUint64)
	for _, s := range c.shards {
		var failed error
		var states [][]byte
		err := s.do(context.Background(), func() {
			from = min(from, s.applied)
			for _, sub := range s.subs {
				if !sub.durable() {
					continue
				}
				b, err := sub.append(nil, s.applied)
				if err != nil {
					failed = err
					return
				}
				states = append(states, b)
			}
		})
		if err == nil {
			err = failed
		}
		for i := 0; i < len(states) && err == nil; i++ {
			err = put(states[i])
		}
		if err != nil {
			return 0, err
		}
	}
	return from, nil
}

// each runs fn on every shard in turn.
func (c *Courier) each(fn func(s *shard)) {
	for _, s := range c.shards {
		if s.do(context.Background(), func() { fn(s) }) != nil {
			return
		}
	}
}

// Debts counts what is owed in each interval.
func (c *Courier) Debts(bounds []uint64) []int64 {
	out := make([]int64, len(bounds)-1)
	c.each(func(s *shard) {
		for _, sub := range s.subs {
			i := 0
			sub.state.Each(bounds[0], bounds[len(bounds)-1]-1, func(first, last uint64) bool {
				i = countInto(out, bounds, i, first, last)
				return true
			})
		}
	})
	return out
}

// countInto adds a run to the intervals it crosses; i is where the run before ended, which is a good
// place to start unless the runs of another lane begin again.
func countInto(out []int64, bounds []uint64, i int, first, last uint64) int {
	if first < bounds[i] {
		i = 0
	}
	for first <= last {
		for i+2 < len(bounds) && bounds[i+1] <= first {
			i++
		}
		end := min(last, bounds[i+1]-1)
		out[i] += int64(end - first + 1)
		first = end + 1
	}
	return i
}

// Live lists what is owed in [first, last].
func (c *Courier) Live(first, last uint64, add func(first, last uint64)) {
	c.each(func(s *shard) {
		for _, sub := range s.subs {
			sub.state.Each(first, last, func(a, z uint64) bool {
				add(a, z)
				return true
			})
		}
	})
}

// Expired ends what is owed of these messages.
func (c *Courier) Expired(seqs []uint64) {
	c.each(func(s *shard) {
		for _, sub := range s.subs {
			if sub.spec.internal() && sub.spec.Kind == Final {
				continue
			}
			if sub.state.Depth() == 0 {
				continue
			}
			for _, seq := range seqs {
				if !sub.state.Owes(seq) {
					continue
				}
				if sub.spec.internal() {
					s.unremember(sub, seq)
					continue
				}
				s.drop(sub, seq, message.Expired, "its time to live ended")
			}
		}
	})
}
