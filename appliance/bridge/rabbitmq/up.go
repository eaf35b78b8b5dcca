//go:build !omit_rabbitmq

package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const shortest = 255 // bytes of the protocol's short strings

// key is what a returned message is known by. Of several with the same one all come back, in order.
type key struct{ routing, id string }

func keyOf(o *bridge.Outgoing) key { return key{routingKey(o.Address), o.ID} }

func (c *conn) readyUp(ctx context.Context) error {
	ch, _, closed, err := c.channel(ctx, "up")
	if err != nil {
		return err
	}
	c.up = ch
	if x := c.d.c.Options["exchange"]; x != "" {
		if err := ch.ExchangeDeclarePassive(x, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
			return err
		}
	}
	// Without room in these channels the library hands over one after the other: a return before its confirm. It waits for
	// us with each, so they are read until it closes them.
	confirms, returns := ch.NotifyPublish(make(chan amqp.Confirmation)), ch.NotifyReturn(make(chan amqp.Return))
	c.e.Go(func(context.Context) error { return c.confirm(confirms, returns, closed) })
	return ch.Confirm(false)
}

// Send implements [bridge.Conn]. It waits as long as the broker reads nothing.
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		p := publishing(o)
		if err := tooLong(&p, keyOf(o).routing); err != nil {
			o.Answer(err)
			continue
		}
		c.waiting.Add(o)
		if err := c.up.Publish(c.d.c.Options["exchange"], keyOf(o).routing, true, false, p); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // the reason comes by the channel's close, if it comes
			}
			return err
		}
	}
	return nil
}

// confirm answers messages until the channel is closed.
func (c *conn) confirm(confirms chan amqp.Confirmation, returns chan amqp.Return, closed chan *amqp.Error) error {
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			k := key{r.RoutingKey, r.MessageId}
			c.returned[k] = append(c.returned[k], strconv.Itoa(int(r.ReplyCode))+" "+r.ReplyText)
		case n, ok := <-confirms:
			if !ok {
				return c.ended(<-closed)
			}
			if o := c.waiting.Take(n.DeliveryTag); o != nil {
				o.Answer(c.verdict(keyOf(o), n.Ack))
			}
		}
	}
}

// verdict says what a confirm means. What came back, or was not taken, may be the message's fault or the broker's.
func (c *conn) verdict(k key, ack bool) error {
	why := c.returned[k]
	if len(why) > 1 {
		c.returned[k] = why[1:]
	} else {
		delete(c.returned, k)
	}
	switch {
	case len(why) > 0:
		return bridge.Errorf(bridge.Doubtful, "the broker returns it: %s: no queue is bound for the routing key %.80q", why[0], k.routing)
	case !ack:
		return bridge.Errorf(bridge.Doubtful, "the broker does not take it (basic.nack): is the queue full?")
	}
	return nil
}

// ended says why the channel was closed. When that was for a message larger than the broker's limit, all that are
// larger are refused for good: otherwise the first of them would end each connection.
func (c *conn) ended(e *amqp.Error) error {
	if e == nil {
		return net.ErrClosed
	}
	if limit, large := tooLarge(e); large {
		for o := range c.waiting.Waiting() {
			if len(o.Body) > limit {
				o.Answer(bridge.Errorf(bridge.Rejected, "it has %d bytes; the broker's max_message_size is %d", len(o.Body), limit))
			}
		}
	}
	return e
}

// tooLarge reads the limit of the broker from the error with which it closes a channel for a larger message; false
// when it is another error.
func tooLarge(err error) (limit int, ok bool) {
	e, is := errors.AsType[*amqp.Error](err)
	if !is || e.Code != amqp.PreconditionFailed {
		return 0, false
	}
	var size int
	_, after, _ := strings.Cut(e.Reason, "message size ")
	n, _ := fmt.Sscanf(after, "%d is larger than configured max size %d", &size, &limit)
	return limit, n == 2
}

// publishing maps a message. No binding of CloudEvents exists: the names of the AMQP 1.0 binding.
func publishing(o *bridge.Outgoing) amqp.Publishing {
	p := amqp.Publishing{
		Headers: make(amqp.Table, len(o.Headers)), ContentType: o.ContentType, DeliveryMode: amqp.Persistent, Priority: o.Priority, MessageId: o.ID,
		ReplyTo: routingKey(o.Response), CorrelationId: string(o.Correlation), Body: o.Body,
	}
	if o.TTL > 0 {
		p.Expiration = strconv.FormatInt(max(o.TTL.Milliseconds(), 1), 10)
	}
	o.WriteHeaders(mapping.Colon, func(name, value string) { p.Headers[name] = value })
	return p
}

// tooLong finds what the protocol has no room for.
func tooLong(p *amqp.Publishing, key string) error {
	fields := [][2]string{{"routing key", key}, {"id", p.MessageId}, {"content type", p.ContentType}, {"response topic", p.ReplyTo}, {"correlation", p.CorrelationId}}
	for name := range p.Headers {
		fields = append(fields, [2]string{"property", name})
	}
	for _, f := range fields {
		if len(f[1]) > shortest {
			return bridge.Errorf(bridge.Rejected, "its %s %.80q… has %d bytes; the protocol has room for %d", f[0], f[1], len(f[1]), shortest)
		}
	}
	return nil
}

// routingKey writes an address as a routing key.
func routingKey(address string) string {
	return strings.NewReplacer("%", "%25", ".", "%2E", "/", ".").Replace(address)
}

// address is the way back. What nobody escaped stays as it is.
func address(key string) string {
	return strings.NewReplacer(".", "/", "%2E", ".", "%25", "%").Replace(key)
}
