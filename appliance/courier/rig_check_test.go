package courier

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// after is called when everything stands still: it compares the program with the model.
func (r *rig) after() {
	r.t.Helper()
	synctest.Wait()
	r.released()
	r.collect()
	if r.ob.Health() != nil {
		r.full = time.Now()
	}
	for _, name := range slices.Sorted(maps.Keys(r.subs)) {
		if s := r.subs[name]; s != nil && r.there(s) {
			r.compare(s)
		}
	}
	r.readable()
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.overflows)
}

// overflowed reports whether the subscription held too much since the last look.
func (r *rig) overflowed(s *mSub) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overflows[s.name]
}

// released finds the delayed messages that have gone out.
func (r *rig) released() {
	for _, m := range r.msgs {
		if !m.waits || m.cancelled {
			continue
		}
		if _, waits := r.ob.DelayedUntil(m.id.Seq); waits {
			if time.Now().After(m.due.Add(time.Second)) && r.ob.Health() == nil {
				r.fail("message %v is %v late", m.id, time.Since(m.due))
			}
			continue
		}
		if time.Now().Before(m.due.Add(-time.Millisecond)) {
			r.fail("message %v went out %v early", m.id, time.Until(m.due))
		}
		o, err := r.ob.Outcome(m.id)
		if p := message.ProblemOf(err); p != nil && p.Code == message.CodeNotFound && time.Since(m.due) > 2*time.Second {
			m.waits = false // it has even been cleaned away by now; compare finds who owes it
			continue
		}
		if err != nil {
			r.fail("outcome of released %v: %v", m.id, err)
		}
		if len(o.Copies) != 2 {
			r.fail("released message %v has copies %v", m.id, o.Copies)
		}
		m.waits = false
		r.say("released %v as %d", m.id, o.Copies[1])
		r.fanOut(m, o.Copies[1])
	}
}

// fanOut notes who owes the message at place.
func (r *rig) fanOut(m *mMessage, place uint64) {
	r.noted(m, place)
	for _, s := range r.subs {
		if s.matches(m.topic) {
			s.owed[place] = &mDebt{}
		} else {
			s.expects(m)
		}
	}
}

// noted remembers a place of the message.
func (r *rig) noted(m *mMessage, place uint64) {
	e, err := r.ob.Read(place)
	if err != nil {
		r.fail("read %d, just stored: %v", place, err)
	}
	r.place[place], r.expires[place] = m, e.Msg.Expires
}

func (s *mSub) matches(t message.Topic) bool {
	return slices.ContainsFunc(s.filters, func(f message.Filter) bool { return f.Match(t) })
}

// collect looks at what the links got.
func (r *rig) collect() {
	r.t.Helper()
	synctest.Wait()
	r.bequests()
	for _, name := range slices.Sorted(maps.Keys(r.subs)) {
		s := r.subs[name]
		for _, l := range s.links() {
			got, lost := l.take()
			for _, d := range got {
				r.received(s, l, d)
				if l.auto && d.Seq != 0 {
					s.settled(d.Seq, message.Sent)
				} else if s.owed[d.Seq] != nil {
					l.flying[d.Seq] = true
				}
			}
			if len(lost) > 0 {
				r.fail("%s lost its link: %v", s.name, lost)
			}
		}
		for payload, must := range s.expect {
			if must {
				r.fail("%s was not handed %.20q", s.name, payload)
			}
		}
	}
}

// received checks one transmission, over a link or to a reader.
func (r *rig) received(s *mSub, l *mLink, d Delivery) {
	r.t.Helper()
	if l != nil && len(l.sel) > 0 && !slices.ContainsFunc(l.sel, func(f message.Filter) bool { return f.Match(d.Msg.Topic) }) {
		r.fail("%s was sent %d on %s, but its link takes %v", s.name, d.Seq, d.Msg.Topic, l.sel)
	}
	if d.Seq == 0 {
		r.handed(s, d)
		return
	}
	r.say("%s got %d (%v) attempt %d", s.name, d.Seq, d.Msg.ID, d.Attempt)
	m := r.place[d.Seq]
	if m == nil {
		if r.released(); r.place[d.Seq] == nil {
			r.fail("%s was sent %d, which was never published: %q", s.name, d.Seq, d.Msg.Payload)
		}
		m = r.place[d.Seq]
	}
	if m.id != d.Msg.ID || m.topic != d.Msg.Topic || m.payload != string(d.Msg.Payload) {
		r.fail("%s was sent %d altered: %v %s, want %v %s", s.name, d.Seq, d.Msg.ID, d.Msg.Topic, m.id, m.topic)
	}
	debt := s.owed[d.Seq]
	if debt == nil {
		r.fail("%s was sent %d, which it does not owe (ended as %v)", s.name, d.Seq, s.ended[d.Seq])
	}
	switch {
	case debt.sends > 0 && d.Attempt < 2:
		r.fail("%s was sent %d again without a flag", s.name, d.Seq)
	case debt.sends == 0 && d.Attempt != 1 && !s.crossed && !s.unordered:
		r.fail("%s was sent %d first as attempt %d", s.name, d.Seq, d.Attempt)
	case d.Attempt == 1:
		first, lane := s.first, mLane{m.topic, m.urgent}
		if s.kind == Shared {
			first = l.first
		}
		if d.Seq < first[lane] {
			r.fail("%s was sent %d after %d", s.name, d.Seq, first[lane])
		}
		first[lane] = d.Seq
	}
	r.sentTo(s, m, debt)
	debt.sends++
}

