package packet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// dump shows everything that a packet says, and not whether a slice is nil or empty.
func dump(p *Packet) string {
	q := *p
	q.Will = nil
	w := "no will"
	if p.Will != nil {
		w = fmt.Sprintf("%+v", *p.Will)
	}
	return fmt.Sprintf("%+v / %s", q, w)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeWire reads one whole packet.
func decodeWire(p *Packet, v Version, wire []byte) error {
	typ, flags, n, head, err := ReadHeader(wire)
	if err != nil {
		return err
	}
	if head+n != len(wire) {
		return fmt.Errorf("packet of %d bytes says it has %d", len(wire), head+n)
	}
	return p.Decode(v, typ, flags, wire[head:])
}

func mustAppend(t testing.TB, p *Packet, v Version) []byte {
	t.Helper()
	wire, err := p.Append(nil, v)
	if err != nil {
		t.Fatalf("append %s in %s: %v\n%s", p.Type, v, err, dump(p))
	}
	return wire
}

func b(s string) []byte { return []byte(s) }

// with marks the properties that a literal sets.
func with(p Properties, ids ...PropertyID) Properties {
	p.Mark(ids...)
	return p
}

// good are packets of every type beside their bytes, taken apart by hand from the figures of the
// specifications.
func good() []struct {
	v    Version
	wire string
	p    Packet
} {
	type row = struct {
		v    Version
		wire string
		p    Packet
	}
	user := []UserProperty{{b("a"), b("1")}, {b("a"), b("2")}}
	return []row{
		{V31, "10 12 0006 4d5149736470 03 02 003c 0004 6c616d70", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQIsdp"), Version: V31, CleanStart: true, KeepAlive: 60, ClientID: b("lamp")}}},
		{V311, "10 0c 0004 4d515454 04 02 0000 0000", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQTT"), Version: V311, CleanStart: true}}},
		{V311, "10 22 0004 4d515454 04 ec 000a 0001 63 0003 772f74 0002 0001 0003 616e6e 0003 ff00fe", Packet{Type: CONNECT, Connect: Connect{
			ProtocolName: b("MQTT"), Version: V311, KeepAlive: 10, ClientID: b("c"), HasUsername: true, Username: b("ann"), HasPassword: true, Password: b("\xff\x00\xfe"),
			Will: &Will{Retain: true, QoS: 1, Topic: b("w/t"), Payload: b("\x00\x01")},
		}}},
		{V5, "10 0d 0004 4d515454 05 00 ffff 00 0000", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQTT"), Version: V5, KeepAlive: 65535}}},
		{V5, "10 73 0004 4d515454 05 56 003c 2f" +
			"11 ffffffff 15 0005 504c41494e 16 0002 00ff 17 00 19 01 21 0014 22 000a 26 0001 61 0001 31 26 0001 61 0001 32 27 00010000" +
			"0002 6331 1f 0101 02 0000000a 03 0001 74 08 0003 722f74 09 0001 00 18 0000001e 26 0000 0000" +
			"0001 77 0002 6869 0001 70", Packet{Type: CONNECT, Connect: Connect{
			ProtocolName: b("MQTT"), Version: V5, CleanStart: true, KeepAlive: 60, ClientID: b("c1"), HasPassword: true, Password: b("p"),
			Will: &Will{QoS: 2, Topic: b("w"), Payload: b("hi"), Props: with(Properties{
				PayloadFormat: 1, MessageExpiry: 10, ContentType: b("t"), ResponseTopic: b("r/t"), CorrelationData: b("\x00"), WillDelay: 30, User: []UserProperty{{}},
			}, PropPayloadFormat, PropMessageExpiry, PropContentType, PropResponseTopic, PropCorrelationData, PropWillDelay)},
		}, Props: with(Properties{
			SessionExpiry: 0xffffffff, AuthMethod: b("PLAIN"), AuthData: b("\x00\xff"), RequestResponseInfo: true, ReceiveMaximum: 20, TopicAliasMaximum: 10, MaximumPacketSize: 65536, User: user,
		}, PropSessionExpiry, PropAuthMethod, PropAuthData, PropRequestProblemInfo, PropRequestResponseInfo, PropReceiveMaximum, PropTopicAliasMaximum, PropMaximumPacketSize)}},

		{V31, "20 02 00 05", Packet{Type: CONNACK, Code: RefusedNotAllowed}},
		{V311, "20 02 01 00", Packet{Type: CONNACK, SessionPresent: true}},
		{V5, "20 03 00 87 00", Packet{Type: CONNACK, Code: NotAuthorized}},
		{V5, "20 37 01 00 34 11 00000078 12 0001 78 13 001e 1a 0001 69 1c 0001 73 1f 0001 72 21 0014 22 000a 24 01 25 01 26 0001 61 0001 31 27 001e8480 28 01 29 00 2a 01", Packet{
			Type: CONNACK, SessionPresent: true, Props: with(Properties{
				SessionExpiry: 120, AssignedClientID: b("x"), ServerKeepAlive: 30, ResponseInfo: b("i"), ServerReference: b("s"), ReasonString: b("r"), ReceiveMaximum: 20, TopicAliasMaximum: 10,
				MaximumQoS: 1, RetainAvailable: true, User: user[:1], MaximumPacketSize: 2_000_000, WildcardAvailable: true, SharedAvailable: true,
			}, PropSessionExpiry, PropAssignedClientID, PropServerKeepAlive, PropResponseInfo, PropServerReference, PropReasonString, PropReceiveMaximum, PropTopicAliasMaximum, PropMaximumQoS,
				PropRetainAvailable, PropMaximumPacketSize, PropWildcardAvailable, PropSubIDAvailable, PropSharedAvailable),
		}},

		{V311, "30 05 0003 612f62", Packet{Type: PUBLISH, Topic: b("a/b")}},
		{V311, "3d 09 0003 612f62 000a 6869", Packet{Type: PUBLISH, Dup: true, Retain: true, QoS: 2, ID: 10, Topic: b("a/b"), Payload: b("hi")}},
		{V311, "32 08 0004 efbbbf61 ffff", Packet{Type: PUBLISH, QoS: 1, ID: 65535, Topic: b("\ufeffa")}}, // a byte order mark stays [MQTT-1.5.4-3]
		{V5, "31 06 0001 61 00 00ff", Packet{Type: PUBLISH, Retain: true, Topic: b("a"), Payload: b("\x00\xff")}},
		{V5, "32 08 0000 0001 03 23 0007", Packet{Type: PUBLISH, QoS: 1, ID: 1, Props: with(Properties{TopicAlias: 7}, PropTopicAlias)}}, // an alias alone
		{V5, "34 2e 0001 61 0001 28 01 01 02 0000000a 03 0001 74 08 0001 72 09 0001 00 0b 01 0b ffffff7f 26 0001 61 0001 31 26 0001 61 0001 32 70", Packet{
			Type: PUBLISH, QoS: 2, ID: 1, Topic: b("a"), Payload: b("p"), Props: with(Properties{
				PayloadFormat: 1, MessageExpiry: 10, ContentType: b("t"), ResponseTopic: b("r"), CorrelationData: b("\x00"), SubscriptionIDs: []uint32{1, MaxBody}, User: user,
			}, PropPayloadFormat, PropMessageExpiry, PropContentType, PropResponseTopic, PropCorrelationData),
		}},

		{V311, "40 02 0001", Packet{Type: PUBACK, ID: 1}},
		{V311, "50 02 0001", Packet{Type: PUBREC, ID: 1}},
		{V311, "62 02 0001", Packet{Type: PUBREL, ID: 1}},
		{V311, "70 02 0001", Packet{Type: PUBCOMP, ID: 1}},
		{V5, "40 02 1234", Packet{Type: PUBACK, ID: 0x1234}},
		{V5, "50 03 0001 97", Packet{Type: PUBREC, ID: 1, Code: QuotaExceeded}},
		{V5, "62 03 0001 92", Packet{Type: PUBREL, ID: 1, Code: PacketIdentifierNotFound}},
		{V5, "70 08 0001 00 04 1f 0001 78", Packet{Type: PUBCOMP, ID: 1, Props: with(Properties{ReasonString: b("x")}, PropReasonString)}},

		{V31, "82 06 0001 0001 61 01", Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("a"), QoS: 1}}}},
		{V311, "82 0e 000a 0003 612f62 01 0003 632f23 02", Packet{Type: SUBSCRIBE, ID: 10, Filters: []Subscription{{Filter: b("a/b"), QoS: 1}, {Filter: b("c/#"), QoS: 2}}}},
		{V5, "82 1a 0001 02 0b 07 0001 2b 2e 000e 2473686172652f672f612f2b2f62 00", Packet{
			Type: SUBSCRIBE, ID: 1, Props: Properties{SubscriptionIDs: []uint32{7}},
			Filters: []Subscription{{Filter: b("+"), QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, {Filter: b("$share/g/a/+/b")}},
		}},
		{V311, "90 05 0001 00 02 80", Packet{Type: SUBACK, ID: 1, Codes: []byte{0, 2, 0x80}}},
		{V5, "90 06 0001 00 01 8f a2", Packet{Type: SUBACK, ID: 1, Codes: []byte{1, TopicFilterInvalid, WildcardSubscriptionsNotSupported}}},
		{V311, "a2 05 0001 0001 23", Packet{Type: UNSUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("#")}}}},
		{V5, "a2 10 0001 07 26 0001 61 0001 31 0001 61 0001 62", Packet{Type: UNSUBSCRIBE, ID: 1, Props: Properties{User: user[:1]}, Filters: []Subscription{{Filter: b("a")}, {Filter: b("b")}}}},
		{V311, "b0 02 0001", Packet{Type: UNSUBACK, ID: 1}},
		{V5, "b0 05 0001 00 00 11", Packet{Type: UNSUBACK, ID: 1, Codes: []byte{Success, NoSubscriptionExisted}}},
		{V311, "c0 00", Packet{Type: PINGREQ}},
		{V5, "d0 00", Packet{Type: PINGRESP}},
		{V311, "e0 00", Packet{Type: DISCONNECT}},
		{V5, "e0 00", Packet{Type: DISCONNECT}},
		{V5, "e0 01 04", Packet{Type: DISCONNECT, Code: DisconnectWithWillMessage}},
		{V5, "e0 07 00 05 11 00000000", Packet{Type: DISCONNECT, Props: with(Properties{}, PropSessionExpiry)}},
		{V5, "f0 00", Packet{Type: AUTH}},
		{V5, "f0 0a 18 08 15 0001 78 16 0001 00", Packet{Type: AUTH, Code: ContinueAuthentication, Props: with(Properties{AuthMethod: b("x"), AuthData: b("\x00")}, PropAuthMethod, PropAuthData)}},
	}
}

