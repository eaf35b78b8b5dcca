package courier

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing/synctest"

	"edgepost/appliance/message"
)

// client is the session of a random client, if it is there, and its name.
func (r *rig) client() (*mSub, string) {
	name := SessionName("key/app", pick(r, []string{"c1", "c2"}))
	return r.subs[name], name
}

// sharer picks a member of a group that has messages on their way, and some of them.
func (r *rig) sharer() (g *mSub, l *mLink, places []uint64) {
	r.collect()
	g = r.sub(Shared)
	if g == nil || len(g.members) == 0 {
		return nil, nil, nil
	}
	l = pick(r, g.members)
	for _, place := range slices.Sorted(maps.Keys(l.flying)) {
		if r.rnd.IntN(3) > 0 {
			places = append(places, place)
		}
	}
	return g, l, places
}

// give moves what a member of a group has into a client's session, as QoS 2 does, or fails to when there is none.
func (r *rig) give() {
	g, l, places := r.sharer()
	s, name := r.client()
	if len(places) == 0 || s != nil && s.link != nil && s.link.auto { // with AutoSettle it is over before one can look
		return
	}
	r.say("%s gives %v to %s", g.name, places, name)
	l.att.(Member).Give(places, name)
	synctest.Wait()
	for _, place := range places {
		delete(l.flying, place) // if it is still owed, it comes again to any member
		withdraw := g.owed[place].withdraw
		if moved := r.given(g, place); !withdraw && moved != (s != nil) && r.ob.Health() == nil {
			r.fail("%d of %s moved to %s: %t", place, g.name, name, moved)
		}
	}
}

// giveAndCrash does so while the member leaves, its session perhaps ends, and the appliance crashes.
func (r *rig) giveAndCrash() {
	g, l, places := r.sharer()
	if len(places) == 0 {
		return
	}
	s, name := r.client()
	for _, s := range r.subs {
		for _, l := range s.links() { // what it takes meanwhile nobody would look at
			l.setRoom(0)
		}
	}
	ends := s != nil && r.rnd.IntN(2) == 0
	before, pause := r.rnd.IntN(2) == 0, r.rnd.IntN(3) == 0
	r.say("%s gives %v to %s, which ends: %t, and a crash", g.name, places, name, ends)
	r.crash(func() {
		end := func() {
			if ends {
				_ = r.c.Remove(context.Background(), name)
			}
		}
		var both sync.WaitGroup
		if before {
			both.Go(end)
		}
		l.att.(Member).Give(places, name)
		l.att.Close(Goodbye)
		if !before {
			both.Go(end)
		}
		if pause {
			both.Wait()
		}
	}, func() {
		for _, place := range places {
			r.given(g, place)
		}
		if s != nil {
			r.bequeath(s)
		}
		if ends {
			if _, _, err := r.c.find(name); err != nil {
				r.say("%s ended", name)
				delete(r.subs, name)
			}
		}
	})
}

// stray is a copy of a message that somebody owes and the model does not know yet.
type stray struct {
	s     *mSub
	place uint64
}

// strays finds the copies that were made by moves.
func (r *rig) strays(m *mMessage) (list []stray) {
	r.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(r.subs)) {
		s := r.subs[name]
		if _, _, err := r.c.find(name); err != nil || s.kind != Shared && s.kind != Session {
			continue
		}
		owed, _ := r.owedBy(s)
		for _, place := range slices.Sorted(maps.Keys(owed)) {
			if s.owed[place] != nil || r.place[place] != nil {
				continue
			}
			if e, err := r.ob.Read(place); err == nil && e.Target != 0 && e.Msg.ID == m.id {
				list = append(list, stray{s, place})
			}
		}
	}
	return list
}

// given finds out whether a group's debt was moved; then exactly one session owes the copy, or the group again.
func (r *rig) given(g *mSub, place uint64) bool {
	r.t.Helper()
	if owed, _ := r.owedBy(g); owed[place] {
		return false
	}
	m := r.place[place]
	list := r.strays(m)
	if len(list) == 0 && g.owed[place].withdraw {
		g.settled(place, message.Cancelled)
		return true
	}
	if len(list) != 1 || list[0].s.kind == Shared && list[0].s != g {
		r.fail("%s no longer owes %d (%v), and now it is owed by %+v", g.name, place, m.id, list)
	}
	delete(g.owed, place)
	r.moved(m, list[0], g)
	return true
}

