package courier

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

// some picks up to n different filters.
func (r *rig) some(n int) (list []message.Filter) {
	for range r.rnd.IntN(n + 1) {
		if f := pick(r, rigFilters); !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

// selection is what a link takes; none: all.
func (r *rig) selection() []message.Filter { return r.some(2) }

// choose changes what a link takes.
func (r *rig) choose() {
	s := r.sub(Inbox, Session)
	if s == nil || s.link == nil {
		return
	}
	r.collect()
	s.link.sel = r.selection()
	r.say("%s selects %v", s.name, s.link.sel)
	s.link.att.Select(s.link.sel)
	synctest.Wait()
}

// session makes a client's session, changes what it subscribes, or ends it as a clean start does.
func (r *rig) session() {
	client := pick(r, []string{"c1", "c2"})
	name := SessionName("key/app", client)
	s := r.subs[name]
	if s != nil && r.rnd.IntN(5) == 0 {
		r.collect()
		r.endSession(s)
		return
	}
	spec := Spec{
		Name: name, Owner: "key/app", Kind: Session, Filters: r.some(4), Passing: r.some(2),
		Expiry: pick(r, []time.Duration{0, 30 * time.Second, 200 * time.Second}), Meta: json.RawMessage(fmt.Sprint(r.rnd.IntN(3))),
	}
	var show []message.Filter
	if len(spec.Filters) > 0 && r.rnd.IntN(2) == 0 {
		show = spec.Filters[:1]
	}
	r.collect()
	if s != nil && s.link != nil {
		s.link.setRoom(0) // so that what is put back is still owed when the model looks
		if r.rnd.IntN(2) == 0 {
			r.ackAll(s, s.link) // just before: what is put back is owed again
			r.after()
		}
	}
	if !r.stored(func() error { return r.c.EnsureSession(context.Background(), spec, show) }) {
		return
	}
	r.say("session %s %v passing %v expiry %v shows %v", name, spec.Filters, spec.Passing, spec.Expiry, show)
	if s == nil {
		s = r.newSub(name, spec.Owner, Session, nil)
	}
	s.life, s.lifeSet, s.filters, s.passing = spec.Expiry, time.Now(), spec.Filters, spec.Passing
	r.adopt(s, show, 0, false)
	r.shows(s, show)
	if len(show) > 0 && r.rnd.IntN(3) == 0 {
		r.crash(nil)
		return
	}
	for _, l := range s.links() {
		l.setRoom(1 << 30)
		l.att.Ready()
	}
}

// shows checks that the session owes the retained messages that it asked to see.
func (r *rig) shows(s *mSub, show []message.Filter) {
	owed, _ := r.owedBy(s)
	for _, f := range show {
		list, err := r.c.Retained(context.Background(), f)
		if err != nil {
			r.fail("retained %s: %v", f, err)
		}
		for _, m := range list {
			if !owed[m.Seq] {
				r.fail("%s asked for what is retained on %s and does not owe %d", s.name, f, m.Seq)
			}
		}
	}
}

// shared has one more link join a group of subscribers, which it makes if it is not there.
func (r *rig) shared() {
	f := pick(r, []message.Filter{"job/#", "alarm/+/door"})
	name := SharedName("g", f)
	s := r.subs[name]
	if s == nil {
		s = r.newSub(name, "$share", Shared, []message.Filter{f})
		s.life = 200 * time.Second
	}
	l := newLink()
	if r.rnd.IntN(3) == 0 {
		l.room = r.rnd.IntN(4)
	}
	if len(s.members) < 4 {
		r.join(s, l)
	}
}

// join gives a group of subscribers one more link. A new one begins with nothing, not even with what is retained.
func (r *rig) join(s *mSub, l *mLink) {
	r.t.Helper()
	r.collect()
	spec := Spec{Name: s.name, Owner: s.owner, Filters: s.filters, Expiry: s.life}
	if !r.stored(func() (err error) {
		l.att, err = r.c.AttachShared(context.Background(), spec, l, AttachOptions{})
		return err
	}) {
		if len(s.members) == 0 && len(s.owed) == 0 {
			delete(r.subs, s.name)
		}
		return
	}
	r.say("one more joins %s", s.name)
	s.use()
	s.linked = true
	s.members = append(s.members, l)
}

// part takes a link out of a group: what it has not acknowledged goes to the others.
func (r *rig) part(s *mSub, l *mLink) {
	r.collect()
	r.say("one of %d leaves %s with %v", len(s.members), s.name, slices.Sorted(maps.Keys(l.flying)))
	s.use()
	s.members = slices.DeleteFunc(s.members, func(m *mLink) bool { return m == l })
	l.att.Close(Goodbye)
	synctest.Wait()
}

// notes has a session's protocol note something, alone or together with a message.
func (r *rig) notes() {
	s := r.sub(Session)
	if s == nil {
		return
	}
	var list []Note
	for range 1 + r.rnd.IntN(3) {
		n := Note{Key: uint32(1 + r.rnd.IntN(6))}
		if r.rnd.IntN(3) > 0 {
			n.Value = fmt.Appendf(nil, "note %d", r.rnd.IntN(1000))
		}
		list = append(list, n)
	}
	done := make(chan error, 1)
	if r.rnd.IntN(2) == 0 {
		r.c.Note(s.name, list, func(err error) { done <- err })
		if r.stored(func() error { return <-done }) {
			s.noted(list)
		}
		return
	}
	m := r.message()
	m.Key = ""
	payload, delay := string(m.Payload), m.Delay
	var as message.StoredAs
	r.c.PublishNoted(m, s.name, list, func(got message.StoredAs, err error) { as = got; done <- err })
	if r.stored(func() error { return <-done }) {
		s.noted(list)
		r.published(m, payload, as, delay)
	}
}

func (s *mSub) noted(list []Note) {
	s.noting = true
	for _, n := range list {
		if s.notes[n.Key] = n.Value; len(n.Value) == 0 {
			delete(s.notes, n.Key)
		}
	}
}

// remembers checks the notes of a session.
func (r *rig) remembers(s *mSub) {
	r.t.Helper()
	if s.kind != Session {
		return
	}
	st, ok, err := r.c.Session(context.Background(), s.name)
	if err != nil {
		r.fail("session %s: %v", s.name, err)
	}
	if over := s.life > 0 && len(s.links()) == 0 && time.Since(s.used) > s.life; !ok && !over {
		r.fail("session %s is over after %v", s.name, time.Since(s.used))
	}
	if ok && !maps.EqualFunc(st.Notes, s.notes, bytes.Equal) {
		r.fail("session %s remembers %v, want %v", s.name, st.Notes, s.notes)
	}
}

// expects notes that a message is to be handed on that nobody owes: it must come over a link with room for all, and may over
// another one.
func (s *mSub) expects(m *mMessage) {
	if !slices.ContainsFunc(s.passing, func(f message.Filter) bool { return f.Match(m.topic) }) {
		return
	}
	for _, l := range s.links() {
		if len(l.sel) == 0 || slices.ContainsFunc(l.sel, func(f message.Filter) bool { return f.Match(m.topic) }) {
			s.expect[m.payload] = l.free() >= 1<<20
		}
	}
}

// handed checks a transmission that nobody owes.
func (r *rig) handed(s *mSub, d Delivery) {
	r.t.Helper()
	if _, ok := s.expect[string(d.Msg.Payload)]; !ok {
		r.released()
	}
	if _, ok := s.expect[string(d.Msg.Payload)]; !ok {
		r.fail("%s was handed %v on %s, passing %v", s.name, d.Msg.ID, d.Msg.Topic, s.passing)
	}
	delete(s.expect, string(d.Msg.Payload))
}

// there reports whether the subscription is there, and fails when it should not be, or should be: it ends when nobody
// used it for its life, and not before.
func (r *rig) there(s *mSub) bool {
	r.t.Helper()
	if s.life == 0 {
		return true
	}
	idle := len(s.links()) == 0
	if _, _, err := r.c.find(s.name); err != nil {
		if !idle || time.Since(s.used) <= s.life {
			r.fail("%s ended %v after somebody used it", s.name, time.Since(s.used))
		}
		r.say("%s ended: nobody used it", s.name)
		delete(r.subs, s.name)
		return false
	}
	last := slices.MaxFunc([]time.Time{s.used, s.lifeSet, r.born, r.full}, time.Time.Compare)
	if idle && !s.pull && time.Since(last) > s.life+3*tickEvery {
		r.fail("%s is there, though nobody used it for %v", s.name, time.Since(s.used))
	}
	return true
}
