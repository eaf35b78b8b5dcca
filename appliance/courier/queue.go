package courier

import (
	"context"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Waiting is one message that a subscription owes.
type Waiting struct {
	Msg       *message.Message // nil when its record cannot be read
	Place     message.Receipt  // its id, where it stands and why
	ExpiresIn time.Duration    // 0: it does not expire
	Age       time.Duration
}

// Queue lists the first messages that a subscription owes, in the order of their next transmission apart from retries: what is
// urgent first. Messages are read outside of the subscription's shard.
func (c *Courier) Queue(ctx context.Context, name string, most int) (list []Waiting, depth int64, err error) {
	s, id, err := c.find(name)
	if err != nil {
		return nil, 0, err
	}
	var spec Spec
	var seqs []uint64
	if err := s.do(ctx, func() {
		sub := s.subs[id]
		if sub == nil {
			return
		}
		spec, depth = sub.spec, sub.state.Depth()
		seqs = sub.state.First(most)
		for _, seq := range seqs {
			list = append(list, Waiting{Place: s.standing(sub, message.ID{Epoch: c.ob.Epoch(), Seq: seq}, seq)})
		}
	}); err != nil {
		return nil, 0, err
	}
	age := c.ob.Age()
	for i, seq := range seqs {
		e, err := c.ob.Read(seq)
		if err != nil || e.Kind != outbox.KindMessage {
			continue // damaged: it ends as lost when its turn comes
		}
		w := &list[i]
		w.Msg, w.Place.ID, w.Age = e.Msg, e.Msg.ID, max(c.ob.Since(e.Msg.Age), 0)
		if at := c.expiry(&spec, e.Msg); at != 0 {
			w.ExpiresIn = max(time.Duration(at-age), 1)
		}
	}
	return list, depth, nil
}

// owed finds the place of a message that a subscription owes. It reads the log from the message on.
func (c *Courier) owed(ctx context.Context, name string, id message.ID) (s *shard, at outbox.Move, spec Spec, m *message.Message, err error) {
	o, err := c.ob.Outcome(id)
	if err != nil {
		return nil, at, spec, nil, err
	}
	s, at.Sub, err = c.find(name)
	if err != nil {
		return nil, at, spec, nil, err
	}
	flying := false
	err = s.do(ctx, func() {
		sub := s.subs[at.Sub]
		if sub == nil {
			return
		}
		spec = sub.spec
		if i := slices.IndexFunc(o.Copies, sub.state.Owes); i >= 0 {
			at.Seq = o.Copies[i]
			flying = sub.state.Flying(at.Seq)
		}
	})
	switch {
	case err != nil:
	case at.Seq == 0:
		err = message.Problemf(message.CodeNotFound, "message %s does not wait there: it was settled, or never addressed to it", id)
	case flying:
		err = message.Problemf(message.CodeInFlight, "message %s is on its way and not acknowledged yet; try again when it was", id)
	default:
		var e outbox.Entry
		if e, err = c.ob.Read(at.Seq); err == nil {
			m = e.Msg
		}
	}
	return s, at, spec, m, err
}

// Move gives a message that a subscription owes another priority, there alone: it goes to the end of those that are as urgent,
// with the same id and what is left of its time to live. Durable on return. A Problem with CodeNotFound when it is not owed
// there, and with CodeInFlight when it is on its way.
func (c *Courier) Move(ctx context.Context, name string, id message.ID, priority uint8) (message.StoredAs, error) {
	s, at, spec, m, err := c.owed(ctx, name, id)
	if err != nil {
		return message.StoredAs{}, err
	}
	var ttl time.Duration
	if ends := c.expiry(&spec, m); ends != 0 {
		ttl = max(time.Duration(ends-c.ob.Age()), 1)
	}
	as, err := c.ob.Move(ctx, at, priority, ttl)
	if err == nil {
		err = s.do(ctx, func() {}) // what was committed is applied by then
	}
	return as, err
}

// Withdraw ends what one subscription owes of a message; others get it. Durable on return. Problems as of [Courier.Move].
func (c *Courier) Withdraw(ctx context.Context, name string, id message.ID, why string) error {
	s, at, _, _, err := c.owed(ctx, name, id)
	if err != nil {
		return err
	}
	ended := false
	if err := s.do(ctx, func() {
		if sub := s.subs[at.Sub]; sub != nil && sub.state.Owes(at.Seq) && !sub.state.Flying(at.Seq) && !sub.moving[at.Seq] {
			s.drop(sub, at.Seq, message.Cancelled, why)
			ended = true
		}
	}); err != nil {
		return err
	}
	if !ended {
		return message.Problemf(message.CodeInFlight, "message %s went out a moment ago", id)
	}
	return c.ob.SettleNow()
}

// moved ends the debt whose copy follows, also when it went out a moment ago: it comes twice then. If it has ended already,
// the copy is not needed.
func (s *shard) moved(e *outbox.Entry) {
	sub := s.subs[e.Moved.Sub]
	s.late, s.giver = nil, e.Moved.Sub
	if sub == nil || e.Seq <= sub.applied {
		return
	}
	if group := sub.gifts[e.Moved.Seq]; group != 0 {
		s.giver = group
	}
	if _, owed := sub.state.Drop(e.Moved.Seq); !owed {
		s.late = sub
	}
	sub.forget(e.Moved.Seq)
}

// target adds a copy to what one subscription owes.
func (s *shard) target(e *outbox.Entry) {
	sub, late, giver := s.subs[e.Target], s.late, s.giver
	s.late, s.giver = nil, 0
	if sub == nil {
		return
	}
	if giver != 0 && giver != sub.id && sub.spec.Kind == Session && e.Seq > sub.applied {
		if sub.gifts == nil {
			sub.gifts = make(map[uint64]uint64)
		}
		sub.gifts[e.Seq] = giver
	}
	if s.owe(sub, e) {
		s.items.put(e.Seq, e.Msg).direct = true
	}
	if sub == late && s.live && e.Seq > sub.applied {
		s.drop(sub, e.Seq, message.Cancelled, "the first copy was faster")
	}
}

// Standing is how a device's inbox is.
type Standing struct {
	Online    bool
	Since     time.Time // when that changed last; zero when it did not since the start
	Why       string    // why it went offline
	Seen      time.Time // when it was last connected; zero: never, or nobody knows
	Owed      int64
	OldestAge time.Duration
	Dropped   int64 // volatile messages that found no room, since the start
}

// Standings says how the inboxes of the named devices are, in their order. ages tells whether the oldest message of each is
// read, for its age.
func (c *Courier) Standings(ctx context.Context, devices []string, ages bool) ([]Standing, error) {
	out, oldest := make([]Standing, len(devices)), make([]uint64, len(devices))
	at := make(map[*shard][]int)
	ids := make([]uint64, len(devices))
	for i, d := range devices {
		if s, id, err := c.find(DeviceInbox(d)); err == nil {
			ids[i] = id
			at[s] = append(at[s], i)
		}
	}
	wall := c.ob.Wall()
	for s, list := range at {
		if err := s.do(ctx, func() {
			for _, i := range list {
				if sub := s.subs[ids[i]]; sub != nil {
					out[i] = c.standingOf(sub, wall)
					oldest[i], _ = sub.state.Oldest()
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	for i, seq := range oldest {
		if ages && seq != 0 {
			out[i].OldestAge = c.ageOf(seq)
		}
	}
	return out, nil
}

func (c *Courier) standingOf(sub *subscription, wall time.Time) Standing {
	st := Standing{Online: sub.connected(), Since: sub.since(), Owed: sub.state.Depth(), Dropped: int64(sub.drops)}
	switch {
	case st.Online:
		st.Seen = wall
	case !wall.IsZero() && sub.used != 0:
		st.Why, st.Seen = sub.left, wall.Add(-c.ob.Since(sub.used))
	default:
		st.Why = sub.left
	}
	return st
}

// Audience is who would be owed a message on a topic, or handed it.
type Audience struct {
	Name   string // public name of the subscription
	Device bool   // it is a device's inbox
	Online bool
}

// Reach lists whom a message on the topic would reach now: subscriptions that owe it then, whose owners may receive it, and
// connected ones that take it without being owed it.
func (c *Courier) Reach(ctx context.Context, t message.Topic) ([]Audience, error) {
	var out []Audience
	for _, s := range c.shards {
		if err := s.do(ctx, func() {
			seen := make(map[*subscription]bool)
			add := func(sub *subscription) {
				if sub.spec.internal() || seen[sub] || !s.c.rights.MayReceive(sub.spec.Owner, t) {
					return
				}
				seen[sub] = true
				out = append(out, Audience{Name: sub.spec.Name, Device: sub.spec.Kind == Inbox, Online: sub.connected()})
			}
			s.tree.Match(t, add)
			s.passing.Match(t, func(sub *subscription) {
				if sub.connected() {
					add(sub)
				}
			})
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Audience) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out, nil
}
