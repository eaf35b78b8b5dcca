package bridges

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// wrong is a bridge as somebody wrote it, and what becomes of it.
type wrong struct {
	name   string
	text   string // [[bridge]], named "up"
	state  string // "" any
	words  string // part of its error
	hidden bool   // a test of the bridge, which changes nothing, does not see it
	repair func() // what helps; nil: not tried
}

// bad runs all bridges on one gateway. What a person gets wrong is said in words on the bridge, retried where that can
// help, and never ends the gateway or hurts another bridge.
func bad(t *testing.T, list []wrong) {
	t.Helper()
	var text strings.Builder
	for _, c := range list {
		text.WriteString(with(t, c.text, `name = "up"`, `name = "`+c.name+`"`) + "\n")
	}
	g := newGateway(t, text.String())
	g.start()
	var tests sync.WaitGroup // some wait half a minute for an answer
	for _, c := range list {
		tests.Go(func() {
			if text, err := g.run("bridge", "test", c.name); (err == nil) != (c.state == "connected" || c.hidden) {
				t.Errorf("%s: bridge test says %q", c.name, text)
			}
		})
	}
	for _, c := range list {
		var got bridge
		if !eventually(90*time.Second, func() bool {
			got = g.show(c.name)
			return strings.Contains(got.Error, c.words) && (c.state == "" || got.State == c.state)
		}) {
			t.Errorf("%s: state %q, error %q; want %q, %q", c.name, got.State, got.Error, c.state, c.words)
		}
	}
	tests.Wait()
	for _, c := range list {
		if c.repair == nil {
			continue
		}
		c.repair()
		if text, err := g.run("bridge", "resume", c.name); err != nil { // it would try again by itself, but seldom
			t.Error(text)
		}
		wait(t, c.name+" connects after the repair", func() bool { return g.show(c.name).State == "connected" })
	}
	g.publish(0, 1) // it goes on
}

// with is a text with one thing changed.
func with(t *testing.T, text, is, instead string) string {
	t.Helper()
	changed := strings.Replace(text, is, instead, 1)
	if changed == text {
		t.Fatalf("there is no %q in\n%s", is, text)
	}
	return changed
}

func TestBadMosquitto(t *testing.T) {
	b := startBroker(t, "mosquitto")
	addr := b.Addr("mqtt")
	missing := filepath.Join(t.TempDir(), "none")
	text := func(addr, keys string) string {
		return "[[bridge]]\nname = \"up\"\nkind = \"mqtt\"\nurls = [\"mqtt://" + addr + "\"]\n" + keys + "\n[bridge.up]\nfilters = [\"device/+/out/#\"]\n"
	}
	secure := func(keys string) string { return with(t, text(addr, keys), "mqtt://", "mqtts://") }
	bad(t, append(badTLS(t, b, single{kind: "mqtt", to: "up"}, "mqtt", "mqtt+tls", "mqtt"), []wrong{
		{name: "right", text: text(addr, ""), state: "connected"},
		{name: "nobody-listens", text: text(freeAddr(t), ""), state: "waiting", words: "nothing listens there"},
		{name: "wrong-host", text: text("no-such-host.invalid", ""), state: "waiting", words: "no-such-host.invalid"},
		{name: "no-password-file", text: text(addr, `password_file = "`+missing+`"`), state: "misconfigured", words: "password_file"},
		{name: "TLS-on-a-plain-port", text: secure(""), words: "TLS"},
		{name: "no-certificate-in-ca_file", text: secure(`ca_file = "` + program + `"`), state: "misconfigured", words: "ca_file"},
		{name: "another-protocol", text: text(httpServer(t), ""), state: "waiting"},
	}...))
	t.Run("seen", func(t *testing.T) { seenMosquitto(t, b) })
}

