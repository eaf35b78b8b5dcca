//go:build !omit_amqp

package amqp

import (
	"context"
	"errors"
	"sync/atomic"
	"unicode/utf8"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
)

// sender is a link to one address.
type sender struct {
	*amqp.Sender
	waiting atomic.Int64 // messages not confirmed
}

// sender opens a link, or returns one that is open.
func (c *conn) sender(ctx context.Context, address string) (*sender, error) {
	if s := c.senders[address]; s != nil {
		return s, nil
	}
	for a, s := range c.senders {
		if len(c.senders) >= maxSenders && s.waiting.Load() == 0 {
			delete(c.senders, a)
			if err := s.Close(ctx); err != nil {
				return nil, err
			}
		}
	}
	// RabbitMQ 3 makes a queue durable only for a durable target; others do not look at it.
	link, err := c.session.NewSender(ctx, address, &amqp.SenderOptions{
		TargetCapabilities: []string{c.d.c.Options["destination"]}, TargetDurability: amqp.DurabilityUnsettledState,
		SettlementMode: amqp.SenderSettleModeUnsettled.Ptr(),
	})
	if err != nil {
		return nil, err
	}
	s := &sender{Sender: link}
	c.senders[address] = s
	return s, nil
}

// Send implements [bridge.Conn]. It waits while the broker gives no credit.
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		if err := c.send(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) send(ctx context.Context, o *bridge.Outgoing) error {
	var refused *amqp.Error
	s, err := c.sender(ctx, o.Address)
	if err != nil && c.d.address == "" && errors.As(err, &refused) {
		o.Answer(bridge.Errorf(bridge.Refused, "address %.80q: %w", o.Address, err)) // others have other addresses
		return nil
	}
	if err != nil {
		return err
	}
	r, err := s.SendWithReceipt(ctx, c.d.message(o), nil)
	if errors.As(err, &refused) && refused.Condition == amqp.ErrCondMessageSizeExceeded {
		o.Answer(bridge.Errorf(bridge.Rejected, "%w; the broker says how large a message may be", err))
		return nil
	}
	if err != nil {
		return err
	}
	s.waiting.Add(1)
	return c.receipts.Add(ctx, o, func(ctx context.Context) error {
		state, err := r.Wait(ctx)
		s.waiting.Add(-1)
		if err != nil {
			return explain(err)
		}
		return verdict(state)
	})
}

// verdict says what a disposition means for the message (AMQP 1.0 part 3 §3.4).
func verdict(state amqp.DeliveryState) error {
	switch s := state.(type) {
	case *amqp.StateAccepted:
		return nil
	case *amqp.StateRejected:
		if s.Error == nil {
			return bridge.Errorf(bridge.Refused, "the broker rejects it: the queue may be full")
		}
		if s.Error.Condition == amqp.ErrCondMessageSizeExceeded {
			return bridge.Errorf(bridge.Rejected, "the broker rejects it: %w", s.Error)
		}
		return bridge.Errorf(bridge.Refused, "the broker rejects it: %w", s.Error)
	case *amqp.StateModified:
		if s.UndeliverableHere {
			return bridge.Errorf(bridge.Rejected, "the broker cannot deliver it there")
		}
	}
	return bridge.Errorf(bridge.Refused, "the broker gives it back (%T): is a queue bound to the address?", state)
}

// message maps a message: CloudEvents' AMQP binding 1.0.2 §3.1 (binary) and §3.2 (structured).
func (d *dialer) message(o *bridge.Outgoing) *amqp.Message {
	m := amqp.NewMessage(o.Body)
	m.Header = &amqp.MessageHeader{Durable: true, Priority: o.Priority, TTL: o.TTL}
	m.Properties = &amqp.MessageProperties{MessageID: o.ID, ContentType: some(o.ContentType), ReplyTo: some(o.Response), GroupID: some(o.Key)}
	switch {
	case len(o.Correlation) > 0 && utf8.Valid(o.Correlation):
		m.Properties.CorrelationID = string(o.Correlation)
	case len(o.Correlation) > 0:
		m.Properties.CorrelationID = o.Correlation
	}
	m.ApplicationProperties = make(map[string]any, len(o.Headers))
	o.WriteHeaders(d.c.Options["prefix"], func(name, value string) { m.ApplicationProperties[name] = value })
	return m
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