// settled notes that a debt ended.
func (s *mSub) settled(place uint64, as message.State) {
	debt := s.owed[place]
	if debt == nil {
		return
	}
	delete(s.owed, place)
	was := s.dead[place]
	s.ended[place] = as
	if as == message.Dead || as == message.Expired {
		s.dead[place] = true
	}
	s.recent = append(s.recent, mEnd{place, debt, time.Now(), was})
	for _, l := range s.links() {
		delete(l.flying, place)
	}
}

// compare holds what the program says a subscription owes against the model.
func (r *rig) compare(s *mSub) {
	r.t.Helper()
	owed, flying := r.owedBy(s)
	for place := range owed {
		if s.owed[place] == nil {
			r.fail("%s owes %d, which it should not (ended as %v)", s.name, place, s.ended[place])
		}
	}
	for _, place := range slices.Sorted(maps.Keys(s.owed)) {
		if !owed[place] {
			r.vanished(s, place)
		}
	}
	for _, l := range s.links() {
		for place := range l.flying {
			if !flying[place] { // its time to acknowledge ran out
				delete(l.flying, place)
			}
		}
	}
	r.remembers(s)
}

func (r *rig) owedBy(s *mSub) (owed, flying map[uint64]bool) {
	owed, flying = map[uint64]bool{}, map[uint64]bool{}
	sh, id, err := r.c.find(s.name)
	if err != nil {
		r.fail("subscription %s: %v", s.name, err)
	}
	_ = sh.do(context.Background(), func() {
		sub := sh.subs[id]
		sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
			for n := first; n <= last; n++ {
				owed[n] = true
				if sub.state.Flying(n) {
					flying[n] = true
				}
			}
			return true
		})
	})
	return owed, flying
}

// vanished asks the log why a debt ended by itself, and judges the reason.
func (r *rig) vanished(s *mSub, place uint64) {
	r.t.Helper()
	if s.kind == Live {
		tr, err := r.c.Trace(context.Background(), r.place[place].id)
		state := message.Dead
		if err == nil {
			for _, p := range tr.Places {
				if p.Subscription == s.name {
					state = p.State
				}
			}
		}
		s.settled(place, state)
		return
	}
	m, debt := r.place[place], s.owed[place]
	_, id, err := r.c.find(s.name)
	if err != nil {
		r.fail("%s: %v", s.name, err)
	}
	o, err := r.ob.Outcome(m.id)
	var end *outbox.Settlement
	for i := range o.Settled {
		if e := &o.Settled[i]; e.Sub == id && e.Seq == place && (e.Wall == 0 || e.Wall >= debt.born.UnixNano()) {
			end = &o.Settled[i]
		}
	}
	if end == nil {
		if (err != nil || o.Incomplete) && (debt.sends >= rigAttempts || r.overflowed(s) || r.expired(s, place) || m.cancelled || !s.matches(m.topic)) {
			s.settled(place, message.Dead) // a dead letter that fell out because of the limit, or its end was cleaned away
			return
		}
		r.fail("%s no longer owes %d after %d sends, and nothing says why: %v %+v", s.name, place, debt.sends, err, o)
	}
	ok := false
	switch end.State {
	case message.Expired:
		ok = r.expired(s, place)
	case message.Cancelled:
		ok = m.cancelled || !s.matches(m.topic)
	case message.Dead:
		ok = strings.HasPrefix(end.Reason, "overflow") || debt.sends >= rigAttempts
	default: // no other state comes by itself
	}
	if !ok {
		r.fail("%s no longer owes %d: %v %q after %d sends", s.name, place, end.State, end.Reason, debt.sends)
	}
	r.say("%s: %d ended as %v (%s)", s.name, place, end.State, end.Reason)
	s.settled(place, end.State)
}

