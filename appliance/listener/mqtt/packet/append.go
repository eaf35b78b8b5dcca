package packet

import "encoding/binary"

// Append writes the packet in the form of version v behind dst and returns the longer slice; what
// is not [V5] gets the form of 3.1.1, so that a CONNECT of an unknown version can be refused. A
// CONNECT is written in its own Version. The error is an [Error] that says which field the
// specification does not allow; then dst is returned as it was. Properties and what else 3.1.1 does
// not have is left out in its form.
func (p *Packet) Append(dst []byte, v Version) ([]byte, error) {
	w := writer{b: append(dst, byte(p.Type)<<4|fixedFlags(p.Type))}
	mark := w.reserve()
	switch p.Type {
	case CONNECT:
		p.writeConnect(&w)
	case CONNACK:
		p.writeConnack(&w, v)
	case PUBLISH:
		p.writePublish(&w, v, len(dst))
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		w.id(p.ID)
		p.writeReason(&w, v)
	case SUBSCRIBE, UNSUBSCRIBE:
		p.writeFilters(&w, v)
	case SUBACK, UNSUBACK:
		p.writeCodes(&w, v)
	case PINGREQ, PINGRESP:
	case DISCONNECT:
		p.writeReason(&w, v)
	case AUTH:
		p.writeAuth(&w, v)
	default:
		w.fail(malformed(p.Type.String() + " does not exist"))
	}
	if w.setLength(mark); w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}

func (p *Packet) writeConnack(w *writer, v Version) {
	if !codeAllowed(v, CONNACK, p.Code) {
		w.fail(protocol("reason code does not belong to CONNACK"))
	}
	if p.Code != 0 && p.SessionPresent {
		w.fail(protocol("session present with a refusal")) // [MQTT-3.2.2-6]
	}
	w.bool(p.SessionPresent && v != V31)
	w.byte(p.Code)
	if v == V5 {
		w.properties(&p.Props, CONNACK)
	}
}

func (p *Packet) writePublish(w *writer, v Version, start int) {
	if p.QoS > 2 || p.Dup && p.QoS == 0 {
		w.fail(malformed("QoS is not 0, 1 or 2, or DUP is set with 0")) // [MQTT-3.3.1-2], [MQTT-3.3.1-4]
	}
	w.b[start] |= publishFlags(p.Dup, p.QoS, p.Retain)
	if len(p.Topic) > 0 || v != V5 || !p.Props.Has(PropTopicAlias) {
		if err := checkName(p.Topic, "topic name"); err != nil {
			w.fail(err)
		}
	}
	w.binary(p.Topic, "topic name")
	if p.QoS > 0 {
		w.id(p.ID)
	}
	if v == V5 {
		w.properties(&p.Props, PUBLISH)
	}
	w.b = append(w.b, p.Payload...)
}

func publishFlags(dup bool, qos byte, retain bool) (flags byte) {
	flags = qos << 1 & 0x06
	if dup {
		flags |= 0x08
	}
	if retain {
		flags |= 0x01
	}
	return flags
}

// writeReason writes the reason code and the properties in their shortest form: neither when it is Success
// without properties, no property length when there are none (5.0 §3.4.2.1, §3.14.2.1).
func (p *Packet) writeReason(w *writer, v Version) {
	none := p.Props.all() == 0
	if v != V5 || p.Code == Success && none {
		return
	}
	if !codeAllowed(v, p.Type, p.Code) {
		w.fail(protocol("reason code does not belong to " + p.Type.String()))
	}
	w.byte(p.Code)
	if !none {
		w.properties(&p.Props, p.Type)
	}
}

func (p *Packet) writeFilters(w *writer, v Version) {
	w.id(p.ID)
	if v == V5 {
		w.properties(&p.Props, p.Type)
	}
	if len(p.Filters) == 0 {
		w.fail(protocol(p.Type.String() + " has no topic filter"))
	}
	for i := range p.Filters {
		s := &p.Filters[i]
		if err := checkFilter(v, s.Filter); err != nil {
			w.fail(err)
		}
		w.binary(s.Filter, "topic filter")
		if p.Type == UNSUBSCRIBE {
			continue
		}
		if err := s.check(v, 0); err != nil {
			w.fail(err)
		}
		options := s.QoS
		if v == V5 {
			options |= s.RetainHandling << 4
			if s.NoLocal {
				options |= 4
			}
			if s.RetainAsPublished {
				options |= 8
			}
		}
		w.byte(options)
	}
}

func (p *Packet) writeCodes(w *writer, v Version) {
	w.id(p.ID)
	if v != V5 && p.Type == UNSUBACK {
		return
	}
	if err := checkCodes(v, p.Type, p.Codes); err != nil {
		w.fail(err)
	}
	if v == V5 {
		w.properties(&p.Props, p.Type)
	}
	w.b = append(w.b, p.Codes...)
}

func (p *Packet) writeAuth(w *writer, v Version) {
	none := p.Props.all() == 0
	switch {
	case v != V5:
		w.fail(malformed("AUTH does not exist before 5.0"))
	case !codeAllowed(v, AUTH, p.Code):
		w.fail(protocol("reason code does not belong to AUTH"))
	case p.Code == Success && none:
		return
	case !p.Props.Has(PropAuthMethod):
		w.fail(protocol("AUTH has no authentication method"))
	}
	w.byte(p.Code)
	w.properties(&p.Props, AUTH)
}

// AppendAck writes a PUBACK, PUBREC, PUBREL or PUBCOMP without properties. Before 5.0 there is no
// reason code. id must not be 0, and code must be one that the packet may carry; neither is checked.
func AppendAck(dst []byte, v Version, t Type, id uint16, code byte) []byte {
	head := byte(t)<<4 | fixedFlags(t)
	if v == V5 && code != Success {
		return append(dst, head, 3, byte(id>>8), byte(id), code)
	}
	return binary.BigEndian.AppendUint16(append(dst, head, 2), id)
}
