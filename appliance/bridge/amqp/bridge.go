//go:build !omit_amqp

package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const (
	idleTimeout = 30 * time.Second // without a frame: a half-open connection is noticed within it
	unanswered  = 4096             // the engine's largest window
	credit      = 64               // messages that may wait here: with maxBody the memory they may take
	maxBody     = 2 << 20          // a structured event of the largest payload fits; larger ones end the link
	maxSenders  = 64               // links to addresses kept open
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "amqp", Schemes: []string{"amqp", "amqps"}, Headers: true, Up: true, Down: true, Check: check, Open: open,
		Options: []bridge.Option{
			{Name: "destination", Help: "queue or topic; default queue"},
			{Name: "prefix", Help: "of an event's attributes: cloudEvents: or cloudEvents_ (JMS); default cloudEvents:"},
			{Name: "container_id", Help: "default edgepost-<gateway>-<bridge>; a durable subscription belongs to it"},
		},
	}
}

func check(c *bridge.Config, mistake func(key, format string, args ...any)) {
	if len(c.Up.Filters) > 0 && c.Up.To == bridge.DefaultTo {
		mistake("up.to", "it is missing; write an address of the broker, such as \"ep.up\": a queue for each of the gateway's topics would be far too many")
	}
	if s := c.Options["destination"]; s != "" && s != "queue" && s != "topic" {
		mistake("options.destination", "%.40q is neither queue nor topic", s)
	}
	if s := c.Options["prefix"]; s != "" && s != colon && s != underscore {
		mistake("options.prefix", "%.40q is neither %s nor %s", s, colon, underscore)
	}
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	d := &dialer{c: c, id: c.Options["container_id"], kind: c.Options["destination"], prefix: c.Options["prefix"]}
	if d.id == "" {
		d.id = "edgepost-" + here.Gateway + "-" + c.Name
	}
	if d.kind == "" {
		d.kind = "queue"
	}
	if d.prefix == "" {
		d.prefix = colon
	}
	// An address that all messages have is looked at when the connection is made.
	if to, err := mapping.ParseTemplate(c.Up.To, mapping.Gateway, mapping.Bridge); err == nil && !to.IsZero() {
		d.address, _ = to.Fill(func(name string) string { // both exist
			return map[string]string{mapping.Gateway: here.Gateway, mapping.Bridge: c.Name}[name]
		})
	}
	return d, nil
}

// dialer implements [bridge.Dialer].
type dialer struct {
	c       *bridge.Config
	id      string // of the container
	kind    string // queue or topic
	prefix  string
	address string // what all messages go to; "" when they have addresses of their own
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, to bridge.Target) (bridge.Conn, error) {
	secret, err := d.c.Secret()
	if err != nil {
		return nil, err
	}
	o := &amqp.ConnOptions{ContainerID: d.id, HostName: to.URL.Hostname(), IdleTimeout: idleTimeout, SASLType: amqp.SASLTypeAnonymous()}
	if to.Probe {
		o.ContainerID = "" // a random one: another of the same name would be taken over
	}
	switch {
	case d.c.TokenFile != "":
		o.SASLType = amqp.SASLTypeXOAUTH2(d.c.Username, secret, 64<<10)
	case d.c.Username != "":
		o.SASLType = amqp.SASLTypePlain(d.c.Username, secret)
	case d.c.CertFile != "":
		o.SASLType = amqp.SASLTypeExternal("")
	}
	wire, err := d.c.Dial(ctx, to.URL, map[string]string{"amqp": "5672", "amqps": "5671"}, to.URL.Scheme == "amqps")
	if err != nil {
		return nil, err
	}
	client, err := amqp.NewConn(ctx, wire, o)
	if err != nil {
		wire.Close()
		return nil, refusal(err, d.c.Username)
	}
	c := &conn{d: d, client: client, inlet: to.Inlet, senders: map[string]*sender{}, receipts: make(chan receipt, unanswered), lost: make(chan struct{})}
	if err := c.ready(ctx, to); err != nil {
		client.Close()
		return nil, explain(err)
	}
	return c, nil
}

// ready opens the links that are known.
func (c *conn) ready(ctx context.Context, to bridge.Target) (err error) {
	if c.session, err = c.client.NewSession(ctx, nil); err != nil {
		return err
	}
	if to.Up && c.d.address != "" {
		if _, err := c.sender(ctx, c.d.address); err != nil {
			return fmt.Errorf("address %.80q: %w", c.d.address, err)
		}
	}
	if to.Inlet == nil {
		return nil
	}
	for _, from := range c.d.c.Down.From {
		r, err := c.receiver(ctx, from)
		if err != nil {
			return fmt.Errorf("address %.80q: %w", from, err)
		}
		c.receivers = append(c.receivers, r)
	}
	return nil
}

// refusal says what can help when the connection was made, and then not opened. The library's errors about the
// credentials have no type; what is not of the network is about them, or about the protocol.
func refusal(err error, user string) error {
	var network net.Error
	var closed *amqp.ConnError
	switch {
	case errors.As(err, &closed) && closed.RemoteErr != nil:
		return explain(err)
	case errors.As(err, &network), errors.As(err, &closed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the broker ends the connection at its start: %w; is it AMQP 1.0 there, with or without TLS as the scheme says, and are username and password_file right?", err)
	}
	return bridge.Errorf(bridge.Configuration, "the broker refuses user %q: %w; look at username, password_file or token_file, and whether AMQP 1.0 is spoken there", user, err)
}

// explain says what can help against an error of the broker.
func explain(err error) error {
	var e *amqp.Error
	var link *amqp.LinkError
	var session *amqp.SessionError
	var closed *amqp.ConnError
	switch {
	case errors.As(err, &e):
	case errors.As(err, &link):
		e = link.RemoteErr
	case errors.As(err, &session):
		e = session.RemoteErr
	case errors.As(err, &closed):
		e = closed.RemoteErr
	}
	if e == nil {
		return err
	}
	switch e.Condition {
	case amqp.ErrCondNotFound, amqp.ErrCondResourceDeleted:
		return bridge.Errorf(bridge.Configuration, "%w; create the queue, or look at up.to and down.from", err)
	case amqp.ErrCondUnauthorizedAccess:
		return bridge.Errorf(bridge.Configuration, "%w; the broker's access rules forbid it to this user", err)
	case amqp.ErrCondNotAllowed, amqp.ErrCondNotImplemented, amqp.ErrCondInvalidField, amqp.ErrCondPreconditionFailed:
		return bridge.Errorf(bridge.Configuration, "%w; look at up.to and down.from, and at options.destination", err)
	}
	return err
}

// conn is one connection. It implements [bridge.Conn].
type conn struct {
	d         *dialer
	client    *amqp.Conn
	session   *amqp.Session
	senders   map[string]*sender // by address; owned by Send after Dial
	receivers []*amqp.Receiver
	inlet     bridge.Inlet
	receipts  chan receipt

	once sync.Once
	lost chan struct{} // closed behind why
	why  error
}

func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.why = err
		close(c.lost)
	})
}

// Serve implements [bridge.Conn]. Links are not closed one by one: that would end a durable subscription.
func (c *conn) Serve(ctx context.Context) error {
	own, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer c.client.Close()
	defer cancel()
	work.Go(func() { c.fail(c.confirm(own)) })
	for _, r := range c.receivers {
		go func() { c.fail(c.receive(own, r)) }() // it ends with own, or with the Take that it is in
	}
	select {
	case <-c.client.Done():
		c.fail(c.client.Err())
	case <-c.lost:
	case <-ctx.Done():
		return ctx.Err()
	}
	return explain(c.why)
}
