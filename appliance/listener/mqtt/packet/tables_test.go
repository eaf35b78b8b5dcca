package packet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

const allTypes = 15

// property is a row of table 2-4 of 5.0: a value that is allowed, and where it may stand. 0 is the will.
type property struct {
	value string
	in    []Type
}

func properties() map[byte]property {
	message := []Type{PUBLISH, will}
	reason := []Type{CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}
	return map[byte]property{
		1:  {"01", message},
		2:  {"00000000", message},
		3:  {"0001 61", message},
		8:  {"0001 61", message},
		9:  {"0000", message},
		11: {"01", []Type{PUBLISH, SUBSCRIBE}},
		17: {"00000000", []Type{CONNECT, CONNACK, DISCONNECT}},
		18: {"0001 61", []Type{CONNACK}},
		19: {"0000", []Type{CONNACK}},
		21: {"0000", []Type{CONNECT, CONNACK, AUTH}},
		22: {"0001 ff", []Type{CONNECT, CONNACK, AUTH}},
		23: {"00", []Type{CONNECT}},
		24: {"00000000", []Type{will}},
		25: {"01", []Type{CONNECT}},
		26: {"0000", []Type{CONNACK}},
		28: {"0000", []Type{CONNACK, DISCONNECT}},
		31: {"0000", reason},
		33: {"0001", []Type{CONNECT, CONNACK}},
		34: {"0000", []Type{CONNECT, CONNACK}},
		35: {"0001", []Type{PUBLISH}},
		36: {"00", []Type{CONNACK}},
		37: {"00", []Type{CONNACK}},
		38: {"0000 0000", []Type{will, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH}},
		39: {"00000001", []Type{CONNECT, CONNACK}},
		40: {"00", []Type{CONNACK}},
		41: {"00", []Type{CONNACK}},
		42: {"00", []Type{CONNACK}},
	}
}

// withProperties puts properties into the shortest packet of a type.
func withProperties(t Type, props []byte) []byte {
	props = append(appendVarint(nil, len(props)), props...)
	join := func(before string, after string) []byte {
		return slices.Concat([]byte(before), props, []byte(after))
	}
	switch t {
	case will:
		return join("\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c", "\x00\x01t\x00\x00")
	case CONNECT:
		return join("\x00\x04MQTT\x05\x02\x00\x00", "\x00\x01c")
	case CONNACK:
		return join("\x00\x00", "")
	case PUBLISH:
		return join("\x00\x01t", "")
	case SUBSCRIBE:
		return join("\x00\x01", "\x00\x01t\x00")
	case UNSUBSCRIBE:
		return join("\x00\x01", "\x00\x01t")
	case SUBACK, UNSUBACK:
		return join("\x00\x01", "\x00")
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return join("\x00\x01\x00", "")
	default: // DISCONNECT, AUTH, and pings, which have none
		return join("\x00", "")
	}
}

// TestProperties tries every identifier in every packet, once and twice: §2.2.2.2 of 5.0 and "it is a Protocol Error to
// include … more than once" of each.
func TestProperties(t *testing.T) {
	var p Packet
	decode := func(typ Type, props []byte) error {
		on := typ
		if typ == will {
			on = CONNECT
		}
		return p.Decode(V5, on, fixedFlags(on), withProperties(typ, props))
	}
	table := properties()
	for id := range 256 {
		for typ := range Type(allTypes + 1) {
			row, exists := table[byte(id)]
			one := append([]byte{byte(id)}, unhex(t, row.value)...)
			var method []byte // which AUTH always has, and authentication data in CONNECT needs
			if id != 21 && (typ == AUTH || typ == CONNECT && id == 22) {
				method = []byte{21, 0, 0}
			}
			err := decode(typ, slices.Concat(method, one))
			if exists && slices.Contains(row.in, typ) {
				if err != nil {
					t.Errorf("property %d in %s: %v", id, typ, err)
				}
				props := &p.Props
				if typ == will {
					props = &p.Will.Props
				}
				if !props.Has(PropertyID(id)) {
					t.Errorf("property %d in %s is lost", id, typ)
				}
				several := id == 38 || id == 11 && typ == PUBLISH
				err = decode(typ, slices.Concat(method, one, one))
				if e, ok := errors.AsType[*Error](err); ok == several || ok && e.Code != ProtocolError {
					t.Errorf("property %d twice in %s: %v", id, typ, err)
				}
			} else if e, ok := errors.AsType[*Error](err); !ok || e.Code != MalformedPacket {
				t.Errorf("property %d in %s: %v, want malformed", id, typ, err)
			}
		}
	}
	if p.Props.Has(PropReasonString) {
		t.Error("a property is left from another packet")
	}
}

