package courier

import (
	"context"
	"slices"
	"testing/synctest"

	"edgepost/appliance/message"
)

func (r *rig) cancel() {
	if len(r.msgs) == 0 {
		return
	}
	m := r.msgs[max(len(r.msgs)-1-r.rnd.IntN(20), 0)]
	if m.cancelled {
		return
	}
	r.collect()
	n, err := r.c.Cancel(context.Background(), m.id)
	if err != nil {
		if message.ProblemOf(err) == nil {
			r.fail("cancel %v: %v", m.id, err)
		}
		return
	}
	r.say("cancelled %v at %d", m.id, n)
	synctest.Wait()
	if m.waits {
		if n != 1 {
			r.fail("cancel of delayed %v: %d", m.id, n)
		}
		m.cancelled = true
		return
	}
	ended := 0
	for _, s := range r.subs {
		_, flying := r.owedBy(s)
		for place, of := range r.place {
			if of != m || s.owed[place] == nil {
				continue
			}
			m.cancelled = true
			if flying[place] {
				s.owed[place].withdraw = true
				continue
			}
			ended++
			s.settled(place, message.Cancelled)
		}
	}
	if ended != n {
		r.fail("cancel %v: says %d, was owed by %d", m.id, n, ended)
	}
}

func (r *rig) requeue() {
	r.after()
	list := r.dead()
	if len(list) == 0 {
		return
	}
	d := pick(r, list)
	as, err := r.ob.Requeue(context.Background(), d.Entry)
	if err != nil {
		if message.ProblemOf(err) == nil {
			r.fail("requeue: %v", err)
		}
		return
	}
	synctest.Wait()
	r.say("requeued %v of %s as %d", as.ID, d.Subscription, as.Seq)
	m := r.byID[as.ID.Seq]
	if m == nil {
		r.fail("requeue gave %v", as.ID)
	}
	r.noted(m, as.Seq)
	m.fanned = true
	if s := r.subs[d.Subscription]; s != nil {
		s.owed[as.Seq] = &mDebt{}
	}
}

// move gives a message that waits another priority of the same lane, for one subscription.
func (r *rig) move() {
	r.after()
	s := r.sub(Inbox, Named)
	if s == nil {
		return
	}
	_, flying := r.owedBy(s)
	var places []uint64
	for place := range s.owed {
		if m := r.place[place]; m != nil && !flying[place] && !m.cancelled {
			places = append(places, place)
		}
	}
	if len(places) == 0 {
		return
	}
	slices.Sort(places)
	m := r.place[pick(r, places)]
	priority := uint8(r.rnd.IntN(7))
	if m.urgent {
		priority = uint8(7 + r.rnd.IntN(3))
	}
	as, err := r.c.Move(context.Background(), s.name, m.id, priority)
	if err != nil {
		if message.ProblemOf(err) == nil {
			r.fail("move: %v", err)
		}
		return
	}
	synctest.Wait()
	r.say("moved %v of %s to %d", m.id, s.name, as.Seq)
	old := uint64(0) // of several copies, the first one is moved
	for place, of := range r.place {
		if of == m && s.owed[place] != nil && (old == 0 || place < old) {
			old = place
		}
	}
	r.noted(m, as.Seq)
	m.fanned = true
	delete(s.owed, old)
	s.ended[old] = message.Cancelled
	s.owed[as.Seq] = &mDebt{}
}

func (r *rig) check() {
	r.after()
	if len(r.msgs) > 0 {
		r.traces(r.msgs[max(len(r.msgs)-1-r.rnd.IntN(30), 0)])
	}
	r.dead()
}
