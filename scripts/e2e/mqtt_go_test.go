package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// paho5 connects the MQTT 5 client of the Eclipse project.
func (b *broker) paho5(t *testing.T, cp *paho.Connect, received func(*paho.Publish)) (*paho.Client, *paho.Connack) {
	t.Helper()
	conn, err := net.Dial("tcp", b.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			received(p.Packet)
			return true, nil
		}},
	})
	if cp.KeepAlive == 0 {
		cp.KeepAlive = 30
	}
	ack, err := c.Connect(t.Context(), cp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) }) // the test may have done so
	return c, ack
}

// as is a CONNECT with a token.
func as(client, name, token string) *paho.Connect {
	return &paho.Connect{ClientID: client, Username: name, UsernameFlag: name != "", Password: []byte(token), PasswordFlag: token != "", CleanStart: true}
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came in 20 s")
	}
	panic("unreachable")
}

func into(n int) (chan *paho.Publish, func(*paho.Publish)) {
	ch := make(chan *paho.Publish, n)
	return ch, func(p *paho.Publish) { ch <- p }
}

// TestSameMessageOnEveryProtocol sends one message by MQTT 5 and reads it by WebSocket, SSE and MQTT, and one by
// HTTP and reads it by MQTT; with its receipts.
func TestSameMessageOnEveryProtocol(t *testing.T) {
	b := newBroker(t)
	tok, key := b.addDevice("lamp1"), b.addFreeKey()
	api := b.api(key)
	got, note := into(100)
	device, _ := b.paho5(t, as("device", "lamp1", tok), note)
	if _, err := device.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "device/lamp1/in/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	id := api.publish(t, "device/lamp1/in/set", `{"on":true}`, "Content-Type", "application/json", "Message-TTL", "60", "Message-Property", "k=v").ID
	p := receive(t, got)
	if p.Topic != "device/lamp1/in/set" || string(p.Payload) != `{"on":true}` || p.Properties.ContentType != "application/json" || p.QoS != 1 ||
		p.Properties.MessageExpiry == nil || *p.Properties.MessageExpiry != 60 || fmt.Sprint(p.Properties.User) != "[{k v}]" {
		t.Errorf("from HTTP: %v %+v", p, p.Properties)
	}
	within(t, 5*time.Second, "it is not delivered", func() bool { return api.trace(t, id)["device/lamp1"].State == "delivered" })

	// MQTT 5 asks for a receipt.
	receipts, note := into(100)
	app, _ := b.paho5(t, as("app", "app", key), note)
	if _, err := app.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$edge/receipt/app/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	_, err := app.Publish(t.Context(), &paho.Publish{Topic: "device/lamp1/in/set", QoS: 1, Payload: []byte("x"), Properties: &paho.PublishProperties{
		User: paho.UserProperties{{Key: "receipt", Value: "each"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, got)
	for {
		r := receive(t, receipts)
		var body struct{ State, Subscription string }
		if err := json.Unmarshal(r.Payload, &body); err != nil || !strings.HasPrefix(r.Topic, "$edge/receipt/app/") {
			t.Fatalf("receipt %s %s: %v", r.Topic, r.Payload, err)
		}
		if body.State == "delivered" {
			break
		}
	}

	// MQTT to WebSocket and SSE.
	ws := b.mustDial("", key)
	ws.ask(t, 7, map[string]any{"sub": map[string]any{"topic": "device/lamp1/out/#"}})
	events, stop := b.stream(t, key, "topic=device/lamp1/out/%23&after="+id)
	defer stop()
	if _, err := device.Publish(t.Context(), &paho.Publish{Topic: "device/lamp1/out/state", QoS: 2, Payload: []byte(`{"on":true}`), Properties: &paho.PublishProperties{
		ContentType: "application/json",
	}}); err != nil {
		t.Fatal(err)
	}
	if m := ws.msg(t); m.Topic != "device/lamp1/out/state" || m.CT != "application/json" || m.From != "lamp1" || m.payload() != `{"on":true}` {
		t.Errorf("over WebSocket: %+v", m)
	}
	if e := nextEvent(t, events); !strings.Contains(fmt.Sprintf("%+v", e), "device/lamp1/out/state") {
		t.Errorf("over SSE: %+v", e)
	}
}

// TestRequestResponse is a request by one MQTT 5 client, answered by another.
func TestRequestResponse(t *testing.T) {
	b := newBroker(t, "-anonymous")
	asked, note := into(10)
	server, _ := b.paho5(t, as("server", "", ""), note)
	if _, err := server.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "ask", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	answers, note := into(10)
	client, _ := b.paho5(t, as("client", "", ""), note)
	if _, err := client.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "answer/client", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	yes := byte(1)
	if _, err := client.Publish(t.Context(), &paho.Publish{Topic: "ask", QoS: 1, Payload: []byte("2+2"), Properties: &paho.PublishProperties{
		ResponseTopic: "answer/client", CorrelationData: []byte{1, 0, 255}, PayloadFormat: &yes,
	}}); err != nil {
		t.Fatal(err)
	}
	q := receive(t, asked)
	if q.Properties.PayloadFormat == nil || *q.Properties.PayloadFormat != 1 {
		t.Error("the payload format was lost")
	}
	if _, err := server.Publish(t.Context(), &paho.Publish{Topic: q.Properties.ResponseTopic, QoS: 1, Payload: []byte("4"), Properties: &paho.PublishProperties{
		CorrelationData: q.Properties.CorrelationData,
	}}); err != nil {
		t.Fatal(err)
	}
	if a := receive(t, answers); string(a.Payload) != "4" || string(a.Properties.CorrelationData) != "\x01\x00\xff" {
		t.Errorf("answer %v", a)
	}
}

// TestPaho3 runs paho.mqtt.golang, which reconnects by itself, through a restart of the gateway.
func TestPaho3(t *testing.T) {
	b := newBroker(t, "-anonymous")
	got := make(chan string, 1000)
	connect := func(id string) paho3.Client {
		up := make(chan struct{}, 10)
		o := paho3.NewClientOptions().AddBroker("tcp://" + b.mqtt).SetClientID(id).SetCleanSession(false).SetKeepAlive(10 * time.Second)
		o.SetMaxReconnectInterval(100 * time.Millisecond).SetConnectRetryInterval(100 * time.Millisecond)
		o.SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) { got <- string(m.Payload()) })
		o.SetOnConnectHandler(func(paho3.Client) { up <- struct{}{} })
		c := paho3.NewClient(o)
		if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		receive(t, up)
		t.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	sub, pub := connect("sub"), connect("pub")
	if tok := sub.Subscribe("t/#", 1, nil); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	seen := map[string]bool{}
	for round := range 3 {
		for i := range 100 {
			tok := pub.Publish(fmt.Sprintf("t/%d", i), byte(i%3), false, fmt.Sprintf("%d/%d", round, i))
			if i%3 > 0 && (!tok.WaitTimeout(20*time.Second) || tok.Error() != nil) {
				t.Fatal(tok.Error())
			}
		}
		want := 100
		if round > 0 { // from the kill on those of QoS 0 may be lost
			want = 66
		}
		if round == 1 {
			b.kill()
			b.start()
		}
		n := 0
		for until := time.After(20 * time.Second); n < want; {
			select {
			case m := <-got:
				var r, i int
				if _, err := fmt.Sscanf(m, "%d/%d", &r, &i); err != nil {
					t.Fatal(m, err)
				}
				if !seen[m] && r == round && (i%3 > 0 || round == 0) {
					n++
				}
				seen[m] = true
			case <-until:
				t.Fatalf("round %d: %d of %d", round, n, want)
			}
		}
	}
}

// TestSubscriptionIdentifiersAndRetain checks the options of MQTT 5's SUBSCRIBE against the real
// appliance.
func TestSubscriptionIdentifiersAndRetain(t *testing.T) {
	b := newBroker(t, "-anonymous")
	got, note := into(100)
	c, _ := b.paho5(t, as("c", "", ""), note)
	publish := func(retain bool, text string) {
		t.Helper()
		if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "r/1", QoS: 1, Retain: retain, Payload: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := 1, 2
	publish(true, "kept")
	sub := func(id *int, o paho.SubscribeOptions) {
		t.Helper()
		if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Properties: &paho.SubscribeProperties{SubscriptionIdentifier: id}, Subscriptions: []paho.SubscribeOptions{o}}); err != nil {
			t.Fatal(err)
		}
	}
	sub(&one, paho.SubscribeOptions{Topic: "r/#", QoS: 1})
	if p := receive(t, got); !p.Retain || string(p.Payload) != "kept" || *p.Properties.SubscriptionIdentifier != 1 {
		t.Errorf("retained: %v", p)
	}
	sub(&one, paho.SubscribeOptions{Topic: "r/#", QoS: 1, RetainHandling: 1})
	sub(&two, paho.SubscribeOptions{Topic: "r/+", QoS: 2, RetainHandling: 2, RetainAsPublished: true})
	publish(true, "again")
	if p := receive(t, got); !p.Retain || string(p.Payload) != "again" {
		t.Errorf("retain as published: %v", p)
	}
	sub(&one, paho.SubscribeOptions{Topic: "r/#", QoS: 1, RetainHandling: 2, NoLocal: true})
	sub(&two, paho.SubscribeOptions{Topic: "r/+", QoS: 1, RetainHandling: 2, NoLocal: true})
	publish(false, "own")
	if _, err := b.api(b.addFreeKey()).do("POST", "/v1/publish/r/1", []byte("other")); err != nil {
		t.Fatal(err)
	}
	if p := receive(t, got); string(p.Payload) != "other" {
		t.Errorf("no local: %v", p)
	}
}

// TestRefusedConnect has nobody let in without a token, in both versions.
func TestRefusedConnect(t *testing.T) {
	b := newBroker(t)
	for _, v := range []byte{4, 5} {
		conn, err := net.Dial("tcp", b.mqtt)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := packets.Connect{ProtocolName: "MQTT", ProtocolVersion: v, ClientID: "x", CleanStart: true, Properties: &packets.Properties{}}
		if v == 4 {
			_, err = conn.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'x'})
		} else {
			_, err = p.WriteTo(conn)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		head := make([]byte, 4)
		if _, err := conn.Read(head); err != nil {
			t.Fatal(err)
		}
		if want := map[byte]byte{4: 5, 5: 0x87}[v]; head[3] != want {
			t.Errorf("version %d: % x", v, head)
		}
	}
}

// TestUnknownDeviceIsTold has a publish to a device that is not there answered with 0x90.
func TestUnknownDeviceIsTold(t *testing.T) {
	b := newBroker(t)
	c, _ := b.paho5(t, as("app", "app", b.addFreeKey()), func(*paho.Publish) {})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Publish(ctx, &paho.Publish{Topic: "device/nobody/in/x", QoS: 1, Payload: []byte("x")})
	if err == nil || r == nil || r.ReasonCode != 0x90 || !strings.Contains(r.Properties.ReasonString, "nobody") {
		t.Errorf("%+v %v", r, err)
	}
}
