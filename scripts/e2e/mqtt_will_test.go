package e2e

import (
	"slices"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// withWill connects a client that leaves a will.
func (b *broker) withWill(t *testing.T, client string, expiry, delay uint32, payload string) *mqttConn {
	t.Helper()
	c, _, err := b.open5(client, true, expiry, func(p *packets.Connect) {
		p.WillFlag, p.WillQOS, p.WillTopic, p.WillMessage = true, 1, "wills/"+client, []byte(payload)
		p.WillProperties = &packets.Properties{WillDelayInterval: &delay, User: []packets.User{{Key: "k", Value: "v"}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// publish stores a message; when it returns, so is everything that the gateway took before.
func (b *broker) publish5(t *testing.T, topic, payload string) {
	t.Helper()
	c, _, err := b.open5("publisher", true, 0, func(*packets.Connect) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.write(&packets.Publish{Topic: topic, QoS: 1, PacketID: 1, Payload: []byte(payload), Properties: &packets.Properties{}}); err != nil {
		t.Fatal(err)
	}
	if in, err := c.read(); err != nil || in.Type != packets.PUBACK {
		t.Fatal(in, err)
	}
}

// until acknowledges what comes to the client up to a payload, and returns what came, sorted.
func (b *broker) until(t *testing.T, client, last string) (got []string) {
	t.Helper()
	c, ack, err := b.connect5(client, false)
	if err != nil || !ack.SessionPresent {
		t.Fatal(ack, err)
	}
	defer func() { _ = c.Close() }()
	for {
		in, err := c.read()
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		p, ok := in.Content.(*packets.Publish)
		if !ok {
			t.Fatalf("received %v", in)
		}
		if err := c.write(&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}}); err != nil {
			t.Fatal(err)
		}
		if string(p.Payload) == last {
			slices.Sort(got)
			return got
		}
		got = append(got, string(p.Payload))
		if p.Topic != "wills/end" && (len(p.Properties.User) != 1 || p.Properties.User[0].Value != "v") {
			t.Errorf("user properties of %q: %v", p.Payload, p.Properties.User)
		}
	}
}

// TestWillsSurviveTheGateway: what clients left for their ends is published when it is the gateway that is
// killed, once, and not when they had said goodbye.
func TestWillsSurviveTheGateway(t *testing.T) {
	b := newBroker(t, "-anonymous")
	c, _, err := b.connect5("watch", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.write(&packets.Subscribe{PacketID: 1, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: "wills/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	if in, err := c.read(); err != nil || in.Type != packets.SUBACK {
		t.Fatal(in, err)
	}
	_ = c.Close()

	b.withWill(t, "now", 0, 0, "now")
	b.withWill(t, "later", 3600, 1, "later")
	b.withWill(t, "replaced", 0, 0, "old")
	b.withWill(t, "replaced", 0, 0, "new") // its taking over publishes the old one
	b.withWill(t, "back", 3600, 3600, "not due")
	bye := b.withWill(t, "bye", 0, 0, "taken back")
	if err := bye.write(&packets.Disconnect{Properties: &packets.Properties{}}); err != nil {
		t.Fatal(err)
	}
	if in, err := bye.read(); err == nil {
		t.Fatalf("after DISCONNECT: %v", in)
	}
	b.publish5(t, "sync", "")
	b.kill()
	b.start()
	if c, ack, err := b.connect5("back", false); err != nil {
		t.Fatal(ack, err)
	} else {
		_ = c.Close()
	}
	if got := b.until(t, "watch", "later"); !slices.Equal(got, []string{"new", "now", "old"}) {
		t.Errorf("wills after kill -9: %q", got)
	}
	b.publish5(t, "wills/end", "end")
	b.kill()
	b.start()
	b.publish5(t, "wills/end", "end 2")
	if got := b.until(t, "watch", "end 2"); !slices.Equal(got, []string{}) && !slices.Equal(got, []string{"end"}) {
		t.Errorf("wills after the second kill -9: %q", got)
	}
}
