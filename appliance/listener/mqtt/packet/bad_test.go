package packet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Every row of the tables is one statement broken by one packet. The name starts with the
// statement's number, in 5.0 where it is the same rule; CONFORMANCE.md of the listener points here. The second byte, the length, is
// filled in.

type badPacket struct {
	rule string
	v    Version
	wire string
	code byte
}

func (c badPacket) test(t *testing.T) {
	var p Packet
	wire := unhex(t, fixLength(t, c.wire))
	e, ok := errors.AsType[*Error](decodeWire(&p, c.v, wire))
	if !ok {
		t.Fatalf("%x is accepted: %s", wire, dump(&p))
	}
	if e.Code != c.code {
		t.Errorf("%x: %v, want code %#x", wire, e, c.code)
	}
	answer := DISCONNECT
	if wire[0]>>4 == byte(CONNECT) {
		answer = CONNACK
	}
	if !codeAllowed(V5, answer, e.Code) {
		t.Errorf("%v does not fit into the %s that answers it", e, answer)
	}
	if e.Detail == "" || !validString([]byte(e.Detail)) || len(e.Detail) > 120 {
		t.Errorf("detail %q does not fit into a reason string", e.Detail)
	}
}

func runBad(t *testing.T, cases []badPacket) {
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s in %s", c.rule, c.v), c.test)
	}
}

// Prefixes of a CONNECT that ask for 3.1.1 and 5.0.
const (
	con31  = "10 00 0006 4d5149736470 03 "
	con311 = "10 00 0004 4d515454 04 "
	con5   = "10 00 0004 4d515454 05 "
)

