package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

const (
	maxClientID = 256              // bytes; 5.0 §3.1.3.1 asks for at least 23
	never       = time.Duration(0) // of courier.SessionSpec.Expiry: the session is kept for ever
	forever     = math.MaxUint32   // session expiry of 5.0: the session does not expire
	noExpiry    = time.Duration(-1)
)

// connect answers a CONNECT; bad is what Decode said about it.
func (s *session) connect(p *packet.Packet, bad error) bool {
	s.v = p.Version
	if bad == nil {
		bad = p.FromClient(p.Version)
	}
	if bad != nil {
		e, ok := errors.AsType[*packet.Error](bad)
		if !ok {
			e = &packet.Error{Code: packet.MalformedPacket}
		}
		s.srv.o.Log.Debug("MQTT CONNECT refused", "remote", s.remote, "error", bad)
		return s.refuse(e.Code, "")
	}
	if p.Props.Has(packet.PropMaximumPacketSize) { // [MQTT-3.1.2-24]
		s.most = int(min(p.Props.MaximumPacketSize, math.MaxInt32))
	}
	s.problem = !p.Props.Has(packet.PropRequestProblemInfo) || p.Props.RequestProblemInfo
	if code := s.begin(p); code != packet.Success {
		return s.refuse(code, "")
	}
	assigned, code := s.name(p)
	if code != packet.Success {
		return s.refuse(code, "")
	}
	g, problem := s.authenticate(p)
	if problem != nil {
		return s.refuse(connectCode(problem, s.method == noMethod && (p.HasUsername || p.HasPassword)), problem.Detail)
	}
	w, problem := s.readWill(p, g)
	if problem != nil {
		return s.refuse(connectCode(problem, true), problem.Detail)
	}
	s.limits(p)
	s.mu.Lock()
	s.grant = g
	s.mu.Unlock()
	s.key = g.Principal() + "\x00" + s.client
	if old := s.srv.claim(s.key, s); old != nil {
		old.bye(packet.SessionTakenOver, "") // [MQTT-3.1.4-3]
		old.wait()
	}
	present, problem := s.resume(p.CleanStart)
	if problem != nil {
		return s.refuse(connectCode(problem, true), problem.Detail)
	}
	s.inherit(w, p.CleanStart)
	return s.welcome(p, present, assigned)
}

// name checks the client id, or assigns one.
func (s *session) name(p *packet.Packet) (assigned bool, code byte) {
	switch id := string(p.ClientID); {
	case len(id) > maxClientID:
		return false, packet.ClientIdentifierNotValid
	case id != "":
		s.client = id
		return false, packet.Success
	case s.v == packet.V31, s.v == packet.V311 && !p.CleanStart: // 3.1 §CONNECT; [MQTT-3.1.3-8] of 3.1.1
		return false, packet.ClientIdentifierNotValid
	}
	s.client = s.srv.o.ClientID() // [MQTT-3.1.3-6]
	return true, packet.Success
}

// limits takes over what the client can receive, how long it may be silent and how long its session
// is to be kept.
func (s *session) limits(p *packet.Packet) {
	o := &s.srv.o
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window = o.MaxInflight
	keep := int(p.KeepAlive)
	if s.v == packet.V5 {
		if p.Props.Has(packet.PropReceiveMaximum) { // [MQTT-3.3.4-9]
			s.window = min(s.window, int(p.Props.ReceiveMaximum))
		}
		s.aliases = min(p.Props.TopicAliasMaximum, maxAliases)
		if o.MaxKeepAlive > 0 && (keep == 0 || keep > o.MaxKeepAlive) { // [MQTT-3.2.2-21]
			keep, s.told = o.MaxKeepAlive, true
		}
		if p.Props.Has(packet.PropSessionExpiry) {
			s.setExpiry(p.Props.SessionExpiry)
		}
	} else if !p.CleanStart {
		s.expiry = o.SessionExpiry
	}
	s.alive = time.Duration(keep) * time.Second * 3 / 2
}

// setExpiry notes how long the session outlives the connection.
func (s *session) setExpiry(seconds uint32) {
	most := s.srv.o.MaxSessionExpiry
	switch d := time.Duration(seconds) * time.Second; {
	case seconds == forever && most == 0:
		s.expiry = noExpiry
	case seconds == forever || most > 0 && d > most:
		s.expiry = most
	default:
		s.expiry = d
	}
}

