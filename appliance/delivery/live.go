package delivery

import (
	"cmp"
	"slices"
	"time"
)

// retryRoom is how many numbers may wait for retries at least, see [Policy]; 24 bytes each.
const retryRoom = 1024

// live is the part of a State that most subscriptions of an offline appliance's table do not need:
// it exists while something is tracked, and while a link is attached from the first debt on.
//
// Invariants: every track's number is owed, in the lane that it names; every owed number up to its
// lane's cursor is flying, waiting, due or parked; what is parked is owed, its track, if any, is resting,
// and a link is open; each phase's counter agrees; the due set holds exactly
// the numbers of phase due; no flying track has a deadline before deadline; every
// waiting one has its timer in retries.
type live struct {
	tracks  table
	flying  int
	waiting int // waiting and due

	cursor    [2]uint64 // by lane, see the invariant
	mark      uint64    // numbers of the normal lane up to it come behind the others; 0: see FreshFirst
	old       uint64    // cursor among those; the normal lane's cursor is never below mark
	held      bool      // those do not come at all
	offer     offer     // what Next last found by moving a cursor; zero when something got in between
	deadline  int64     // 0: no flying track has one. It may have been of one that is acknowledged: most are, long before
	retries   timers    // of waiting tracks
	due       Set
	parked    Set // what the link does not take, see [State.Park]
	withdrawn []uint64
	start     time.Time // the scale's zero; keeps the monotonic clock's reading, if there is one
}

// offer is a number that is owed, in the lane that it names, and the first one above its cursor that
// is not active.
type offer struct {
	seq     uint64
	urgent  bool
	backlog bool // the cursor is the backlog's
}

// pass moves the cursor of what was offered over it.
func (l *live) pass() {
	if l.offer.backlog {
		l.old = l.offer.seq
	} else {
		l.cursor[index(l.offer.urgent)] = l.offer.seq
	}
	l.offer = offer{}
}

// scale returns t in nanoseconds since the first time that was ever seen. 0 is no time.
func (l *live) scale(t time.Time) int64 {
	if l.start.IsZero() {
		l.start = t.Add(-1)
	}
	if d := int64(t.Sub(l.start)); d != 0 {
		return d
	}
	return 1
}

func (l *live) time(at int64) time.Time { return l.start.Add(time.Duration(at)) }

// setPhase moves a track and keeps the counters.
func (l *live) setPhase(t *track, p phase, at int64) {
	switch t.phase {
	case resting:
	case flying:
		if l.flying--; l.flying == 0 {
			l.deadline = 0
		}
	case waiting:
		if l.waiting--; l.waiting == 0 {
			l.retries.clear()
		}
	case due:
		l.waiting--
		l.due.Remove(t.seq)
	}
	t.phase, t.at = p, at
	switch p {
	case resting:
	case flying:
		l.flying++
		l.expect(at)
	case waiting:
		l.waiting++
		if len(l.retries) > 2*l.waiting+16 {
			l.retries.keep(l.freshRetry)
		}
		l.retries.push(timer{at, t.seq})
	case due:
		l.waiting++
		l.due.Add(t.seq)
	}
}

// expect notes the deadline of a flying track; 0: it has none.
func (l *live) expect(at int64) {
	if at != 0 && (l.deadline == 0 || at < l.deadline) {
		l.deadline = at
	}
}

// overdue returns the deadlines of flying tracks that have passed, earliest first, and forgets those of tracks that fly no more.
func (l *live) overdue(now int64) (late []timer) {
	l.deadline = 0
	for _, t := range l.tracks.all() {
		switch {
		case t.phase != flying || t.at == 0:
		case t.at <= now:
			late = append(late, timer{t.at, t.seq})
		default:
			l.expect(t.at)
		}
	}
	slices.SortFunc(late, func(a, b timer) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
	return late
}

func (l *live) freshRetry(t timer) bool { return l.is(t, waiting) }

// is reports whether the track is in the phase, with that time.
func (l *live) is(t timer, p phase) bool {
	k := l.tracks.get(t.seq)
	return k != nil && k.phase == p && k.at == t.at
}

// retry returns the earliest retry that is not stale.
func (l *live) retry() (timer, bool) {
	for len(l.retries) > 0 {
		if l.freshRetry(l.retries[0]) {
			return l.retries[0], true
		}
		l.retries.pop()
	}
	return timer{}, false
}

// ripen makes the retries due whose time has come.
func (l *live) ripen(now time.Time) {
	if len(l.retries) == 0 {
		return
	}
	at := l.scale(now)
	for {
		t, ok := l.retry()
		if !ok || t.at > at {
			return
		}
		l.retries.pop()
		l.setPhase(l.tracks.get(t.seq), due, t.at)
	}
}

// forget removes the track of a number that is no longer owed.
func (l *live) forget(t *track) {
	l.setPhase(t, resting, 0)
	l.tracks.remove(t.seq)
}

// goBack makes Next see a new debt that may lie before what it has passed.
func (l *live) goBack(urgent bool, seq uint64) {
	if seq < l.offer.seq {
		l.offer = offer{}
	}
	at := &l.cursor[index(urgent)]
	if !urgent && seq <= l.mark {
		at = &l.old
	}
	if seq <= *at {
		*at = seq - 1
	}
}

// active reports whether the number is on its way, has its own time to be, or is parked.
func (l *live) active(seq uint64) bool {
	if t := l.tracks.get(seq); t != nil && t.phase != resting {
		return true
	}
	return l.parked.Has(seq)
}

// idle reports whether nothing is worth remembering.
func (l *live) idle() bool {
	return len(l.tracks.all()) == 0 && len(l.withdrawn) == 0
}