func TestBadConnect(t *testing.T) {
	runBad(t, []badPacket{
		{"MQTT-3.1.2-1 wrong name", 0, "10 00 0004 4d515458 04 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-1 name in lower case", 0, "10 00 0004 6d717474 04 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-1 empty name", 0, "10 00 0000 04 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-2 level 0", 0, "10 00 0004 4d515454 00 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-2 level 6", 0, "10 00 0004 4d515454 06 02 0000 00 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-2 level of a private bridge", 0, "10 00 0004 4d515454 84 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-2 level 3 by the new name", 0, "10 00 0004 4d515454 03 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-3.1.2-2 level 4 by the old name", 0, "10 00 0006 4d5149736470 04 02 0000 0001 61", UnsupportedProtocolVersion},
		{"MQTT-1.5.4-1 name not UTF-8", 0, "10 00 0004 ff515454 04 02 0000 0001 61", MalformedPacket},
		{"MQTT-2.1.3-1 flags", 0, "11 00 0004 4d515454 05 02 0000 00 0001 61", MalformedPacket},
		{"MQTT-2.2.2-1 (3.1.1) flags", 0, "18 00 0004 4d515454 04 02 0000 0001 61", MalformedPacket},
		{"MQTT-3.1.2-3 reserved flag", 0, con311 + "03 0000 0001 61", MalformedPacket},
		{"MQTT-3.1.2-3 reserved flag", 0, con5 + "03 0000 00 0001 61", MalformedPacket},
		{"MQTT-3.1.2-12 will QoS 3", 0, con5 + "1e 0000 00 0001 61 00 0001 74 0000", MalformedPacket},
		{"MQTT-3.1.2-14 (3.1.1) will QoS 3", 0, con311 + "1e 0000 0001 61 0001 74 0000", MalformedPacket},
		{"MQTT-3.1.2-11 will QoS without a will", 0, con5 + "0a 0000 00 0001 61", ProtocolError},
		{"MQTT-3.1.2-13 (3.1.1) will QoS without a will", 0, con311 + "12 0000 0001 61", ProtocolError},
		{"MQTT-3.1.2-13 will retain without a will", 0, con5 + "22 0000 00 0001 61", ProtocolError},
		{"MQTT-3.1.2-15 (3.1.1) will retain without a will", 0, con311 + "22 0000 0001 61", ProtocolError},
		{"MQTT-3.1.2-22 (3.1.1) password without a user name", 0, con311 + "42 0000 0001 61 0001 70", ProtocolError},
		{"password without a user name", 0, con31 + "42 0000 0001 61 0001 70", ProtocolError},
		{"MQTT-3.1.2-9 will flag and no will", 0, con311 + "06 0000 0001 61", MalformedPacket},
		{"MQTT-3.1.2-9 will flag and no will", 0, con5 + "06 0000 00 0001 61", MalformedPacket},
		{"MQTT-3.1.2-9 will topic and no will payload", 0, con311 + "06 0000 0001 61 0001 74", MalformedPacket},
		{"MQTT-3.1.2-16 user name without its flag", 0, con5 + "02 0000 00 0001 61 0001 75", MalformedPacket},
		{"MQTT-3.1.2-18 (3.1.1) user name without its flag", 0, con311 + "02 0000 0001 61 0001 75", MalformedPacket},
		{"MQTT-3.1.2-17 no user name", 0, con5 + "82 0000 00 0001 61", MalformedPacket},
		{"MQTT-3.1.2-19 (3.1.1) no user name", 0, con311 + "82 0000 0001 61", MalformedPacket},
		{"MQTT-3.1.2-18 password without its flag", 0, con5 + "82 0000 00 0001 61 0001 75 0001 70", MalformedPacket},
		{"MQTT-3.1.2-20 (3.1.1) password without its flag", 0, con311 + "82 0000 0001 61 0001 75 0001 70", MalformedPacket},
		{"MQTT-3.1.2-19 no password", 0, con5 + "42 0000 00 0001 61", MalformedPacket},
		{"MQTT-3.1.2-21 (3.1.1) no password", 0, con311 + "c2 0000 0001 61 0001 75", MalformedPacket},
		{"MQTT-3.1.3-3 no client identifier", 0, con311 + "02 0000", MalformedPacket},
		{"MQTT-3.1.3-3 no client identifier", 0, con5 + "02 0000 00", MalformedPacket},
		{"MQTT-3.1.3-4 client identifier not UTF-8", 0, con5 + "02 0000 00 0002 c328", MalformedPacket},
		{"MQTT-1.5.4-1 client identifier with a surrogate", 0, con311 + "02 0000 0003 eda080", MalformedPacket},
		{"MQTT-1.5.4-2 client identifier with a NUL", 0, con311 + "02 0000 0003 610061", MalformedPacket},
		{"MQTT-1.5.4-1 client identifier of an overlong form", 0, con311 + "02 0000 0002 c080", MalformedPacket},
		{"MQTT-3.1.3-8 (3.1.1) empty client identifier of a kept session", 0, con311 + "00 0000 0000", ClientIdentifierNotValid},
		{"empty client identifier", 0, con31 + "02 0000 0000", ClientIdentifierNotValid},
		{"MQTT-3.1.3-11 will topic not UTF-8", 0, con5 + "06 0000 00 0001 61 00 0001 ff 0000", MalformedPacket},
		{"MQTT-3.1.3-10 (3.1.1) will topic not UTF-8", 0, con311 + "06 0000 0001 61 0001 ff 0000", MalformedPacket},
		{"MQTT-4.7.3-1 will topic empty", 0, con311 + "06 0000 0001 61 0000 0000", TopicNameInvalid},
		{"MQTT-4.7.0-1 will topic with a wildcard", 0, con5 + "06 0000 00 0001 61 00 0003 612f23 0000", TopicNameInvalid},
		{"MQTT-3.1.3-12 user name not UTF-8", 0, con5 + "82 0000 00 0001 61 0001 ff", MalformedPacket},
		{"MQTT-3.1.3-11 (3.1.1) user name not UTF-8", 0, con311 + "82 0000 0001 61 0001 ff", MalformedPacket},
		{"MQTT-3.1.2-9 no will properties", 0, con5 + "06 0000 00 0001 61", MalformedPacket},
		{"MQTT-2.2.2-1 no property length", 0, con5 + "02 0000", MalformedPacket},
		{"4-byte session expiry of two bytes", 0, con5 + "02 0000 03 11 0000 0001 61", MalformedPacket},
		{"authentication data without a method", 0, con5 + "02 0000 04 16 0001 00 0001 61", ProtocolError},
	})
}

