// Package packet is the wire format of MQTT 3.1, 3.1.1 and 5.0, both directions, all 15 packet
// types. It is pure: bytes in, a [Packet] out, and back; no clock, no I/O, no state between calls.
//
// Reading is [ReadHeader], a check of the length against the connection's limit, then
// [Packet.Decode] over the body. What Decode returns aliases the body and the packet is meant to be
// decoded into again, so that an idle reader allocates nothing: keep no slice of it beyond the next
// read unless the buffer is yours.
//
//	bytes          what                                                     source (5.0)
//	1              type << 4 | flags                                        §2.1.2, §2.1.3
//	1-4            remaining length: 7 bits a byte, least significant first §2.1.4, §1.5.5
//	variable       protocol name, packet id, reason code, properties        §2.2, §3
//	rest           will, filters, reason codes or the payload               §2.3, §3
//
// Every rule of the specifications about the bytes of one packet is checked, in both directions;
// the comment beside a check names its statement, [MQTT-x.y.z-n], with the number of 5.0 unless it says
// 3.1.1. Rules about more than one packet (an id in use, an alias never set) are the session's. An
// offence is an [Error] that carries the reason code of 5.0. Where the specification only names the
// rule, what could not be read is [MalformedPacket] and what could be read but is not allowed is
// [ProtocolError] (5.0 §1.2).
//
// Writing is [Packet.Append], or for a message that goes to many receivers [Publish.AppendHead].
// Nothing here is safe for concurrent use of the same Packet; everything else has no state.
package packet