// reasonCodes are the tables 3-1, 3-4 to 3-10 and §3.15.2.1 of 5.0.
func reasonCodes() map[Type]string {
	return map[Type]string{
		CONNACK:    "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
		PUBACK:     "00 10 80 83 87 90 91 97 99",
		PUBREC:     "00 10 80 83 87 90 91 97 99",
		PUBREL:     "00 92",
		PUBCOMP:    "00 92",
		SUBACK:     "00 01 02 80 83 87 8f 91 97 9e a1 a2",
		UNSUBACK:   "00 11 80 83 87 8f 91",
		DISCONNECT: "00 04 80 81 82 83 87 89 8b 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
		AUTH:       "00 18 19",
	}
}

// TestReasonCodes reads and writes every code in every packet: [MQTT-3.2.2-8], [MQTT-3.4.2-1],
// [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1],
// [MQTT-3.15.2-1].
func TestReasonCodes(t *testing.T) {
	var p Packet
	method := with(Properties{}, PropAuthMethod)
	for typ, list := range reasonCodes() {
		codes := unhex(t, list)
		for c := range 256 {
			code := byte(c)
			q := Packet{Type: typ, ID: 1, Code: code, Codes: []byte{code}}
			var body []byte
			switch typ {
			case CONNACK:
				body = []byte{0, code, 0}
			case SUBACK, UNSUBACK:
				body = []byte{0, 1, 0, code}
			case DISCONNECT:
				body = []byte{code}
			case AUTH:
				body, q.Props = []byte{code, 3, 21, 0, 0}, method
			default:
				body = []byte{0, 1, code}
			}
			want := bytes.IndexByte(codes, code) >= 0
			err := p.Decode(V5, typ, fixedFlags(typ), body)
			if e, ok := errors.AsType[*Error](err); ok == want || ok && e.Code != ProtocolError {
				t.Errorf("read %#x in %s: %v", code, typ, err)
			}
			if _, err := q.Append(nil, V5); (err == nil) != want {
				t.Errorf("write %#x in %s: %v", code, typ, err)
			}
		}
	}
}

// TestReturnCodes: 3.1.1 §3.2.2.3, and every reason code of a CONNACK has one there or none.
func TestReturnCodes(t *testing.T) {
	want := map[byte]byte{
		Success: 0, UnsupportedProtocolVersion: 1, ClientIdentifierNotValid: 2, ServerUnavailable: 3, ServerBusy: 3, QuotaExceeded: 3, UseAnotherServer: 3,
		ServerMoved: 3, ConnectionRateExceeded: 3, BadUserNameOrPassword: 4, NotAuthorized: 5, Banned: 5, BadAuthenticationMethod: 5,
	}
	for c := range 256 {
		rc, ok := ReturnCode(byte(c))
		w, has := want[byte(c)]
		if ok != has || rc != w {
			t.Errorf("%#x: %d %v, want %d %v", c, rc, ok, w, has)
		}
		if ok {
			mustAppend(t, &Packet{Type: CONNACK, Code: rc}, V311)
		}
	}
}

