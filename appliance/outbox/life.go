package outbox

import (
	"fmt"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Life calls see with the kept messages that a publisher stored and the settlements of a subscription, from a place of the log on,
// in its order. at is when it became durable, unix ns, 0 unknown. What became durable a moment ago may be missing.
func (b *Outbox) Life(sub uint64, publisher string, from uint64, see func(m *message.Message, s *Settlement, at int64)) error {
	err := b.log.Scan(from, b.log.Head(), func(seq uint64, data []byte, stamp wal.Stamp, _ bool) bool {
		if len(data) == 0 || Kind(data[0]) != KindMessage && Kind(data[0]) != KindSettlement {
			return true
		}
		e, err := decode(seq, data, stamp, b.o.Epoch)
		if err != nil {
			return true // damaged, or of a newer version: it tells nothing
		}
		if e.Kind == KindMessage && e.Msg.From == publisher && e.origin == seq {
			see(e.Msg, nil, stamp.Wall)
		}
		for i := range e.Settled {
			if e.Settled[i].Sub == sub {
				see(nil, &e.Settled[i], stamp.Wall)
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}
