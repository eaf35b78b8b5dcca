package mqtt

import (
	"slices"
	"sync/atomic"

	"edgepost/appliance/courier"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

const (
	messageOverhead = 128    // a message's cost in a queue beside topic and payload, in bytes
	maxFlights      = 16_384 // most that MaxInflight may be: ids must stay free
)

// link is the session's hold of one of its sources. It implements [courier.Link]. Lock order: the
// shard calls it, so it takes only session.mu and nobody calls an Attachment while holding that.
type link struct {
	s      *session
	source source
	group  string         // of a shared subscription
	filter message.Filter // the same
	closed atomic.Bool    // nothing more of it is written
	att    courier.Attachment

	selects []message.Filter // what the courier was told, of the inbox. The reader's

	// Guarded by session.mu.
	ready   bool // att is set
	refused bool // Deliver said no; Ready is due when there is credit
}

var _ courier.Link = (*link)(nil)

// Deliver implements [courier.Link]. Credit is the session's: window unacknowledged, MaxBytes queued;
// but a message always fits into an empty queue.
func (l *link) Deliver(d courier.Delivery) bool {
	s := l.s
	cost := len(d.Msg.Payload) + len(d.Msg.Topic) + messageOverhead
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || l.closed.Load() {
		return false
	}
	full := s.queued > 0 && s.queued+cost > s.srv.o.MaxBytes
	if l.source == fromShared && s.behindLocked() { // what it has been given already comes first
		full = true
	}
	if full || d.Seq != 0 && s.inflight >= s.window {
		if d.Seq == 0 {
			s.srv.count.dropped.Add(1)
		} else if !l.refused {
			l.refused = true
			s.refused++
		}
		return false
	}
	if d.Seq != 0 {
		s.inflight++
	}
	s.queued += cost
	s.queueLocked(entry{
		item: d.Item, link: l, seq: d.Seq, expires: d.ExpiresIn, again: d.Attempt > 1, direct: d.Direct, retained: d.Retained, cost: cost,
	})
	return true
}

// Flush implements [courier.Link].
func (l *link) Flush() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.out != nil {
		l.s.startLocked()
	}
}

// behindLocked reports whether the session's own subscription waits for credit.
func (s *session) behindLocked() bool {
	for _, l := range s.links {
		if l.source == fromSession {
			return l.refused
		}
	}
	return false
}

// Lost implements [courier.Link].
func (l *link) Lost(why courier.Cause) {
	if l.closed.Swap(true) {
		return
	}
	s := l.s
	switch {
	case why == courier.TakenOver:
		s.bye(packet.SessionTakenOver, "")
	case why == courier.Stopping:
		s.bye(packet.ServerShuttingDown, "")
	default: // the session, the device or the group was removed by an administrator, or ran out
		s.bye(packet.AdministrativeAction, "the subscription was removed")
	}
}

// link returns the session's link of the source; nil when there is none.
func (s *session) link(from source) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.source == from {
			return l
		}
	}
	return nil
}

// sharedLink returns the link of a shared subscription; nil when there is none.
func (s *session) sharedLink(f *filter) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.source == fromShared && l.group == f.group && l.filter == f.filter {
			return l
		}
	}
	return nil
}

// attached makes a link known whose attachment has just been made.
func (s *session) attached(l *link, a courier.Attachment) {
	l.att = a
	s.mu.Lock()
	l.ready = true
	s.links = append(s.links, l)
	s.mu.Unlock()
}

// detach gives up one link; what is on its way over it is owed again.
func (s *session) detach(l *link) {
	if l == nil {
		return
	}
	s.mu.Lock()
	s.links = slices.DeleteFunc(s.links, func(have *link) bool { return have == l })
	if l.refused {
		l.refused = false
		s.refused--
	}
	s.mu.Unlock()
	if !l.closed.Swap(true) {
		l.att.Close(courier.Goodbye)
	}
}

// readyLinks tells the links that were refused that there is credit again: a quarter of the window,
// and a queue that is half empty (the writer always gets there). Links take turns.
func (s *session) readyLinks() {
	s.mu.Lock()
	n := s.refused
	s.mu.Unlock()
	for range n {
		l := s.nextReady()
		if l == nil {
			return
		}
		l.att.Ready()
	}
}

// nextReady takes the first refused link and moves it to the end.
func (s *session) nextReady() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == 0 || s.closing || s.held || s.inflight > s.window*3/4 || s.inflight == s.window || s.queued > s.srv.o.MaxBytes/2 {
		return nil
	}
	behind := s.behindLocked()
	for i, l := range s.links {
		if l.refused && l.ready && (l.source == fromSession || !behind) {
			l.refused = false
			s.refused--
			copy(s.links[i:], s.links[i+1:])
			s.links[len(s.links)-1] = l
			return l
		}
	}
	return nil
}

// place names one delivery of a session: sequence numbers of different sources may be the same
// message.
type place struct {
	source source
	seq    uint64
}

// flightState is how far a message of QoS 1 or 2 has come.
type flightState uint8

const (
	sending   flightState = iota + 1 // QoS 2: its id is being noted
	sent                             // PUBLISH was written
	noting                           // QoS 2: PUBREC came, its release is being noted
	released                         // QoS 2: PUBREL was written
	completed                        // PUBCOMP came; only in notes
)

// flight is one packet id that the client has not given back.
type flight struct {
	id    uint16
	qos   message.QoS
	state flightState
	noted bool  // a durable note is about it
	link  *link // nil: settled on an earlier connection
	at    place

	urgent bool
	done   bool // of one that was settled on an earlier connection: the courier was told again
}

