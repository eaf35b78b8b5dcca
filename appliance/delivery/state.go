package delivery

import "time"

// State is one subscription. Make one with [New] or [Decode]; use it from one goroutine at a time.
//
// Invariants:
//   - a number is owed in one lane at most, and once;
//   - everything in flight is owed; a number that ended is owed nowhere and tracked nowhere;
//   - [State.Sent] never brings more in flight than the window;
//   - those of live, when there is one.
type State struct {
	normal lane
	urgent *lane // nil until something is urgent
	rules  rules
	open   bool  // a link is attached
	window int32 // what Open asked for; 0: the policy's
	live   *live // nil while nothing of it is needed
}

// lane is a part of what is owed.
type lane struct {
	Set
	maybe uint64 // numbers up to here that are not tracked may have been sent once; 0 none
}

// Candidate is what to send next.
type Candidate struct {
	Seq     uint64
	Attempt int // 1 for the first transmission; from 2 on it may be a duplicate
	Urgent  bool
	Backlog bool // see [State.FreshFirst]; not said of a retry
}

// New returns a State that owes nothing.
func New(p Policy) *State { return &State{rules: p.rules()} }

// SetPolicy changes the policy. What is in flight beyond a smaller window stays there.
func (s *State) SetPolicy(p Policy) { s.rules = p.rules() }

// Owe adds a debt; what is owed already stays where it is. Numbers out of range are ignored.
func (s *State) Owe(seq uint64, urgent bool) {
	other := s.lane(!urgent)
	if other != nil && other.Has(seq) {
		return
	}
	l := s.lane(urgent)
	if l == nil {
		l = new(lane)
		s.urgent = l
	}
	if l.Add(seq) && s.live != nil {
		s.live.goBack(urgent, seq)
	}
}

func index(urgent bool) int {
	if urgent {
		return 1
	}
	return 0
}

// lane returns one lane; nil when the urgent one has never been used.
func (s *State) lane(urgent bool) *lane {
	if urgent {
		return s.urgent
	}
	return &s.normal
}

// find returns the lane that owes seq, or nil.
func (s *State) find(seq uint64) (l *lane, urgent bool) {
	if s.urgent != nil && s.urgent.Has(seq) {
		return s.urgent, true
	}
	if s.normal.Has(seq) {
		return &s.normal, false
	}
	return nil, false
}

// Owes reports whether seq is owed, in flight included.
func (s *State) Owes(seq uint64) bool {
	l, _ := s.find(seq)
	return l != nil
}

// Depth is how many numbers are owed, in flight included.
func (s *State) Depth() int64 {
	n := s.normal.Len()
	if s.urgent != nil {
		n += s.urgent.Len()
	}
	return n
}

// InFlight is how many are sent or leased and not answered.
func (s *State) InFlight() int {
	if s.live == nil {
		return 0
	}
	return s.live.flying
}

// Window is how many may be in flight now.
func (s *State) Window() int {
	if s.window > 0 {
		return int(s.window)
	}
	return int(s.rules.window)
}

// Oldest returns the lowest number owed.
func (s *State) Oldest() (uint64, bool) {
	seq, ok := s.normal.First()
	if s.urgent != nil {
		if u, has := s.urgent.First(); has && (!ok || u < seq) {
			return u, true
		}
	}
	return seq, ok
}

// CountIn returns how many numbers from first to last are owed, both included.
func (s *State) CountIn(first, last uint64) int64 {
	n := s.normal.CountIn(first, last)
	if s.urgent != nil {
		n += s.urgent.CountIn(first, last)
	}
	return n
}

// Each calls fn for the runs of owed numbers from…to, first those of the normal lane, then those of
// the urgent one, each ascending, until fn returns false. fn must not change s.
func (s *State) Each(from, to uint64, fn func(first, last uint64) bool) {
	more := true
	visit := func(first, last uint64) bool {
		more = fn(first, last)
		return more
	}
	s.normal.Each(from, to, visit)
	if more && s.urgent != nil {
		s.urgent.Each(from, to, visit)
	}
}

