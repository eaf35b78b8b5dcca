package courier

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"edgepost/appliance/message"
)

// The notes of an exact delivery: a packet id was given to the message, and the client said that it has it.
const (
	noteSent     = 's'
	noteReleased = 'r'
)

// exact does one step of a delivery by MQTT's QoS 2, as the listener does it with the courier's notes: the packet id is
// noted before PUBLISH, its release before PUBREL, and it is forgotten after PUBCOMP and a look at the session. Whatever happens between, the client
// has the message once.
func (r *rig) exact() {
	s := r.sub(Session)
	if s == nil || s.link == nil || s.link.auto {
		return
	}
	r.collect()
	if r.rnd.IntN(3) == 0 {
		r.complete(s)
		return
	}
	flying := slices.Sorted(maps.Keys(s.link.flying))
	if len(flying) == 0 {
		return
	}
	place := pick(r, flying)
	key := exactKey(place)
	switch note := s.notes[key]; {
	case len(note) == 0:
		if !r.note(s, Note{Key: key, Value: fmt.Appendf([]byte{noteSent}, "%d", place)}) {
			return
		}
		if !s.got[key] {
			s.got[key] = true
			s.owed[place].exact++
		}
		r.say("%s has %d exactly", s.name, place)
		if n := s.owed[place].exact; n > 1 {
			r.fail("%s has %d %d times", s.name, place, n)
		}
	case note[0] == noteSent && !r.note(s, Note{Key: key, Value: fmt.Appendf([]byte{noteReleased}, "%d", place)}):
	default: // it was released, before a crash perhaps that undid the settlement
		r.say("%s released %d", s.name, place)
		s.link.att.Ack([]uint64{place})
		s.settled(place, message.Delivered)
		if r.rnd.IntN(2) == 0 { // at once, while the acknowledgement is on its way to the shard
			r.complete(s)
			if r.rnd.IntN(4) == 0 {
				r.crash(nil)
			}
		}
	}
}

// exactKey is the packet id of a place: there is one for each here.
func exactKey(place uint64) uint32 { return 1<<31 | uint32(place) }

// complete has the client answer what was released.
func (r *rig) complete(s *mSub) {
	if _, _, err := r.c.Session(context.Background(), s.name); err != nil {
		r.fail("session %s: %v", s.name, err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.notes)) {
		if key&(1<<31) == 0 || s.notes[key][0] != noteReleased {
			continue
		}
		delete(s.got, key)
		if s.owed[uint64(key&^(1<<31))] == nil && r.note(s, Note{Key: key}) {
			r.say("%s completed %d", s.name, key&^(1<<31))
		}
	}
}

// note stores one note; false when the log took it not.
func (r *rig) note(s *mSub, n Note) bool {
	done := make(chan error, 1)
	r.c.Note(s.name, []Note{n}, func(err error) { done <- err })
	err := <-done
	if p := message.ProblemOf(err); p != nil && p.Code == message.CodeStorageFull {
		return false
	}
	if err != nil {
		r.fail("note of %s: %v", s.name, err)
	}
	s.noted([]Note{n})
	return true
}