func TestBadPublish(t *testing.T) {
	runBad(t, []badPacket{
		{"MQTT-3.3.1-2 DUP with QoS 0", V311, "38 00 0001 61", MalformedPacket},
		{"MQTT-3.3.1-2 DUP with QoS 0", V5, "38 00 0001 61 00", MalformedPacket},
		{"MQTT-3.3.1-4 QoS 3", V311, "36 00 0001 61 0001", MalformedPacket},
		{"MQTT-3.3.1-4 QoS 3", V5, "36 00 0001 61 0001 00", MalformedPacket},
		{"MQTT-3.3.1-4 QoS 3", V31, "3e 00 0001 61 0001", MalformedPacket},
		{"MQTT-3.3.2-1 no topic name", V311, "30 00", MalformedPacket},
		{"MQTT-3.3.2-1 topic name cut off", V5, "30 00 0005 61", MalformedPacket},
		{"MQTT-3.3.2-1 topic name not UTF-8", V311, "30 00 0002 c328", MalformedPacket},
		{"MQTT-1.5.4-1 topic name with a surrogate", V5, "30 00 0003 edbfbf 00", MalformedPacket},
		{"MQTT-1.5.4-1 topic name beyond Unicode", V5, "30 00 0004 f4908080 00", MalformedPacket},
		{"MQTT-4.7.3-2 topic name with a NUL", V311, "30 00 0003 610062", MalformedPacket},
		{"MQTT-4.7.3-1 topic name empty", V311, "30 00 0000", TopicNameInvalid},
		{"MQTT-4.7.3-1 topic name empty", V31, "30 00 0000", TopicNameInvalid},
		{"topic name empty and no alias", V5, "30 00 0000 00", ProtocolError},
		{"MQTT-3.3.2-2 topic name with #", V311, "30 00 0003 612f23", TopicNameInvalid},
		{"MQTT-3.3.2-2 topic name with +", V5, "30 00 0003 2b2f61 00", TopicNameInvalid},
		{"MQTT-4.7.0-1 wildcard inside a level", V5, "30 00 0003 612b61 00", TopicNameInvalid},
		{"MQTT-2.2.1-3 packet id 0", V5, "32 00 0001 61 0000 00", ProtocolError},
		{"MQTT-2.3.1-1 (3.1.1) packet id 0", V311, "34 00 0001 61 0000", ProtocolError},
		{"MQTT-2.3.1-1 (3.1.1) no packet id", V311, "32 00 0001 61", MalformedPacket},
		{"MQTT-2.2.1-3 no packet id", V5, "32 00 0001 61 00", MalformedPacket},
		{"MQTT-2.2.2-1 no property length", V5, "30 00 0001 61", MalformedPacket},
		{"MQTT-3.3.2-8 topic alias 0", V5, "30 00 0001 61 03 23 0000", TopicAliasInvalid},
		{"subscription identifier 0", V5, "30 00 0001 61 02 0b 00", ProtocolError},
		{"payload format 2", V5, "30 00 0001 61 02 01 02", ProtocolError},
		{"MQTT-3.3.2-13 response topic not UTF-8", V5, "30 00 0001 61 04 08 0001 ff", MalformedPacket},
		{"MQTT-3.3.2-14 response topic with a wildcard", V5, "30 00 0001 61 04 08 0001 23", ProtocolError},
		{"MQTT-4.7.3-1 response topic empty", V5, "30 00 0001 61 03 08 0000", ProtocolError},
		{"MQTT-3.3.2-19 content type not UTF-8", V5, "30 00 0001 61 04 03 0001 ff", MalformedPacket},
		{"MQTT-1.5.7-1 user property's key not UTF-8", V5, "30 00 0001 61 06 26 0001 ff 0000", MalformedPacket},
		{"MQTT-1.5.7-1 user property's value with a NUL", V5, "30 00 0001 61 06 26 0000 0001 00", MalformedPacket},
		{"user property without a value", V5, "30 00 0001 61 04 26 0001 61", MalformedPacket},
		{"properties longer than the packet", V5, "30 00 0001 61 05 01 00", MalformedPacket},
		{"property ends behind the properties", V5, "30 00 0001 61 03 02 0000 0001", MalformedPacket},
		{"MQTT-1.5.5-1 property length too long", V5, "30 00 0001 61 8000", MalformedPacket},
		{"property length of five bytes", V5, "30 00 0001 61 8080808000", MalformedPacket},
		{"MQTT-1.5.5-1 subscription identifier too long", V5, "30 00 0001 61 03 0b 8100", MalformedPacket},
		{"MQTT-1.5.5-1 property identifier too long", V5, "30 00 0001 61 03 8100 01", MalformedPacket},
	})
}