// Open attaches a link; window is its most messages in flight, 0 for the policy's. Everything owed
// can be sent again, from the front, nothing is parked any more; what was sent before is a redelivery. Only what waits for a
// retry goes on waiting: a nack's delay outlives the link, so that reconnecting does not use up the attempts.
// An open State is closed first.
func (s *State) Open(window int) {
	s.Close()
	s.open = true
	if window > 0 {
		s.window = Policy{Window: window}.rules().window
	}
}

// need returns the live part and makes it if there is none.
func (s *State) need() *live {
	if s.live == nil {
		s.live = new(live)
	}
	return s.live
}

// Close says that the link is gone. What was in flight is owed as before, with its counters; that is
// not a failed attempt.
func (s *State) Close() {
	s.open, s.window = false, 0
	l := s.live
	if l == nil {
		return
	}
	passed, skipped := l.parked.First() // was not sent, so a lane's mark must not say that it may have been
	mark := l.mark                      // behind it something may have been sent, and nothing in front
	l.cursor, l.offer, l.deadline, l.parked = [2]uint64{}, offer{}, 0, Set{}
	l.mark, l.old, l.held = 0, 0, false
	for i := 0; l.flying > 0 && i < len(l.tracks.all()); {
		t := &l.tracks.all()[i]
		switch {
		case t.phase != flying:
			i++
		case t.cancel:
			s.withdraw(t)
		case t.sends == 1 && t.fails == 0 && (!skipped || t.seq < passed) && (mark == 0 || t.urgent || t.seq <= mark): // the lane's mark says as much, in less memory
			lane := s.lane(t.urgent)
			lane.maybe = max(lane.maybe, t.seq)
			l.forget(t)
		default:
			l.setPhase(t, resting, 0)
			i++
		}
	}
	l.tracks.trim()
	s.rest()
}

// Trim gives back the room of what was in flight, if nothing is. A caller with many States calls it now and then: a busy
// State keeps its room, so that it is not allocated for every few numbers.
func (s *State) Trim() {
	if l := s.live; l != nil && l.flying == 0 && cap(l.tracks.buf) > 2*len(l.tracks.all())+spare {
		l.tracks.trim()
	}
}

// rest gives the live part's memory back when there is nothing in it.
func (s *State) rest() {
	if s.live != nil && !s.open && s.live.idle() {
		s.live = nil
	}
}

// withdraw ends a number that was cancelled while in flight.
func (s *State) withdraw(t *track) {
	s.live.withdrawn = append(s.live.withdrawn, t.seq)
	s.end(t)
}

// end removes a tracked number from everywhere.
func (s *State) end(t *track) {
	s.lane(t.urgent).Remove(t.seq)
	s.live.parked.Remove(t.seq)
	s.live.forget(t)
}

// Withdrawn returns the numbers that were cancelled while in flight and have ended without an ack
// since the last call, and forgets them. The caller settles them as cancelled.
func (s *State) Withdrawn() []uint64 {
	if s.live == nil {
		return nil
	}
	w := s.live.withdrawn
	s.live.withdrawn = nil
	s.rest()
	return w
}