// settled is a delivery that is over.
type settled struct {
	link   *link
	seq    uint64
	reason byte // ≥ 0x80: the client refused it
	how    ending
}

// ending is why a delivery is over for its link.
type ending uint8

const (
	answered ending = iota // by the client, or it needs no answer
	unsure                 // it was written as QoS 0: nobody knows whether it arrived
	given                  // of a shared subscription, with QoS 2: it comes from the client's session
)

// flightLocked finds the flight with the id; -1 when there is none.
func (s *session) flightLocked(id uint16) int {
	for i := range s.flights {
		if s.flights[i].id == id {
			return i
		}
	}
	return -1
}

// nextIDLocked finds a packet id that is neither in use nor still noted for another message. There is
// always one: flights, kept and finished ones are at most maxFlights each.
func (s *session) nextIDLocked() uint16 {
	for {
		if s.lastID++; s.lastID == 0 {
			s.lastID = 1
		}
		if s.flightLocked(s.lastID) >= 0 {
			continue
		}
		taken := false
		for _, k := range s.kept {
			taken = taken || k.id == s.lastID
		}
		for i := range s.finished {
			taken = taken || s.finished[i].id == s.lastID
		}
		if !taken {
			return s.lastID
		}
	}
}

// landLocked forgets a flight, with its durable note.
func (s *session) landLocked(i int) {
	f := s.flights[i]
	s.flights = slices.Delete(s.flights, i, i+1)
	s.inflight--
	if f.noted {
		s.noteLocked(forgetOp(f.id))
	}
}

// settleLocked has the writer tell the courier that a delivery is over.
func (s *session) settleLocked(l *link, seq uint64, reason byte) {
	if l != nil && seq != 0 {
		s.settled = append(s.settled, settled{link: l, seq: seq, reason: reason})
	}
}

// settleAcks tells the courier what is over, many at once. The reader and the writer call it,
// nobody else: it may wait for a shard.
func (s *session) settleAcks() {
	s.mu.Lock()
	list := s.settled
	s.settled = nil
	s.mu.Unlock()
	if len(list) > 0 {
		seqs := make([]uint64, 0, len(list))
		for i, e := range list {
			if e.reason >= packet.UnspecifiedError {
				e.link.att.Nack(e.seq, 0, "the client answered 0x"+hexByte(e.reason), true)
			} else {
				seqs = append(seqs, e.seq)
			}
			if i+1 == len(list) || list[i+1].link != e.link || list[i+1].how != e.how {
				if len(seqs) > 0 {
					s.tell(e.link, seqs, e.how)
				}
				seqs = seqs[len(seqs):]
			}
		}
	}
	s.readyLinks()
}

// tell tells the courier that deliveries of one link are over.
func (s *session) tell(l *link, seqs []uint64, how ending) {
	switch how {
	case answered:
		l.att.Ack(seqs)
	case unsure:
		l.att.Sent(seqs)
	case given:
		l.att.(courier.Member).Give(seqs, courier.SessionName(s.principal(), s.client))
	}
}

func hexByte(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// puback ends a delivery of QoS 1.
func (s *session) puback(p *packet.Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flightLocked(p.ID)
	switch {
	case i < 0:
		s.srv.count.unknownAcks.Add(1) // 5.0 names no answer
		return true
	case s.flights[i].qos != message.AtLeastOnce: // [MQTT-4.3.2-5]
		return s.closeWithLocked(packet.ProtocolError)
	}
	f := s.flights[i]
	s.landLocked(i)
	s.settleLocked(f.link, f.at.seq, p.Code)
	return true
}

// pubrec takes the message of QoS 2 off the courier's hands: from here on only its id is owed.
func (s *session) pubrec(p *packet.Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flightLocked(p.ID)
	if i < 0 || s.flights[i].state == sending { // [MQTT-4.3.3-4]
		s.srv.count.unknownAcks.Add(1)
		if p.Code < packet.UnspecifiedError {
			code := packet.PacketIdentifierNotFound
			if s.v != packet.V5 {
				code = packet.Success
			}
			s.replyLocked(packet.AppendAck(nil, s.v, packet.PUBREL, p.ID, code))
		}
		return true
	}
	f := &s.flights[i]
	switch {
	case f.qos != message.ExactlyOnce:
		return s.closeWithLocked(packet.ProtocolError)
	case f.state == noting:
	case f.state == released:
		s.replyLocked(packet.AppendAck(nil, s.v, packet.PUBREL, p.ID, packet.Success))
	case p.Code >= packet.UnspecifiedError: // refused; the exchange is over [MQTT-4.3.3-4]
		seq, l := f.at.seq, f.link
		s.landLocked(i)
		s.settleLocked(l, seq, p.Code)
	case f.noted:
		f.state = noting
		s.noteLocked(noteOp{note: f.note(released), do: opRelease, id: f.id})
	default:
		s.releaseLocked(f)
	}
	return true
}

// releaseLocked goes on after a PUBREC: the message is settled, and PUBREL is written.
func (s *session) releaseLocked(f *flight) {
	f.state = released
	s.settleLocked(f.link, f.at.seq, packet.Success)
	s.replyLocked(packet.AppendAck(nil, s.v, packet.PUBREL, f.id, packet.Success))
}

// pubcomp ends a delivery of QoS 2.
func (s *session) pubcomp(p *packet.Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flightLocked(p.ID)
	switch {
	case i < 0:
		s.srv.count.unknownAcks.Add(1)
	case s.flights[i].state == released && s.flights[i].noted:
		s.finishLocked(i)
	case s.flights[i].state == released:
		s.landLocked(i)
	default: // no PUBREL was sent for it
		return s.closeWithLocked(packet.ProtocolError)
	}
	return true
}
