package mqtt

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

const (
	noteRetry = time.Second // before notes that could not be stored are tried again
	maxNotes  = 1024        // of one call
)

// noteRoom keeps the order of a session's durable notes: one call is on its way at a time, what comes
// meanwhile goes together with the next. Under session.mu.
type noteRoom struct {
	waiting []noteOp
	flying  []noteOp
}

// noteOp is one note and what is to be done when it is durable.
type noteOp struct {
	note  courier.Note
	do    opKind
	id    uint16
	entry entry // of opSend
}

type opKind uint8

const (
	opForget   opKind = iota // nothing
	opSend                   // write the PUBLISH
	opRelease                // settle the message and write PUBREL
	opComplete               // write PUBCOMP
)

// noteLocked queues a note; the writer starts the call.
func (s *session) noteLocked(op noteOp) {
	s.notes.waiting = append(s.notes.waiting, op)
	s.startLocked()
}

// storeNotes makes what waits durable. Only the writer calls it.
func (s *session) storeNotes() {
	s.mu.Lock()
	r := &s.notes
	if len(r.flying) > 0 || len(r.waiting) == 0 || s.gone {
		s.mu.Unlock()
		return
	}
	n := min(len(r.waiting), maxNotes)
	r.flying = r.waiting[:n:n]
	if r.waiting = r.waiting[n:]; len(r.waiting) == 0 {
		r.waiting = nil
	}
	list := make([]courier.Note, n)
	for i := range r.flying {
		list[i] = r.flying[i].note
	}
	g := s.grant
	s.mu.Unlock()
	s.srv.o.Publisher.Note(g, s.client, list, s.noted)
}

// noted runs on the log's committer.
func (s *session) noted(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.notes
	ops := r.flying
	if err != nil {
		// Nothing is sent that could not be told from a repetition after a crash. Messages of QoS 0
		// and 1 go on.
		s.srv.o.Log.Warn("notes of an MQTT session could not be stored; trying again", "client", s.client, "error", err)
		time.AfterFunc(noteRetry, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			r.waiting, r.flying = append(ops, r.waiting...), nil
			s.startLocked()
		})
		return
	}
	r.flying = nil
	for i := range ops {
		s.actLocked(&ops[i])
	}
	s.startLocked()
}

func (s *session) actLocked(op *noteOp) {
	switch op.do {
	case opForget:
	case opSend:
		if i := s.flightLocked(op.id); i >= 0 && !s.closing {
			s.flights[i].state = sent
			s.putLocked(op.entry)
		}
	case opRelease:
		if i := s.flightLocked(op.id); i >= 0 && s.flights[i].state == noting {
			s.releaseLocked(&s.flights[i])
		}
	case opComplete:
		s.completeLocked(op.id)
	}
}

// A note about an outgoing message: one byte of state, QoS and urgency, one of source, then the
// sequence number as a varint.
const (
	noteReleased  = 1 << 0
	noteQoS2      = 1 << 1
	noteUrgent    = 1 << 2
	noteCompleted = 1 << 3 // PUBCOMP came; the message may not be settled durably yet
)

func (f *flight) note(as flightState) courier.Note {
	var flags byte
	switch as {
	case sending, sent, noting:
	case released:
		flags |= noteReleased
	case completed:
		flags |= noteReleased | noteCompleted
	}
	if f.qos == message.ExactlyOnce {
		flags |= noteQoS2
	}
	if f.urgent {
		flags |= noteUrgent
	}
	b := binary.AppendUvarint([]byte{flags, byte(f.at.source)}, f.at.seq)
	return courier.Note{Key: noteOutbound | uint32(f.id), Value: b}
}

// keptID is a packet id under which the client may have seen a message: it is sent again under the
// same one [MQTT-4.4.0-1].
type keptID struct {
	id     uint16
	qos    message.QoS
	urgent bool
}

// restoreNotes takes over what was on its way when the last connection ended.
func (s *session) restoreNotes(notes map[uint32][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		value, id := notes[key], uint16(key) //nolint:gosec // the direction is cut off on purpose
		switch key &^ 0xFFFF {
		case noteInbound:
			if s.owed.unsent == nil {
				s.owed.unsent = make(map[uint16]bool)
			}
			s.owed.unsent[id] = false
		case noteOutbound:
			s.restoreOutbound(id, value)
		}
	}
	slices.SortFunc(s.flights, func(a, b flight) int { // PUBREL in the order of the messages [MQTT-4.6.0-4]
		return cmp.Compare(a.at.seq, b.at.seq)
	})
}

func (s *session) restoreOutbound(id uint16, value []byte) {
	if len(value) < 3 {
		return
	}
	flags, from := value[0], source(value[1])
	seq, n := binary.Uvarint(value[2:])
	if n <= 0 || id == 0 {
		return
	}
	qos := message.AtLeastOnce
	if flags&noteQoS2 != 0 {
		qos = message.ExactlyOnce
	}
	if flags&noteCompleted != 0 {
		s.finished = append(s.finished, finished{id: id, at: place{from, seq}})
		return
	}
	if flags&noteReleased != 0 {
		s.flights = append(s.flights, flight{id: id, qos: qos, state: released, noted: true, at: place{from, seq}})
		s.inflight++
		return
	}
	if s.kept == nil {
		s.kept = make(map[place]keptID)
	}
	s.kept[place{from, seq}] = keptID{id: id, qos: qos, urgent: flags&noteUrgent != 0}
}

