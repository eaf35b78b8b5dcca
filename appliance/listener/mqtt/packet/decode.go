package packet

import "encoding/binary"

// maxFilters bounds the filters of one packet: four bytes on the wire become 32 in memory.
const maxFilters = 16_384

// Decode reads the body of a packet whose header was read by [ReadHeader]. v is the version that
// the connection's CONNECT named; for a CONNECT itself it does not matter, the packet's Version says
// what it asks for, also when Decode fails after reading it. The error is an [Error]; then the
// packet's other fields mean nothing. PUBLISH, the acks, pings and a SUBSCRIBE that is not the
// first allocate nothing.
func (p *Packet) Decode(v Version, t Type, flags byte, body []byte) error {
	p.reset()
	p.Type = t
	if t == PUBLISH {
		return p.decodePublish(v, flags, body)
	}
	if t == CONNECT {
		return p.decodeConnect(flags, body)
	}
	if err := checkFlags(v, t, flags); err != nil {
		return err
	}
	r := reader{b: body}
	switch t {
	case CONNACK:
		p.decodeConnack(v, &r)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p.decodeAck(v, &r)
	case SUBSCRIBE:
		p.decodeSubscribe(v, &r)
	case UNSUBSCRIBE:
		p.decodeUnsubscribe(v, &r)
	case SUBACK, UNSUBACK:
		p.decodeCodes(v, &r)
	case PINGREQ, PINGRESP: // no body: end tells
	case DISCONNECT:
		p.decodeDisconnect(v, &r)
	case AUTH:
		p.decodeAuth(v, &r)
	default:
		return malformed(t.String() + " does not exist")
	}
	return r.end(t)
}

// reset forgets the last packet at the cost of what it used.
func (p *Packet) reset() {
	if p.Type == CONNECT {
		p.Connect = Connect{}
	}
	if len(p.Filters) > 0 {
		p.Filters = reuse(p.Filters)
	}
	p.Props.clear()
	p.Dup, p.Retain, p.QoS, p.SessionPresent, p.Code, p.ID = false, false, 0, false, 0, 0
	p.Topic, p.Payload, p.Codes = nil, nil, nil
}