// TestDirection tries what only one side sends.
func TestDirection(t *testing.T) {
	for _, c := range []struct {
		p              Packet
		client, server bool
	}{
		{Packet{Type: CONNECT}, true, false},
		{Packet{Type: CONNACK}, false, true},
		{Packet{Type: SUBSCRIBE}, true, false},
		{Packet{Type: SUBACK}, false, true},
		{Packet{Type: UNSUBSCRIBE}, true, false},
		{Packet{Type: UNSUBACK}, false, true},
		{Packet{Type: PINGREQ}, true, false},
		{Packet{Type: PINGRESP}, false, true},
		{Packet{Type: PUBLISH}, true, true},
		{Packet{Type: PUBLISH, Props: Properties{SubscriptionIDs: []uint32{1}}}, false, true}, // [MQTT-3.3.4-6]
		{Packet{Type: PUBACK, Code: NoMatchingSubscribers}, false, true},
		{Packet{Type: PUBREC, Code: NoMatchingSubscribers}, false, true},
		{Packet{Type: PUBREC, Code: QuotaExceeded}, true, true},
		{Packet{Type: PUBREL, Code: PacketIdentifierNotFound}, true, true},
		{Packet{Type: DISCONNECT, Code: DisconnectWithWillMessage}, true, false},
		{Packet{Type: DISCONNECT, Code: SessionTakenOver}, false, true},
		{Packet{Type: DISCONNECT, Code: TopicFilterInvalid}, false, true},
		{Packet{Type: DISCONNECT, Code: MalformedPacket}, true, true},
		{Packet{Type: DISCONNECT, Props: with(Properties{}, PropSessionExpiry)}, true, false}, // [MQTT-3.14.2-2]
		{Packet{Type: AUTH, Code: Success}, false, true},
		{Packet{Type: AUTH, Code: ContinueAuthentication}, true, true}, // [MQTT-4.12.0-2], [MQTT-4.12.0-3]
		{Packet{Type: AUTH, Code: ReAuthenticate}, true, false},
	} {
		for _, side := range []struct {
			who  string
			err  error
			want bool
		}{{"client", c.p.FromClient(V5), c.client}, {"server", c.p.FromServer(V5), c.server}} {
			if e, ok := errors.AsType[*Error](side.err); ok == side.want || ok && e.Code != ProtocolError {
				t.Errorf("%s %#x from a %s: %v", c.p.Type, c.p.Code, side.who, side.err)
			}
		}
	}
	if err := (&Packet{Type: DISCONNECT}).FromServer(V311); err == nil {
		t.Error("DISCONNECT from a server is allowed in 3.1.1")
	}
}

// TestNames: every type and version has a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for typ := range Type(17) {
		seen[typ.String()] = true
	}
	for v := range Version(7) {
		seen[v.String()] = true
	}
	if len(seen) != 17+7 {
		t.Errorf("%d names: %v", len(seen), seen)
	}
	if got := fmt.Sprint(malformed("x")); got != "mqtt packet: x (0x81)" {
		t.Error(got)
	}
}

// TestSplitShare: [MQTT-4.8.2-1], [MQTT-4.8.2-2].
func TestSplitShare(t *testing.T) {
	for _, c := range []struct {
		filter, group, rest string
		ok                  bool
	}{
		{"$share/g/a/b", "g", "a/b", true},
		{"$share/g//", "g", "/", true},
		{"$share/g/#", "g", "#", true},
		{"$share/g/$share/h/a", "g", "$share/h/a", true},
		{"$share/g", "", "$share/g", false},
		{"$share/g/", "", "$share/g/", false},
		{"$share//a", "", "$share//a", false},
		{"$share/+/a", "", "$share/+/a", false},
		{"$share/g#/a", "", "$share/g#/a", false},
		{"$SHARE/g/a", "", "$SHARE/g/a", false},
		{"$share", "", "$share", false},
		{"a/$share/g/b", "", "a/$share/g/b", false},
		{"", "", "", false},
	} {
		group, rest, ok := SplitShare([]byte(c.filter))
		if string(group) != c.group || string(rest) != c.rest || ok != c.ok {
			t.Errorf("%q: %q %q %v", c.filter, group, rest, ok)
		}
	}
}
