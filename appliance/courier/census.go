package courier

import "edgepost/appliance/message"

// Census counts what is kept for clients whether they are connected or not.
type Census struct {
	Away     int64 // sessions that nobody is connected to, and that have not expired
	Shared   int64 // groups that share messages
	Retained int64 // retained messages
	Owed     int64 // debts of all subscriptions together
}

// Census counts now.
func (c *Courier) Census() (n Census) {
	_ = c.each(func(s *shard) { // fails when everything stops
		for _, sub := range s.subs {
			if !sub.spec.internal() {
				n.Owed += sub.state.Depth()
			}
			switch {
			case sub.spec.Kind == Retained:
				n.Retained += int64(len(sub.topics))
			case s.forgotten(sub):
			case sub.spec.Kind == Shared:
				n.Shared++
			case sub.spec.Kind == Session && !sub.connected():
				n.Away++
			}
		}
	})
	return n
}

// Inboxed reports whether an inbox selects the topic.
func (c *Courier) Inboxed(t message.Topic) bool {
	for _, s := range c.shards {
		if s.inboxed(t) {
			return true
		}
	}
	return false
}

func (s *shard) inboxed(t message.Topic) bool {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	return s.tree.Any(t, func(sub *subscription) bool { return sub.spec.Kind == Inbox })
}
