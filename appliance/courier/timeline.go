package courier

import (
	"context"
	"slices"
	"sync"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Event is one thing that happened to a device.
type Event struct {
	At       time.Time // zero: the clock was not trusted
	Kind     string    // "online", "offline", "published", or how a message for it ended: "delivered", "expired" …
	ID       message.ID
	Topic    message.Topic
	Reason   string
	Attempts int
	Took     time.Duration // from its storing to its end; 0 unknown
	Bytes    int
}

// comings are the last times when devices came and went, in memory.
type comings struct {
	mu   sync.Mutex // guards ring and n
	ring []coming   // grows to maxComings
	n    int        // how many ever
}

// maxComings bounds them, to about 160 KiB.
const maxComings = 2048

type coming struct {
	inbox, why string
	at         time.Time
	online     bool
}

func (c *comings) add(inbox string, online bool, why string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := coming{inbox, why, at, online}
	if len(c.ring) < maxComings {
		c.ring = append(c.ring, e)
	} else {
		c.ring[c.n%maxComings] = e
	}
	c.n++
}

// of lists those of an inbox, oldest first.
func (c *comings) of(inbox string) (list []Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := max(c.n-maxComings, 0); i < c.n; i++ {
		if e := &c.ring[i%maxComings]; e.inbox == inbox {
			kind := "offline"
			if e.online {
				kind = "online"
			}
			list = append(list, Event{At: e.at, Kind: kind, Reason: e.why})
		}
	}
	return list
}

// timelineSpan is how far back in the log a timeline looks, in records.
const timelineSpan = 20_000

// Timeline lists the newest things that happened to a device, most at most, newest first: what it published and what was settled
// for it among the last records of the log, and when it came and went since the start. before says that the log has older
// records, which were not looked at.
func (c *Courier) Timeline(ctx context.Context, device string, most int) (list []Event, before bool, err error) {
	_, sub, err := c.find(DeviceInbox(device))
	if err != nil {
		return nil, false, err
	}
	defer c.ob.Hold()()
	from := c.ob.Tail()
	if head := c.ob.Head(); head > timelineSpan && head-timelineSpan > from {
		from, before = head-timelineSpan, true
	}
	err = c.ob.Life(sub, device, from, func(m *message.Message, s *outbox.Settlement, at int64) {
		e := Event{Kind: "published"}
		if m != nil {
			e.ID, e.Topic, e.Bytes = m.ID, m.Topic, len(m.Payload)
		} else {
			e.Kind, e.Reason, e.Attempts, e.ID = s.State.String(), s.Reason, s.Attempts, message.ID{Epoch: c.ob.Epoch(), Seq: s.Seq}
		}
		if at != 0 {
			e.At = time.Unix(0, at)
		}
		if list = append(list, e); len(list) > 2*most { // the newest are kept
			list = append(list[:0], list[len(list)-most:]...)
		}
	})
	if err != nil {
		return nil, false, err
	}
	list = append(list[max(0, len(list)-most):], c.comings.of(DeviceInbox(device))...)
	slices.SortStableFunc(list, func(a, b Event) int { return a.At.Compare(b.At) })
	slices.Reverse(list)
	list = list[:min(len(list), most)]
	for i := range list {
		c.tell(&list[i])
	}
	return list, before, ctx.Err()
}

// tell adds to the end of a message what the message itself says, while it is kept.
func (c *Courier) tell(e *Event) {
	if e.ID.IsZero() || e.Kind == "published" {
		return
	}
	rec, err := c.ob.Read(e.ID.Seq)
	if err != nil || rec.Msg == nil {
		return
	}
	m := rec.Msg
	e.ID, e.Topic, e.Bytes = m.ID, m.Topic, len(m.Payload)
	if !m.Time.IsZero() && !e.At.IsZero() {
		e.Took = max(e.At.Sub(m.Time), 0)
	}
}
