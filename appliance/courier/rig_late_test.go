package courier

import (
	"context"
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

func (r *rig) check() {
	r.after()
	if len(r.msgs) > 0 {
		r.traces(r.msgs[max(len(r.msgs)-1-r.rnd.IntN(30), 0)])
	}
	r.dead()
}
