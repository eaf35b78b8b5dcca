package courier

import "edgepost/appliance/message"

// show notes that the message is owed because it was retained when the subscription was made. One that is on
// its way already is owed once more when it is acknowledged: the subscriber asked after it was sent. A crash in
// between forgets that and repeats the transmission instead.
func (s *shard) show(sub *subscription, seq uint64) {
	if sub.shown == nil {
		sub.shown = make(map[uint64]bool)
	}
	sub.shown[seq] = true
	if !s.live || !sub.state.Flying(seq) {
		return
	}
	if it, err := s.item(seq); err == nil {
		if sub.again == nil {
			sub.again = make(map[uint64]message.Topic)
		}
		sub.again[seq] = it.Msg.Topic
	}
}

// outdate notes that another message is the topic's retained one from now on: an older one that was to be shown
// again would come behind it.
func (s *subscription) outdate(m *message.Message) {
	if len(s.again) == 0 { // a loop over no map costs more than this
		return
	}
	for seq, t := range s.again {
		if m.Retain && t == m.Topic && seq < m.Seq {
			delete(s.again, seq)
		}
	}
}

// oweAgain reports whether the message that was acknowledged just now is to be shown once more; then it is owed.
func (s *shard) oweAgain(sub *subscription, seq uint64) bool {
	if _, ok := sub.again[seq]; !ok {
		return false
	}
	delete(sub.again, seq)
	it, err := s.item(seq)
	if err != nil {
		return false
	}
	sub.state.Owe(seq, it.Msg.Urgent())
	return true
}