func TestBadRabbitMQ(t *testing.T) {
	b := startBroker(t, "rabbitmq")
	addr := b.Addr("amqp091")
	rabbitQueue(t, addr, "made", "classic") // a young quorum queue may not answer
	text := rabbitmq().config(addr)
	list := slices.Concat(
		badTLS(t, b, single{kind: "rabbitmq", keys: account, to: "up"}, "amqp", "amqp091+tls", "amqp091"),
		badTLS(t, b, single{kind: "amqp", keys: account, to: "/queue/up"}, "amqp", "amqp+tls", "amqp")[:2],
		badTLS(t, b, single{kind: "stomp", keys: account, to: "/queue/up"}, "stomp", "stomp+tls", "stomp")[:2])
	bad(t, append(list, []wrong{
		{name: "right", text: text, state: "connected"},
		{name: "wrong-user", text: with(t, text, `username = "edge"`, `username = "nobody"`), state: "misconfigured", words: `refuses user "nobody"`},
		{name: "virtual-host", text: with(t, text, addr, addr+"/none"), state: "misconfigured", words: "virtual host"},
		// The queue is not made then.
		{name: "missing-queue", text: with(t, with(t, text, "queue_type = \"quorum\"\n", ""), "ep.down", "ep.none"), state: "misconfigured", words: "no queue 'ep.none'"},
		{name: "missing-exchange", text: with(t, text, "[bridge.options]", "[bridge.options]\nexchange = \"none\""), state: "misconfigured", words: "no exchange 'none'"},
		{name: "another-type", text: with(t, text, "ep.down", "made"), state: "misconfigured", words: "it was made otherwise", hidden: true},
		{name: "another-protocol", text: with(t, text, addr, httpServer(t)), words: "does it speak AMQP"},
		{name: "nobody-listens", text: with(t, text, addr, freeAddr(t)), state: "waiting", words: "nothing listens there"},
	}...))
	t.Run("seen", func(t *testing.T) { seenRabbitMQ(t, b) })
}

func TestBadSTOMP(t *testing.T) {
	addr := startBroker(t, "activemq-debian").Addr("stomp")
	text := stomp("", "", "/queue/ep.up", "/queue/ep.down", "").config(addr)
	bad(t, []wrong{
		{name: "right", text: text, state: "connected"},
		{name: "wrong-user", text: with(t, text, `username = "edge"`, `username = "nobody"`), state: "misconfigured", words: `refuses user "nobody": `},
		{name: "TLS-on-a-plain-port", text: with(t, text, "stomp://", "stomps://"), words: "TLS"},
		{name: "another-protocol", text: with(t, text, addr, httpServer(t)), words: "is it STOMP"},
		{name: "nobody-listens", text: with(t, text, addr, freeAddr(t)), state: "waiting", words: "nothing listens there"},
	})
}

func TestBadArtemis(t *testing.T) {
	b := startBroker(t, "artemis")
	addr := b.Addr("amqp")
	text := amqp1("", "", "").config(addr)
	list := slices.Concat(badAMQP(t, addr, text),
		badTLS(t, b, single{kind: "amqp", keys: account, to: "up"}, "amqp", "amqp+mtls", "amqp"),
		badTLS(t, b, single{kind: "stomp", keys: account, to: "up"}, "stomp", "stomp+mtls", "stomp")[:2])
	bad(t, append(list, wrong{name: "missing-queue", text: with(t, text, `"ep.up"`, `"strict.none"`), state: "misconfigured", words: "create it"})) // ActiveMQ makes every queue
	t.Run("seen", func(t *testing.T) { seenArtemis(t, b) })
}

func TestBadActiveMQ(t *testing.T) {
	b := startBroker(t, "activemq")
	addr := b.Addr("amqp")
	text := amqp1("", "", "").config(addr)
	list := slices.Concat(badAMQP(t, addr, text),
		badTLS(t, b, single{kind: "amqp", keys: account, to: "up"}, "amqp", "amqp+tls", "amqp")[:2],
		badTLS(t, b, single{kind: "stomp", keys: account, to: "/queue/up"}, "stomp", "stomp+tls", "stomp"))
	bad(t, list)
	t.Run("seen", func(t *testing.T) { seenActiveMQ(t, b) })
}

func badAMQP(t *testing.T, addr, text string) []wrong {
	t.Helper()
	return []wrong{
		{name: "right", text: text, state: "connected"},
		{name: "templated", text: with(t, text, `"ep.up"`, `"ep.${device}"`), state: "connected"},
		{name: "wrong-password", text: with(t, text, "PASSWORD_FILE", secretFile(t, "wrong")), state: "misconfigured", words: "password_file"},
		{name: "nobody-listens", text: with(t, text, addr, freeAddr(t)), state: "waiting", words: "nothing listens there"},
	}
}

// startBroker is a broker that runs until the test ends.
func startBroker(t *testing.T, name string) *brokers.Broker {
	t.Helper()
	b := newBroker(t, name)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// httpServer answers everything with HTTP.
func httpServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // what is not read would make the end of the connection a reset
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}