// expirySeconds is the session expiry as 5.0 writes it.
func (s *session) expirySeconds() uint32 {
	if s.expiry == noExpiry {
		return forever
	}
	return uint32(min(s.expiry/time.Second, forever-1))
}

// resume finds or makes the client's session; present says that there was one. With clean start
// what was there ends first [MQTT-3.1.2-4].
func (s *session) resume(clean bool) (present bool, _ *message.Problem) {
	ctx, cancel := s.srv.request()
	defer cancel()
	o := &s.srv.o
	st, found, err := o.Sessions.SessionState(ctx, s.grant, s.client)
	if err != nil {
		return false, s.problemOf(err, "read the session")
	}
	if clean && found || !found && s.expiry != 0 { // one that has expired may still be on its way out
		if err := o.Sessions.EndSession(ctx, s.grant, s.client); err != nil {
			return false, s.problemOf(err, "end the old session")
		}
		found = false
	}
	s.durable = found || s.expiry != 0
	if found {
		s.restore(st)
	}
	if !s.durable {
		return false, nil // its subscription is made with the first filter
	}
	return found, s.openSession(ctx)
}

// restore takes over what was kept.
func (s *session) restore(st courier.SessionState) {
	var m meta
	if len(st.Meta) > 0 {
		if err := json.Unmarshal(st.Meta, &m); err != nil {
			s.srv.o.Log.Error("an MQTT session is unreadable; its subscriptions are lost", "client", s.client, "error", err)
		}
	}
	f := m.filters()
	for i := range f.list {
		if have := &f.list[i]; have.source == fromSession {
			have.commands = s.covered(have.filter)
		}
	}
	s.mu.Lock()
	s.subs = f
	s.mu.Unlock()
	s.srv.count.subscriptions.Add(int64(len(f.list)))
	s.restoreNotes(st.Notes)
}

// openSession attaches the durable session and whatever else its filters need.
func (s *session) openSession(ctx context.Context) *message.Problem {
	if p := s.attachSession(ctx); p != nil {
		return p
	}
	for i := range s.subs.list {
		sub := &s.subs.list[i]
		if err := s.attachFor(ctx, sub); err != nil {
			// The filter was allowed once and is not any more, or its group is gone: the session goes
			// on without it, as after a revocation.
			s.srv.o.Log.Warn("an MQTT subscription could not be resumed", "client", s.client, "filter", sub.text(), "error", err)
		}
	}
	return nil
}

// attachSession makes the session's own subscription if it is missing.
func (s *session) attachSession(ctx context.Context) *message.Problem {
	if s.link(fromSession) != nil {
		return nil
	}
	l := &link{s: s, source: fromSession}
	a, err := s.srv.o.Sessions.OpenSession(ctx, s.grant, s.spec(), l, s.attachOptions())
	if err != nil {
		return s.problemOf(err, "open the session")
	}
	s.attached(l, a)
	return nil
}

func (s *session) attachOptions() courier.AttachOptions {
	return courier.AttachOptions{Window: s.window}
}

// spec is the session as the courier keeps it.
func (s *session) spec() courier.SessionSpec {
	spec := courier.SessionSpec{Client: s.client, Durable: s.durable}
	spec.Filters, spec.Passing = s.subs.split()
	if s.durable {
		switch s.expiry {
		case noExpiry:
			spec.Expiry = never
		case 0: // ends with the connection; this is for a crash in between
			spec.Expiry = time.Second
		default:
			spec.Expiry = s.expiry
		}
		spec.Meta = encodeMeta(s.subs)
	}
	return spec
}

