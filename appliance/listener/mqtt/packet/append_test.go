package packet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestAppendRefuses: nothing is written that the other side would have to refuse, and dst stays as it was.
func TestAppendRefuses(t *testing.T) {
	long := bytes.Repeat([]byte("a"), 65_536)
	connect := func(change func(*Packet)) Packet {
		p := Packet{Type: CONNECT, Connect: Connect{Version: V5, ClientID: b("c")}}
		change(&p)
		return p
	}
	publish := func(change func(*Packet)) Packet {
		p := Packet{Type: PUBLISH, Topic: b("t")}
		change(&p)
		return p
	}
	subscribe := func(s Subscription) Packet {
		return Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{s}}
	}
	for i, c := range []struct {
		v    Version
		p    Packet
		code byte
	}{
		{V5, Packet{}, MalformedPacket},
		{V5, Packet{Type: 16}, MalformedPacket},
		{V5, connect(func(p *Packet) { p.Version = 6 }), UnsupportedProtocolVersion},
		{V5, connect(func(p *Packet) { p.Version = 0 }), UnsupportedProtocolVersion},
		{V5, connect(func(p *Packet) { p.ClientID = long }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.ClientID = b("\xff") }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.ClientID, p.Version = nil, V311 }), ClientIdentifierNotValid},
		{V5, connect(func(p *Packet) { p.HasPassword, p.Version = true, V311 }), ProtocolError},
		{V5, connect(func(p *Packet) { p.HasUsername, p.Username = true, b("\x00") }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.HasPassword, p.Password = true, long }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.Will = &Will{} }), TopicNameInvalid},
		{V5, connect(func(p *Packet) { p.Will = &Will{Topic: b("a/+")} }), TopicNameInvalid},
		{V5, connect(func(p *Packet) { p.Will = &Will{Topic: b("a"), QoS: 3} }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.Will = &Will{Topic: b("a"), Payload: long} }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.Will = &Will{Topic: b("a"), Props: with(Properties{TopicAlias: 1}, PropTopicAlias)} }), MalformedPacket},
		{V5, connect(func(p *Packet) { p.Props.Mark(PropAuthData) }), ProtocolError},
		{V5, connect(func(p *Packet) { p.Props.Mark(PropReceiveMaximum) }), ProtocolError},
		{V5, connect(func(p *Packet) { p.Props.Mark(PropMaximumPacketSize) }), ProtocolError},
		{V5, connect(func(p *Packet) { p.Props.Mark(PropServerKeepAlive) }), MalformedPacket},
		{V5, Packet{Type: CONNACK, SessionPresent: true, Code: NotAuthorized}, ProtocolError},
		{V311, Packet{Type: CONNACK, Code: NotAuthorized}, ProtocolError},
		{V5, Packet{Type: CONNACK, Props: with(Properties{MaximumQoS: 2}, PropMaximumQoS)}, ProtocolError},
		{V5, publish(func(p *Packet) { p.QoS = 3 }), MalformedPacket},
		{V5, publish(func(p *Packet) { p.QoS = 255 }), MalformedPacket},
		{V5, publish(func(p *Packet) { p.Dup = true }), MalformedPacket},
		{V5, publish(func(p *Packet) { p.QoS = 1 }), ProtocolError},
		{V5, publish(func(p *Packet) { p.Topic = nil }), TopicNameInvalid},
		{V5, publish(func(p *Packet) { p.Topic = b("#") }), TopicNameInvalid},
		{V5, publish(func(p *Packet) { p.Topic = long }), MalformedPacket},
		{V311, publish(func(p *Packet) { p.Topic, p.Props = nil, with(Properties{TopicAlias: 1}, PropTopicAlias) }), TopicNameInvalid},
		{V5, publish(func(p *Packet) { p.Props.Mark(PropTopicAlias) }), TopicAliasInvalid},
		{V5, publish(func(p *Packet) { p.Props.SubscriptionIDs = []uint32{1, 0} }), ProtocolError},
		{V5, publish(func(p *Packet) { p.Props.SubscriptionIDs = []uint32{MaxBody + 1} }), ProtocolError},
		{V5, publish(func(p *Packet) { p.Props.User = []UserProperty{{b("k"), b("\xff")}} }), MalformedPacket},
		{V5, publish(func(p *Packet) { p.Props = with(Properties{PayloadFormat: 2}, PropPayloadFormat) }), ProtocolError},
		{V5, publish(func(p *Packet) { p.Props = with(Properties{ResponseTopic: b("+")}, PropResponseTopic) }), ProtocolError},
		{V5, publish(func(p *Packet) { p.Props = with(Properties{CorrelationData: long}, PropCorrelationData) }), MalformedPacket},
		{V5, Packet{Type: PUBACK}, ProtocolError},
		{V311, Packet{Type: PUBREL}, ProtocolError},
		{V5, Packet{Type: PUBCOMP, ID: 1, Code: QuotaExceeded}, ProtocolError},
		{V5, Packet{Type: PUBACK, ID: 1, Props: with(Properties{}, PropContentType)}, MalformedPacket},
		{V5, Packet{Type: SUBSCRIBE, ID: 1}, ProtocolError},
		{V5, Packet{Type: UNSUBSCRIBE, ID: 1}, ProtocolError},
		{V5, Packet{Type: SUBSCRIBE, Filters: []Subscription{{Filter: b("a")}}}, ProtocolError},
		{V5, Packet{Type: SUBSCRIBE, ID: 1, Filters: []Subscription{{Filter: b("a")}}, Props: Properties{SubscriptionIDs: []uint32{1, 2}}}, ProtocolError},
		{V5, subscribe(Subscription{Filter: b("a"), QoS: 3}), ProtocolError},
		{V311, subscribe(Subscription{Filter: b("a"), QoS: 3}), MalformedPacket},
		{V5, subscribe(Subscription{Filter: b("a"), RetainHandling: 3}), ProtocolError},
		{V5, subscribe(Subscription{Filter: b("$share/g/a"), NoLocal: true}), ProtocolError},
		{V5, subscribe(Subscription{Filter: b("a#")}), TopicFilterInvalid},
		{V5, subscribe(Subscription{Filter: long}), MalformedPacket},
		{V5, subscribe(Subscription{}), TopicFilterInvalid},
		{V5, Packet{Type: SUBACK, ID: 1}, ProtocolError},
		{V5, Packet{Type: SUBACK, Codes: []byte{0}}, ProtocolError},
		{V311, Packet{Type: SUBACK, ID: 1, Codes: []byte{NotAuthorized}}, ProtocolError},
		{V5, Packet{Type: UNSUBACK, ID: 1}, ProtocolError},
		{V5, Packet{Type: AUTH, Code: ContinueAuthentication}, ProtocolError},
		{V311, Packet{Type: AUTH}, MalformedPacket},
		{V5, Packet{Type: AUTH, Code: 1}, ProtocolError},
		{V5, Packet{Type: DISCONNECT, Code: Banned}, ProtocolError},
	} {
		t.Run(fmt.Sprintf("%d %s", i, c.p.Type), func(t *testing.T) {
			dst := []byte("before")
			got, err := c.p.Append(dst, c.v)
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code {
				t.Errorf("%v, want code %#x\n%s", err, c.code, dump(&c.p))
			}
			if string(got) != "before" {
				t.Errorf("dst is %q", got)
			}
		})
	}
}

