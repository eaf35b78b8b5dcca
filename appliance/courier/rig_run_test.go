package courier

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

// step does one random thing.
func (r *rig) step() {
	switch n := r.rnd.IntN(300); {
	case n >= 262:
		r.give()
	case n >= 256:
		r.giveAndCrash()
	case n >= 240:
		r.exact()
	case n >= 232:
		r.shared()
	case n >= 220:
		r.session()
	case n >= 208:
		r.notes()
	case n >= 200:
		r.choose()
	case n < 60:
		r.publish()
	case n < 100:
		r.answer()
	case n < 116:
		r.attach()
	case n < 122:
		r.detach()
	case n < 130:
		r.inbox()
	case n < 138:
		r.named()
	case n < 150:
		r.fetch()
	case n < 154:
		r.rewind()
	case n < 160:
		r.live()
	case n < 166:
		r.cancel()
	case n < 170:
		r.requeue()
	case n < 174:
		r.again()
	case n < 178:
		r.move()
	case n < 182:
		r.check()
	case n < 185:
		r.crash(nil)
	case n < 187:
		r.busyCrash()
	case n < 188:
		r.restart()
	case n < 198:
		r.sleep(time.Duration(r.rnd.IntN(4)) * time.Second)
	default:
		r.sleep(time.Duration(r.rnd.IntN(100)) * time.Second)
	}
	r.after()
}

// busyCrash copies the directory while messages are being stored. What was answered before the copy
// began must be there; the others may be.
func (r *rig) busyCrash() {
	type try struct {
		m       *message.Message
		payload string
		delay   time.Duration
		early   bool
		note    *Note
	}
	session := r.sub(Session)
	var tries []*try
	r.collect()
	for _, s := range r.subs {
		for _, l := range s.links() { // what it takes meanwhile nobody would look at
			l.setRoom(0)
		}
	}
	r.crash(func() {
		var mu sync.Mutex
		copying := false
		for range 1 + r.rnd.IntN(40) {
			m := r.message()
			m.Key = ""
			t := &try{m: m, payload: string(m.Payload), delay: m.Delay}
			tries = append(tries, t)
			done := func(_ message.StoredAs, err error) {
				mu.Lock()
				defer mu.Unlock()
				t.early = err == nil && !copying
			}
			if session != nil && r.rnd.IntN(3) == 0 {
				t.note = &Note{Key: uint32(100 + r.rnd.IntN(3)), Value: []byte(t.payload[:min(len(t.payload), 20)])}
				r.c.PublishNoted(m, session.name, []Note{*t.note}, done)
			} else {
				r.ob.Publish(m, done)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		copying = true
	}, func() {
		found := map[string]*message.Message{}
		if err := r.ob.Each(1, ^uint64(0), func(e outboxEntry) bool {
			if e.Msg != nil && e.Msg.ID.Seq == e.Seq {
				found[string(e.Msg.Payload)] = e.Msg
			}
			return true
		}); err != nil {
			r.fail("read the log: %v", err)
		}
		for _, t := range tries {
			switch m := found[t.payload]; {
			case m != nil:
				mm := r.published(m, t.payload, message.StoredAs{ID: m.ID, Seq: m.Seq}, t.delay)
				mm.due = mm.due.Add(time.Millisecond)
				if t.note != nil { // in the same frame
					session.noted([]Note{*t.note})
					session.crossed = true
				}
			case t.early:
				r.fail("a message that was acknowledged is lost: %.20q", t.payload)
			}
		}
	})
}

// finish lets everything come to its end: all connect, take everything, and owe nothing.
func (r *rig) finish() {
	r.say("finish")
	for name, s := range r.subs {
		if s.kind == Live {
			s.link.att.Close(Goodbye)
			delete(r.subs, name)
		}
	}
	r.sleep(15 * time.Second) // every delay is over then
	for range 400 {
		open := 0
		for _, name := range slices.Sorted(maps.Keys(r.subs)) {
			s := r.subs[name]
			l := r.takesAll(s)
			r.collect()
			r.ackAll(s, l)
			open += len(s.owed)
		}
		r.after()
		if open == 0 {
			break
		}
		if r.rnd.IntN(4) == 0 {
			r.sleep(time.Second)
		}
	}
	for _, s := range r.subs {
		if len(s.owed) > 0 {
			r.fail("%s never gets %v", s.name, slices.Sorted(maps.Keys(s.owed)))
		}
	}
	r.sleep(2 * time.Second) // all ends are in the log then
	r.crash(nil)
	r.sleep(5 * time.Second)
	if st := r.c.Status(); st.Owed != 0 {
		r.fail("%d owed when all is done", st.Owed)
	}
}

// ackAll has the link acknowledge everything that it has.
func (r *rig) ackAll(s *mSub, l *mLink) {
	flying := slices.Sorted(maps.Keys(l.flying))
	l.att.Ack(flying)
	for _, place := range flying {
		s.settled(place, message.Delivered)
	}
}

// takesAll makes sure that the subscription has one link, which takes everything.
func (r *rig) takesAll(s *mSub) *mLink {
	for len(s.members) > 1 {
		r.part(s, s.members[0])
	}
	if links := s.links(); len(links) == 1 && !links[0].auto && links[0].free() >= 1<<20 && len(links[0].sel) == 0 {
		return links[0]
	}
	l := newLink()
	if s.kind == Shared {
		r.join(s, l)
		if len(s.members) > 1 {
			r.part(s, s.members[0])
		}
		return l
	}
	r.attachTo(s, l, AttachOptions{Window: 50})
	return l
}

func runRig(t *testing.T, seed uint64, steps int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, seed)
		defer func() {
			r.c.Stop()
			_ = r.ob.Close()
		}()
		r.inbox()
		for range steps {
			r.step()
		}
		r.finish()
		t.Logf("of what groups gave to sessions, %d went back and %d died at a session's end", r.back, r.died)
	})
}

// TestAgainstModel runs random histories with restarts and crashes. EDGEPOST_SEED=n repeats one,
// EDGEPOST_LONG=n runs that many, each with EDGEPOST_STEPS steps.
func TestAgainstModel(t *testing.T) {
	first, n, steps := uint64(1), uint64(25), 150
	if raceEnabled || testing.Short() {
		n = 6
	}
	if l, err := strconv.ParseUint(os.Getenv("EDGEPOST_LONG"), 10, 64); err == nil {
		n, steps = l, 600
	}
	if s, err := strconv.ParseUint(os.Getenv("EDGEPOST_SEED"), 10, 64); err == nil {
		first, n = s, max(n, 1)
		if os.Getenv("EDGEPOST_LONG") == "" {
			n = 1
		}
	}
	if s, err := strconv.Atoi(os.Getenv("EDGEPOST_STEPS")); err == nil {
		steps = s
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runRig(t, seed, steps) })
	}
}