// TestGoodPackets reads the bytes of each and writes the same bytes again, into one packet that is
// used for all: what one leaves behind must not show in the next.
func TestGoodPackets(t *testing.T) {
	var reused Packet
	for _, c := range good() {
		wire := unhex(t, fixLength(t, c.wire))
		t.Run(fmt.Sprintf("%s %s", c.v, c.p.Type), func(t *testing.T) {
			if err := decodeWire(&reused, c.v, wire); err != nil {
				t.Fatalf("%x: %v", wire, err)
			}
			if got, want := dump(&reused), dump(&c.p); got != want {
				t.Errorf("decoded\n got %s\nwant %s", got, want)
			}
			if got := mustAppend(t, &c.p, c.v); !bytes.Equal(got, wire) {
				t.Errorf("appended\n got %x\nwant %x", got, wire)
			}
			if got := mustAppend(t, &reused, c.v); !bytes.Equal(got, wire) {
				t.Errorf("appended again\n got %x\nwant %x", got, wire)
			}
		})
	}
}

// TestOtherForms are bytes that mean the same as a shorter form, or that an older version allows.
func TestOtherForms(t *testing.T) {
	for _, c := range []struct {
		what string
		v    Version
		wire string
		want Packet
	}{
		{"ack with Success", V5, "40 03 0001 00", Packet{Type: PUBACK, ID: 1}},
		{"ack with Success and no properties", V5, "40 04 0001 00 00", Packet{Type: PUBACK, ID: 1}},
		{"disconnect with a code", V5, "e0 01 00", Packet{Type: DISCONNECT}},
		{"disconnect with no properties", V5, "e0 02 00 00", Packet{Type: DISCONNECT}},
		{"3.1 repeats a SUBSCRIBE with DUP", V31, "8a 06 0001 0001 61 01", Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("a"), QoS: 1}}}},
		{"3.1 does not use the upper bits of a QoS", V31, "82 06 0001 0001 61 fd", Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("a"), QoS: 1}}}},
		{"3.1 repeats a PUBREL with DUP", V31, "6a 02 0001", Packet{Type: PUBREL, ID: 1}},
		{"3.1 reserves a byte of CONNACK", V31, "20 02 7f 00", Packet{Type: CONNACK}},
		{"3.1 announces a user name and does not send it", V31, "10 0f 0006 4d5149736470 03 c2 003c 0001 61", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQIsdp"), Version: V31, CleanStart: true, KeepAlive: 60, ClientID: b("a")}}},
		{"3.1 announces a password and does not send it", V31, "10 12 0006 4d5149736470 03 c2 003c 0001 61 0001 75", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQIsdp"), Version: V31, CleanStart: true, KeepAlive: 60, ClientID: b("a"), HasUsername: true, Username: b("u")}}},
		{"3.1 does not use the lowest connect flag", V31, "10 0f 0006 4d5149736470 03 03 003c 0001 61", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQIsdp"), Version: V31, CleanStart: true, KeepAlive: 60, ClientID: b("a")}}},
		{"$share without a filter is an ordinary filter before 5.0", V311, "82 0c 0001 0007 2473686172652f 00", Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("$share/")}}}},
		{"$share alone is an ordinary filter", V5, "82 0c 0001 00 0006 247368617265 00", Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("$share")}}}},
		{"user name empty", V311, "10 0f 0004 4d515454 04 82 0000 0001 61 0000", Packet{Type: CONNECT, Connect: Connect{ProtocolName: b("MQTT"), Version: V311, CleanStart: true, ClientID: b("a"), HasUsername: true}}},
		{"properties in any order", V5, "30 0c 0001 61 07 02 00000001 01 01 70", Packet{Type: PUBLISH, Topic: b("a"), Payload: b("p"), Props: with(Properties{PayloadFormat: 1, MessageExpiry: 1}, PropPayloadFormat, PropMessageExpiry)}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var p Packet
			if err := decodeWire(&p, c.v, unhex(t, fixLength(t, c.wire))); err != nil {
				t.Fatal(err)
			}
			if got, want := dump(&p), dump(&c.want); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// fixLength replaces the second byte of a packet below 128 bytes, so that the tables need not count.
func fixLength(t testing.TB, s string) string {
	t.Helper()
	wire := unhex(t, s)
	if len(wire) < 2 || len(wire)-2 > 127 {
		t.Fatalf("%d bytes", len(wire))
	}
	wire[1] = byte(len(wire) - 2)
	return hex.EncodeToString(wire)
}

// TestTruncated cuts every good packet at every byte: what is left is refused as malformed, or is a shorter
// packet that stands on its own.
func TestTruncated(t *testing.T) {
	var p Packet
	for _, c := range good() {
		wire := unhex(t, fixLength(t, c.wire))
		typ, flags, _, head, err := ReadHeader(wire)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(wire) {
			if n < head {
				if _, _, _, _, err := ReadHeader(wire[:n]); !errors.Is(err, ErrShort) {
					t.Errorf("%x cut to %d: %v, want ErrShort", wire, n, err)
				}
				continue
			}
			err := p.Decode(c.v, typ, flags, wire[head:n])
			if err == nil {
				if !prefixIsWhole(typ) {
					t.Errorf("%s %s cut to %d of %d bytes is accepted: %s", c.v, typ, n, len(wire), dump(&p))
				}
				mustAppend(t, &p, c.v)
			} else if e, ok := errors.AsType[*Error](err); !ok || (e.Code != MalformedPacket && e.Code != ProtocolError) {
				t.Errorf("%s %s cut to %d: %v", c.v, typ, n, err)
			}
		}
	}
}

// prefixIsWhole reports whether a packet of the type may be a shorter one: by a payload, a list or a form with
// less in it.
func prefixIsWhole(t Type) bool {
	switch t {
	case CONNECT, CONNACK, PINGREQ, PINGRESP:
		return false
	default:
		return true
	}
}

// TestTrailing adds a byte to every good packet that does not end with a payload or a list.
func TestTrailing(t *testing.T) {
	var p Packet
	for _, c := range good() {
		switch c.p.Type {
		case PUBLISH, SUBACK, SUBSCRIBE, UNSUBSCRIBE, UNSUBACK:
			if c.v == V5 || c.p.Type != UNSUBACK {
				continue
			}
		case DISCONNECT, AUTH, PUBACK, PUBREC, PUBREL, PUBCOMP:
			if c.v == V5 && c.p.Props.all() == 0 {
				continue
			}
		default: // has an end of its own
		}
		wire := append(unhex(t, fixLength(t, c.wire)), 0)
		wire[1]++
		if e, ok := errors.AsType[*Error](decodeWire(&p, c.v, wire)); !ok || e.Code != MalformedPacket {
			t.Errorf("%s %s with a byte more: %v", c.v, c.p.Type, e)
		}
	}
}
