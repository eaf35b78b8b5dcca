//go:build !omit_amqp

package amqp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
	"edgepost/appliance/message"
)

// receiver opens a link to read from. Credit is given by hand: the library's own stands still with RabbitMQ 3.
func (c *conn) receiver(ctx context.Context, from string) (*amqp.Receiver, error) {
	o := &amqp.ReceiverOptions{
		Credit: -1, MaxMessageSize: maxBody, SourceCapabilities: []string{c.d.kind}, SourceDurability: amqp.DurabilityUnsettledState,
		SettlementMode: amqp.ReceiverSettleModeFirst.Ptr(),
	}
	if c.d.kind == "topic" {
		o.Name, o.SourceExpiryPolicy = c.d.id+" "+from, amqp.ExpiryPolicyNever
	}
	r, err := c.session.NewReceiver(ctx, from, o)
	if err != nil {
		return nil, err
	}
	return r, r.IssueCredit(credit)
}

// receive reads until the connection ends.
func (c *conn) receive(ctx context.Context, r *amqp.Receiver) error {
	for taken := 0; ; {
		m, err := r.Receive(ctx, nil)
		if err != nil {
			return err
		}
		w, err := c.d.wire(m, r.Address())
		if err != nil {
			if err := r.RejectMessage(ctx, m, &amqp.Error{Condition: amqp.ErrCondNotImplemented, Description: err.Error()}); err != nil {
				return err
			}
		} else {
			c.inlet.Take(bridge.Incoming{Wire: w, Done: func(refused error) { c.done(ctx, r, m, refused) }})
		}
		if taken++; taken == credit/2 {
			if err := r.IssueCredit(uint32(taken)); err != nil {
				return err
			}
			taken = 0
		}
	}
}

// done settles a message.
func (c *conn) done(ctx context.Context, r *amqp.Receiver, m *amqp.Message, refused error) {
	var err error
	if refused == nil {
		err = r.AcceptMessage(ctx, m)
	} else {
		err = r.RejectMessage(ctx, m, &amqp.Error{Condition: "edgepost:refused", Description: refused.Error()})
	}
	if err != nil {
		c.fail(err)
	}
}

// wire maps what came.
func (d *dialer) wire(m *amqp.Message, address string) (bridge.Wire, error) {
	w := bridge.Wire{Address: strings.ReplaceAll(address, ".", "/")}
	switch v := m.Value.(type) {
	case nil:
		w.Body = m.GetData()
		for _, more := range m.Data[min(1, len(m.Data)):] {
			w.Body = append(w.Body, more...)
		}
		if len(m.Sequence) > 0 {
			return w, errBody
		}
	case string:
		w.Body, w.Text = []byte(v), true
	case []byte:
		w.Body = v
	default:
		return w, errBody
	}
	if h := m.Header; h != nil {
		w.Priority, w.TTL = h.Priority, h.TTL
	}
	if p := m.Properties; p != nil {
		w.ContentType, w.Response, w.Key = value(p.ContentType), strings.ReplaceAll(value(p.ReplyTo), ".", "/"), value(p.GroupID)
		w.ID = text(p.MessageID)
		w.Correlation = []byte(text(p.CorrelationID))
		if p.AbsoluteExpiryTime != nil && w.TTL == 0 {
			w.TTL = max(time.Until(*p.AbsoluteExpiryTime), time.Second)
		}
	}
	d.properties(&w, m.ApplicationProperties)
	return w, nil
}

// properties fills in the headers. It is an event in binary mode when it says which version.
func (d *dialer) properties(w *bridge.Wire, properties map[string]any) {
	prefix := colon
	if _, jms := properties[underscore+"specversion"]; jms {
		prefix = underscore
	}
	_, w.Event = properties[prefix+"specversion"]
	for name, v := range properties {
		short, attribute := strings.CutPrefix(name, prefix)
		if w.Event && !attribute {
			continue
		}
		if w.Event {
			name = short
		}
		w.Headers = append(w.Headers, message.Property{Key: name, Value: text(v)})
	}
	slices.SortFunc(w.Headers, func(a, b message.Property) int { return strings.Compare(a.Key, b.Key) })
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// text is a property's value: applications put numbers and times there, too.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}
