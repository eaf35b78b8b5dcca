package packet

import (
	"encoding/binary"
	"math/bits"
)

// maxUser bounds the user properties of one packet: five bytes on the wire become 48 in memory.
const maxUser = 1024

// readProperties reads the properties of a packet of type t, or of a will.
func (r *reader) readProperties(p *Properties, t Type) {
	n := r.varint("property length")
	props := r.take(n, "properties")
	body := reader{b: props, err: r.err}
	for len(body.b) > 0 {
		// An identifier is a variable byte integer, and all that exist fit into one byte (§2.2.2.2).
		id := PropertyID(body.b[0])
		body.b = body.b[1:]
		switch {
		case id > PropSharedAvailable || !allowed(t).has(id):
			body.fail(malformed("property does not belong to this packet")) // §2.2.2.2
		case p.present.has(id) || id == PropSubscriptionID && t == SUBSCRIBE && len(p.SubscriptionIDs) > 0:
			body.fail(protocol("property comes twice")) // §3.1.2.11 and its likes
		default:
			body.readProperty(p, id)
		}
	}
	r.err = body.err
	if r.err != nil {
		r.b = nil
	}
}

func (r *reader) readProperty(p *Properties, id PropertyID) {
	switch id {
	case PropUser: // [MQTT-1.5.7-1]: both are UTF-8 strings
		if len(p.User) == maxUser {
			r.fail(&Error{QuotaExceeded, "more user properties than this server takes"})
			return
		}
		u := UserProperty{Key: r.string("user property"), Value: r.string("user property")}
		if r.err == nil {
			p.User = append(p.User, u)
		}
		return
	case PropSubscriptionID:
		if n := r.varint("subscription identifier"); r.err == nil {
			p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(n))
		}
	default:
		p.present |= 1 << id
		r.readField(p, id)
	}
	if r.err == nil {
		if err := p.check(id); err != nil {
			r.fail(err)
		}
	}
}

func (r *reader) readField(p *Properties, id PropertyID) {
	if f := p.stringField(id); f != nil {
		*f = r.string("property")
	} else if f := p.uint32Field(id); f != nil {
		*f = r.uint32("property")
	} else if f := p.uint16Field(id); f != nil {
		*f = r.uint16("property")
	} else if f := p.byteField(id); f != nil {
		*f = r.byte("property")
	} else if f := p.binaryField(id); f != nil {
		*f = r.binary("property")
	} else if f := p.boolField(id); f != nil {
		b := r.byte("property")
		*f = b == 1
		if b > 1 {
			r.fail(protocol("property is neither 0 nor 1")) // §3.1.2.11.6 and its likes
		}
	}
}

// check holds the value of one property to its range, of the last one where there are several; the
// same for what is read and written.
func (p *Properties) check(id PropertyID) error {
	switch id {
	case PropSubscriptionID:
		if n := p.SubscriptionIDs[len(p.SubscriptionIDs)-1]; n == 0 || n > MaxBody { // §3.8.2.1.2
			return protocol("subscription identifier is not 1 to 268435455")
		}
	case PropReceiveMaximum: // §3.1.2.11.3
		if p.ReceiveMaximum == 0 {
			return protocol("receive maximum is 0")
		}
	case PropMaximumPacketSize: // §3.1.2.11.4
		if p.MaximumPacketSize == 0 {
			return protocol("maximum packet size is 0")
		}
	case PropTopicAlias: // [MQTT-3.3.2-8]
		if p.TopicAlias == 0 {
			return &Error{TopicAliasInvalid, "topic alias is 0"}
		}
	case PropPayloadFormat: // §3.3.2.3.2
		if p.PayloadFormat > 1 {
			return protocol("payload format is neither 0 nor 1")
		}
	case PropMaximumQoS: // §3.2.2.3.4
		if p.MaximumQoS > 1 {
			return protocol("maximum QoS is neither 0 nor 1")
		}
	case PropResponseTopic: // [MQTT-3.3.2-13], [MQTT-3.3.2-14]
		if err := checkName(p.ResponseTopic, "response topic"); err != nil {
			return protocol("response topic is empty, or holds a wildcard")
		}
	default: // every value of its type is allowed
	}
	return nil
}

// properties writes what is present, in the order of the identifiers. Absent properties are a length of
// zero [MQTT-2.2.2-1].
func (w *writer) properties(p *Properties, t Type) {
	present := p.all()
	if present&^allowed(t) != 0 {
		w.fail(malformed("property does not belong to this packet"))
	}
	mark := w.reserve()
	for s := present; s != 0; s &= s - 1 {
		w.property(p, PropertyID(bits.TrailingZeros64(uint64(s))))
	}
	if t == SUBSCRIBE && len(p.SubscriptionIDs) > 1 {
		w.fail(protocol("more than one subscription identifier"))
	}
	w.setLength(mark)
}

func (w *writer) property(p *Properties, id PropertyID) {
	switch id {
	case PropUser:
		for _, u := range p.User {
			w.byte(byte(id))
			w.string(u.Key, "user property")
			w.string(u.Value, "user property")
		}
		return
	case PropSubscriptionID:
		for i, n := range p.SubscriptionIDs {
			one := Properties{SubscriptionIDs: p.SubscriptionIDs[i : i+1]}
			if err := one.check(id); err != nil {
				w.fail(err)
				return
			}
			w.b = appendVarint(append(w.b, byte(id)), int(n))
		}
		return
	default: // at most one of each
	}
	w.byte(byte(id))
	if f := p.stringField(id); f != nil {
		w.string(*f, "property")
	} else if f := p.uint32Field(id); f != nil {
		w.b = binary.BigEndian.AppendUint32(w.b, *f)
	} else if f := p.uint16Field(id); f != nil {
		w.uint16(*f)
	} else if f := p.byteField(id); f != nil {
		w.byte(*f)
	} else if f := p.binaryField(id); f != nil {
		w.binary(*f, "property")
	} else if f := p.boolField(id); f != nil {
		w.bool(*f)
	}
	if err := p.check(id); err != nil {
		w.fail(err)
	}
}

// AppendShared writes those properties of a message that are the same for all its receivers, for
// [Publish.Shared]: payload format, content type, response topic, correlation data and user
// properties, these in their order [MQTT-3.3.2-18].
func (p *Properties) AppendShared(dst []byte) ([]byte, error) {
	shared := set(PropPayloadFormat, PropContentType, PropResponseTopic, PropCorrelationData, PropUser)
	w := writer{b: dst}
	for s := p.all() & shared; s != 0; s &= s - 1 {
		w.property(p, PropertyID(bits.TrailingZeros64(uint64(s))))
	}
	if w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}
