package packet

import "encoding/binary"

// Publish is a PUBLISH on its way to one of many receivers: what differs between them is here,
// what does not (Topic, Shared, Payload) is made once and used by all.
type Publish struct {
	Dup    bool
	Retain bool
	QoS    byte
	ID     uint16 // for QoS 1 and 2

	Topic   string // empty only with Alias
	Payload []byte

	// 5.0 only; ignored before.
	Alias           uint16 // topic alias; 0 = none
	HasExpiry       bool
	MessageExpiry   uint32 // seconds that are left
	SubscriptionIDs []uint32
	Shared          []byte // from [Properties.AppendShared]
}

// AppendHead writes the packet up to its payload, which the caller writes next, unchanged. The
// fields are the caller's own and are not checked again; Topic is at most 65,535 bytes and the
// whole at most [MaxBody] (see [Publish.Size]). It allocates nothing when dst has room.
func (p *Publish) AppendHead(dst []byte, v Version) []byte {
	props := p.propsLen(v)
	dst = append(dst, byte(PUBLISH)<<4|publishFlags(p.Dup, p.QoS, p.Retain))
	dst = appendVarint(dst, p.bodyLen(v, props))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.Topic)))
	dst = append(dst, p.Topic...)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.ID)
	}
	if v != V5 {
		return dst
	}
	dst = appendVarint(dst, props)
	if p.Alias != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, byte(PropTopicAlias)), p.Alias)
	}
	if p.HasExpiry {
		dst = binary.BigEndian.AppendUint32(append(dst, byte(PropMessageExpiry)), p.MessageExpiry)
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	return append(dst, p.Shared...)
}

// Size returns the bytes of the whole packet with its payload, to compare with the receiver's maximum
// packet size [MQTT-3.1.2-24].
func (p *Publish) Size(v Version) int {
	body := p.bodyLen(v, p.propsLen(v))
	return 1 + varintLen(body) + body
}

func (p *Publish) propsLen(v Version) int {
	if v != V5 {
		return 0
	}
	n := len(p.Shared)
	if p.Alias != 0 {
		n += 3
	}
	if p.HasExpiry {
		n += 5
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintLen(int(id))
	}
	return n
}

func (p *Publish) bodyLen(v Version, props int) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n += varintLen(props) + props
	}
	return n
}
