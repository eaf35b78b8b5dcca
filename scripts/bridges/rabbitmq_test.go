package bridges

import (
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/scripts/brokers"
)

// settle is more than the time in which RabbitMQ loses a quorum queue with all that it confirmed: see TestYoungQuorumQueue.
const settle = 3 * time.Second

func rabbitmq() upstream {
	return upstream{
		name: "RabbitMQ 3.10, quorum queues", kind: "rabbitmq", broker: "rabbitmq", protocol: "amqp091", tell: rabbitTell, settle: settle, read: rabbitRead, write: rabbitWrite,
		config: func(addr string) string {
			return `[[bridge]]
name = "up"
kind = "rabbitmq"
urls = ["amqp://` + addr + `"]
username = "` + brokers.User + `"
password_file = "PASSWORD_FILE"
[bridge.up]
filters = ["device/+/out/#"]
to = "ep/v1/test/${gw}/up/${topic}"
[bridge.down]
from = ["ep.down"]
to = "cmd/${topic[4:]}"
[bridge.options]
queue_type = "quorum"
bind = "ep.v1.test.down.#"
keep_alive = 2
`
		},
	}
}

func TestLossRabbitMQ(t *testing.T) { testLoss(t, rabbitmq()) }

// TestYoungQuorumQueue: of a queue that answers nobody the bridge says what it may be. RabbitMQ makes one when it is killed
// half a second behind the declaration of a quorum queue: its library for Raft (ra_directory) writes which log is whose to
// names.dets, and that to disk at the first half second in which nobody looked into it. Killed before, it starts the queue
// anew with an empty log, and a new one never elects a leader. Versions behind 3.10 have the same lines (issues 10070 and
// 15725 of rabbitmq-server).
func TestYoungQuorumQueue(t *testing.T) {
	if _, long := messages(t); !long {
		t.Skip("SKIP: two starts of RabbitMQ and half a minute without an answer; MESSAGES=20000 runs it")
	}
	b := startBroker(t, "rabbitmq")
	addr := b.Addr("amqp091")
	rabbitQueue(t, addr, "ep.down", "quorum")
	b.Kill()
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, with(t, rabbitmq().config(addr), "queue_type = \"quorum\"\n", "")) // nothing is made
	g.start()
	wait(t, "the bridge says that the queue does not answer", func() bool {
		return strings.Contains(g.bridge().Error, `queue "ep.down": it does not answer; is it a quorum queue without a leader?`)
	})
}

// rabbit is a client for one connection; nil while there is no broker.
func rabbit(addr string) (*amqp.Connection, *amqp.Channel) {
	conn, err := amqp.Dial("amqp://" + brokers.User + ":" + brokers.Password + "@" + addr)
	if err != nil {
		return nil, nil
	}
	ch, err := conn.Channel()
	if err != nil {
		conn.Close()
		return nil, nil
	}
	return conn, ch
}

// rabbitRead makes a queue that keeps what comes while the reader is away.
func rabbitRead(t *testing.T, addr string, got *tally) func() {
	t.Helper()
	read := func() (*amqp.Connection, <-chan amqp.Delivery) {
		conn, ch := rabbit(addr)
		if conn == nil {
			return nil, nil
		}
		_, err := ch.QueueDeclare("reader", true, false, false, false, nil)
		if err == nil {
			err = ch.QueueBind("reader", "ep.v1.*.*.up.#", "amq.topic", false, nil)
		}
		if err == nil {
			err = ch.Qos(200, 0, false)
		}
		var in <-chan amqp.Delivery
		if err == nil {
			in, err = ch.Consume("reader", "", false, false, false, false, nil)
		}
		if err != nil {
			conn.Close()
			return nil, nil
		}
		return conn, in
	}
	conn, in := read()
	if conn == nil {
		t.Fatal("the reader cannot read")
	}
	stop := make(chan struct{})
	go func() {
		for {
			for d := range in {
				if d.Redelivered {
					got.redelivered(string(d.Body))
				} else {
					got.add(string(d.Body))
				}
				_ = d.Ack(false) // else it comes again
			}
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			conn, in = read()
			if conn == nil {
				closed := make(chan amqp.Delivery)
				close(closed)
				in = closed
			}
		}
	}()
	return func() { close(stop) } // the broker dies with the test
}

func rabbitTell(t *testing.T, addr, body string) {
	t.Helper()
	conn, ch := rabbit(addr)
	if conn == nil {
		t.Fatal("no connection")
	}
	defer conn.Close()
	if err := ch.Publish("amq.topic", "ep.v1.home.any.down.lamp1.set", true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

// rabbitWrite publishes with confirms, again from the first that is not confirmed.
func rabbitWrite(t *testing.T, addr string, from, to int) {
	for at := from; at < to && t.Context().Err() == nil; {
		conn, ch := rabbit(addr)
		if conn == nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err := ch.Confirm(false); err == nil {
			at = rabbitBurst(ch, at, to)
		}
		conn.Close()
	}
}

// rabbitBurst looks for the channel's end itself: a confirmation may wait for ever when the connection ends beside it.
func rabbitBurst(ch *amqp.Channel, at, to int) int {
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	for at < to {
		var list []*amqp.DeferredConfirmation
		for n := at; n < min(at+100, to); n++ {
			d, err := ch.PublishWithDeferredConfirm("amq.topic", "ep.v1.test.down.x", true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "application/cloudevents+json", Body: []byte(event(n))})
			if err != nil {
				return at
			}
			list = append(list, d)
		}
		for _, d := range list {
			select {
			case <-d.Done():
			case <-closed:
			}
			if !d.Acked() {
				return at
			}
		}
		at += len(list)
	}
	return at
}

// rabbitQueue makes a durable queue of the type.
func rabbitQueue(t *testing.T, addr, name, kind string) {
	t.Helper()
	conn, ch := rabbit(addr)
	if conn == nil {
		t.Fatal("no connection")
	}
	defer conn.Close()
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
		t.Fatal(err)
	}
}
