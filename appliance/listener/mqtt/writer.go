package mqtt

import (
	"errors"
	"net"
	"slices"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

const (
	maxAliases = 32       // topic aliases that we set, whatever the client allows
	tailBytes  = 16 << 10 // a payload from this size on is written from where it lies
)

// entry is one message to be written. It is judged and encoded when its turn comes, so that the
// shard does not pay for it.
type entry struct {
	item     *courier.Item
	link     *link
	seq      uint64 // 0: volatile
	expires  time.Duration
	cost     int    // bytes that were counted in session.queued
	id       uint16 // not 0: its id is noted, and its QoS is 2
	again    bool
	direct   bool // stored for this session alone: given by a shared subscription, or a dead letter taken back
	retained bool
}

type queue struct{ entries []entry }

// putLocked queues one message and makes sure that somebody writes it.
func (s *session) putLocked(e entry) {
	s.queueLocked(e)
	s.startLocked()
}

// queueLocked queues one message, for which somebody will call startLocked.
func (s *session) queueLocked(e entry) {
	if s.out == nil {
		s.out = s.srv.pools.queues.Get().(*queue)
	}
	s.out.entries = append(s.out.entries, e)
}

// putFirstLocked queues retained messages before all that waits: what came while they were read may be
// what replaces them.
func (s *session) putFirstLocked(list []entry) {
	if s.closing || len(list) == 0 {
		return
	}
	if s.out == nil {
		s.out = s.srv.pools.queues.Get().(*queue)
	}
	s.out.entries = slices.Insert(s.out.entries, 0, list...)
	s.startLocked()
}

// replyLocked queues an answer; nothing is answered once the session is closing.
func (s *session) replyLocked(b []byte) {
	if !s.closing {
		s.srv.count.packetsOut.Add(1)
		s.ctrl = append(s.ctrl, b...)
		s.startLocked()
	}
}

func (s *session) reply(b []byte) {
	s.mu.Lock()
	s.replyLocked(b)
	s.mu.Unlock()
}

// closeWithLocked is bye for callers that hold mu and have no reason to add.
func (s *session) closeWithLocked(code byte) bool {
	if !s.closing {
		if s.phase == open && s.v == packet.V5 {
			s.ctrl = s.appendDisconnect(s.ctrl, code, "")
		}
		s.closeLocked()
		s.startLocked()
	}
	return false
}

// startLocked starts the writer unless it runs.
func (s *session) startLocked() {
	if !s.writing && !s.gone {
		s.writing = true
		go s.write() // end waits for it
	}
}

// write writes until nothing is left. It alone writes to the connection.
func (s *session) write() {
	buf := s.srv.pools.buffers.Get().(*[]byte)
	for {
		s.settleAcks()
		s.forgetFinished(false)
		s.storeNotes()
		q, more := s.due(buf)
		if !more {
			break
		}
		if err := s.flush(buf, q); err != nil {
			s.broken(err)
		}
	}
	s.srv.pools.putBuffer(buf)
}

// due takes what is to be written: answers into buf, and the queue. False when there is nothing, and
// the writer has ended.
func (s *session) due(buf *[]byte) (*queue, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := s.out != nil && !s.held && len(s.out.entries) > 0
	noting := len(s.notes.waiting) > 0 && len(s.notes.flying) == 0
	if s.gone || len(s.ctrl) == 0 && !messages && !noting && len(s.settled) == 0 {
		s.writing = false
		s.wake.Broadcast()
		if s.closing && !s.gone {
			_ = s.conn.SetReadDeadline(time.Now()) // wakes the reader, which ends the session
		}
		return nil, false
	}
	*buf = append((*buf)[:0], s.ctrl...)
	s.takenLocked()
	if !messages {
		return nil, true
	}
	q := s.out
	s.out = nil
	return q, true
}

// takenLocked empties the answers, keeping a little room.
func (s *session) takenLocked() {
	if len(s.ctrl) == 0 {
		return
	}
	s.ctrl = s.ctrl[:0]
	if cap(s.ctrl) > ctrlKeep {
		s.ctrl = nil
	}
	s.wake.Broadcast()
}

// ctrlKeep is what a session keeps for its answers, in bytes: some acks.
const ctrlKeep = 64

// flush writes answers and a queue, many packets at once. Answers that come meanwhile go ahead of
// the rest of the queue.
func (s *session) flush(buf *[]byte, q *queue) error {
	var rest []entry
	if q != nil {
		rest = q.entries
	}
	for {
		b := *buf
		var tail []byte
		var over []settled
		n, cost := 0, 0
		for n < len(rest) && len(b) < batchBytes && tail == nil {
			e := &rest[n]
			n++
			cost += e.cost
			at := len(b)
			b, tail = s.appendMessage(b, e)
			if e.seq != 0 && e.link != nil && e.id == 0 && len(b) > at && b[at]&6 == 0 { // QoS 0 of something owed
				over = append(over, settled{link: e.link, seq: e.seq, how: unsure})
			}
		}
		*buf, rest = b, rest[n:]
		if err := s.send(b, tail); err != nil {
			return err
		}
		s.mu.Lock()
		s.queued -= cost
		s.inflight -= len(over)
		s.settled = append(s.settled, over...)
		*buf = append((*buf)[:0], s.ctrl...)
		s.takenLocked()
		closing := s.closing
		s.mu.Unlock()
		if closing {
			rest = nil
		}
		if len(rest) == 0 && len(*buf) == 0 {
			break
		}
		if cap(*buf) > bufferKeepMax && len(*buf) < ctrlKeep {
			*buf = append([]byte(nil), *buf...)
		}
		s.settleAcks()
	}
	if q != nil {
		s.srv.pools.putQueue(q)
	}
	s.settleAcks()
	return nil
}

func (s *session) send(b, tail []byte) error {
	if len(b) == 0 {
		return nil
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.srv.o.WriteTimeout)) // an error shows at the write
	_, err := s.conn.Write(b)
	if err == nil && tail != nil {
		_, err = s.conn.Write(tail)
	}
	s.srv.count.bytesOut.Add(int64(len(b) + len(tail)))
	return err
}