// keptLocked returns the id under which the message was sent on an earlier connection.
func (s *session) keptLocked(e *entry) (keptID, bool) {
	at := place{e.link.source, e.seq}
	if k, ok := s.kept[at]; ok {
		delete(s.kept, at)
		return k, true
	}
	if !e.again && !e.item.Msg.Urgent() {
		s.sweepLocked(at)
	}
	return keptID{}, false
}

// sweepLocked acts on a first transmission: an older message is not owed any more, because
// repetitions go first in their lane.
func (s *session) sweepLocked(at place) {
	for p, k := range s.kept {
		if p.source == at.source && p.seq < at.seq && !k.urgent {
			delete(s.kept, p)
			s.noteLocked(forgetOp(k.id))
		}
	}
	for i := range s.finished {
		if f := &s.finished[i]; f.at.source == at.source && f.at.seq < at.seq && !f.urgent {
			f.settled = true
		}
	}
}

func forgetOp(id uint16) noteOp {
	return noteOp{note: courier.Note{Key: noteOutbound | uint32(id)}}
}

// finished is a message of QoS 2 that the client has completed. Its note stays until the courier's
// settlement is on its way to the disk: were it forgotten earlier, a crash would repeat the message.
type finished struct {
	id      uint16
	at      place
	urgent  bool
	settled bool // the courier was told, or does not owe it any more
}

const (
	forgetBatch = 64          // finished ones that are forgotten together
	forgetAfter = time.Second // or when the oldest is so old
)

// finishLocked ends a durable exchange of QoS 2.
func (s *session) finishLocked(i int) {
	f := s.flights[i]
	s.flights = slices.Delete(s.flights, i, i+1)
	s.inflight--
	if len(s.finished) == 0 {
		s.finishing = s.srv.now()
	}
	s.finished = append(s.finished, finished{id: f.id, at: f.at, urgent: f.urgent, settled: f.link != nil || f.done})
	if len(s.finished) >= forgetBatch {
		s.startLocked()
	}
}

// forgetFinished has the notes of finished messages forgotten, some at a time. The writer and the end
// of the session call it.
func (s *session) forgetFinished(all bool) {
	s.mu.Lock()
	due := len(s.finished) >= forgetBatch || len(s.finished) > 0 && (all || s.srv.now()-s.finishing >= int64(forgetAfter))
	var list []finished
	for _, f := range s.finished {
		if due && f.settled {
			list = append(list, f)
		}
	}
	g := s.grant
	s.mu.Unlock()
	if len(list) == 0 {
		return
	}
	s.settleAcks()
	// What was acknowledged before this call is settled when it returns, and rides in the frame of
	// the next note at the latest.
	ctx, cancel := s.srv.request()
	_, _, err := s.srv.o.Sessions.SessionState(ctx, g, s.client)
	cancel()
	if err != nil {
		return // stopping, most likely: the notes stay
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range list {
		s.noteLocked(forgetOp(f.id))
	}
	s.finished = slices.DeleteFunc(s.finished, func(f finished) bool { return slices.Contains(list, f) })
	s.finishing = s.srv.now()
}

// noteFlights makes durable, at the end of a connection, under which ids messages of QoS 1 are on
// their way, so that they are sent again under the same. Those of QoS 2 are known already. A crash
// loses it, which repeats them under other ids; that is allowed for QoS 1.
func (s *session) noteFlights() {
	if !s.durable || s.expiry == 0 {
		return
	}
	s.forgetFinished(true)
	s.mu.Lock()
	var list []courier.Note
	for _, f := range s.finished {
		was := flight{id: f.id, qos: message.ExactlyOnce, at: f.at, urgent: f.urgent}
		list = append(list, was.note(completed))
	}
	for i := range s.flights {
		if f := &s.flights[i]; f.qos == message.AtLeastOnce && !f.noted && f.at.source != fromShared {
			list = append(list, f.note(sent))
		}
	}
	for i := range s.notes.waiting { // what was to be forgotten; everything else happens again
		if op := &s.notes.waiting[i]; op.do == opForget {
			list = append(list, op.note)
		}
	}
	s.notes.waiting = nil
	s.mu.Unlock()
	ctx, cancel := s.srv.request()
	defer cancel()
	for len(list) > 0 {
		n := min(len(list), maxNotes)
		if err := s.noteNow(ctx, list[:n:n]); err != nil {
			s.srv.o.Log.Debug("notes of an MQTT session could not be stored", "client", s.client, "error", err)
			return
		}
		list = list[n:]
	}
}

// noteNow waits until the notes are durable, so that the next connection reads them.
func (s *session) noteNow(ctx context.Context, list []courier.Note) error {
	done := make(chan error, 1)
	s.srv.o.Publisher.Note(s.grant, s.client, list, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