// Next returns what to send next, and changes nothing: retries that are due come first, then the
// urgent lane, then the normal one, each in sequence order. There is nothing while no link is open,
// while the window is full, and nothing but retries while very many wait for theirs ([Policy]).
func (s *State) Next(now time.Time) (Candidate, bool) {
	if !s.open || s.live == nil && s.Depth() == 0 {
		return Candidate{}, false
	}
	l := s.need()
	if int64(l.flying) == s.Depth() {
		return Candidate{}, false // as after most transmissions: no need to search
	}
	l.ripen(now)
	window := s.Window()
	if l.flying >= window {
		return Candidate{}, false
	}
	if seq, ok := l.due.First(); ok {
		return s.candidate(seq, l.tracks.get(seq).urgent), true
	}
	if l.waiting >= max(retryRoom, 4*window) {
		return Candidate{}, false
	}
	if s.urgent != nil && s.look(s.urgent, &l.cursor[1], MaxSeq) {
		l.offer.urgent = true
		return s.candidate(l.offer.seq, true), true
	}
	if l.cursor[0] = max(l.cursor[0], l.mark); s.look(&s.normal, &l.cursor[0], MaxSeq) {
		return s.candidate(l.offer.seq, false), true
	}
	if l.mark > 0 && !l.held && s.look(&s.normal, &l.old, l.mark) {
		l.offer.backlog = true
		c := s.candidate(l.offer.seq, false)
		c.Backlog = true
		return c, true
	}
	return Candidate{}, false
}

// look moves a cursor to the first number above it and up to a limit that is not active, and offers that.
func (s *State) look(lane *lane, at *uint64, upto uint64) bool {
	for {
		seq, ok := lane.Next(*at)
		if !ok || seq > upto {
			return false
		}
		if !s.live.active(seq) {
			s.live.offer = offer{seq: seq}
			return true
		}
		*at = seq
	}
}

// FreshFirst has what is owed in the normal lane now come behind what will be, until the link is gone; while it is
// held it does not come at all. Retries go first all the same. The link must be open.
func (s *State) FreshFirst(held bool) {
	if !s.open {
		return
	}
	l := s.need()
	l.mark, l.old, l.held, l.offer = s.normal.nth(MaxSeq), 0, held, offer{}
}

// Hold has the backlog of [State.FreshFirst] not be offered any more, or again.
func (s *State) Hold(held bool) {
	if s.live != nil && s.live.held != held {
		s.live.held, s.live.offer = held, offer{}
	}
}

// Backlog reports whether the number belongs to the backlog of [State.FreshFirst].
func (s *State) Backlog(seq uint64) bool {
	return s.live != nil && seq <= s.live.mark && s.normal.Has(seq)
}

func (s *State) candidate(seq uint64, urgent bool) Candidate {
	sends, _ := s.counters(seq, s.lane(urgent))
	return Candidate{Seq: seq, Attempt: sends + 1, Urgent: urgent}
}

// counters returns what happened to an owed number so far.
func (s *State) counters(seq uint64, l *lane) (sends, fails int) {
	if s.live != nil {
		if t := s.live.tracks.get(seq); t != nil {
			sends, fails = int(t.sends), int(t.fails)
		}
	}
	if sends == 0 && seq <= l.maybe {
		sends = 1
	}
	return sends, fails
}

// Attempts returns how often an owed number was sent, or may have been, and how many attempts
// failed. Both end at 65,535. They are 0 for a number that is not owed.
func (s *State) Attempts(seq uint64) (sends, fails int) {
	l, _ := s.find(seq)
	if l == nil {
		return 0, 0
	}
	return s.counters(seq, l)
}

// Sent says that a link has accepted, or a client has leased, what [State.Next] offered. A deadline
// that passes without an answer is a failed attempt; zero: there is none. A number in flight is
// counted as sent again, with the new deadline. Sent for a number that is not owed, while no link is
// open or while the window is full changes nothing.
func (s *State) Sent(seq uint64, now, deadline time.Time) {
	if !s.open || s.live == nil && s.Depth() == 0 {
		return
	}
	l := s.need()
	t := l.tracks.get(seq)
	if t == nil || t.phase != flying {
		if l.flying >= s.Window() {
			return
		}
		lane, urgent := s.lane(l.offer.urgent), l.offer.urgent
		if seq != l.offer.seq { // else there is nothing to search for
			lane, urgent = s.find(seq)
		}
		if lane == nil {
			return
		}
		if t == nil {
			t = l.tracks.put(seq)
			t.urgent = urgent
		}
		l.parked.Remove(seq)
		if t.sends == 0 && seq <= lane.maybe {
			t.sends = 1
		}
	}
	t.countSend()
	l.scale(now)
	at := int64(0)
	if !deadline.IsZero() {
		at = l.scale(deadline)
	}
	l.setPhase(t, flying, at)
	if seq == l.offer.seq {
		l.pass()
	}
}

