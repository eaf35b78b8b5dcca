package courier

import "edgepost/appliance/message"

// largeItem separates the payloads of which many are kept in memory from those of which few are.
const largeItem = 4 << 10

// itemCache keeps the messages that came by lately, so that receivers share one copy and its
// encodings: 256 small ones and 4 large ones, at most about 2 MiB.
type itemCache struct {
	small [256]cached
	large [4]cached
}

type cached struct {
	seq  uint64
	item *Item
}

func (c *itemCache) get(seq uint64) *Item {
	if e := &c.small[seq%uint64(len(c.small))]; e.seq == seq {
		return e.item
	}
	if e := &c.large[seq%uint64(len(c.large))]; e.seq == seq {
		return e.item
	}
	return nil
}

func (c *itemCache) put(seq uint64, m *message.Message) *Item {
	e := &c.small[seq%uint64(len(c.small))]
	if len(m.Payload) > largeItem {
		e = &c.large[seq%uint64(len(c.large))]
	}
	if e.seq != seq {
		e.seq, e.item = seq, NewItem(m)
	}
	return e.item
}
