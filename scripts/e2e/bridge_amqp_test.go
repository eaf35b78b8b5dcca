package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/scripts/brokers"
)

// amqpClient is a client at the broker's own port, past the proxy. It connects again after an error.
type amqpClient struct {
	addr    string
	conn    *amqp.Conn
	session *amqp.Session
	sender  *amqp.Sender
}

func (c *amqpClient) connect(ctx context.Context) (err error) {
	c.close()
	if c.conn, err = amqp.Dial(ctx, "amqp://"+c.addr, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(brokers.User, brokers.Password)}); err != nil {
		return err
	}
	c.session, err = c.conn.NewSession(ctx, nil)
	return err
}

func (c *amqpClient) close() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.conn, c.session, c.sender = nil, nil, nil
}

// send sends durable messages with message-ids, and returns when all are accepted.
func (c *amqpClient) send(address string, ids []string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.sender == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
		if c.sender, err = c.session.NewSender(ctx, address, &amqp.SenderOptions{TargetCapabilities: []string{"queue"}, TargetDurability: amqp.DurabilityUnsettledState}); err != nil {
			return err
		}
	}
	var receipts []amqp.SendReceipt
	for _, id := range ids {
		m := amqp.NewMessage([]byte(id))
		m.Header = &amqp.MessageHeader{Durable: true}
		m.Properties = &amqp.MessageProperties{MessageID: id}
		r, err := c.sender.SendWithReceipt(ctx, m, nil)
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
			return errors.New("not accepted")
		}
	}
	return nil
}

// collect empties a queue.
func (c *amqpClient) collect(address string, seen map[string]int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := &amqpClient{addr: c.addr}
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.close()
	link, err := r.session.NewReceiver(ctx, address, &amqp.ReceiverOptions{Credit: -1, SourceCapabilities: []string{"queue"}, SourceDurability: amqp.DurabilityUnsettledState})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%100 == 0 {
			if err := link.IssueCredit(100); err != nil {
				return err
			}
		}
		quiet, stop := context.WithTimeout(ctx, 3*time.Second)
		m, err := link.Receive(quiet, nil)
		stop()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return err
		}
		seen[string(m.GetData())]++
		if err := link.AcceptMessage(ctx, m); err != nil {
			return err
		}
	}
}

// openAMQP is a broker of that name; addresses of its queues begin with the prefix.
func openAMQP(name, prefix string) func(t *testing.T) *upstream {
	return func(t *testing.T) *upstream {
		b := newBrokerFor(t, name)
		c := &amqpClient{addr: b.Addr("amqp")}
		t.Cleanup(c.close)
		u := &upstream{Broker: b, t: t, proxy: newProxy(t, "", b.Addr("amqp")), scheme: "amqp", config: `kind = "amqp"
username = "` + brokers.User + `"
password_file = "` + secretFile(t, brokers.Password) + `"
[bridge.up]
filters = ["device/+/out/#"]
to = "` + prefix + `ep.up"
[bridge.down]
from = ["` + prefix + `ep.down"]
to = "device/lamp/in/command"
format = "raw"
`}
		seen := map[string]int{}
		u.prepare = func() error { return nil }
		u.send = func(ids []string) error { return c.send(prefix+"ep.down", ids) }
		u.collect = func(int) (map[string]int, error) { return seen, c.collect(prefix+"ep.up", seen) }
		return u
	}
}

// Messages both ways through real AMQP 1.0 brokers that are killed, cut off and away.
func TestArtemisFaults(t *testing.T)      { testBridgeFaults(t, openAMQP("artemis", "")) }
func TestActiveMQFaults(t *testing.T)     { testBridgeFaults(t, openAMQP("activemq", "")) }
func TestRabbitMQAMQPFaults(t *testing.T) { testBridgeFaults(t, openAMQP("rabbitmq", "/queue/")) }