func (r *rig) expired(s *mSub, place uint64) bool {
	age := r.ob.Age()
	if at := r.expires[place]; at != 0 && at <= age {
		return true
	}
	e, err := r.ob.Read(place)
	return err == nil && s.ttl > 0 && e.Msg.Age+int64(s.ttl) <= age
}

// readable makes sure that everything owed can be read.
func (r *rig) readable() {
	r.t.Helper()
	for _, s := range r.subs {
		for place := range s.owed {
			e, err := r.ob.Read(place)
			if err != nil {
				r.fail("%s owes %d, which is gone: %v", s.name, place, err)
			}
			if m := r.place[place]; m == nil || string(e.Msg.Payload) != m.payload || e.Msg.ID != m.id {
				r.fail("record %d is not what was published", place)
			}
		}
	}
}

// undo takes back what the crash at the time may have lost: settlements of the last second.
func (r *rig) undo(crash time.Time) {
	for _, s := range r.subs {
		owed, _ := r.owedBy(s)
		for _, e := range s.recent {
			if crash.Sub(e.at) <= time.Second+50*time.Millisecond && owed[e.place] && s.owed[e.place] == nil {
				r.say("%s: the crash undid %d", s.name, e.place)
				s.owed[e.place] = e.debt
				delete(s.ended, e.place)
				s.dead[e.place] = e.dead
			}
		}
		for _, e := range s.recent {
			if e.debt.withdraw && s.owed[e.place] == nil {
				s.ended[e.place] = unknown // delivered or cancelled: the crash decided
			}
		}
		s.recent = nil
	}
}

// unknown is an end of which only the program knows what it was.
const unknown = message.State(200)

// traces checks a message's trace against the model.
func (r *rig) traces(m *mMessage) {
	r.t.Helper()
	tr, err := r.c.Trace(context.Background(), m.id)
	if err != nil {
		if message.ProblemOf(err) == nil {
			r.fail("trace %v: %v", m.id, err)
		}
		return // cleaned away
	}
	if string(tr.Message.Payload) != m.payload {
		r.fail("trace %v shows another message", m.id)
	}
	if m.waits && !m.cancelled {
		if len(tr.Places) != 1 || tr.Places[0].State != message.Waiting {
			r.fail("trace of delayed %v: %+v", m.id, tr.Places)
		}
		return
	}
	said := map[string]message.Receipt{}
	for _, p := range tr.Places {
		said[p.Subscription] = p
	}
	for _, s := range r.subs {
		var last uint64
		owes, places := false, 0
		for place, of := range r.place {
			if of == m && (s.owed[place] != nil || s.ended[place] != 0) {
				last = max(last, place)
				places++
				owes = owes || s.owed[place] != nil
			}
		}
		p, told := said[s.name]
		switch {
		case places > 1:
			// Two copies are told of as one.
		case last == 0 && told:
			r.fail("trace %v tells of %s, which never owed it: %+v", m.id, s.name, p)
		case owes && (!told || p.State != message.Waiting && p.State != message.Sent):
			r.fail("trace %v: %s owes it, told %t %+v", m.id, s.name, told, p)
		case last != 0 && !owes && told && s.ended[last] != unknown && p.State != s.ended[last]:
			r.fail("trace %v: %s ended %v, told %+v", m.id, s.name, s.ended[last], p)
		case last != 0 && !owes && !told && !tr.Partial && s.kind != Live:
			r.fail("trace %v: %s ended %v, told nothing", m.id, s.name, s.ended[last])
		}
	}
}

// dead compares the dead letters.
func (r *rig) dead() []message.DeadLetter {
	r.t.Helper()
	list := r.c.DeadLetters(0, 1000)
	for _, d := range list {
		s := r.subs[d.Subscription]
		if s == nil {
			continue // its subscription was removed
		}
		if d.Message == nil {
			r.fail("dead letter %d of %s has lost its message", d.Entry, s.name)
		}
		if !s.dead[d.Message.Seq] {
			r.fail("%s: %d is a dead letter, but ended %v", s.name, d.Message.Seq, s.ended[d.Message.Seq])
		}
	}
	return list
}
