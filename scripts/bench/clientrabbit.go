package main

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge/mapping"
	"edgepost/scripts/brokers"
)

// rabbitClient publishes on one connection and reads on another.
type rabbitClient struct {
	addr string
	conn *amqp.Connection
	up   *amqp.Channel
	turns
}

func dialRabbit(addr string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial("amqp://" + brokers.User + ":" + brokers.Password + "@" + addr)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	return conn, ch, err
}

func openRabbit(_ context.Context, addr string) (client, error) {
	conn, ch, err := dialRabbit(addr)
	if err != nil {
		return nil, err
	}
	return &rabbitClient{addr, conn, ch, newTurns()}, ch.Confirm(false)
}

func (c *rabbitClient) prepare(_ context.Context, ours string) error {
	_, err := c.up.QueueDeclare(ours, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return err
}

var errNack = errors.New("the broker does not take it")

func (c *rabbitClient) send(w *mapping.Wire, answered func(error)) error {
	p := amqp.Publishing{Headers: make(amqp.Table, len(w.Headers)), ContentType: w.ContentType, DeliveryMode: amqp.Persistent, Priority: w.Priority, MessageId: w.ID, Body: w.Body}
	for _, h := range w.Headers {
		p.Headers["cloudEvents:"+h.Key] = h.Value
	}
	d, err := c.up.PublishWithDeferredConfirm("", w.Address, true, false, p)
	if err != nil {
		return err
	}
	c.turns <- func() {
		var err error
		if !d.Wait() {
			err = errNack
		}
		answered(err)
	}
	return nil
}

func (c *rabbitClient) receive(ctx context.Context, from string, got func()) error {
	conn, ch, err := dialRabbit(c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Qos(64, 0, false); err != nil {
		return err
	}
	in, err := ch.Consume(from, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case d, ok := <-in:
			if !ok {
				return errors.New("the reading ended")
			}
			if err := d.Ack(false); err != nil {
				return err
			}
			got()
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *rabbitClient) close() {
	_ = c.conn.Close()
	close(c.turns)
}
