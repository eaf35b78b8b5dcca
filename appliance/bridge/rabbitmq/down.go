//go:build !omit_rabbitmq

package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// source is one queue that is read.
type source struct {
	queue      string
	deliveries <-chan amqp.Delivery
}

// readyDown makes the queues, where it is to, and reads them. A probe only looks.
func (c *conn) readyDown(ctx context.Context, probe bool) error {
	if err := c.down.Qos(c.d.prefetch, 0, false); err != nil {
		return err
	}
	cancelled := c.down.NotifyCancel(make(chan string, 1))
	go func() {
		for tag := range cancelled { // it is closed with the channel
			c.fail(fmt.Errorf("the broker ended the reading of queue %s: was it deleted?", tag))
		}
	}()
	go func() {
		if e := <-c.down.closed; e != nil {
			c.fail(e)
		}
	}()
	for _, queue := range c.d.c.Down.From {
		err := c.read(queue, probe)
		if err != nil && ctx.Err() != nil { // that closed the wire; the library's error only says so
			err = errors.New("it does not answer; is it a quorum queue without a leader? See rabbitmq-queues quorum_status")
		}
		if err != nil {
			return fmt.Errorf("queue %.80q: %w", queue, err)
		}
	}
	return nil
}

func (c *conn) read(queue string, probe bool) error {
	if err := c.declare(queue, probe); err != nil || probe {
		return err
	}
	ch, err := c.down.Consume(queue, queue, false, false, false, false, nil)
	if err == nil {
		c.sources = append(c.sources, source{queue, ch})
	}
	return err
}

func (c *conn) declare(queue string, probe bool) error {
	kind := c.d.c.Options["queue_type"]
	if kind == "" {
		_, err := c.down.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	}
	if probe {
		return nil // it may not be there yet
	}
	args := amqp.Table{"x-queue-type": kind}
	if kind == "quorum" {
		args["x-delivery-limit"] = int32(c.d.limit) // at most 1000
	}
	if x := c.d.c.Options["dead_letters"]; x != "" {
		args["x-dead-letter-exchange"] = x
	}
	if _, err := c.down.QueueDeclare(queue, true, false, false, false, args); err != nil {
		return err
	}
	bind, err := mapping.ParseTemplate(c.d.c.Options["bind"], mapping.Gateway, mapping.Bridge)
	if err != nil {
		return err
	}
	keys, err := bind.Fill(func(name string) string {
		return map[string]string{mapping.Gateway: routingKey(c.d.here.Gateway), mapping.Bridge: routingKey(c.d.c.Name)}[name]
	})
	if err != nil {
		return err
	}
	for _, key := range strings.Fields(keys) {
		if err := c.down.QueueBind(queue, key, c.d.exchange, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// receive reads one queue until the connection ends.
func (c *conn) receive(s source) error {
	for d := range s.deliveries {
		if size, large := c.down.wire.swallowed(d.DeliveryTag); large {
			if err := d.Nack(false, false); err != nil {
				return fmt.Errorf("reject a message of %d bytes: %w", size, err)
			}
			continue
		}
		c.inlet.Take(bridge.Incoming{Wire: wire(&d), Done: func(refused error) {
			var err error
			if refused == nil {
				err = d.Ack(false)
			} else {
				err = d.Nack(false, false)
			}
			if err != nil {
				c.fail(err)
			}
		}})
	}
	return fmt.Errorf("the reading of queue %s ended", s.queue)
}

// wire maps what came.
func wire(d *amqp.Delivery) bridge.Wire {
	w := bridge.Wire{
		Address: address(d.RoutingKey), ContentType: d.ContentType, Body: d.Body, ID: d.MessageId, Priority: d.Priority,
		Response: address(d.ReplyTo), Correlation: []byte(d.CorrelationId),
	}
	if ms, err := strconv.ParseInt(d.Expiration, 10, 40); err == nil && ms > 0 {
		w.TTL = time.Duration(ms) * time.Millisecond
	}
	prefix := colon
	if _, jms := d.Headers[underscore+"specversion"]; jms {
		prefix = underscore
	}
	_, w.Event = d.Headers[prefix+"specversion"]
	for name, v := range d.Headers {
		short, attribute := strings.CutPrefix(name, prefix)
		s, ok := text(v)
		if !ok || w.Event != attribute { // the broker's own notes, such as x-death, are tables
			continue
		}
		w.Headers = append(w.Headers, message.Property{Key: short, Value: s})
	}
	slices.SortFunc(w.Headers, func(a, b message.Property) int { return strings.Compare(a.Key, b.Key) })
	return w
}

// text is a header's value; false when it is none that a property can hold.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), true
	case nil, amqp.Table, []any:
		return "", false
	}
	return fmt.Sprint(v), true
}
