package e2e

import (
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"edgepost/appliance/guard/jwt/forge"
)

// exchange writes a packet and reads the next one.
func exchange(t *testing.T, conn net.Conn, p *packets.ControlPacket) *packets.ControlPacket {
	t.Helper()
	if _, err := p.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	return nextPacket(t, conn)
}

func nextPacket(t *testing.T, conn net.Conn) *packets.ControlPacket {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	p, err := packets.ReadPacket(conn)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// authPacket is an AUTH that brings a new token.
func authPacket(method, token string) *packets.ControlPacket {
	p := packets.NewControlPacket(packets.AUTH)
	p.Flags = 0 // this version of paho sets a reserved one, which is malformed [MQTT-3.15.1-1]
	a := p.Content.(*packets.Auth)
	a.ReasonCode = packets.AuthReauthenticate
	a.Properties = &packets.Properties{AuthMethod: method, AuthData: []byte(token)}
	return p
}

// byMethod connects with a token as authentication data and returns the CONNACK.
func (b *broker) byMethod(t *testing.T, method, token string) (net.Conn, *packets.Connack) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.mqtt, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := packets.NewControlPacket(packets.CONNECT)
	c := p.Content.(*packets.Connect)
	c.CleanStart, c.KeepAlive = true, 300
	c.Properties = &packets.Properties{AuthMethod: method, AuthData: []byte(token)}
	ack, ok := exchange(t, conn, p).Content.(*packets.Connack)
	if !ok {
		t.Fatal("no CONNACK")
	}
	return conn, ack
}

func publishCode(t *testing.T, conn net.Conn, topic string) byte {
	t.Helper()
	p := packets.NewControlPacket(packets.PUBLISH)
	pub := p.Content.(*packets.Publish)
	pub.QoS, pub.PacketID, pub.Topic, pub.Payload, pub.Properties = 1, 1, topic, []byte("x"), &packets.Properties{}
	ack, ok := exchange(t, conn, p).Content.(*packets.Puback)
	if !ok {
		t.Fatal("no PUBACK")
	}
	return ack.ReasonCode
}

// TestTokenIsRenewed has a connection outlive its token, because a new one came in time (MQTT 5.0 §4.12.1); the new
// one's rights hold from then on.
func TestTokenIsRenewed(t *testing.T) {
	b, _ := trusting(t)
	b.api(corp().Token(time.Now(), nil)).publish(t, "room/1", "the keys are there")
	var kept, left net.Conn
	other := []any{map[string]any{"permission": "allow", "action": "all", "topic": "other/#"}}
	ends := short(t, func(tok string) bool {
		var one, two *packets.Connack
		kept, one = b.byMethod(t, "CUSTOM-JWT", tok)
		left, two = b.byMethod(t, "OAUTH2-JWT", tok)
		if one.ReasonCode != 0 || two.ReasonCode != 0 {
			return false
		}
		if one.Properties.AuthMethod != "CUSTOM-JWT" || two.Properties.AuthMethod != "OAUTH2-JWT" {
			t.Errorf("the CONNACKs name the methods %q and %q", one.Properties.AuthMethod, two.Properties.AuthMethod)
		}
		if publishCode(t, kept, "room/1")&^0x10 != 0 {
			return false
		}
		a, ok := exchange(t, kept, authPacket("CUSTOM-JWT", corp().Token(time.Now(), forge.Claims{"acl": other}))).Content.(*packets.Auth)
		return ok && a.ReasonCode == 0 && a.Properties.AuthMethod == "CUSTOM-JWT"
	})
	time.Sleep(time.Until(ends))
	if d, ok := nextPacket(t, left).Content.(*packets.Disconnect); !ok || d.ReasonCode != 0x87 {
		t.Errorf("the other connection ended with %+v", d)
	}
	if code := publishCode(t, kept, "other/1"); code&^0x10 != 0 {
		t.Errorf("with the new token: code %#x", code)
	}
	if code := publishCode(t, kept, "room/1"); code != 0x87 {
		t.Errorf("what only the old token allowed: code %#x", code)
	}
	d, ok := exchange(t, kept, authPacket("CUSTOM-JWT", corp().Token(time.Now(), forge.Claims{"sub": "somebody else"}))).Content.(*packets.Disconnect)
	if !ok || d.ReasonCode != 0x87 {
		t.Errorf("another's token ends with %+v", d)
	}
	if _, ack := b.byMethod(t, "SCRAM-SHA-256", "x"); ack.ReasonCode != 0x8C {
		t.Errorf("an unknown method: %#x", ack.ReasonCode)
	}
	if _, ack := b.byMethod(t, "CUSTOM-JWT", corp().Token(time.Now(), forge.Claims{"exp": 1})); ack.ReasonCode != 0x87 {
		t.Errorf("a token that has ended: %#x", ack.ReasonCode)
	}
}