// Ack settles a number in flight and returns how often it was sent, at least once; 0 when it is not in
// flight, and nothing changes then.
func (s *State) Ack(seq uint64) (sends int) {
	t := s.flight(seq)
	if t == nil {
		return 0
	}
	sends = int(t.sends)
	s.end(t)
	return sends
}

// flight returns the track of a number in flight, or nil.
func (s *State) flight(seq uint64) *track {
	if s.live == nil || s.live.flying == 0 {
		return nil
	}
	if t := s.live.tracks.get(seq); t != nil && t.phase == flying {
		return t
	}
	return nil
}

// Drop ends a number from outside: expired, rejected, forbidden, lost. ok is false when it was not
// owed.
func (s *State) Drop(seq uint64) (wasInFlight, ok bool) {
	if s.live != nil {
		s.live.offer = offer{}
		if t := s.live.tracks.get(seq); t != nil {
			wasInFlight = t.phase == flying
			s.end(t)
			s.rest()
			return wasInFlight, true
		}
		s.live.parked.Remove(seq)
	}
	if s.normal.Remove(seq) {
		return false, true
	}
	return false, s.urgent != nil && s.urgent.Remove(seq)
}

// Cancel withdraws a number. It is true when the number was owed and not in flight: it has ended
// then. A number in flight is only marked: an ack may still come, but it is not sent again; when it
// comes back it ends and [State.Withdrawn] has it.
func (s *State) Cancel(seq uint64) bool {
	if t := s.flight(seq); t != nil {
		t.cancel = true
		return false
	}
	_, ok := s.Drop(seq)
	return ok
}

// MaybeSent says that the first n numbers owed in each lane may have been sent already, as after a
// crash with a link attached: their next attempt is 2 or higher.
func (s *State) MaybeSent(n int) {
	for _, urgent := range [...]bool{false, true} {
		if l := s.lane(urgent); l != nil {
			l.maybe = max(l.maybe, l.nth(int64(n)))
		}
	}
}

// nth returns the nth lowest number, or the highest if there are fewer; 0 when there is none.
func (s *Set) nth(n int64) (seq uint64) {
	s.Each(1, MaxSeq, func(first, last uint64) bool {
		if n <= 0 {
			return false
		}
		seq = last
		if uint64(n) <= last-first {
			seq = first + uint64(n) - 1
		}
		n -= run{first, last}.size()
		return true
	})
	return seq
}

// Return says that a number in flight comes back without having failed: whoever had it is gone. It is
// offered again before everything else. False when it is not in flight.
func (s *State) Return(seq uint64, now time.Time) bool {
	t := s.flight(seq)
	switch {
	case t == nil:
		return false
	case t.cancel:
		s.withdraw(t)
	default:
		s.live.setPhase(t, due, s.live.scale(now))
	}
	return true
}

// Flying reports whether the message is on its way: sent and neither acknowledged nor returned.
func (s *State) Flying(seq uint64) bool { return s.flight(seq) != nil }

// First returns the first numbers owed, most at most, in flight included: those of the urgent lane, then the normal one's,
// each ascending.
func (s *State) First(most int) (seqs []uint64) {
	for _, l := range [...]*lane{s.urgent, &s.normal} {
		if l == nil {
			continue
		}
		l.Each(1, MaxSeq, func(first, last uint64) bool {
			for seq := first; seq <= last && len(seqs) < most; seq++ {
				seqs = append(seqs, seq)
			}
			return len(seqs) < most
		})
	}
	return seqs
}