func (r *rig) moved(m *mMessage, to stray, g *mSub) {
	r.say("%v of %s is %d of %s now", m.id, g.name, to.place, to.s.name)
	r.noted(m, to.place)
	m.fanned = true
	to.s.owed[to.place] = &mDebt{}
	if to.s != g {
		to.s.owed[to.place].giver = g
	}
}

// bequests looks what became of the messages that groups had given to sessions which have ended by themselves.
func (r *rig) bequests() {
	r.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(r.subs)) {
		if _, _, err := r.c.find(name); err != nil {
			r.bequeath(r.subs[name])
		}
	}
}

// bequeath checks that what a session was given and does not owe any more is a dead letter, or the group's again if it was never
// sent: one of the two.
func (r *rig) bequeath(s *mSub) {
	r.t.Helper()
	var owed map[uint64]bool
	_, _, err := r.c.find(s.name)
	if err == nil {
		owed, _ = r.owedBy(s)
	}
	for _, place := range slices.Sorted(maps.Keys(s.owed)) {
		d, m := s.owed[place], r.place[place]
		if d.giver == nil || owed[place] {
			continue
		}
		delete(s.owed, place)
		end, known := r.endAt(m, place, d)
		list := r.strays(m)
		switch {
		case len(list) == 0 && known && d.sends == 0 && end == message.Dead && !s.crossed && r.subs[d.giver.name] == d.giver && !r.ended(d.giver):
			r.fail("%d of %s was never sent and does not go back to %s", place, s.name, d.giver.name)
		case len(list) == 0 && known:
			r.say("%d of %s ended %v", place, s.name, end)
		case len(list) == 1 && !known && d.sends == 0 && list[0].s == d.giver:
			r.back++
			r.moved(m, list[0], d.giver)
		default:
			if len(list) == 0 && r.ended(d.giver) && d.sends == 0 {
				continue // it went back, and ended with the group
			}
			r.fail("%s ended with %d (%v), sent %d times: settled %t as %v, owed by %+v", s.name, place, m.id, d.sends, known, end, list)
		}
	}
}

// endAt is how the log says that the debt at the place ended; one that was cleaned away is unknown, but known to have ended.
func (r *rig) endAt(m *mMessage, place uint64, d *mDebt) (message.State, bool) {
	o, err := r.ob.Outcome(m.id)
	_, group, _ := r.c.find(d.giver.name)
	for i := range o.Settled {
		if e := &o.Settled[i]; e.Sub == group && e.Seq > place && r.place[e.Seq] == nil && e.State == message.Expired && d.sends == 0 {
			r.noted(m, e.Seq) // it went back, and its time was over meanwhile
			d.giver.ended[e.Seq], d.giver.dead[e.Seq] = e.State, true
			return e.State, true
		}
		if o.Settled[i].Seq == place {
			if o.Settled[i].Reason == sessionEnded {
				r.died++
			}
			return o.Settled[i].State, true
		}
	}
	return unknown, len(r.strays(m)) == 0 && (err != nil || o.Incomplete || m.cancelled)
}

// ended reports whether a group is over, or another one has its name.
func (r *rig) ended(g *mSub) bool {
	_, _, err := r.c.find(g.name)
	return err != nil || r.subs[g.name] != g
}

// sentTo notes which session was sent what a group gave it: never two of them.
func (r *rig) sentTo(s *mSub, m *mMessage, d *mDebt) {
	r.t.Helper()
	if d.giver == nil {
		return
	}
	if m.sentTo != nil && m.sentTo != s {
		r.fail("%v was sent to two sessions: %s, and %s before", m.id, s.name, m.sentTo.name)
	}
	m.sentTo = s
}

// endSession ends a session, while its link perhaps takes more.
func (r *rig) endSession(s *mSub) {
	l, busy := s.link, sync.WaitGroup{}
	if l != nil && r.rnd.IntN(2) == 0 {
		busy.Go(func() {
			l.setRoom(1 << 30)
			l.att.Ready()
		})
	}
	ok := r.stored(func() error { return r.c.Remove(context.Background(), s.name) })
	busy.Wait()
	synctest.Wait()
	if !ok {
		return
	}
	r.say("ended %s", s.name)
	if l != nil {
		got, _ := l.take()
		for _, d := range got {
			r.received(s, l, d)
		}
	}
	r.bequeath(s)
	delete(r.subs, s.name)
}
