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

// receipt is one message on its way.
type receipt struct {
	amqp.SendReceipt
	o    *bridge.Outgoing
	from *sender
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
		TargetCapabilities: []string{c.d.kind}, TargetDurability: amqp.DurabilityUnsettledState,
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
		s, err := c.sender(ctx, o.Address)
		var refused *amqp.Error
		if err != nil && c.d.address == "" && errors.As(err, &refused) {
			o.Answer(bridge.Errorf(bridge.Refused, "address %.80q: %w", o.Address, err)) // others have other addresses
			continue
		}
		if err != nil {
			return explain(err)
		}
		r, err := s.SendWithReceipt(ctx, c.d.message(o), nil)
		if errors.As(err, &refused) && refused.Condition == amqp.ErrCondMessageSizeExceeded {
			o.Answer(bridge.Errorf(bridge.Rejected, "%w; the broker says how large a message may be", err))
			continue
		}
		if err != nil {
			return explain(err)
		}
		s.waiting.Add(1)
		select {
		case c.receipts <- receipt{r, o, s}:
		case <-c.lost:
			return c.why
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// confirm waits for the broker's dispositions, in the order of sending.
func (c *conn) confirm(ctx context.Context) error {
	for {
		select {
		case r := <-c.receipts:
			state, err := r.Wait(ctx)
			if err != nil {
				return err
			}
			r.from.waiting.Add(-1)
			r.o.Answer(verdict(state))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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

const (
	colon      = "cloudEvents:"
	underscore = "cloudEvents_"
)

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
	prefix := ""
	if o.Event {
		prefix = d.prefix
	}
	if len(o.Headers) > 0 {
		m.ApplicationProperties = make(map[string]any, len(o.Headers))
	}
	for _, h := range o.Headers {
		m.ApplicationProperties[prefix+h.Key] = h.Value
	}
	return m
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

var errBody = errors.New("its body is neither data nor a text")
