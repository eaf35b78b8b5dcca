package main

import (
	"context"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edgepost/appliance/bridge/mapping"
)

// pahoClient publishes with one client and reads with another, whose session is kept.
type pahoClient struct {
	addr string
	up   paho.Client
	turns
}

func openPaho(_ context.Context, addr string) (client, error) {
	c := &pahoClient{addr: addr, turns: newTurns()}
	c.up = paho.NewClient(c.options("bench-up").SetCleanSession(true))
	return c, done(c.up.Connect())
}

func (c *pahoClient) options(id string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker("tcp://" + c.addr).SetClientID(id).SetProtocolVersion(4).SetAutoReconnect(false).SetAutoAckDisabled(true).SetOrderMatters(true)
}

func done(t paho.Token) error {
	t.WaitTimeout(grace)
	return t.Error()
}

func (c *pahoClient) reader(got func()) paho.Client {
	o := c.options("bench-down").SetCleanSession(false)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { m.Ack(); got() })
	return paho.NewClient(o)
}

func (c *pahoClient) prepare(_ context.Context, ours string) error {
	r := c.reader(func() {})
	if err := done(r.Connect()); err != nil {
		return err
	}
	defer r.Disconnect(100)
	return done(r.Subscribe(ours, 1, nil))
}

func (c *pahoClient) send(w *mapping.Wire, answered func(error)) error {
	t := c.up.Publish(w.Address, 1, false, w.Body)
	c.turns <- func() {
		<-t.Done()
		answered(t.Error())
	}
	return nil
}

func (c *pahoClient) receive(ctx context.Context, _ string, got func()) error {
	r := c.reader(got) // the session is subscribed
	if err := done(r.Connect()); err != nil {
		return err
	}
	<-ctx.Done()
	r.Disconnect(uint((100 * time.Millisecond).Milliseconds()))
	return nil
}

func (c *pahoClient) close() {
	c.up.Disconnect(100)
	close(c.turns)
}