func TestBadAcks(t *testing.T) {
	cases := []badPacket{
		{"MQTT-3.6.1-1 flags of PUBREL", V311, "60 00 0001", MalformedPacket},
		{"MQTT-3.6.1-1 flags of PUBREL", V5, "63 00 0001", MalformedPacket},
		{"MQTT-3.6.1-1 DUP", V311, "6a 00 0001", MalformedPacket},
		{"MQTT-3.2.2-1 acknowledge flags", V5, "20 00 02 00 00", MalformedPacket},
		{"MQTT-3.2.2-1 acknowledge flags", V311, "20 00 80 00", MalformedPacket},
		{"MQTT-3.2.2-6 session present and refused", V5, "20 00 01 87 00", ProtocolError},
		{"MQTT-3.2.2-4 (3.1.1) session present and refused", V311, "20 00 01 05", ProtocolError},
		{"MQTT-3.2.2-8 reason code", V5, "20 00 00 01 00", ProtocolError},
		{"MQTT-3.2.2-8 reason code of DISCONNECT", V5, "20 00 00 8e 00", ProtocolError},
		{"return code 6", V311, "20 00 00 06", ProtocolError},
		{"no property length", V5, "20 00 00 00", MalformedPacket},
		{"properties of 5.0", V311, "20 00 00 00 00", MalformedPacket},
		{"receive maximum 0", V5, "20 00 00 00 03 21 0000", ProtocolError},
		{"maximum packet size 0", V5, "20 00 00 00 05 27 00000000", ProtocolError},
		{"maximum QoS 2", V5, "20 00 00 00 02 24 02", ProtocolError},
		{"retain available 2", V5, "20 00 00 00 02 25 02", ProtocolError},
		{"wildcard available 255", V5, "20 00 00 00 02 28 ff", ProtocolError},
		{"UNSUBACK's flags", V311, "b2 00 0001", MalformedPacket},
		{"MQTT-3.8.4-6 SUBACK without codes", V5, "90 00 0001 00", ProtocolError},
		{"MQTT-3.8.4-5 (3.1.1) SUBACK without codes", V311, "90 00 0001", ProtocolError},
		{"MQTT-3.9.3-2 SUBACK's code", V5, "90 00 0001 00 03", ProtocolError},
		{"MQTT-3.9.3-2 (3.1.1) SUBACK's code", V311, "90 00 0001 03", ProtocolError},
		{"MQTT-3.9.3-2 (3.1.1) SUBACK's code of 5.0", V311, "90 00 0001 87", ProtocolError},
		{"UNSUBACK without codes", V5, "b0 00 0001 00", ProtocolError},
		{"MQTT-3.11.3-2 UNSUBACK's code", V5, "b0 00 0001 00 01", ProtocolError},
		{"UNSUBACK with codes", V311, "b0 00 0001 00", MalformedPacket},
		{"SUBACK with packet id 0", V5, "90 00 0000 00 00", ProtocolError},
		{"UNSUBACK with packet id 0", V311, "b0 00 0000", ProtocolError},
		{"MQTT-3.15.1-1 flags", V5, "f1 00", MalformedPacket},
		{"MQTT-3.15.2-1 reason code", V5, "f0 00 1a 04 15 0001 78", ProtocolError},
		{"AUTH without a method", V5, "f0 00 18 00", ProtocolError},
		{"AUTH with a code alone", V5, "f0 00 18", MalformedPacket},
		{"AUTH", V311, "f0 00", MalformedPacket},
		{"MQTT-3.14.1-1 flags", V5, "e1 00", MalformedPacket},
		{"MQTT-2.2.2-2 (3.1.1) flags", V311, "e2 00", MalformedPacket},
		{"MQTT-3.14.2-1 reason code", V5, "e0 00 01", ProtocolError},
		{"MQTT-3.14.2-1 reason code of CONNACK", V5, "e0 00 8c 00", ProtocolError},
		{"reason code before 5.0", V311, "e0 00 00", MalformedPacket},
		{"PINGREQ with a body", V311, "c0 00 00", MalformedPacket},
		{"PINGREQ with flags", V5, "c8 00", MalformedPacket},
		{"PINGRESP with a body", V5, "d0 00 00", MalformedPacket},
		{"packet type 0", V311, "00 00", MalformedPacket},
	}
	for typ, rule := range map[Type]string{PUBACK: "MQTT-3.4.2-1", PUBREC: "MQTT-3.5.2-1", PUBREL: "MQTT-3.6.2-1", PUBCOMP: "MQTT-3.7.2-1"} {
		head := fmt.Sprintf("%02x 00 ", byte(typ)<<4|fixedFlags(typ))
		flag := fmt.Sprintf("%02x 00 ", byte(typ)<<4|fixedFlags(typ)|1)
		name := " " + typ.String()
		cases = append(cases,
			badPacket{"MQTT-2.1.3-1 flags" + name, V5, flag + "0001", MalformedPacket},
			badPacket{"MQTT-2.2.2-2 (3.1.1) flags" + name, V311, flag + "0001", MalformedPacket},
			badPacket{"MQTT-2.2.1-5 packet id 0" + name, V5, head + "0000", ProtocolError},
			badPacket{"MQTT-2.3.1-6 (3.1.1) packet id 0" + name, V311, head + "0000", ProtocolError},
			badPacket{"half a packet id" + name, V311, head + "01", MalformedPacket},
			badPacket{"empty" + name, V5, head, MalformedPacket},
			badPacket{"trailing byte" + name, V311, head + "0001 00", MalformedPacket},
			badPacket{rule + " reason code" + name, V5, head + "0001 01", ProtocolError},
			badPacket{rule + " reason code" + name, V5, head + "0001 8e 00", ProtocolError},
			badPacket{"bytes behind the properties" + name, V5, head + "0001 00 00 00", MalformedPacket},
			badPacket{"properties cut off" + name, V5, head + "0001 00 05 1f 0001", MalformedPacket},
			badPacket{"property of PUBLISH" + name, V5, head + "0001 00 02 01 01", MalformedPacket},
		)
	}
	runBad(t, cases)
}

