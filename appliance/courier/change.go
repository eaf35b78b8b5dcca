package courier

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// change applies a record of the subscription table. Every shard sees it; the one that owns the
// subscription acts.
func (s *shard) change(e *outbox.Entry) {
	ch, id := e.Change, e.Change.Sub
	if id == 0 { // a new one is named by its place in the log, so numbers are never used again
		id = e.Seq
	}
	sub := s.subs[id]
	if sub != nil && e.Seq <= sub.applied {
		return
	}
	if sub != nil && !s.live {
		sub.state.MaybeSent(sub.reach) // what is owed first may be other messages after the change
	}
	switch ch.Op {
	case outbox.OpPut:
		var spec Spec
		if err := json.Unmarshal(ch.Spec, &spec); err != nil {
			s.c.o.Log.Error("subscription unreadable, skipped", "seq", e.Seq, "error", err)
			return
		}
		if s.c.shardOf(spec.Owner) == s {
			s.put(id, spec, ch, e.Seq)
		}
	case outbox.OpDelete:
		if sub != nil {
			s.remove(sub)
		}
	case outbox.OpLink:
		if sub != nil {
			sub.reach = max(sub.reach, ch.Reach, 1)
			s.wasThere(sub, e.Age)
		}
	case outbox.OpUnlink:
		if sub != nil {
			sub.reach = 0
			s.wasThere(sub, e.Age-int64(unlinkWait))
		}
	case outbox.OpRewind:
		if sub != nil {
			sub.rewound = true
			s.indebt(sub, ch, e.Seq, nil)
			s.touch(sub)
		}
	}
}

// wasThere notes during replay, which has no links, that there was one.
func (s *shard) wasThere(sub *subscription, age int64) {
	if !s.live {
		sub.used = max(sub.used, age)
	}
}

// put makes the subscription or replaces its filters and policy.
func (s *shard) put(id uint64, spec Spec, ch *outbox.Change, at uint64) {
	sub := s.subs[id]
	var before []message.Filter
	if sub == nil {
		sub = s.c.newSubscription(id, spec)
		if spec.Kind != Inbox { // it never ends by itself, and this says when its device was there last
			sub.used = s.c.ob.Age()
		}
		s.subs[id] = sub
	} else {
		s.plant(sub, false)
		before, sub.spec = sub.spec.Filters, spec
		sub.rewound = sub.rewound || ch.Debts != nil
		sub.state.SetPolicy(s.c.policy(&spec))
		sub.state.Unpark() // what it does not subscribe any more ends
	}
	s.plant(sub, true)
	s.c.enter(s, sub)
	s.indebt(sub, ch, at, before)
	if sub.connected() {
		s.touch(sub)
	}
}

// plant adds the filters to the tree, or takes them out.
func (s *shard) plant(sub *subscription, in bool) {
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	for _, f := range sub.spec.Filters {
		if in {
			s.tree.Add(f, sub)
		} else {
			s.tree.Remove(f, sub)
		}
	}
	for _, f := range sub.spec.Passing {
		if in {
			s.passing.Add(f, sub)
		} else {
			s.passing.Remove(f, sub)
		}
	}
}

// indebt adds explicit debts, and what matched between the reading of the log that found them and the
// change itself, unless the filters from before selected it already. Of a topic whose retained message
// is to be shown and was replaced meanwhile, the new one is: a subscriber that had it already would end
// with the old one.
func (s *shard) indebt(sub *subscription, ch *outbox.Change, at uint64, before []message.Filter) {
	newer := s.meanwhile(sub, ch, at, before)
	urgent := s.debtsOf(sub, ch.Urgent)
	all := s.debtsOf(sub, ch.Debts)
	all.Each(0, math.MaxUint64, func(first, last uint64) bool {
		for seq := first; seq <= last; seq++ {
			place, hurry := seq, urgent.Has(seq)
			if m := s.replaced(sub, ch, seq, newer); m != nil {
				if len(m.Payload) == 0 {
					continue
				}
				place, hurry = m.Seq, m.Urgent()
			}
			sub.state.Owe(place, hurry)
			if ch.Shown {
				s.show(sub, place)
			}
		}
		return true
	})
}

// replaced returns what is to be shown instead of a retained message; nil: the message itself.
func (s *shard) replaced(sub *subscription, ch *outbox.Change, seq uint64, newer map[message.Topic]*message.Message) *message.Message {
	if !ch.Shown || len(newer) == 0 || sub.state.Owes(seq) {
		return nil
	}
	it, err := s.item(seq)
	if err != nil {
		return nil
	}
	if m := newer[it.Msg.Topic]; m != nil && m.Seq > seq {
		return m
	}
	return nil
}

func (s *shard) debtsOf(sub *subscription, b []byte) (set delivery.Set) {
	if len(b) > 0 {
		if _, err := set.Decode(b); err != nil {
			s.c.o.Log.Error("debts unreadable", "subscription", sub.spec.Name, "error", err)
		}
	}
	return set
}

