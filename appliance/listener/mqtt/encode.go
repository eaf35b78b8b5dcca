package mqtt

import (
	"encoding/binary"

	"edgepost/appliance/listener/mqtt/packet"
)

// maxReason bounds a reason string, in bytes: it is for people who read logs.
const maxReason = 512

func appendUint16(b []byte, id packet.PropertyID, v uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, byte(id)), v)
}

func appendUint32(b []byte, id packet.PropertyID, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(id)), v)
}

func appendString(b []byte, id packet.PropertyID, v string) []byte {
	b = appendUint16(b, id, uint16(len(v)))
	return append(b, v...)
}

// appendLength writes a variable byte integer (5.0 §1.5.5).
func appendLength(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// lengthOf is how many bytes appendLength writes.
func lengthOf(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// appendWithProps writes a packet of 5.0: what stands before the properties, and those.
func appendWithProps(b []byte, t packet.Type, head, props []byte) []byte {
	b = append(b, byte(t)<<4|flagsOf(t))
	b = appendLength(b, len(head)+lengthOf(len(props))+len(props))
	b = append(b, head...)
	b = appendLength(b, len(props))
	return append(b, props...)
}

// flagsOf are the low bits of a type's first byte (5.0 §2.1.3).
func flagsOf(t packet.Type) byte {
	switch t {
	case packet.PUBREL, packet.SUBSCRIBE, packet.UNSUBSCRIBE:
		return 2
	default:
		return 0
	}
}

// appendDisconnect writes a DISCONNECT of 5.0, with the reason if the client can take it.
func (s *session) appendDisconnect(b []byte, code byte, reason string) []byte {
	if reason != "" {
		with := appendWithProps(nil, packet.DISCONNECT, []byte{code}, appendString(nil, packet.PropReasonString, cutText(reason)))
		if len(with) <= s.most {
			return append(b, with...)
		}
	}
	return append(b, byte(packet.DISCONNECT)<<4, 1, code)
}

// appendAck writes an answer to a publish, with the reason if the client asked for reasons and can
// take it [MQTT-3.1.2-29].
func (s *session) appendAck(b []byte, t packet.Type, id uint16, code byte, reason string) []byte {
	if s.v == packet.V5 && reason != "" && s.problem {
		head := binary.BigEndian.AppendUint16(nil, id)
		with := appendWithProps(nil, t, append(head, code), appendString(nil, packet.PropReasonString, cutText(reason)))
		if len(with) <= s.most { // [MQTT-3.4.2-2]
			return append(b, with...)
		}
	}
	return packet.AppendAck(b, s.v, t, id, code)
}

// appendCodes writes a SUBACK or UNSUBACK.
func (s *session) appendCodes(b []byte, t packet.Type, id uint16, codes []byte) []byte {
	extra := 0
	if s.v == packet.V5 {
		extra = 1
	}
	b = append(b, byte(t)<<4)
	b = appendLength(b, 2+extra+len(codes))
	b = binary.BigEndian.AppendUint16(b, id)
	if extra > 0 {
		b = append(b, 0) // no properties
	}
	return append(b, codes...)
}

// cutText shortens a text to maxReason bytes, at a character's boundary.
func cutText(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
