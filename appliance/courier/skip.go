package courier

import (
	"context"
	"encoding/json"
	"time"

	"edgepost/appliance/message"
)

// skipTurn is how many debts are ended before the shard does something else.
const skipTurn = 1024

// Skip ends what the named subscription owes up to and including a place in the log, what is on its way too: as
// cancelled, for the reason. It returns how much that was. The settlements become durable as all do, within a second.
func (c *Courier) Skip(ctx context.Context, name string, upto uint64, reason string) (n int64, err error) {
	s, id, err := c.find(name)
	if err != nil {
		return 0, err
	}
	for {
		var seqs []uint64
		if err := s.do(ctx, func() {
			sub := s.subs[id]
			if sub == nil {
				return
			}
			sub.state.Each(0, upto, func(first, last uint64) bool {
				for seq := first; seq <= last && len(seqs) < skipTurn; seq++ {
					seqs = append(seqs, seq)
				}
				return len(seqs) < skipTurn
			})
			for _, seq := range seqs {
				s.drop(sub, seq, message.Cancelled, reason)
			}
			s.touch(sub)
		}); err != nil || len(seqs) == 0 {
			return n, err
		}
		n += int64(len(seqs))
	}
}

// Head is the newest message's id, or that of whatever was stored last.
func (c *Courier) Head() message.ID { return message.ID{Epoch: c.ob.Epoch(), Seq: c.ob.Head()} }

// Before returns the id of the newest record that is older than the span, for [Courier.Rewind]: of the messages that
// the subscription selects. Zero when all that is kept is younger.
func (c *Courier) Before(ctx context.Context, name string, span time.Duration) (message.ID, error) {
	s, id, err := c.find(name)
	if err != nil {
		return message.ID{}, err
	}
	var filters []message.Filter
	if err := s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			filters = sub.spec.Filters
		}
	}); err != nil {
		return message.ID{}, err
	}
	last := uint64(0)
	for _, f := range filters {
		if err := c.ob.Scan(f, last+1, c.ob.Head(), func(m *message.Message) bool {
			old := c.ob.Since(m.Age) > span
			if old {
				last = max(last, m.Seq)
			}
			return old && ctx.Err() == nil
		}); err != nil {
			return message.ID{}, err
		}
	}
	if last == 0 {
		return message.ID{}, ctx.Err()
	}
	return message.ID{Epoch: c.ob.Epoch(), Seq: last}, ctx.Err()
}

// Meta returns what is kept with a subscription for whoever made it; nil when there is nothing, or no subscription.
func (c *Courier) Meta(ctx context.Context, name string) (json.RawMessage, error) {
	st, _, err := c.Session(ctx, name)
	return st.Meta, err
}
