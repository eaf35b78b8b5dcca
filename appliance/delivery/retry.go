package delivery

import "time"

// Nack says that the receiver could not take a number in flight: a failed attempt. It comes again
// after delay, or after the policy's backoff when delay is not above 0.
func (s *State) Nack(seq uint64, now time.Time, delay time.Duration) Verdict {
	t := s.flight(seq)
	if t == nil {
		return Ignored
	}
	return s.fail(t, now, delay)
}

func (s *State) fail(t *track, now time.Time, delay time.Duration) Verdict {
	if t.cancel {
		s.withdraw(t)
		return Withdrawn
	}
	if t.fails < 1<<16-1 {
		t.fails++
	}
	if limit := s.rules.maxFails; limit > 0 && int32(t.fails) >= limit {
		s.end(t)
		return Exhausted
	}
	if delay <= 0 {
		delay = s.rules.backoff.Delay(int(t.fails))
	}
	s.live.setPhase(t, waiting, s.live.scale(now.Add(delay)))
	return Retry
}

// Timeouts fails every number in flight whose deadline has passed and calls fn for each, earliest
// first: Retry, Exhausted or Withdrawn. fn may use s. Afterwards [State.Wake] is later than now.
func (s *State) Timeouts(now time.Time, fn func(seq uint64, v Verdict)) {
	for s.live != nil {
		l := s.live
		at := l.scale(now)
		if l.deadline == 0 || l.deadline > at {
			l.ripen(now)
			return
		}
		for _, t := range l.overdue(at) {
			if s.live == l && l.is(t, flying) { // fn may have changed anything
				fn(t.seq, s.fail(l.tracks.get(t.seq), now, 0))
			}
		}
	}
}

// Wake returns when [State.Timeouts] or, while a link is open, [State.Next] may have something to do that
// it does not have to do now, and never a later time; false when time alone will change nothing. It may be the deadline of a
// number that is no longer in flight: an exact one would cost a search for each that is acknowledged.
func (s *State) Wake() (time.Time, bool) {
	l := s.live
	if l == nil {
		return time.Time{}, false
	}
	at, ok := l.deadline, l.deadline != 0
	if s.open {
		if r, has := l.retry(); has && (!ok || r.at < at) {
			at, ok = r.at, true
		}
	}
	if !ok {
		return time.Time{}, false
	}
	return l.time(at), true
}

// RetryDue returns when a number's retry is due, or was when it still has to be sent; false when it
// does not wait for one.
func (s *State) RetryDue(seq uint64) (time.Time, bool) {
	if s.live == nil {
		return time.Time{}, false
	}
	t := s.live.tracks.get(seq)
	if t == nil || t.phase != waiting && t.phase != due {
		return time.Time{}, false
	}
	return s.live.time(t.at), true
}