// broken ends a session that cannot be written to; closing the connection wakes the reader.
func (s *session) broken(err error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		s.srv.count.slow.Add(1)
	}
	s.cut()
}

// appendMessage writes a PUBLISH, or nothing when the message is not for this client any more, is
// too large for it, or waits for a durable note first. A large payload is not copied but returned.
func (s *session) appendMessage(b []byte, e *entry) (_, tail []byte) {
	m := e.item.Msg
	v, ok := s.judge(e)
	if !ok {
		s.skip(e)
		return b, nil
	}
	pub := packet.Publish{
		Retain: v.retain, QoS: byte(v.qos), Topic: string(m.Topic), Payload: m.Payload,
		Dup: e.again && v.qos > 0, // [MQTT-3.3.1-1], -2
	}
	if s.v == packet.V5 {
		pub.SubscriptionIDs = v.ids
		pub.Shared = sharedProps(e.item)
		pub.HasExpiry, pub.MessageExpiry = remaining(e)
	}
	if !s.fits(&pub) { // [MQTT-3.1.2-25]: as if it had been sent
		s.srv.count.tooLarge.Add(1)
		s.skip(e)
		return b, nil
	}
	if v.qos > 0 && !s.takeOff(e, &pub, v.qos) {
		return b, nil
	}
	if pub.Alias != 0 {
		s.alias(&pub)
	}
	s.srv.count.publishesOut.Add(1)
	s.srv.count.packetsOut.Add(1)
	b = pub.AppendHead(b, s.v)
	if len(m.Payload) >= tailBytes {
		return b, m.Payload
	}
	return append(b, m.Payload...), nil
}

// judge matches the message against what the client subscribes now.
func (s *session) judge(e *entry) (verdict, bool) {
	if e.link == nil || e.link.closed.Load() && e.id == 0 {
		return verdict{}, false
	}
	m := e.item.Msg
	s.mu.Lock()
	f, g := s.subs, s.grant
	s.mu.Unlock()
	local := m.Client != "" && m.Client == s.client && m.From == fromName(g)
	v, ok := f.judge(e.link, m, local, e.retained)
	if e.direct && e.link.source == fromSession {
		v, ok = f.direct(m, v, ok)
	}
	switch {
	case e.id != 0: // noted as QoS 2: the exchange is completed whatever was unsubscribed [MQTT-3.10.4-4]
		v.qos, ok = message.ExactlyOnce, true
	case e.seq == 0:
		v.qos = message.AtMostOnce
	}
	return v, ok
}

// fromName is how the appliance calls the grant's messages.
func fromName(g *auth.Grant) string {
	if g.Kind == auth.Owner {
		return "owner"
	}
	return g.Name
}

// skip ends a message that is not written.
func (s *session) skip(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.id != 0 {
		if i := s.flightLocked(e.id); i >= 0 {
			s.landLocked(i)
		}
		s.settleLocked(e.link, e.seq, packet.Success)
		return
	}
	if e.seq != 0 {
		s.inflight--
		if e.link != nil && !e.link.closed.Load() {
			s.settleLocked(e.link, e.seq, packet.Success)
		}
	}
}