// decodePublish is written out by hand: it is what a busy connection does (5.0 §3.3).
func (p *Packet) decodePublish(v Version, flags byte, body []byte) error {
	p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
	if p.QoS == 3 {
		return malformed("QoS is 3") // [MQTT-3.3.1-4]
	}
	if p.Dup && p.QoS == 0 {
		return malformed("DUP is set and QoS is 0") // [MQTT-3.3.1-2]
	}
	if len(body) < 2 {
		return malformed("packet ends before the topic name") // [MQTT-3.3.2-1]
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if n > len(body) {
		return malformed("packet ends inside the topic name")
	}
	p.Topic, body = body[2:n:n], body[n:]
	if p.QoS > 0 { // and else there is none [MQTT-2.2.1-2]; 3.1.1: [MQTT-2.3.1-5]
		if len(body) < 2 {
			return malformed("packet ends before the packet id")
		}
		p.ID, body = binary.BigEndian.Uint16(body), body[2:]
		if p.ID == 0 {
			return errZeroID() // [MQTT-2.2.1-3], [MQTT-2.2.1-4]; 3.1.1: [MQTT-2.3.1-1]
		}
	}
	if v == V5 {
		r := reader{b: body}
		if r.readProperties(&p.Props, PUBLISH); r.err != nil {
			return r.err
		}
		body = r.b
	}
	p.Payload = body
	if len(p.Topic) == 0 && v == V5 {
		if !p.Props.Has(PropTopicAlias) {
			return protocol("topic name is empty and there is no topic alias") // §3.3.2.1
		}
		return nil
	}
	return checkName(p.Topic, "topic name") // [MQTT-3.3.2-1], [MQTT-3.3.2-2]
}

// decodeConnack: 5.0 §3.2, 3.1.1 §3.2.
func (p *Packet) decodeConnack(v Version, r *reader) {
	flags := r.byte("acknowledge flags")
	p.Code = r.byte("reason code")
	if v == V31 {
		flags = 0 // reserved, and without a meaning
	}
	p.SessionPresent = flags&1 != 0
	switch {
	case r.err != nil:
		return
	case flags > 1:
		r.fail(malformed("reserved acknowledge flags are not 0")) // [MQTT-3.2.2-1]
	case !codeAllowed(v, CONNACK, p.Code):
		r.fail(protocol("reason code does not belong to CONNACK")) // [MQTT-3.2.2-8]
	case p.Code != 0 && p.SessionPresent:
		r.fail(protocol("session present with a refusal")) // [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]
	case v == V5:
		r.readProperties(&p.Props, CONNACK)
	}
}

// decodeAck reads PUBACK, PUBREC, PUBREL and PUBCOMP (5.0 §3.4 to §3.7). Without a reason code it is
// Success, without a property length there are none.
func (p *Packet) decodeAck(v Version, r *reader) {
	p.ID = r.id()
	if v != V5 || len(r.b) == 0 {
		return
	}
	p.Code = r.byte("reason code")
	if !codeAllowed(v, p.Type, p.Code) { // [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
		r.fail(protocol("reason code does not belong to " + p.Type.String()))
	}
	if len(r.b) > 0 {
		r.readProperties(&p.Props, p.Type)
	}
}

// decodeSubscribe: 5.0 §3.8, 3.1.1 §3.8.
func (p *Packet) decodeSubscribe(v Version, r *reader) {
	p.ID = r.id()
	if v == V5 {
		r.readProperties(&p.Props, SUBSCRIBE)
	}
	for len(r.b) > 0 {
		filter := r.filter(v)
		options := r.byte("subscription options")
		if r.err == nil {
			p.addFilter(r, subscription(v, filter, options))
		}
		if r.err == nil {
			if err := p.Filters[len(p.Filters)-1].check(v, options); err != nil {
				r.fail(err)
			}
		}
	}
	p.needFilters(r) // [MQTT-3.8.3-2]; 3.1.1: [MQTT-3.8.3-3]
}

// decodeUnsubscribe: 5.0 §3.10, 3.1.1 §3.10.
func (p *Packet) decodeUnsubscribe(v Version, r *reader) {
	p.ID = r.id()
	if v == V5 {
		r.readProperties(&p.Props, UNSUBSCRIBE)
	}
	for len(r.b) > 0 {
		if f := r.filter(v); r.err == nil {
			p.addFilter(r, Subscription{Filter: f})
		}
	}
	p.needFilters(r) // [MQTT-3.10.3-2]
}

func (r *reader) filter(v Version) []byte {
	f := r.binary("topic filter")
	if r.err == nil {
		if err := checkFilter(v, f); err != nil {
			r.fail(err)
		}
	}
	return f
}

func (p *Packet) addFilter(r *reader, s Subscription) {
	if len(p.Filters) == maxFilters {
		r.fail(&Error{QuotaExceeded, "more topic filters in one packet than this server takes"})
		return
	}
	p.Filters = append(p.Filters, s)
}

func (p *Packet) needFilters(r *reader) {
	if r.err == nil && len(p.Filters) == 0 {
		r.fail(protocol(p.Type.String() + " has no topic filter"))
	}
}

// subscription takes the options apart. 3.1 does not use the upper six bits, 3.1.1 reserves them.
func subscription(v Version, filter []byte, options byte) Subscription {
	s := Subscription{Filter: filter, QoS: options & 3}
	if v == V5 {
		s.NoLocal, s.RetainAsPublished, s.RetainHandling = options&4 != 0, options&8 != 0, options>>4&3
	}
	return s
}

// check holds subscription options to §3.8.3.1 of 5.0; options are those of the wire, or 0.
func (s *Subscription) check(v Version, options byte) error {
	if v != V5 {
		if v == V311 && options&^3 != 0 || s.QoS > 2 {
			return malformed("requested QoS is not 0, 1 or 2") // 3.1.1: [MQTT-3.8.3-4]
		}
		return nil
	}
	switch {
	case options&0xc0 != 0:
		return malformed("reserved subscription options are not 0") // [MQTT-3.8.3-5]
	case s.QoS > 2:
		return protocol("maximum QoS of a subscription is 3")
	case s.RetainHandling > 2:
		return protocol("retain handling is 3")
	case s.NoLocal:
		if _, _, shared := SplitShare(s.Filter); shared {
			return protocol("no local on a shared subscription") // [MQTT-3.8.3-4]
		}
	}
	return nil
}

// decodeCodes reads SUBACK and UNSUBACK (5.0 §3.9, §3.11); before 5.0 an UNSUBACK has no codes.
func (p *Packet) decodeCodes(v Version, r *reader) {
	p.ID = r.id()
	if v != V5 && p.Type == UNSUBACK {
		return
	}
	if v == V5 {
		r.readProperties(&p.Props, p.Type)
	}
	p.Codes = r.take(len(r.b), "reason codes")
	if r.err == nil {
		if err := checkCodes(v, p.Type, p.Codes); err != nil {
			r.fail(err)
		}
	}
}

// checkCodes: [MQTT-3.8.4-6], [MQTT-3.9.3-2], [MQTT-3.11.3-2]; 3.1.1: [MQTT-3.8.4-5], [MQTT-3.9.3-2].
func checkCodes(v Version, t Type, codes []byte) error {
	if len(codes) == 0 {
		return protocol(t.String() + " has no reason code")
	}
	for _, c := range codes {
		if !codeAllowed(v, t, c) {
			return protocol("reason code does not belong to " + t.String())
		}
	}
	return nil
}

// decodeDisconnect: 5.0 §3.14. Without a reason code it is a normal disconnection.
func (p *Packet) decodeDisconnect(v Version, r *reader) {
	if v != V5 || len(r.b) == 0 {
		return
	}
	p.Code = r.byte("reason code")
	if !codeAllowed(v, DISCONNECT, p.Code) { // [MQTT-3.14.2-1]
		r.fail(protocol("reason code does not belong to DISCONNECT"))
	}
	if len(r.b) > 0 {
		r.readProperties(&p.Props, DISCONNECT)
	}
}

// decodeAuth: 5.0 §3.15. An empty one is Success without properties.
func (p *Packet) decodeAuth(v Version, r *reader) {
	if v != V5 {
		r.fail(malformed("AUTH does not exist before 5.0"))
		return
	}
	if len(r.b) == 0 {
		return
	}
	p.Code = r.byte("reason code")
	if !codeAllowed(v, AUTH, p.Code) { // [MQTT-3.15.2-1]
		r.fail(protocol("reason code does not belong to AUTH"))
	}
	r.readProperties(&p.Props, AUTH)
	if r.err == nil && !p.Props.Has(PropAuthMethod) { // §3.15.2.2.2
		r.fail(protocol("AUTH has no authentication method"))
	}
}
