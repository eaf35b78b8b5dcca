package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
	"edgepost/scripts/brokers"
)

// upstream is one connector with a broker for it, and the library that the connector uses.
type upstream struct {
	kind    string // of the connector
	broker  string // of package brokers; else start knows it
	name    string // for people
	library string // likewise, with the acknowledgment that it waits for
	headers bool   // of the protocol
	scheme  string
	port    string // which of the broker's addresses
	prefix  string // of a queue or topic, in the broker's own words
	options map[string]string
	open    func(ctx context.Context, addr string) (client, error)
}

// client is a connector's library without edgepost. It does as the connector does, and no more.
type client interface {
	// prepare makes what ours sends to, for receive to read.
	prepare(ctx context.Context, ours string) error
	// send hands one message over; answered is called when the broker has acknowledged it, from any goroutine.
	send(w *mapping.Wire, answered func(error)) error
	// receive reads until ctx ends, acknowledges each message and says so.
	receive(ctx context.Context, from string, got func()) error
	close()
}

func (b *bench) upstreams() []upstream {
	all := []upstream{
		{kind: "mqtt", name: "mqtt → Mosquitto", library: "paho, QoS 1", scheme: "mqtt", prefix: "bench/", open: openPaho},
		{kind: "kafka", name: "kafka → Kafka 4", library: "franz-go, acks=all", headers: true, scheme: "kafka", broker: "kafka", port: "kafka", prefix: "bench.", open: openFranz},
		{kind: "rabbitmq", name: "rabbitmq → RabbitMQ, quorum queue", library: "amqp091-go, confirms", headers: true, scheme: "amqp", broker: "rabbitmq", port: "amqp091", prefix: "bench.",
			options: map[string]string{"exchange": "", "queue_type": "quorum"}, open: openRabbit},
		{kind: "amqp", name: "amqp → Artemis", library: "go-amqp, dispositions", headers: true, scheme: "amqp", broker: "artemis", port: "amqp", prefix: "bench.", open: openAMQP},
		{kind: "stomp", name: "stomp → ActiveMQ 6", library: "bare STOMP, receipts", headers: true, scheme: "stomp", broker: "activemq", port: "stomp", prefix: "/queue/bench.", open: openStomp},
		{kind: "webhook", name: "webhook → net/http", library: "net/http", headers: true, scheme: "http", open: openHTTP},
	}
	return slices.DeleteFunc(all, func(u upstream) bool { return !slices.Contains(b.connectors, u.kind) })
}

// The two queues: one for each side, which the other side's way in empties.
const (
	oursQueue = "ours"
	libQueue  = "library"
)

// start starts the broker and says where it is. A broker that is not here is an errSkipped.
func (u *upstream) start(ctx context.Context, b *bench) (addr string, stop func() error, err error) {
	switch u.kind {
	case "mqtt":
		path, err := mosquittoPath()
		if err != nil {
			return "", nil, errSkipped("Mosquitto is not installed; scripts/setup does it")
		}
		s, err := b.mosquitto(ctx, path)
		if err != nil {
			return "", nil, err
		}
		return s.addr, s.stop, nil
	case "webhook":
		t, err := b.talk(&addr, "http-sink")
		if err != nil {
			return "", nil, err
		}
		return addr, func() error { return t.in.Close() }, nil // its end ends it
	}
	dir, err := b.dir()
	if err != nil {
		return "", nil, err
	}
	broker, err := brokers.New(u.broker, dir)
	if err != nil {
		return "", nil, errSkipped(err.Error())
	}
	if err := broker.Start(); err != nil {
		return "", nil, err
	}
	return broker.Addr(u.port), func() error { broker.Kill(); return os.RemoveAll(dir) }, nil
}

// bridge is the configuration of a bridge to that address, as the API takes it.
func (u *upstream) bridge(addr string, window int, secret string) map[string]any {
	c := map[string]any{"kind": u.kind, "urls": []string{u.scheme + "://" + addr}}
	if u.broker == "rabbitmq" || u.broker == "artemis" || u.broker == "activemq" {
		c["username"], c["password_file"] = brokers.User, secret
	}
	options := map[string]string{}
	for name, value := range u.options {
		options[name] = value
	}
	if u.kind == "webhook" {
		options["concurrency"] = strconv.Itoa(max(u.width(window), 1))
	}
	c["options"] = options
	if window == wayDown {
		c["down"] = map[string]any{"from": []string{u.prefix + libQueue}, "to": "bench/down"}
		return c
	}
	to := u.prefix + oursQueue
	if u.kind == "rabbitmq" {
		to = strings.ReplaceAll(to, ".", "/") // as the connector wants levels
	}
	up := map[string]any{"filters": []string{benchTopic}, "to": to}
	if window != ownWindow {
		up["window"] = window
	}
	c["up"] = up
	return c
}

// width is how many messages are really on their way with that window: the webhook makes at most 32 requests at a time.
func (u *upstream) width(window int) int {
	if u.kind == "webhook" {
		return min(window, 32)
	}
	return window
}

const benchTopic = "device/d1/out/t"

// benchBody is what devices send: it does not compress to nothing.
func benchBody() []byte {
	var b []byte
	for i := uint64(1); len(b) < payloadBytes; i++ {
		b = strconv.AppendUint(append(b, ' '), i*0x9e3779b97f4a7c15, 36)
	}
	return b[:payloadBytes]
}

// wires makes messages as the mapping of a gateway does, without its cost: only the id differs.
type wires struct {
	wire mapping.Wire
	at   int // of the id: among the headers, or in the body
	n    uint64
}

const (
	firstNumber = 1_000_000_000 // all have as many digits
	firstID     = "bench-1000000000"
)

func (u *upstream) wires() (*wires, error) {
	to, err := mapping.ParseTemplate(u.prefix + libQueue)
	if err != nil {
		return nil, err
	}
	key, err := mapping.ParseTemplate("${device}", mapping.Device)
	if err != nil {
		return nil, err
	}
	up := mapping.Up{Here: mapping.Here{Gateway: "ep-library", Epoch: "zzzzzzzz"}, Format: mapping.Event, Headers: u.headers, To: to, Key: key}
	m := message.New(benchTopic, benchBody())
	m.Time, m.Event.ID, m.Event.Source = time.Now(), firstID, "/bench"
	w, err := up.Encode(m, mapping.Delivery{})
	s := &wires{wire: w, at: -1, n: firstNumber}
	for i, h := range w.Headers {
		if h.Key == "id" {
			s.at = i
		}
	}
	if !u.headers {
		s.at = strings.Index(string(w.Body), firstID)
	}
	if err == nil && s.at < 0 {
		err = fmt.Errorf("the event of %s has no id", u.kind)
	}
	return s, err
}

// next is a message with an id of its own.
func (s *wires) next() *mapping.Wire {
	s.n++
	w := s.wire
	w.ID = "bench-" + strconv.FormatUint(s.n, 10)
	if w.Event {
		w.Headers = append([]message.Property(nil), w.Headers...)
		w.Headers[s.at].Value = w.ID
	} else {
		w.Body = append([]byte(nil), w.Body...)
		copy(w.Body[s.at:], w.ID)
	}
	return &w
}

// sent is how many there were.
func (s *wires) sent() int64 { return int64(s.n - firstNumber) }

// turns waits for acknowledgments that come in the order of sending.
type turns chan func()

func newTurns() turns {
	t := make(turns, 4096) // the largest window of an edgepost
	go func() {
		for wait := range t {
			wait()
		}
	}()
	return t
}