// takeOff gives the message its packet id. False: it is not written now, because its id must be noted
// first, or the client has it already.
func (s *session) takeOff(e *entry, pub *packet.Publish, qos message.QoS) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if e.id != 0 {
		pub.ID = e.id
		return true
	}
	f := flight{qos: qos, state: sent, link: e.link, at: place{e.link.source, e.seq}, urgent: e.item.Msg.Urgent()}
	if qos == message.ExactlyOnce && e.link.source == fromShared {
		s.inflight--
		s.settled = append(s.settled, settled{link: e.link, seq: e.seq, how: given})
		return false
	}
	if s.doneLocked(f.at) {
		s.inflight--
		s.settleLocked(e.link, e.seq, packet.Success)
		return false
	}
	k, kept := s.keptLocked(e)
	switch {
	case kept: // under the id and with the QoS of its first transmission
		f.id, f.qos, f.noted = k.id, k.qos, true
		pub.ID, pub.QoS = k.id, byte(k.qos)
	case qos == message.ExactlyOnce && s.durable:
		f.id, f.state, f.noted = s.nextIDLocked(), sending, true
		op := noteOp{note: f.note(sent), do: opSend, id: f.id, entry: *e}
		op.entry.id, op.entry.cost = f.id, 0
		s.flights = append(s.flights, f)
		s.notes.waiting = append(s.notes.waiting, op)
		return false
	default:
		f.id = s.nextIDLocked()
		pub.ID = f.id
	}
	s.flights = append(s.flights, f)
	return true
}

// doneLocked reports whether the client has had the message on an earlier connection, so that only its
// settlement is missing. One whose settlement the courier knows is retained, and was asked for again.
func (s *session) doneLocked(at place) bool {
	for i := range s.finished {
		if f := &s.finished[i]; f.at == at && !f.settled {
			f.settled = true
			return true
		}
	}
	for i := range s.flights {
		if f := &s.flights[i]; f.at == at && f.link == nil && f.state == released {
			f.done = true
			return true
		}
	}
	return false
}

// fits chooses the topic alias and reports whether the client takes a packet of this size. Only the
// writer knows the aliases.
func (s *session) fits(pub *packet.Publish) bool {
	if s.aliases > 0 {
		if known := s.aliased[pub.Topic]; known != 0 {
			pub.Topic, pub.Alias = "", known
		} else if len(s.aliased) < int(s.aliases) {
			pub.Alias = uint16(len(s.aliased) + 1)
		}
	}
	if pub.Size(s.v) <= s.most {
		return true
	}
	if pub.Alias != 0 && pub.Topic != "" { // a new alias makes it longer
		pub.Alias = 0
		return pub.Size(s.v) <= s.most
	}
	return false
}

// alias remembers a topic alias that is set by the packet.
func (s *session) alias(pub *packet.Publish) {
	if pub.Topic == "" {
		return
	}
	if s.aliased == nil {
		s.aliased = make(map[string]uint16)
	}
	s.aliased[pub.Topic] = pub.Alias
}

// remaining is what is left of the time to live that the publisher gave [MQTT-3.3.2-6], in seconds, rounded
// up. How long a subscription keeps messages is not told.
func remaining(e *entry) (bool, uint32) {
	m := e.item.Msg
	if m.TTL <= 0 && m.Expires == 0 {
		return false, 0
	}
	left := e.expires
	if left <= 0 { // a retained message that was read from the log
		left = m.TTL
		if !m.Time.IsZero() {
			left -= time.Since(m.Time)
		}
	}
	return true, uint32(max((left+time.Second-1)/time.Second, 1))
}

// propsForm is the key under which a message's properties are shared by all sessions.
type propsForm struct{}

// sharedProps are the properties that are the same for all receivers.
func sharedProps(it *courier.Item) []byte {
	m := it.Msg
	if !m.Text && m.ContentType == "" && m.Response == "" && len(m.Correlation) == 0 && len(m.Properties) == 0 && m.Event.ID == "" {
		return nil
	}
	return it.Encoded(propsForm{}, func(m *message.Message) []byte {
		var p packet.Properties
		if m.Text { // [MQTT-3.3.2-4]
			p.PayloadFormat = 1
			p.Mark(packet.PropPayloadFormat)
		}
		if m.ContentType != "" {
			p.ContentType = []byte(m.ContentType)
			p.Mark(packet.PropContentType)
		}
		if m.Response != "" {
			p.ResponseTopic = []byte(m.Response)
			p.Mark(packet.PropResponseTopic)
		}
		if len(m.Correlation) > 0 {
			p.CorrelationData = m.Correlation
			p.Mark(packet.PropCorrelationData)
		}
		for _, u := range userProperties(m) {
			p.User = append(p.User, packet.UserProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
		}
		b, err := p.AppendShared(nil)
		if err != nil { // a property that MQTT cannot write, from another protocol: the message goes without
			return nil
		}
		return b
	})
}