// meanwhile adds what the filters select of the messages from ch.From to the change, and those from before
// did not. It returns the newest retained message of each topic among all that the filters select.
func (s *shard) meanwhile(sub *subscription, ch *outbox.Change, at uint64, before []message.Filter) (newer map[message.Topic]*message.Message) {
	if ch.From == 0 || ch.From >= at {
		return nil
	}
	for _, f := range sub.spec.Filters {
		err := s.c.ob.Scan(f, ch.From, at-1, func(m *message.Message) bool {
			if m.Retain {
				if newer == nil {
					newer = make(map[message.Topic]*message.Message)
				}
				if old := newer[m.Topic]; old == nil || old.Seq < m.Seq {
					newer[m.Topic] = m
				}
			}
			if !slices.ContainsFunc(before, func(f message.Filter) bool { return f.Match(m.Topic) }) && !sub.spec.excludes(m) {
				sub.state.Owe(m.Seq, m.Urgent())
			}
			return true
		})
		if err != nil {
			s.c.o.Log.Error("reading the log failed", "subscription", sub.spec.Name, "error", err)
		}
	}
	return newer
}

// remove ends the subscription with all it owes. The record that ended it is the settlement of its
// debts: one record, however many they were.
func (s *shard) remove(sub *subscription) {
	s.plant(sub, false)
	delete(s.subs, sub.id)
	s.timers.set(sub, time.Time{})
	s.c.leave(sub)
	s.count.cancelled.Add(sub.state.Depth())
	s.lose(sub, Removed)
}

// lose takes the subscription away from whoever is attached.
func (s *shard) lose(sub *subscription, why Cause) {
	for _, a := range sub.links {
		a.lost.Store(true)
		a.link.Lost(why)
		s.count.connected.Add(-1)
		if why != TakenOver {
			s.c.presence(sub, false, why.String())
		}
		sub.left = why.String()
	}
	if sub.pull != nil {
		for _, f := range sub.pull.waits {
			f.answer <- fetched{err: lostProblem(why)}
		}
	}
	sub.links, sub.held, sub.pull = nil, nil, nil
	sub.state.Close()
	s.withdrawn(sub)
	sub.stamp(s.c.ob.Wall())
	sub.used = s.c.ob.Age()
	s.timers.set(sub, time.Time{})
}

const withdrawnReason = "withdrawn by its publisher"

// debt is a place in the log that a subscription owes.
type debt struct{ sub, seq uint64 }

// cancel withdraws the message at seq from everybody who was not sent it. at is the record that says
// so. During replay the settlements that followed may be in the log: those that are not are made up
// for at the end.
func (s *shard) cancel(seq, at uint64) {
	for _, sub := range s.subs {
		switch {
		case at <= sub.applied || !sub.state.Owes(seq):
		case sub.spec.Kind == Final:
		case sub.spec.internal():
			s.unremember(sub, seq)
		case !sub.state.Cancel(seq):
			if sub.withdraw == nil {
				sub.withdraw = make(map[uint64]bool)
			}
			sub.withdraw[seq] = true
		case s.live:
			s.settle(sub, seq, message.Cancelled, 0, withdrawnReason)
		default:
			s.cancelled[debt{sub.id, seq}] = true
		}
	}
}

// maxTopics bounds the topics that one history keeps.
const maxTopics = 10_000

// remember keeps the last messages per topic.
func (s *shard) remember(sub *subscription, seq uint64, m *message.Message) {
	keep := max(sub.spec.Keep, 1)
	if sub.spec.Kind == Retained {
		if !m.Retain {
			return
		}
		keep = 1
		if len(m.Payload) == 0 { // clears what was retained (MQTT 5.0 §3.3.1.3)
			keep = 0
		}
	}
	if sub.topics == nil {
		sub.topics = make(map[message.Topic][]uint64)
	}
	list := append(sub.topics[m.Topic], seq)
	sub.state.Owe(seq, false)
	for len(list) > keep {
		sub.state.Drop(list[0])
		list = list[1:]
	}
	if len(list) == 0 {
		delete(sub.topics, m.Topic)
	} else {
		sub.topics[m.Topic] = list
	}
	if len(sub.topics) > maxTopics {
		s.forgetOldest(sub)
	}
}

// forgetOldest makes room for a new topic.
func (s *shard) forgetOldest(sub *subscription) {
	if seq, ok := sub.state.Oldest(); ok {
		s.unremember(sub, seq)
	}
}

// unremember takes one message out of a history.
func (s *shard) unremember(sub *subscription, seq uint64) {
	sub.state.Drop(seq)
	if it, err := s.item(seq); err == nil && s.strike(sub, it.Msg.Topic, seq) {
		return
	}
	for t := range sub.topics { // its record is gone, so nobody knows the topic
		if s.strike(sub, t, seq) {
			return
		}
	}
}

func (s *shard) strike(sub *subscription, t message.Topic, seq uint64) bool {
	list := sub.topics[t]
	i := slices.Index(list, seq)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(sub.topics, t)
	} else {
		sub.topics[t] = list
	}
	return true
}
