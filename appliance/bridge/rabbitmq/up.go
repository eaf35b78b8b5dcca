//go:build !omit_rabbitmq

package rabbitmq

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
)

// sent is one message on its way.
type sent struct {
	o        *bridge.Outgoing
	key      string
	returned string // why it came back
}

const (
	colon      = "cloudEvents:"
	underscore = "cloudEvents_"
	shortest   = 255 // bytes of the protocol's short strings
)

func (c *conn) readyUp() error {
	if c.d.exchange != "" {
		if err := c.up.ExchangeDeclarePassive(c.d.exchange, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
			return err
		}
	}
	// Without room in these channels the library hands over one after the other: a return before its confirm.
	c.confirms, c.returns = c.up.NotifyPublish(make(chan amqp.Confirmation)), c.up.NotifyReturn(make(chan amqp.Return))
	return c.up.Confirm(false)
}

// Send implements [bridge.Conn]. It waits as long as the broker reads nothing.
func (c *conn) Send(_ context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		p, key := publishing(o), routingKey(o.Address)
		if field, s := tooLong(&p, key); field != "" {
			o.Answer(bridge.Errorf(bridge.Rejected, "its %s %.80q… has %d bytes; the protocol has room for %d", field, s, len(s), shortest))
			continue
		}
		c.mu.Lock()
		c.waiting = append(c.waiting, sent{o: o, key: key})
		c.mu.Unlock()
		if err := c.up.Publish(c.d.exchange, key, true, false, p); err != nil {
			select {
			case <-c.lost:
				return explain(c.why)
			case <-time.After(time.Second): // the reason comes by the channel's close, if it comes
				return explain(err)
			}
		}
	}
	return nil
}

// confirm answers messages until the channel is closed, and no earlier: the library waits for it with each. Confirms
// come in order, the library sees to that.
func (c *conn) confirm() error {
	for {
		select {
		case r, ok := <-c.returns:
			if !ok {
				c.returns = nil
				continue
			}
			c.mark(r)
		case n, ok := <-c.confirms:
			if !ok {
				return c.ended()
			}
			c.mu.Lock()
			s := c.waiting[0]
			c.waiting = c.waiting[1:]
			c.mu.Unlock()
			s.o.Answer(s.verdict(n.Ack))
		}
	}
}

// mark notes which message came back. Of several with the same id and key all come back, in order.
func (c *conn) mark(r amqp.Return) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.waiting {
		s := &c.waiting[i]
		if s.returned == "" && s.key == r.RoutingKey && s.o.ID == r.MessageId {
			s.returned = strconv.Itoa(int(r.ReplyCode)) + " " + r.ReplyText
			return
		}
	}
}

// verdict says what a confirm means. What came back, or was not taken, may be the message's fault or the broker's.
func (s *sent) verdict(ack bool) error {
	switch {
	case s.returned != "":
		return bridge.Errorf(bridge.Doubtful, "the broker returns it: %s: no queue is bound for the routing key %.80q", s.returned, s.key)
	case !ack:
		return bridge.Errorf(bridge.Doubtful, "the broker does not take it (basic.nack): is the queue full?")
	}
	return nil
}

// ended says why the channel was closed. When that was for a message larger than the broker's limit, all that are
// larger are refused for good: otherwise the first of them would end each connection.
func (c *conn) ended() error {
	var err error = net.ErrClosed
	if e := <-c.up.closed; e != nil {
		err = e
	}
	limit, large := tooLarge(err)
	if !large {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.waiting {
		if len(s.o.Body) > limit {
			s.o.Answer(bridge.Errorf(bridge.Rejected, "it has %d bytes; the broker's max_message_size is %d", len(s.o.Body), limit))
		}
	}
	return err
}

// publishing maps a message.
func publishing(o *bridge.Outgoing) amqp.Publishing {
	p := amqp.Publishing{
		Headers: make(amqp.Table, len(o.Headers)), ContentType: o.ContentType, DeliveryMode: amqp.Persistent, Priority: o.Priority, MessageId: o.ID,
		ReplyTo: routingKey(o.Response), CorrelationId: string(o.Correlation), Body: o.Body,
	}
	if o.TTL > 0 {
		p.Expiration = strconv.FormatInt(max(o.TTL.Milliseconds(), 1), 10)
	}
	prefix := ""
	if o.Event {
		prefix = colon
	}
	for _, h := range o.Headers {
		p.Headers[prefix+h.Key] = h.Value
	}
	return p
}

// tooLong finds what the protocol has no room for.
func tooLong(p *amqp.Publishing, key string) (field, value string) {
	for _, f := range [][2]string{{"routing key", key}, {"id", p.MessageId}, {"content type", p.ContentType}, {"response topic", p.ReplyTo}, {"correlation", p.CorrelationId}} {
		if len(f[1]) > shortest {
			return f[0], f[1]
		}
	}
	for name := range p.Headers {
		if len(name) > shortest {
			return "property", name
		}
	}
	return "", ""
}

// routingKey writes an address as a routing key.
func routingKey(address string) string {
	return strings.NewReplacer("%", "%25", ".", "%2E", "/", ".").Replace(address)
}

// address is the way back. What nobody escaped stays as it is.
func address(key string) string {
	return strings.NewReplacer(".", "/", "%2E", ".", "%25", "%").Replace(key)
}