func TestBadSubscribe(t *testing.T) {
	sub5, sub311 := "82 00 0001 00 ", "82 00 0001 "
	cases := []badPacket{
		{"MQTT-3.8.1-1 flags", V311, "80 00 0001 0001 61 00", MalformedPacket},
		{"MQTT-3.8.1-1 flags", V5, "83 00 0001 00 0001 61 00", MalformedPacket},
		{"MQTT-3.8.1-1 DUP", V311, "8a 00 0001 0001 61 00", MalformedPacket},
		{"flags", V31, "80 00 0001 0001 61 00", MalformedPacket},
		{"MQTT-3.10.1-1 flags", V311, "a0 00 0001 0001 61", MalformedPacket},
		{"MQTT-3.10.1-1 flags", V5, "a6 00 0001 00 0001 61", MalformedPacket},
		{"MQTT-2.2.1-3 packet id 0", V5, "82 00 0000 00 0001 61 00", ProtocolError},
		{"MQTT-2.3.1-1 (3.1.1) packet id 0", V311, "82 00 0000 0001 61 00", ProtocolError},
		{"MQTT-2.2.1-3 packet id 0", V5, "a2 00 0000 00 0001 61", ProtocolError},
		{"MQTT-2.3.1-1 (3.1.1) packet id 0", V311, "a2 00 0000 0001 61", ProtocolError},
		{"MQTT-3.8.3-2 no filter", V5, "82 00 0001 00", ProtocolError},
		{"MQTT-3.8.3-3 (3.1.1) no filter", V311, "82 00 0001", ProtocolError},
		{"MQTT-3.10.3-2 no filter", V5, "a2 00 0001 00", ProtocolError},
		{"MQTT-3.10.3-2 no filter", V311, "a2 00 0001", ProtocolError},
		{"empty", V311, "82 00", MalformedPacket},
		{"filter without options", V5, sub5 + "0001 61", MalformedPacket},
		{"filter without a QoS", V311, sub311 + "0001 61", MalformedPacket},
		{"second filter cut off", V311, sub311 + "0001 61 00 0002 61", MalformedPacket},
		{"MQTT-3.8.3-4 (3.1.1) QoS 3", V311, sub311 + "0001 61 03", MalformedPacket},
		{"QoS 3", V31, sub311 + "0001 61 03", MalformedPacket},
		{"MQTT-3.8.3-4 (3.1.1) reserved bits", V311, sub311 + "0001 61 04", MalformedPacket},
		{"MQTT-3.8.3-5 reserved bit 6", V5, sub5 + "0001 61 40", MalformedPacket},
		{"MQTT-3.8.3-5 reserved bit 7", V5, sub5 + "0001 61 80", MalformedPacket},
		{"maximum QoS 3", V5, sub5 + "0001 61 03", ProtocolError},
		{"retain handling 3", V5, sub5 + "0001 61 30", ProtocolError},
		{"MQTT-3.8.3-4 no local on a shared subscription", V5, sub5 + "000a 2473686172652f672f61 04", ProtocolError},
		{"subscription identifier 0", V5, "82 00 0001 02 0b 00 0001 61 00", ProtocolError},
		{"two subscription identifiers", V5, "82 00 0001 04 0b 01 0b 02 0001 61 00", ProtocolError},
		{"property of PUBLISH", V5, "82 00 0001 03 23 0001 0001 61 00", MalformedPacket},
		{"subscription identifier", V5, "a2 00 0001 02 0b 01 0001 61", MalformedPacket},
		{"reason string", V5, "a2 00 0001 04 1f 0001 61 0001 61", MalformedPacket},
	}
	for rule, filter := range map[string]string{
		"MQTT-4.7.3-1 empty":                         "",
		"MQTT-4.7.1-1 # before the end":              "a/#/b",
		"MQTT-4.7.1-1 # inside a level":              "a/b#",
		"MQTT-4.7.1-1 # and more in a level":         "#a",
		"MQTT-4.7.1-1 # and a separator":             "#/",
		"MQTT-4.7.1-2 + inside a level":              "a/b+",
		"MQTT-4.7.1-2 + and more in a level":         "+a/b",
		"MQTT-4.7.1-2 two of them":                   "a/++",
		"MQTT-4.7.1-2 both":                          "+#",
		"MQTT-4.7.1-1 two of them":                   "##",
		"MQTT-1.5.4-1 not UTF-8":                     "a/\xff",
		"MQTT-1.5.4-1 a surrogate":                   "\xed\xa0\x80",
		"MQTT-4.7.3-2 NUL":                           "a\x00",
		"MQTT-4.8.2-1 empty group [only 5.0]":        "$share//a",
		"MQTT-4.8.2-2 group with + [only 5.0]":       "$share/+/a",
		"MQTT-4.8.2-2 group with # [only 5.0]":       "$share/#",
		"MQTT-4.8.2-2 no separator [only 5.0]":       "$share/g",
		"MQTT-4.8.2-2 no filter [only 5.0]":          "$share/g/",
		"MQTT-4.8.2-1 nothing [only 5.0]":            "$share/",
		"MQTT-4.7.1-1 shared, # before the end":      "$share/g/#/a",
		"MQTT-4.7.1-2 group with + inside its level": "$share/g+/a",
	} {
		code := TopicFilterInvalid
		if !validString([]byte(filter)) {
			code = MalformedPacket // [MQTT-3.8.3-1], [MQTT-3.10.3-1]
		}
		f := fmt.Sprintf("%04x %x", len(filter), filter)
		cases = append(cases,
			badPacket{rule, V5, sub5 + f + "00", code},
			badPacket{rule, V5, "a2 00 0001 00" + f, code})
		if !strings.Contains(rule, "only 5.0") {
			cases = append(cases,
				badPacket{rule, V311, sub311 + f + "00", code},
				badPacket{rule, V31, "a2 00 0001 " + f, code})
		}
	}
	runBad(t, cases)
}

