package mqtt

import (
	"bytes"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

const (
	codeInternal = "internal"      // of errors that nobody outside can act on
	refusedPause = 2 * time.Second // before a client of 3.1.1 whose publish could not be stored is cut
)

// receiptProperty is the user property that asks for receipts, which is no attribute of an event.
const receiptProperty = "receipt"

// Keys of durable notes: which packet id they are about, and in which direction.
const (
	noteInbound  = 0x10000 // | id: a publish of QoS 2 was stored and not yet released
	noteOutbound = 0x20000 // | id: a message is on its way under this id
)

// owed is what the client is owed for its publishes, under session.mu.
type owed struct {
	unsent map[uint16]bool // ids of QoS 2 that are not released; true: published on this connection

	acks  []*ack // PUBACK and PUBREC in the order of the publishes [MQTT-4.6.0-2], -3
	pubs  int    // publishes that are not stored yet, and their payloads
	bytes int
	quota int // publishes of QoS 1 and 2 on this connection that are not completed
}

// ack is the answer to one publish.
type ack struct {
	t      packet.Type // PUBACK or PUBREC
	id     uint16
	done   bool
	silent bool // no answer: the client is to send it again, on another connection
	code   byte
	reason string
	size   int
}

// publish handles a PUBLISH. The answer is written when the message is on stable storage.
func (s *session) publish(p *packet.Packet) bool {
	s.srv.count.publishesIn.Add(1)
	topic, code := s.topic(p)
	if code != packet.Success {
		return s.bye(code, "")
	}
	if p.QoS == 0 {
		m, err := s.message(topic, p)
		if err != nil {
			s.srv.count.refuses.Add(1)
			return true
		}
		m.Volatile = m.Volatile && !s.srv.owed(m.Topic)
		return s.publishAndForget(m)
	}
	t := packet.PUBACK
	if p.QoS == 2 {
		t = packet.PUBREC
	}
	a, ok := s.expect(t, p)
	if a == nil {
		return ok
	}
	m, err := s.message(topic, p)
	if err != nil {
		s.answer(a, err)
		return true
	}
	if s.v == packet.V5 && s.srv.o.Reaches != nil && !s.srv.o.Reaches(m.Topic) {
		a.code = packet.NoMatchingSubscribers // 5.0 §3.4.2.1; kept when the message is stored
	}
	var note []courier.Note
	if p.QoS == 2 && s.durable {
		note = []courier.Note{{Key: noteInbound | uint32(p.ID), Value: []byte{1}}}
	}
	s.store(a, m, note)
	return true
}

// store has the message of a publish stored, and the note that keeps it from being repeated, if there is one.
// Before 5.0 nobody can be told that the addressee does not exist, so it becomes a dead letter.
func (s *session) store(a *ack, m *message.Message, note []courier.Note) {
	o, g := &s.srv.o, s.grant
	done := func(_ message.StoredAs, err error) {
		if s.v != packet.V5 && unaddressed(err) {
			s.srv.count.refuses.Add(1)
			o.Publisher.Bury(g, m, s.client, note, func(_ message.StoredAs, err error) { s.answer(a, err) })
			return
		}
		s.answer(a, err)
	}
	if note != nil {
		o.Publisher.PublishNoted(g, m, s.client, note, done)
	} else {
		o.Publisher.PublishAsync(g, m, done)
	}
}

// unaddressed reports whether a publish was refused because its addressee does not exist.
func unaddressed(err error) bool {
	p := message.ProblemOf(err)
	return p != nil && (p.Code == message.CodeUnknownDevice || p.Code == message.CodeUnknownGroup)
}

// owed reports whether a device's inbox selects the topic. It promises to keep what is sent to the device, and
// many send commands with QoS 0 because that is their tool's default.
func (s *Server) owed(t message.Topic) bool { return s.o.Owed != nil && s.o.Owed(t) }

// topic resolves the topic alias (5.0 §3.3.2.3.4).
func (s *session) topic(p *packet.Packet) (string, byte) {
	if !p.Props.Has(packet.PropTopicAlias) {
		if len(p.Topic) == 0 { // 5.0 §3.3.2.1
			return "", packet.ProtocolError
		}
		return string(p.Topic), packet.Success
	}
	n := int(p.Props.TopicAlias)
	if n == 0 || n > s.srv.o.TopicAliases { // [MQTT-3.3.2-8], -9
		return "", packet.TopicAliasInvalid
	}
	if s.named == nil {
		s.named = make([]string, s.srv.o.TopicAliases)
	}
	if len(p.Topic) > 0 {
		s.named[n-1] = string(p.Topic)
	}
	if s.named[n-1] == "" {
		return "", packet.ProtocolError
	}
	return s.named[n-1], packet.Success
}

// message translates a PUBLISH, if it is not too large and no broken event.
func (s *session) message(topic string, p *packet.Packet) (*message.Message, error) {
	event := structured(p)
	if !event && len(p.Payload) > s.srv.o.MaxMessage {
		return nil, s.tooLarge(len(p.Payload))
	}
	m := newMessage(topic, s.client, p)
	if event {
		if err := unwrap(m); err != nil {
			return nil, err
		}
		if len(m.Payload) > s.srv.o.MaxMessage {
			return nil, s.tooLarge(len(m.Payload))
		}
	}
	return m, nil
}

func (s *session) tooLarge(n int) error {
	return message.Problemf(message.CodeTooLarge, "the payload has %d bytes; the limit is %d", n, s.srv.o.MaxMessage)
}

// newMessage translates a PUBLISH of any version; slices are copied, because the input is read over.
func newMessage(topic, client string, p *packet.Packet) *message.Message {
	m := message.New(message.Topic(topic), bytes.Clone(p.Payload))
	m.QoS, m.Retain, m.Client = message.QoS(p.QoS), p.Retain, client
	m.Volatile = p.QoS == 0 && !p.Retain
	takeProps(m, &p.Props) // empty before 5.0
	return m
}

// takeProps translates what a message carries beside its payload.
func takeProps(m *message.Message, p *packet.Properties) {
	if p.Has(packet.PropMessageExpiry) {
		// 0 would mean "no limit" inside; it ends within the second that the property can express.
		m.TTL = min(max(time.Duration(p.MessageExpiry)*time.Second, time.Second), message.MaxTTL)
	}
	m.ContentType = string(p.ContentType)
	m.Text = p.Has(packet.PropPayloadFormat) && p.PayloadFormat == 1
	m.Response = message.Topic(p.ResponseTopic)
	m.Correlation = bytes.Clone(p.CorrelationData)
	if len(p.User) == 0 {
		return
	}
	event := false
	m.Properties = make([]message.Property, len(p.User))
	for i, u := range p.User {
		m.Properties[i] = message.Property{Key: string(u.Key), Value: string(u.Value)}
		event = event || m.Properties[i].Key == "specversion"
		if m.Properties[i].Key != receiptProperty {
			continue
		}
		switch m.Properties[i].Value {
		case "each":
			m.Receipt = message.EachReceipt
		case "final":
			m.Receipt = message.FinalReceipt
		}
	}
	if event {
		takeEvent(m)
	}
}

// publishAndForget handles QoS 0. There is no answer; what is refused is counted.
func (s *session) publishAndForget(m *message.Message) bool {
	size := len(m.Payload)
	s.mu.Lock()
	s.owed.pubs++
	s.owed.bytes += size
	s.mu.Unlock()
	s.srv.o.Publisher.PublishAsync(s.grant, m, func(_ message.StoredAs, err error) {
		if err != nil {
			s.srv.count.refuses.Add(1)
			s.srv.o.Log.Debug("MQTT publish of QoS 0 refused", "client", s.client, "topic", m.Topic, "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.owed.pubs--
		s.owed.bytes -= size
		s.wake.Broadcast()
	})
	return true
}

// expect puts the answer to a publish into its place; nil when there is nothing to store: it was a
// repetition, its id is in use, or the session is over (ok is false).
func (s *session) expect(t packet.Type, p *packet.Packet) (a *ack, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.owed
	a = &ack{t: t, id: p.ID, size: len(p.Payload)}
	here, unsent := s.owed.unsent[p.ID]
	again := t == packet.PUBREC && unsent // a repetition [MQTT-4.3.3-10]
	used := !again && (unsent || s.v == packet.V5 && !p.Dup && o.waits(p.ID))
	if !again || !here {
		if s.v == packet.V5 && o.quota >= s.srv.o.ReceiveMaximum { // 5.0 §3.3.4
			s.closeWithLocked(packet.ReceiveMaximumExceeded)
			return nil, false
		}
		o.quota++
	}
	o.acks = append(o.acks, a)
	switch {
	case again:
		s.owed.unsent[p.ID] = true
		a.done = !o.storing(p.ID, a)
		s.answerLocked()
		return nil, true
	case used && s.v == packet.V5:
		a.done, a.code = true, packet.PacketIdentifierInUse
		s.answerLocked()
		return nil, true
	}
	if t == packet.PUBREC {
		if s.owed.unsent == nil {
			s.owed.unsent = make(map[uint16]bool)
		}
		s.owed.unsent[p.ID] = true
	}
	o.pubs++
	o.bytes += a.size
	return a, true
}

// waits reports whether a publish under the id is not answered yet.
func (o *owed) waits(id uint16) bool {
	for _, a := range o.acks {
		if a.id == id {
			return true
		}
	}
	return false
}

// storing reports whether a publish of QoS 2 under the id, other than a, is being stored.
func (o *owed) storing(id uint16, but *ack) bool {
	for _, a := range o.acks {
		if a != but && a.id == id && a.t == packet.PUBREC && !a.done {
			return true
		}
	}
	return false
}

// answer notes that a publish was stored or refused. It runs on the log's committer.
func (s *session) answer(a *ack, err error) {
	code, reason, silent := a.code, "", false
	if err != nil {
		s.srv.count.refuses.Add(1)
		code, reason, silent = s.publishCode(s.problemOf(err, "store a publish"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed.pubs--
	s.owed.bytes -= a.size
	a.done, a.code, a.reason, a.silent = true, code, reason, silent
	if a.t == packet.PUBREC {
		for _, b := range s.owed.acks { // repetitions that came meanwhile
			if b.id == a.id && b.t == a.t {
				b.done, b.code, b.reason, b.silent = true, code, reason, silent
			}
		}
		if err != nil {
			delete(s.owed.unsent, a.id)
		}
	}
	s.answerLocked()
	s.wake.Broadcast()
}

// answerLocked writes the answers that are due, in the order of the publishes.
func (s *session) answerLocked() {
	o := &s.owed
	n := 0
	for n < len(o.acks) && o.acks[n].done {
		a := o.acks[n]
		n++
		if a.silent {
			s.pauseLocked(a.code)
			continue
		}
		if a.t == packet.PUBACK || a.code >= packet.UnspecifiedError {
			o.quota = max(o.quota-1, 0)
		}
		if !s.closing {
			s.srv.count.packetsOut.Add(1)
			s.ctrl = s.appendAck(s.ctrl, a.t, a.id, a.code, a.reason)
			s.startLocked()
		}
	}
	clear(o.acks[:n])
	if o.acks = o.acks[n:]; len(o.acks) == 0 {
		o.acks = nil
	}
}

// pauseLocked ends the connection of a client whose publish could not be stored, after a while, so that it
// sends it again and does not do so at once. Until then it is not read.
func (s *session) pauseLocked(code byte) {
	if s.closing || s.owed.pubs >= pausedPubs {
		return
	}
	s.owed.pubs += pausedPubs
	time.AfterFunc(refusedPause, func() { s.bye(code, "the message could not be stored") })
}

// pausedPubs is added to owed.pubs to stop the reader for good.
const pausedPubs = 1 << 30

// publishCode says how a publish that failed is answered. Before 5.0 there is no way to refuse one:
// what is not allowed is acknowledged and dropped [MQTT-3.3.5-2 of 3.1.1], what could not be stored is
// not acknowledged.
func (s *session) publishCode(p *message.Problem) (code byte, reason string, silent bool) {
	switch p.Code {
	case message.CodeForbidden, message.CodeNotSealed:
		code = packet.NotAuthorized
	case message.CodeNotOpened, message.CodeReplayed:
		code = packet.ImplementationSpecificError
	case message.CodeQuota, message.CodeStorageFull, message.CodeStorageFailed:
		code, silent = packet.QuotaExceeded, s.v != packet.V5
	case message.CodeTooLarge: // 0x95 is none of a PUBACK's codes (5.0 §3.4.2.1)
		code = packet.QuotaExceeded
	case message.CodeUnknownDevice, message.CodeUnknownGroup, message.CodeBadTopic:
		code = packet.TopicNameInvalid
	case message.CodeBadUTF8, message.CodeBadRequest, message.CodeBadJSON, message.CodeBadMediaType, message.CodeBadName,
		message.CodeKeyReused, message.CodeInFlight:
		code = packet.ImplementationSpecificError
	case message.CodeUnavailable, message.CodeTimeout: // it may come again, and be stored
		return packet.ServerShuttingDown, "", true
	default:
		code, silent = packet.UnspecifiedError, s.v != packet.V5
	}
	if s.v != packet.V5 && !silent {
		return packet.Success, "", false
	}
	return code, p.Detail, silent
}

// pubrel releases a packet id of QoS 2 [MQTT-4.3.3-11].
func (s *session) pubrel(p *packet.Packet) bool {
	id := p.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.owed.unsent[id]
	if !found || s.owed.waits(id) {
		code := packet.PacketIdentifierNotFound
		if s.v != packet.V5 {
			code = packet.Success
		}
		s.srv.count.unknownAcks.Add(1)
		s.replyLocked(packet.AppendAck(nil, s.v, packet.PUBCOMP, id, code))
		return true
	}
	if !s.durable {
		s.completeLocked(id)
		return true
	}
	s.noteLocked(noteOp{note: courier.Note{Key: noteInbound | uint32(id)}, do: opComplete, id: id})
	return true
}

// completeLocked ends an exchange of QoS 2 that the client began.
func (s *session) completeLocked(id uint16) {
	here, found := s.owed.unsent[id]
	if here && found {
		s.owed.quota--
	}
	delete(s.owed.unsent, id)
	s.replyLocked(packet.AppendAck(nil, s.v, packet.PUBCOMP, id, packet.Success))
}
