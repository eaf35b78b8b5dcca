package courier

import "edgepost/appliance/message"

// Rights says what a principal may receive at the moment. It must be fast; safe for concurrent use.
type Rights interface {
	MayReceive(principal string, t message.Topic) bool
	// Version changes whenever an answer of MayReceive may have changed; it is asked for every
	// transmission. An answer holds as long as the version that was read before it.
	Version() uint64
}

// verdict is what a subscription's owner may receive: the answer for the topic that was asked for last.
// Most subscriptions have one topic at a time.
type verdict struct {
	topic   message.Topic // "" before the first
	version uint64        // of the rights
	ok      bool
}

// allowed asks whether the owner may receive a message on the topic now.
func (s *shard) allowed(sub *subscription, t message.Topic) bool {
	if len(sub.links) == 0 {
		return s.c.rights.MayReceive(sub.spec.Owner, t)
	}
	v := &sub.links[0].verdict
	if version := s.c.rights.Version(); v.topic != t || v.version != version {
		*v = verdict{topic: t, version: version, ok: s.c.rights.MayReceive(sub.spec.Owner, t)}
	}
	return v.ok
}
