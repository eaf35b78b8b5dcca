//go:build !omit_rabbitmq

package rabbitmq

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// readyDown makes the queues, where it is to, and reads them. A probe only looks.
func (c *conn) readyDown(ctx context.Context) error {
	ch, large, closed, err := c.channel(ctx, "down")
	if err != nil {
		return err
	}
	if err := ch.Qos(c.d.c.Number("prefetch"), 0, false); err != nil {
		return err
	}
	cancelled := ch.NotifyCancel(make(chan string, 1)) // closed with the channel
	c.e.Go(func(context.Context) error {
		for queue := range cancelled {
			c.e.Fail(fmt.Errorf("the broker ended the reading of queue %s: was it deleted?", queue))
		}
		return c.ended(<-closed)
	})
	for _, queue := range c.d.c.Down.From {
		err := c.read(ch, queue, large)
		if err != nil && ctx.Err() != nil { // that closed the wire; the library's error only says so
			err = errors.New("it does not answer; is it a quorum queue without a leader? See rabbitmq-queues quorum_status")
		}
		if err != nil {
			return fmt.Errorf("queue %.80q: %w", queue, err)
		}
	}
	return nil
}

func (c *conn) read(ch *amqp.Channel, queue string, large *bounded) error {
	if err := c.declare(ch, queue); err != nil || c.e.Probe {
		return err
	}
	deliveries, err := ch.Consume(queue, queue, false, false, false, false, nil)
	if err == nil {
		c.e.Go(func(context.Context) error { return c.receive(deliveries, large) })
	}
	return err
}

func (c *conn) declare(ch *amqp.Channel, queue string) error {
	kind := c.d.c.Options["queue_type"]
	if kind == "" {
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	}
	if c.e.Probe {
		return nil // it may not be there yet
	}
	args := amqp.Table{"x-queue-type": kind}
	if kind == "quorum" {
		args["x-delivery-limit"] = int32(c.d.c.Number("delivery_limit")) // at most 1000
	}
	if x := c.d.c.Options["dead_letters"]; x != "" {
		args["x-dead-letter-exchange"] = x
	}
	if _, err := ch.QueueDeclare(queue, true, false, false, false, args); err != nil {
		return err
	}
	names := mapping.Here{Gateway: routingKey(c.d.here.Gateway), Bridge: routingKey(c.d.here.Bridge)}
	keys, err := names.Fill(c.d.c.Options["bind"])
	if err != nil {
		return err
	}
	for key := range strings.FieldsSeq(keys) {
		if err := ch.QueueBind(queue, key, c.d.c.Options["exchange"], false, nil); err != nil {
			return err
		}
	}
	return nil
}

// receive reads one queue until the connection ends. What is refused is not put back.
func (c *conn) receive(deliveries <-chan amqp.Delivery, large *bounded) error {
	for d := range deliveries {
		c.e.Inlet.Take(bridge.Incoming{Wire: wire(&d), Bad: large.swallowed(d.DeliveryTag), Done: func(refused error) error {
			if refused != nil {
				return d.Nack(false, false)
			}
			return d.Ack(false)
		}})
	}
	return nil // the channel's close says why
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
	w.ReadHeaders(mapping.Texts(d.Headers), mapping.Colon, mapping.Underscore)
	return w
}

const (
	maxBody  = 2 << 20   // a structured event of the largest payload fits
	maxFrame = 256 << 10 // twice what is negotiated
)

// bounded keeps large bodies from the library, which would gather any: of a message whose header announces more than
// maxBody it passes on an empty one and drops the rest. The broker numbers the deliveries of a channel from 1
// without a hole, so counting the headers tells which it was.
type bounded struct {
	room [7 + 12]byte
	skip uint64 // bytes of bodies still to be dropped
	seen uint64 // content headers

	mu    sync.Mutex
	large map[uint64]uint64 // sizes by delivery tag
}

// head reads what begins a frame (AMQP 0-9-1 §4.2.3): type, channel, size; of a content header (§4.2.6.1) also class,
// weight and body size.
func (b *bounded) head(r *bufio.Reader) (f bridge.Frame, err error) {
	head := b.room[:7]
	if _, err := io.ReadFull(r, head); err != nil {
		return f, err
	}
	size := uint64(binary.BigEndian.Uint32(head[3:]))
	if size > maxFrame {
		return f, fmt.Errorf("the broker announces a frame of %d bytes; the limit is %d: does it speak AMQP 0-9-1?", size, maxFrame)
	}
	f = bridge.Frame{Head: head, Rest: size + 1} // with its end, which the library looks at
	switch {
	case head[0] == amqpBody && b.skip > 0:
		b.skip -= min(b.skip, size)
		f.Drop = true
	case head[0] == amqpHeader && size >= 12:
		f.Head, f.Rest = head[:cap(head)], f.Rest-12
		if _, err := io.ReadFull(r, f.Head[7:]); err != nil {
			return f, err
		}
		b.seen++
		if n := binary.BigEndian.Uint64(f.Head[11:]); n > maxBody {
			binary.BigEndian.PutUint64(f.Head[11:], 0)
			b.skip = n
			b.note(b.seen, n)
		}
	}
	return f, nil
}

const (
	amqpHeader = 2
	amqpBody   = 3
)

func (b *bounded) note(tag, size uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.large == nil {
		b.large = make(map[uint64]uint64)
	}
	b.large[tag] = size
}

// swallowed says that a delivery's body was dropped; nil: it was not.
func (b *bounded) swallowed(tag uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, ok := b.large[tag]
	if !ok {
		return nil
	}
	delete(b.large, tag)
	return fmt.Errorf("it has %d bytes; the limit is %d", size, maxBody)
}