// welcome sends the CONNACK and whatever waited for it.
func (s *session) welcome(p *packet.Packet, present, assigned bool) bool {
	s.mu.Lock()
	if s.closing { // taken over, or stopping
		s.mu.Unlock()
		return false
	}
	s.phase = open
	s.ctrl = s.appendConnack(s.ctrl, p, present, assigned)
	for i := range s.flights { // what the client has had, and has not completed [MQTT-4.4.0-1]
		if f := &s.flights[i]; f.state == released {
			s.ctrl = packet.AppendAck(s.ctrl, s.v, packet.PUBREL, f.id, packet.Success)
		}
	}
	s.held = false
	s.startLocked()
	s.mu.Unlock()
	s.lastRead = s.srv.now()
	s.srv.count.welcomed.Add(1)
	n := s.srv.count.connected.Add(1)
	for most := s.srv.count.most.Load(); n > most && !s.srv.count.most.CompareAndSwap(most, n); {
		most = s.srv.count.most.Load()
	}
	s.readyLinks()
	return true
}

// refuse answers a CONNECT with a failure, in the words of the client's version, and ends the session. A
// malformed CONNECT of 3.1.1 gets no answer.
func (s *session) refuse(code byte, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.ctrl = s.appendRefusal(s.ctrl, code, reason)
		s.closeLocked()
		s.startLocked()
	}
	return false
}

// appendConnack writes the properties in the order in which Mosquitto does: there are suites that
// compare bytes.
func (s *session) appendConnack(b []byte, p *packet.Packet, present, assigned bool) []byte {
	var flags byte
	if present && s.v != packet.V31 { // [MQTT-3.2.2-2], [MQTT-3.2.2-3]; reserved in 3.1
		flags = 1
	}
	if s.v != packet.V5 {
		return append(b, byte(packet.CONNACK)<<4, 2, flags, packet.Success)
	}
	o := &s.srv.o
	var props []byte
	if s.told {
		props = appendUint16(props, packet.PropServerKeepAlive, uint16(o.MaxKeepAlive))
	}
	if o.TopicAliases > 0 {
		props = appendUint16(props, packet.PropTopicAliasMaximum, uint16(o.TopicAliases))
	}
	if p.Props.Has(packet.PropSessionExpiry) && s.expirySeconds() != p.Props.SessionExpiry { // 5.0 §3.2.2.3.2
		props = appendUint32(props, packet.PropSessionExpiry, s.expirySeconds())
	}
	if assigned { // [MQTT-3.2.2-16]
		props = appendString(props, packet.PropAssignedClientID, s.client)
	}
	props = s.method.appendTo(props)
	props = appendUint32(props, packet.PropMaximumPacketSize, uint32(o.MaxPacket))
	if o.ReceiveMaximum < math.MaxUint16 {
		props = appendUint16(props, packet.PropReceiveMaximum, uint16(o.ReceiveMaximum))
	}
	return appendWithProps(b, packet.CONNACK, []byte{flags, packet.Success}, props)
}

func (s *session) appendRefusal(b []byte, code byte, reason string) []byte {
	if s.v >= packet.V5 {
		if reason != "" {
			with := appendWithProps(nil, packet.CONNACK, []byte{0, code}, appendString(nil, packet.PropReasonString, cutText(reason)))
			if len(with) <= s.most { // [MQTT-3.2.2-19]
				return append(b, with...)
			}
		}
		return appendWithProps(b, packet.CONNACK, []byte{0, code}, nil)
	}
	if rc, ok := packet.ReturnCode(code); ok {
		return append(b, byte(packet.CONNACK)<<4, 2, 0, rc)
	}
	return b
}

// connectCode is the reason code of 5.0 for a CONNECT that was refused.
func connectCode(p *message.Problem, named bool) byte {
	switch p.Code {
	case message.CodeUnauthorized:
		if named {
			return packet.BadUserNameOrPassword
		}
		return packet.NotAuthorized
	case message.CodeForbidden, message.CodeWaiting:
		return packet.NotAuthorized
	case message.CodeTooMany:
		return packet.ConnectionRateExceeded
	case message.CodeUnavailable, message.CodeTimeout:
		return packet.ServerUnavailable
	case message.CodeStorageFull, message.CodeStorageFailed, message.CodeQuota:
		return packet.QuotaExceeded
	case message.CodeBadTopic:
		return packet.TopicNameInvalid
	case message.CodeTooLarge:
		return packet.PacketTooLarge
	case message.CodeBadUTF8, message.CodeBadRequest:
		return packet.ImplementationSpecificError
	default:
		return packet.UnspecifiedError
	}
}
