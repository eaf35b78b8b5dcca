package bridges

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/scripts/brokers"
)

// amqp1 is the row of a broker over AMQP 1.0; addresses of its queues begin with the prefix.
func amqp1(name, broker, prefix string) upstream {
	u := upstream{
		name: name, kind: "amqp", broker: broker, protocol: "amqp", deaf: true,
		read:  func(t *testing.T, addr string, got *tally) func() { return amqpRead(addr, prefix+"ep.up", got) },
		write: func(t *testing.T, addr string, from, to int) { amqpWrite(t, addr, prefix+"ep.down", from, to) },
		config: func(addr string) string {
			return `[[bridge]]
name = "up"
kind = "amqp"
urls = ["amqp://` + addr + `"]
username = "` + brokers.User + `"
password_file = "PASSWORD_FILE"
[bridge.up]
filters = ["device/+/out/#"]
to = "` + prefix + `ep.up"
[bridge.down]
from = ["` + prefix + `ep.down"]
to = "cmd/x"
format = "raw"
`
		},
	}
	if prefix == "" {
		u.tell = amqpTell
	}
	return u
}

func TestLossArtemis(t *testing.T) {
	testLoss(t, amqp1("ActiveMQ Artemis 2 (AMQP 1.0)", "artemis", ""))
}

func TestLossActiveMQ(t *testing.T) {
	testLoss(t, amqp1("ActiveMQ Classic 6 (AMQP 1.0)", "activemq", ""))
}

func TestLossRabbitMQAMQP(t *testing.T) {
	testLoss(t, amqp1("RabbitMQ 3.10 (AMQP 1.0)", "rabbitmq", "/queue/"))
}

func amqpTell(t *testing.T, addr, body string) {
	t.Helper()
	conn, session, err := amqpDial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sender, err := session.NewSender(t.Context(), "ep.down", &amqp.SenderOptions{TargetCapabilities: []string{"queue"}})
	if err != nil {
		t.Fatal(err)
	}
	m := amqp.NewMessage([]byte(body))
	m.Header, m.Properties = &amqp.MessageHeader{Durable: true}, &amqp.MessageProperties{GroupID: new("lamp1")}
	if err := sender.Send(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
}

func amqpDial(ctx context.Context, addr string) (*amqp.Conn, *amqp.Session, error) {
	conn, err := amqp.Dial(ctx, "amqp://"+addr, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(brokers.User, brokers.Password)})
	if err != nil {
		return nil, nil, err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, session, nil
}

func amqpRead(addr, queue string, got *tally) func() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			_ = amqpListen(ctx, addr, queue, got) // the broker is away
			time.Sleep(200 * time.Millisecond)
		}
	}()
	return cancel
}

// amqpListen gives credit by hand: the library's own stands still with RabbitMQ 3.
func amqpListen(ctx context.Context, addr, queue string, got *tally) error {
	conn, session, err := amqpDial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	link, err := session.NewReceiver(ctx, queue, &amqp.ReceiverOptions{Credit: -1, SourceCapabilities: []string{"queue"}, SourceDurability: amqp.DurabilityUnsettledState})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%100 == 0 {
			if err := link.IssueCredit(100); err != nil {
				return err
			}
		}
		m, err := link.Receive(ctx, nil)
		if err != nil {
			return err
		}
		body := string(m.GetData())
		if m.Header != nil && m.Header.DeliveryCount > 0 {
			got.redelivered(body)
		} else {
			got.add(body)
		}
		if err := link.AcceptMessage(ctx, m); err != nil {
			return err
		}
	}
}

// amqpWrite sends again from the first batch that is not accepted.
func amqpWrite(t *testing.T, addr, queue string, from, to int) {
	for at := from; at < to && t.Context().Err() == nil; {
		at = amqpBurst(t.Context(), addr, queue, at, to)
	}
}

func amqpBurst(ctx context.Context, addr, queue string, at, to int) int {
	conn, session, err := amqpDial(ctx, addr)
	if err != nil {
		time.Sleep(100 * time.Millisecond)
		return at
	}
	defer conn.Close()
	sender, err := session.NewSender(ctx, queue, &amqp.SenderOptions{TargetCapabilities: []string{"queue"}, TargetDurability: amqp.DurabilityUnsettledState})
	for err == nil && at < to {
		next := min(at+100, to)
		if err = amqpSend(ctx, sender, at, next); err == nil {
			at = next
		}
	}
	return at
}

func amqpSend(ctx context.Context, sender *amqp.Sender, from, to int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var receipts []amqp.SendReceipt
	for n := from; n < to; n++ {
		m := amqp.NewMessage([]byte(plain(n)))
		m.Header = &amqp.MessageHeader{Durable: true}
		m.Properties = &amqp.MessageProperties{MessageID: strconv.Itoa(n)}
		r, err := sender.SendWithReceipt(ctx, m, nil)
		if err != nil {
			return err
		}
		receipts = append(receipts, r)
	}
	for _, r := range receipts {
		state, err := r.Wait(ctx)
		if err != nil {
			return err
		}
		if _, ok := state.(*amqp.StateAccepted); !ok {
			return errors.New("it is not accepted")
		}
	}
	return nil
}
