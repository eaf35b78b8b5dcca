package bridges

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	azure "github.com/Azure/go-amqp"
	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/scripts/brokers"
)

// What is seen at one running broker with one gateway that has a bridge for each of it: what the gateway refuses and the
// broker's dead letters, what the broker refuses and ours, and topics whose messages wait for a gateway that is away.

const (
	broken = "{"                                        // no CloudEvent, although it says so
	events = "application/cloudevents+json"             //
	large  = brokers.MaxMessage + brokers.MaxMessage/10 // fits the gateway, and no broker with a limit
)

func seenMosquitto(t *testing.T, b *brokers.Broker) {
	g := gatewayWith(t, []single{{name: "m", kind: "mqtt", url: "mqtt://" + b.Addr("mqtt"), to: "large"}})
	g.tooLarge("m", "the connection ends at this message")
}

func seenRabbitMQ(t *testing.T, b *brokers.Broker) {
	addr := b.Addr("amqp091")
	conn, ch := rabbit(addr)
	if conn == nil {
		t.Fatal("no connection")
	}
	defer conn.Close()
	dead := amqp.Table{"x-dead-letter-exchange": "dead"}
	err := ch.ExchangeDeclare("dead", "fanout", true, false, false, false, nil)
	for name, args := range map[string]amqp.Table{"dead": nil, "up": nil, "down.amqp": dead, "down.stomp": dead} {
		_, e := ch.QueueDeclare(name, true, false, false, false, args)
		err = errors.Join(err, e)
	}
	if err := errors.Join(err, ch.QueueBind("dead", "", "dead", false, nil)); err != nil {
		t.Fatal(err)
	}
	certified := trust(b) + show(b)
	g := gatewayWith(t, []single{
		{name: "external", kind: "rabbitmq", url: "amqps://" + b.Addr("amqp091+tls"), keys: certified, to: "up", options: "exchange = \"\"\n"},
		{name: "external-amqp", kind: "amqp", url: "amqps://" + b.Addr("amqp+tls"), keys: certified, to: "/queue/up"},
		{name: "external-stomp", kind: "stomp", url: "stomps://" + b.Addr("stomp+tls"), keys: certified, to: "/queue/up"},
		{name: "r", kind: "rabbitmq", url: "amqp://" + addr, keys: account, to: "up", from: "down.rabbitmq", options: "exchange = \"\"\nqueue_type = \"quorum\"\ndead_letters = \"dead\"\n"},
		{name: "a", kind: "amqp", url: "amqp://" + addr, keys: account, to: "/queue/up", from: "/amq/queue/down.amqp"},
		{name: "s", kind: "stomp", url: "stomp://" + b.Addr("stomp"), keys: account, to: "/queue/up", from: "/amq/queue/down.stomp"},
	})
	for _, name := range []string{"external", "external-amqp", "external-stomp"} {
		g.passes(name)
	}
	for name, queue := range map[string]string{"r": "down.rabbitmq", "a": "down.amqp", "s": "down.stomp"} {
		g.refuses(name, func(kind, body string) error {
			return ch.Publish("", queue, true, false, amqp.Publishing{ContentType: kind, Body: []byte(body), DeliveryMode: amqp.Persistent, MessageId: body})
		})
		wait(t, "what "+name+" refused is in the broker's dead letters", func() bool {
			d, ok, err := ch.Get("dead", true)
			return err == nil && ok && string(d.Body) == broken && d.Headers["x-first-death-reason"] == "rejected" && d.Headers["x-first-death-queue"] == queue
		})
	}
	g.tooLarge("r", "max_message_size")
	g.tooLarge("a", "larger than configured max size")
	g.tooLarge("s", "the connection ends at this message")
}

func seenArtemis(t *testing.T, b *brokers.Broker) {
	amqp, stomp := "amqp://"+b.Addr("amqp"), "stomp://"+b.Addr("stomp")
	topic := "destination = \"topic\"\n"
	g := gatewayWith(t, []single{
		{name: "served", kind: "amqp", url: "amqps://" + b.Addr("amqp+tls"), keys: account + trust(b), to: "up"},
		{name: "a", kind: "amqp", url: amqp, keys: account, to: "up", from: "down.a"},
		{name: "s", kind: "stomp", url: stomp, keys: account, to: "up", from: "down.s", options: "destination = \"queue\"\n"},
		{name: "at", kind: "amqp", url: amqp, keys: account, from: "news.a", options: topic},
		{name: "st", kind: "stomp", url: stomp, keys: account, from: "news.s", options: topic + "durable = \"news\"\n"},
	})
	g.passes("served")
	c := newPeer(t, b.Addr("amqp"))
	send := func(to, kind, contentType, body string) error {
		return stompSend(b.Addr("stomp"), to, "destination-type:"+kind+"\n", contentType, body)
	}
	g.refuses("a", func(kind, body string) error { return c.send("down.a", "queue", kind, body) })
	c.reads("DLQ", broken)
	g.refuses("s", func(kind, body string) error { return send("down.s", "ANYCAST", kind, body) }) // Artemis drops what STOMP refuses
	g.away(map[string]func(body string) error{
		"at": func(body string) error { return c.send("news.a", "topic", "text/plain", body) },
		"st": func(body string) error { return send("news.s", "MULTICAST", "text/plain", body) },
	})
}

