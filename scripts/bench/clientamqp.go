package main

import (
	"context"
	"fmt"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge/mapping"
	"edgepost/scripts/brokers"
)

// amqpClient has a link for each way.
type amqpClient struct {
	conn    *amqp.Conn
	session *amqp.Session
	up      *amqp.Sender
	turns
}

func openAMQP(ctx context.Context, addr string) (client, error) {
	conn, err := amqp.Dial(ctx, "amqp://"+addr, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(brokers.User, brokers.Password)})
	if err != nil {
		return nil, err
	}
	c := &amqpClient{conn: conn, turns: newTurns()}
	if c.session, err = conn.NewSession(ctx, nil); err != nil {
		return nil, err
	}
	c.up, err = c.session.NewSender(ctx, "bench."+libQueue, &amqp.SenderOptions{
		TargetCapabilities: []string{"queue"}, TargetDurability: amqp.DurabilityUnsettledState, SettlementMode: amqp.SenderSettleModeUnsettled.Ptr(),
	})
	return c, err
}

func (c *amqpClient) prepare(context.Context, string) error { return nil } // Artemis makes queues on their first use

func (c *amqpClient) send(w *mapping.Wire, answered func(error)) error {
	m := amqp.NewMessage(w.Body)
	m.Header = &amqp.MessageHeader{Durable: true, Priority: w.Priority}
	m.Properties = &amqp.MessageProperties{MessageID: w.ID, GroupID: &w.Key}
	m.ApplicationProperties = make(map[string]any, len(w.Headers))
	for _, h := range w.Headers {
		m.ApplicationProperties["cloudEvents:"+h.Key] = h.Value
	}
	r, err := c.up.SendWithReceipt(context.Background(), m, nil)
	if err != nil {
		return err
	}
	c.turns <- func() {
		state, err := r.Wait(context.Background())
		if _, ok := state.(*amqp.StateAccepted); err == nil && !ok {
			err = fmt.Errorf("the broker answers %T", state)
		}
		answered(err)
	}
	return nil
}

// receive gives credit by hand, 64 messages, as the connector does.
func (c *amqpClient) receive(ctx context.Context, from string, got func()) error {
	const credit = 64
	r, err := c.session.NewReceiver(ctx, from, &amqp.ReceiverOptions{
		Credit: -1, SourceCapabilities: []string{"queue"}, SourceDurability: amqp.DurabilityUnsettledState, SettlementMode: amqp.ReceiverSettleModeFirst.Ptr(),
	})
	if err != nil {
		return err
	}
	if err := r.IssueCredit(credit); err != nil {
		return err
	}
	for taken := 0; ; {
		m, err := r.Receive(ctx, nil)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.AcceptMessage(ctx, m); err != nil && ctx.Err() == nil {
			return err
		}
		got()
		if taken++; taken == credit/2 {
			if err := r.IssueCredit(credit / 2); err != nil {
				return err
			}
			taken = 0
		}
	}
}

func (c *amqpClient) close() {
	_ = c.conn.Close()
	close(c.turns)
}
