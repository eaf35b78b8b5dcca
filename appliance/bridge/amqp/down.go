//go:build !omit_amqp

package amqp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// receiver reads from an address. Credit is given by hand, and only when all of it was used: the library's own stands
// still with the plugin of RabbitMQ 3, which was also seen to forget what it was given while it was sending (by a bare
// client too), and to send nothing any more.
func (c *conn) receiver(ctx context.Context, from string) error {
	kind := c.d.c.Options["destination"]
	o := &amqp.ReceiverOptions{
		Credit: -1, MaxMessageSize: maxBody, SourceCapabilities: []string{kind}, SourceDurability: amqp.DurabilityUnsettledState,
		SettlementMode: amqp.ReceiverSettleModeFirst.Ptr(),
	}
	if kind == "topic" {
		o.Name, o.SourceExpiryPolicy = c.d.c.Options["container_id"]+" "+from, amqp.ExpiryPolicyNever
	}
	r, err := c.session.NewReceiver(ctx, from, o)
	if err != nil {
		return err
	}
	c.e.Go(func(ctx context.Context) error { return c.receive(ctx, r) })
	return r.IssueCredit(credit)
}

// receive reads until the connection ends.
func (c *conn) receive(ctx context.Context, r *amqp.Receiver) error {
	for taken := 1; ; taken++ {
		m, err := r.Receive(ctx, nil)
		if err != nil {
			return err
		}
		w, bad := wire(m, r.Address())
		c.e.Inlet.Take(bridge.Incoming{Wire: w, Bad: bad, Done: func(refused error) error {
			if refused == nil {
				return r.AcceptMessage(ctx, m)
			}
			return r.RejectMessage(ctx, m, &amqp.Error{Condition: "edgepost:refused", Description: refused.Error()})
		}})
		if taken%credit == 0 {
			if err := r.IssueCredit(credit); err != nil {
				return err
			}
		}
	}
}

var errBody = errors.New("its body is neither data nor a text")

// wire maps what came.
func wire(m *amqp.Message, address string) (bridge.Wire, error) {
	w := bridge.Wire{Address: strings.ReplaceAll(address, ".", "/")}
	switch v := m.Value.(type) {
	case nil:
		if len(m.Sequence) > 0 {
			return w, errBody
		}
		w.Body = slices.Concat(m.Data...)
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
		w.ID, _ = mapping.Text(p.MessageID) // "" without one
		correlation, _ := mapping.Text(p.CorrelationID)
		w.Correlation = []byte(correlation)
		if p.AbsoluteExpiryTime != nil && w.TTL == 0 {
			w.TTL = max(time.Until(*p.AbsoluteExpiryTime), time.Second)
		}
	}
	w.ReadHeaders(mapping.Texts(m.ApplicationProperties), mapping.Colon, mapping.Underscore)
	return w, nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