func seenActiveMQ(t *testing.T, b *brokers.Broker) {
	amqp, stomp := "amqp://"+b.Addr("amqp"), "stomp://"+b.Addr("stomp")
	g := gatewayWith(t, []single{
		{name: "a", kind: "amqp", url: amqp, keys: account, to: "up", from: "down.a"},
		{name: "s", kind: "stomp", url: stomp, keys: account, to: "/queue/up", from: "/queue/down.s"},
		{name: "at", kind: "amqp", url: amqp, keys: account, from: "topic://news.a", options: "destination = \"topic\"\n"},
		{name: "st", kind: "stomp", url: stomp, keys: account, from: "/topic/news.s", options: "durable = \"news\"\n"},
	})
	c := newPeer(t, b.Addr("amqp"))
	send := func(to, contentType, body string) error { return stompSend(b.Addr("stomp"), to, "", contentType, body) }
	g.refuses("a", func(kind, body string) error { return c.send("down.a", "queue", kind, body) })
	c.reads("ActiveMQ.DLQ", broken)
	g.refuses("s", func(kind, body string) error { return send("/queue/down.s", kind, body) })
	c.reads("ActiveMQ.DLQ", broken)
	g.tooLarge("s", "maximum data length")
	g.away(map[string]func(body string) error{
		"at": func(body string) error { return c.send("topic://news.a", "topic", "text/plain", body) },
		"st": func(body string) error { return send("/topic/news.s", "text/plain", body) },
	})
}

// passes has a message go out.
func (g *gateway) passes(name string) {
	g.t.Helper()
	before := g.show(name).Counters["confirmed"]
	g.say("out/"+name, "hello")
	wait(g.t, name+" sends", func() bool { return g.show(name).Counters["confirmed"] > before })
}

// refuses has something come that this gateway does not take, between two messages that it does.
func (g *gateway) refuses(name string, send func(contentType, body string) error) {
	g.t.Helper()
	if err := errors.Join(send("text/plain", "before "+name), send(events, broken), send("text/plain", "after "+name)); err != nil {
		g.t.Fatal(err)
	}
	wait(g.t, name+" receives the others", func() bool { return g.holds("cmd/"+name, "after "+name) && g.holds("cmd/"+name, "before "+name) })
	if n := g.show(name).Counters["not_taken"]; n != 1 {
		g.t.Errorf("%s: %d are not taken", name, n)
	}
}

// tooLarge has a message go out that the upstream does not take: it alone becomes a dead letter, with the reason.
func (g *gateway) tooLarge(name, words string) {
	g.t.Helper()
	before := g.show(name).Counters["confirmed"]
	g.say("out/"+name, "first")
	g.say("out/"+name, strings.Repeat("x", large))
	for i := range 20 {
		g.say("out/"+name, fmt.Sprint(i))
	}
	wait(g.t, name+" sends the others", func() bool { return g.show(name).Counters["confirmed"] >= before+21 })
	var s bridge
	if !eventually(time.Minute, func() bool {
		g.say("out/"+name, "more") // a message at which connections end is to blame when others pass
		s = g.show(name)
		return s.Counters["dead"] > 0
	}) {
		g.t.Errorf("%s: %+v", name, s)
	}
	var dead string
	if !eventually(10*time.Second, func() bool {
		dead, _ = g.run("dead", "list", "-json")
		for line := range strings.Lines(dead) {
			head, _, _ := strings.Cut(line, "xxx")
			if strings.Contains(head, "\"bridge/"+name+"\"") && strings.Contains(head, words) {
				g.t.Log(head)
				return true
			}
		}
		return false
	}) {
		g.t.Errorf("%s: the dead letters do not say %q: %s", name, words, dead)
	}
}

// away has messages come to topics while the gateway is not there.
func (g *gateway) away(sends map[string]func(body string) error) {
	g.t.Helper()
	for name, send := range sends {
		if err := send("while it is here"); err != nil {
			g.t.Fatal(err)
		}
		wait(g.t, name+" receives", func() bool { return g.holds("cmd/"+name, "while it is here") })
	}
	for _, end := range []func(){g.stop, g.kill} {
		end()
		text := fmt.Sprint("sent at ", time.Now().UnixNano())
		for _, send := range sends {
			if err := send(text); err != nil {
				g.t.Fatal(err)
			}
		}
		g.start()
		for name := range sends {
			wait(g.t, name+" receives what came while it was away", func() bool { return g.holds("cmd/"+name, text) })
		}
	}
}

// stompSend sends one persistent message, which the broker has when it returns. headers are further ones.
func stompSend(addr, to, headers, contentType, body string) error {
	c, err := stompDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "SEND\ndestination:%s\npersistent:true\ncontent-type:%s\nreceipt:1\n%s\n%s\x00", to, contentType, headers, body)
	_, _, _, err = c.frame()
	return err
}

// peer is an application of AMQP 1.0.
type peer struct {
	t *testing.T
	s *azure.Session
}

func newPeer(t *testing.T, addr string) peer {
	t.Helper()
	conn, s, err := amqpDial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return peer{t, s}
}

// send sends a durable message; kind is queue or topic.
func (c peer) send(address, kind, contentType, body string) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	s, err := c.s.NewSender(ctx, address, &azure.SenderOptions{TargetCapabilities: []string{kind}})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	m := azure.NewMessage([]byte(body))
	m.Header = &azure.MessageHeader{Durable: true}
	m.Properties = &azure.MessageProperties{ContentType: &contentType}
	return s.Send(ctx, m, nil)
}

// reads takes one message from a queue.
func (c peer) reads(address, body string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	r, err := c.s.NewReceiver(ctx, address, &azure.ReceiverOptions{SourceCapabilities: []string{"queue"}, SourceDurability: azure.DurabilityUnsettledState})
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close(ctx)
	m, err := r.Receive(ctx, nil)
	if err != nil {
		c.t.Fatalf("%s has not what was refused: %v", address, err)
	}
	got, text := m.Value.(string) // of a STOMP client
	if !text {
		got = string(m.GetData())
	}
	if got != body {
		c.t.Fatalf("%s has %q", address, got)
	}
	if err := r.AcceptMessage(ctx, m); err != nil {
		c.t.Error(err)
	}
}
