package courier

import (
	"fmt"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Unaddressed is the name under which the dead letters stand that nobody was to get: they were sent to a
// device or group that does not exist, in a protocol that cannot tell the sender.
const Unaddressed = "unaddressed"

// Bury stores a message as a dead letter, and notes of the durable subscription of that name, if there are
// any, in one frame: both or neither. done runs on the log's committer after the fsync and must not block.
// After a crash the letter is found again, because until its settlement is durable [Unaddressed] owes it.
func (c *Courier) Bury(m *message.Message, name string, list []Note, done func(message.StoredAs, error)) {
	_, dead, err := c.find(Unaddressed)
	var notes *outbox.Notes
	if err == nil && len(list) > 0 {
		var id uint64
		_, id, err = c.find(name)
		notes = &outbox.Notes{Sub: id, List: list}
	}
	if err != nil {
		done(message.StoredAs{}, err)
		return
	}
	m.Delay = 0
	c.ob.PublishTo(m, dead, notes, done)
}

// refuse makes a dead letter of what Unaddressed owes.
func (s *shard) refuse(sub *subscription, seq uint64) {
	it, err := s.item(seq)
	if err != nil {
		s.drop(sub, seq, message.Lost, "the record is damaged or gone")
		return
	}
	reason := "nobody is there"
	if device, ok := it.Msg.Topic.Device(); ok {
		reason = fmt.Sprintf("there is no device %.64q", device)
	} else if group, ok := it.Msg.Topic.Group(); ok {
		reason = fmt.Sprintf("there is no group %.64q", group)
	}
	s.drop(sub, seq, message.Dead, reason)
}

// refuseAll does so at the start, for what a crash kept from being settled.
func (s *shard) refuseAll(sub *subscription) {
	var owed []uint64
	sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
		for seq := first; seq <= last; seq++ {
			owed = append(owed, seq)
		}
		return true
	})
	for _, seq := range owed {
		s.refuse(sub, seq)
	}
}