// TestAppendUnknownVersion: a CONNECT that asks for an unknown version is refused in the form of 3.1.1.
func TestAppendUnknownVersion(t *testing.T) {
	for _, v := range []Version{0, 6, 0x84} {
		if got := mustAppend(t, &Packet{Type: CONNACK, Code: RefusedVersion}, v); !bytes.Equal(got, []byte{0x20, 2, 0, 1}) {
			t.Errorf("%s: %x", v, got)
		}
	}
}

// TestLengths writes packets around every border of a variable byte integer, the properties' and the
// packet's, and reads them back.
func TestLengths(t *testing.T) {
	var got Packet
	for _, n := range []int{0, 1, 100, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16_370, 16_375, 16_376, 16_377, 16_378, 16_379, 16_380, 16_383, 16_384, 2_097_140, 2_097_152} {
		p := Packet{Type: PUBLISH, QoS: 1, ID: 9, Topic: b("t"), Payload: bytes.Repeat([]byte("x"), n)}
		for room := min(n, 200_000); room > 0; room -= 65_000 {
			p.Props.User = append(p.Props.User, UserProperty{Key: bytes.Repeat([]byte("k"), min(room, 65_000)), Value: b("v")})
		}
		wire := mustAppend(t, &p, V5)
		if _, _, body, head, err := ReadHeader(wire); err != nil || CheckLength(V5, body, head) != nil {
			t.Fatalf("%d: header %x: %v", n, wire[:5], err)
		}
		if err := decodeWire(&got, V5, wire); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		same := bytes.Equal(got.Payload, p.Payload) && slices.EqualFunc(got.Props.User, p.Props.User, func(a, b UserProperty) bool {
			return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
		})
		got.Payload, got.Props.User, p.Payload, p.Props.User = nil, nil, nil, nil // too long to dump
		if !same || dump(&got) != dump(&p) {
			t.Errorf("%d: packet changed", n)
		}
	}
	// The longest packet, without writing one: memory that nobody touches costs nothing.
	longest := Publish{Topic: "t", Payload: make([]byte, MaxBody-3)}
	if wire := longest.AppendHead(nil, V311); !bytes.Equal(wire[:5], []byte{0x30, 0xff, 0xff, 0xff, 0x7f}) {
		t.Errorf("longest packet starts with %x", wire[:5])
	}
	w := writer{b: make([]byte, 2+MaxBody+1)}
	w.setLength(1)
	if e, ok := errors.AsType[*Error](w.err); !ok || e.Code != PacketTooLarge {
		t.Errorf("a packet beyond the longest: %v", w.err)
	}
}

