package packet

import (
	"bytes"
	"fmt"
	"testing"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho3 "github.com/eclipse/paho.mqtt.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"
)

// common are the packets of a connection that is at work: what must not allocate.
func common() map[string]Packet {
	payload := bytes.Repeat([]byte("x"), 256)
	message := with(Properties{ContentType: b("application/json"), MessageExpiry: 60, User: []UserProperty{{b("trace"), b("0af7651916cd43dd")}}}, PropContentType, PropMessageExpiry)
	return map[string]Packet{
		"PUBLISH QoS 0":              {Type: PUBLISH, Topic: b("device/lamp1/out/state"), Payload: payload},
		"PUBLISH QoS 1":              {Type: PUBLISH, QoS: 1, ID: 7, Topic: b("device/lamp1/out/state"), Payload: payload},
		"PUBLISH QoS 1 properties":   {Type: PUBLISH, QoS: 1, ID: 7, Topic: b("device/lamp1/out/state"), Payload: payload, Props: message},
		"PUBLISH QoS 1 not in ASCII": {Type: PUBLISH, QoS: 1, ID: 7, Topic: b("Gerät/Küche/Ofen/außen/下发"), Payload: payload},
		"PUBACK":                     {Type: PUBACK, ID: 7},
		"PUBREC":                     {Type: PUBREC, ID: 7},
		"PUBREL":                     {Type: PUBREL, ID: 7},
		"PUBCOMP":                    {Type: PUBCOMP, ID: 7},
		"PINGREQ":                    {Type: PINGREQ},
		"SUBSCRIBE of 4":             {Type: SUBSCRIBE, ID: 7, Filters: []Subscription{{Filter: b("device/lamp1/in/#"), QoS: 1}, {Filter: b("a/+")}, {Filter: b("b")}, {Filter: b("#")}}},
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	for name, p := range common() {
		for _, v := range []Version{V31, V311, V5} {
			wire := mustAppend(t, &p, v)
			var q Packet
			if n := testing.AllocsPerRun(100, func() {
				if err := decodeWire(&q, v, wire); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s in %s: %v allocations", name, v, n)
			}
			buf := make([]byte, 0, 1024)
			if n := testing.AllocsPerRun(100, func() {
				if _, err := q.Append(buf, v); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s in %s: writing makes %v allocations", name, v, n)
			}
		}
	}
	buf := make([]byte, 0, 1024)
	pub := Publish{QoS: 1, ID: 7, Topic: "device/lamp1/in/set", HasExpiry: true, SubscriptionIDs: []uint32{1, 2}}
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendAck(pub.AppendHead(buf[:0], V5), V5, PUBACK, 1, QuotaExceeded)
	}); n != 0 {
		t.Errorf("AppendHead and AppendAck make %v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, p := range common() {
		for _, v := range []Version{V311, V5} {
			b.Run(fmt.Sprintf("%s in %s", name, v), func(b *testing.B) {
				wire := mustAppend(b, &p, v)
				var q Packet
				b.SetBytes(int64(len(wire)))
				b.ReportAllocs()
				for b.Loop() {
					t, flags, _, head, _ := ReadHeader(wire)
					if err := q.Decode(v, t, flags, wire[head:]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, p := range common() {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Append(buf, V5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("head of PUBLISH QoS 1", func(b *testing.B) {
		pub := Publish{QoS: 1, ID: 7, Topic: "device/lamp1/in/set", HasExpiry: true, MessageExpiry: 60, SubscriptionIDs: []uint32{1}, Payload: make([]byte, 256)}
		buf := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			buf = pub.AppendHead(buf[:0], V5)
		}
	})
}

// BenchmarkOthersDecode is the same PUBLISH of 256 bytes with QoS 1, read by the oracles.
func BenchmarkOthersDecode(b *testing.B) {
	p := common()["PUBLISH QoS 1"]
	for _, v := range []Version{V311, V5} {
		wire := mustAppend(b, &p, v)
		_, _, n, head, _ := ReadHeader(wire)
		b.Run("mochi in "+v.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pk := mochi.Packet{ProtocolVersion: byte(v)}
				if err := pk.FixedHeader.Decode(wire[0]); err != nil {
					b.Fatal(err)
				}
				pk.FixedHeader.Remaining = n
				if err := pk.PublishDecode(wire[head:]); err != nil {
					b.Fatal(err)
				}
			}
		})
		read := func(r *bytes.Reader) error { _, err := paho3.ReadPacket(r); return err }
		if v == V5 {
			read = func(r *bytes.Reader) error { _, err := paho5.ReadPacket(r); return err }
		}
		b.Run("paho in "+v.String(), func(b *testing.B) {
			b.ReportAllocs()
			r := bytes.NewReader(nil)
			for b.Loop() {
				r.Reset(wire)
				if err := read(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
