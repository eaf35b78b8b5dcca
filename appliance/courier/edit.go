package courier

import (
	"context"
	"time"

	"edgepost/appliance/message"
)

// Edit changes a message; nil fields leave things as they are.
type Edit struct {
	Topic       *message.Topic
	Payload     []byte // nil: as it was
	ContentType *string
	TTL         *time.Duration
	Priority    *uint8
}

// Empty reports whether it changes nothing.
func (e *Edit) Empty() bool {
	return e.Topic == nil && e.Payload == nil && e.ContentType == nil && e.TTL == nil && e.Priority == nil
}

// Apply changes the message, which is to be stored again. elsewhere says that it has another topic now.
func (e *Edit) Apply(m *message.Message) (elsewhere bool) {
	if e.Topic != nil && *e.Topic != m.Topic {
		m.Topic, elsewhere = *e.Topic, true
	}
	if e.Payload != nil {
		m.Payload, m.Text = e.Payload, false // nobody says that it is text
	}
	if e.ContentType != nil {
		m.ContentType = *e.ContentType
	}
	if e.TTL != nil {
		m.TTL = *e.TTL
	}
	if e.Priority != nil {
		m.Priority = *e.Priority
	}
	m.ID, m.Seq, m.Time, m.Age, m.Expires, m.Delay, m.Key = message.ID{}, 0, time.Time{}, 0, 0, 0, ""
	return elsewhere
}

// Replace takes a dead letter back as another message, which its subscription owes, or, with anew, whoever matches its topic.
// Problems as of [Courier.Requeue].
func (c *Courier) Replace(ctx context.Context, entry uint64, m *message.Message, anew bool) (message.StoredAs, error) {
	var sub uint64
	reached := c.Matches(m.Topic)
	if !anew {
		var err error
		if sub, err = c.deadOf(entry); err != nil {
			return message.StoredAs{}, err
		}
		if c.NameOf(sub) == Unaddressed {
			sub = 0
		} else {
			reached = 1
		}
	}
	as, err := c.ob.Replace(ctx, entry, sub, m)
	as.Subscriptions = reached
	return as, err
}

// deadOf is the subscription of a dead letter.
func (c *Courier) deadOf(entry uint64) (sub uint64, err error) {
	d, err := c.ob.DeadLetter(entry)
	if err != nil {
		return 0, err
	}
	c.dirMu.RLock()
	defer c.dirMu.RUnlock()
	if _, there := c.byID[d.Sub]; !there {
		return 0, message.Problemf(message.CodeNotFound, "the subscription of dead letter %d was removed; publish its message again instead", entry)
	}
	return d.Sub, nil
}