// TestPublishHead holds the fast path to the general one.
func TestPublishHead(t *testing.T) {
	props := with(Properties{
		PayloadFormat: 1, ContentType: b("text/plain"), ResponseTopic: b("r"), CorrelationData: b("\x00\x01"), User: []UserProperty{{b("k"), b("v")}, {b("k"), b("w")}},
	}, PropPayloadFormat, PropContentType, PropResponseTopic, PropCorrelationData)
	shared, err := props.AppendShared(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got Packet
	for i, c := range []Publish{
		{Topic: "a/b"},
		{Topic: "a/b", Payload: b("hi"), Retain: true},
		{Topic: "a/b", QoS: 1, ID: 1, Dup: true, Payload: bytes.Repeat(b("x"), 200)},
		{Topic: "a", QoS: 2, ID: 65535, Shared: shared, Payload: b("hi")},
		{QoS: 1, ID: 7, Alias: 3, Shared: shared, HasExpiry: true},
		{Topic: "a", QoS: 1, ID: 7, Alias: 65535, Shared: shared, HasExpiry: true, MessageExpiry: 1 << 31, SubscriptionIDs: []uint32{1, 128, 16_384, MaxBody}, Payload: b("hi")},
		{Topic: strings.Repeat("a/", 32_000), Payload: bytes.Repeat(b("x"), 20_000)},
	} {
		for _, v := range []Version{V31, V311, V5} {
			if c.Topic == "" && v != V5 {
				continue
			}
			wire := append(c.AppendHead([]byte{}, v), c.Payload...)
			if len(wire) != c.Size(v) {
				t.Errorf("%d in %s: %d bytes, Size says %d", i, v, len(wire), c.Size(v))
			}
			if err := decodeWire(&got, v, wire); err != nil {
				t.Fatalf("%d in %s: %v", i, v, err)
			}
			want := Packet{Type: PUBLISH, Dup: c.Dup, Retain: c.Retain, QoS: c.QoS, ID: c.ID, Topic: b(c.Topic), Payload: c.Payload}
			if v == V5 {
				if c.Shared != nil {
					want.Props = props
				}
				want.Props.SubscriptionIDs = c.SubscriptionIDs
				if c.Alias != 0 {
					want.Props.TopicAlias = c.Alias
					want.Props.Mark(PropTopicAlias)
				}
				if c.HasExpiry {
					want.Props.MessageExpiry = c.MessageExpiry
					want.Props.Mark(PropMessageExpiry)
				}
			}
			if dump(&got) != dump(&want) {
				t.Errorf("%d in %s:\n got %s\nwant %s", i, v, dump(&got), dump(&want))
			}
		}
	}
	if _, err := (&Properties{User: []UserProperty{{b("\xff"), nil}}}).AppendShared(nil); err == nil {
		t.Error("a bad user property is written")
	}
}

func TestAppendAck(t *testing.T) {
	for _, typ := range []Type{PUBACK, PUBREC, PUBREL, PUBCOMP} {
		for _, v := range []Version{V31, V311, V5} {
			for _, code := range []byte{Success, PacketIdentifierNotFound, QuotaExceeded} {
				p := Packet{Type: typ, ID: 0x0102, Code: code}
				if !codeAllowed(V5, typ, code) {
					continue
				}
				if got, want := AppendAck(nil, v, typ, p.ID, code), mustAppend(t, &p, v); !bytes.Equal(got, want) {
					t.Errorf("%s %s %#x: %x, want %x", v, typ, code, got, want)
				}
			}
		}
	}
}

// TestBounds: what is small on the wire and large in memory has a bound, and a large packet is not kept.
func TestBounds(t *testing.T) {
	var p Packet
	users := Packet{Type: PUBLISH, Topic: b("t"), Props: Properties{User: make([]UserProperty, maxUser)}}
	if err := decodeWire(&p, V5, mustAppend(t, &users, V5)); err != nil || len(p.Props.User) != maxUser {
		t.Errorf("%d user properties: %v", len(p.Props.User), err)
	}
	users.Props.User = append(users.Props.User, UserProperty{})
	if e, ok := errors.AsType[*Error](decodeWire(&p, V5, mustAppend(t, &users, V5))); !ok || e.Code != QuotaExceeded {
		t.Errorf("one user property more: %v", e)
	}
	filters := Packet{Type: SUBSCRIBE, ID: 1, Filters: slices.Repeat([]Subscription{{Filter: b("a")}}, maxFilters)}
	if err := decodeWire(&p, V311, mustAppend(t, &filters, V311)); err != nil || len(p.Filters) != maxFilters {
		t.Errorf("%d filters: %v", len(p.Filters), err)
	}
	filters.Filters = append(filters.Filters, Subscription{Filter: b("a")})
	if e, ok := errors.AsType[*Error](decodeWire(&p, V311, mustAppend(t, &filters, V311))); !ok || e.Code != QuotaExceeded {
		t.Errorf("one filter more: %v", e)
	}
	if err := decodeWire(&p, V311, []byte{0xc0, 0}); err != nil || cap(p.Filters) > keepFilters || cap(p.Props.User) > keepFilters {
		t.Errorf("%d filters and %d user properties are kept: %v", cap(p.Filters), cap(p.Props.User), err)
	}
}

// TestClear: nothing of the last body stays, not even behind the end of a slice.
func TestClear(t *testing.T) {
	var p Packet
	for _, c := range good() {
		if err := decodeWire(&p, c.v, unhex(t, fixLength(t, c.wire))); err != nil {
			t.Fatal(err)
		}
		p.Clear()
		if dump(&p) != dump(&Packet{}) {
			t.Errorf("%s leaves %s", c.p.Type, dump(&p))
		}
		for _, f := range p.Filters[:cap(p.Filters)] {
			if f.Filter != nil {
				t.Errorf("%s leaves the filter %q", c.p.Type, f.Filter)
			}
		}
		for _, u := range p.Props.User[:cap(p.Props.User)] {
			if u.Key != nil || u.Value != nil {
				t.Errorf("%s leaves the user property %q", c.p.Type, u)
			}
		}
	}
}

// TestFieldsDoNotTouch: appending to a field of a decoded packet must not write into the next one.
func TestFieldsDoNotTouch(t *testing.T) {
	wire := unhex(t, "32 09 0003 612f62 0001 6869")
	keep := bytes.Clone(wire)
	var p Packet
	if err := decodeWire(&p, V311, wire); err != nil {
		t.Fatal(err)
	}
	if got := append(p.Topic, "/c"...); string(got) != "a/b/c" || !bytes.Equal(wire, keep) {
		t.Errorf("%q, the body is now %x", got, wire)
	}
}

func TestMark(t *testing.T) {
	var p Properties
	p.Mark(PropTopicAlias, PropReasonString, PropUser, PropSubscriptionID)
	if !p.Has(PropTopicAlias) || !p.Has(PropReasonString) || p.Has(PropUser) || p.Has(PropSubscriptionID) {
		t.Errorf("present: %b", p.all())
	}
	if p.Unmark(PropTopicAlias); p.Has(PropTopicAlias) || !p.Has(PropReasonString) {
		t.Errorf("present: %b", p.all())
	}
}
