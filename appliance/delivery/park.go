package delivery

// Park sets a number aside that the open link does not take. It stays owed, is not offered, and takes no
// place in the window nor among those that wait for retries, until [State.Unpark] or until the link is
// gone. A number that is in flight or not owed stays as it is.
func (s *State) Park(seq uint64) {
	if !s.open || !s.Owes(seq) {
		return
	}
	l := s.need()
	if t := l.tracks.get(seq); t != nil {
		if t.phase == flying {
			return
		}
		l.setPhase(t, resting, 0) // its counters stay
	}
	l.parked.Add(seq)
	if seq == l.offer.seq {
		l.pass()
	}
}

// Unpark offers again what [State.Park] set aside, in its order.
func (s *State) Unpark() {
	l := s.live
	if l == nil {
		return
	}
	first, ok := l.parked.First()
	if !ok {
		return
	}
	l.parked = Set{}
	for _, urgent := range [...]bool{false, true} {
		l.goBack(urgent, first)
	}
	l.goBack(false, max(first, l.mark+1))
}

// ParkedLen is how many numbers are set aside.
func (s *State) ParkedLen() int64 {
	if s.live == nil {
		return 0
	}
	return s.live.parked.Len()
}