// TestBadHeader: §2.1 of 5.0, §2.2 of 3.1.1.
func TestBadHeader(t *testing.T) {
	for _, c := range []struct {
		wire         string
		n, head      int
		short, wrong bool
	}{
		{wire: "", short: true},
		{wire: "30", short: true},
		{wire: "30 80", short: true},
		{wire: "30 ff ff ff", short: true},
		{wire: "c0 00", head: 2},
		{wire: "30 7f", n: 127, head: 2},
		{wire: "30 8001", n: 128, head: 3},
		{wire: "30 ff7f 00", n: 16_383, head: 3},
		{wire: "30 808001", n: 16_384, head: 4},
		{wire: "30 ffff7f", n: 2_097_151, head: 4},
		{wire: "30 80808001", n: 2_097_152, head: 5},
		{wire: "30 ffffff7f", n: MaxBody, head: 5},
		{wire: "30 ffffffff", wrong: true},
		{wire: "30 8080808001", wrong: true},
		{wire: "00 00", wrong: true},
		{wire: "0f", wrong: true},
	} {
		wire := unhex(t, c.wire)
		typ, _, n, head, err := ReadHeader(wire)
		e, isError := errors.AsType[*Error](err)
		switch {
		case errors.Is(err, ErrShort) != c.short || isError != c.wrong:
			t.Errorf("%s: %v", c.wire, err)
		case isError && e.Code != MalformedPacket:
			t.Errorf("%s: code %#x", c.wire, e.Code)
		case err == nil && (n != c.n || head != c.head || byte(typ) != wire[0]>>4):
			t.Errorf("%s: %s of %d behind %d, want %d behind %d", c.wire, typ, n, head, c.n, c.head)
		}
	}
	// [MQTT-1.5.5-1] holds from 5.0 on.
	for _, wire := range []string{"30 8000", "30 ff00", "30 80808000", "30 ffff00"} {
		_, _, n, head, err := ReadHeader(unhex(t, wire))
		if err != nil {
			t.Fatalf("%s: %v", wire, err)
		}
		if e, ok := errors.AsType[*Error](CheckLength(V5, n, head)); !ok || e.Code != MalformedPacket {
			t.Errorf("%s in 5.0: %v", wire, e)
		}
		if err := CheckLength(V311, n, head); err != nil {
			t.Errorf("%s in 3.1.1: %v", wire, err)
		}
	}
	for _, n := range []int{0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MaxBody} {
		if err := CheckLength(V5, n, 1+len(appendVarint(nil, n))); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}
