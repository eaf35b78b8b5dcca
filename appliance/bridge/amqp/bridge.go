//go:build !omit_amqp

package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const (
	idleTimeout = 30 * time.Second // without a frame: a half-open connection is noticed within it
	credit      = 64               // messages that may wait here: with maxBody the memory they may take
	maxBody     = 2 << 20          // a structured event of the largest payload fits; larger ones end the link
	maxSenders  = 64               // links to addresses kept open
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "amqp", Schemes: []bridge.Scheme{{Name: "amqp", Port: "5672"}, {Name: "amqps", Port: "5671", Secure: true}},
		Headers: true, Up: true, Down: true, MustAddress: "ep.up", Open: open, Explain: explain,
		Options: []bridge.Option{
			{Name: "destination", Help: "queue or topic; default queue", Default: "queue", OneOf: []string{"queue", "topic"}},
			{Name: "prefix", Help: "of an event's attributes: cloudEvents: or cloudEvents_ (JMS); default cloudEvents:", Default: mapping.Colon, OneOf: []string{mapping.Colon, mapping.Underscore}},
			{Name: "mechanism", Help: "xoauth2 shows a token as such; default: plain, a token in place of the password", Default: "plain", OneOf: []string{"plain", "xoauth2"}},
			{Name: "container_id", Help: "default edgepost-<gateway>-<bridge>; a durable subscription belongs to it", Default: "edgepost-${gw}-${bridge}", Template: true},
		},
	}
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	return &dialer{c: c, address: c.OneAddress(here)}, nil
}

// dialer implements [bridge.Dialer].
type dialer struct {
	c       *bridge.Config
	address string // what all messages go to, looked at when the connection is made; "" when they have addresses of their own
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	o := &amqp.ConnOptions{ContainerID: d.c.Options["container_id"], HostName: e.URL.Hostname(), IdleTimeout: idleTimeout, SASLType: amqp.SASLTypeAnonymous()}
	if e.Probe {
		o.ContainerID = "" // a random one: another of the same name would be taken over
	}
	switch {
	case d.c.Options["mechanism"] == "xoauth2":
		o.SASLType = amqp.SASLTypeXOAUTH2(d.c.Username, e.Secret, 64<<10)
	case d.c.Username != "" || d.c.Bearer(): // whose user the token tells
		o.SASLType = amqp.SASLTypePlain(d.c.Username, e.Secret)
	case d.c.CertFile != "":
		o.SASLType = amqp.SASLTypeExternal("")
	}
	wire, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	client, err := amqp.NewConn(ctx, wire, o)
	if err != nil {
		return nil, refusal(err, d.c.Username)
	}
	// Links are not closed one by one: that would end a durable subscription.
	e.OnEnd(func() { _ = client.Close() }) // what it was told already
	e.Go(func(ctx context.Context) error {
		select {
		case <-client.Done():
			return client.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	c := &conn{d: d, e: e, senders: make(map[string]*sender), receipts: bridge.NewReceipts(e)}
	if c.session, err = client.NewSession(ctx, nil); err != nil {
		return nil, err
	}
	return c, c.ready(ctx)
}

// ready opens the links that are known.
func (c *conn) ready(ctx context.Context) error {
	if c.e.Up && c.d.address != "" {
		if _, err := c.sender(ctx, c.d.address); err != nil {
			return fmt.Errorf("address %.80q: %w", c.d.address, err)
		}
	}
	if c.e.Inlet == nil {
		return nil
	}
	for _, from := range c.d.c.Down.From {
		if err := c.receiver(ctx, from); err != nil {
			return fmt.Errorf("address %.80q: %w", from, err)
		}
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
		return bridge.HangsUp("AMQP 1.0", err)
	}
	return bridge.Refuses(user, err)
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
	if strings.Contains(e.Description, "message size") {
		return err // of RabbitMQ 3, which ends the session for it: the engine finds out which one it is
	}
	switch e.Condition {
	case amqp.ErrCondNotFound, amqp.ErrCondResourceDeleted:
		return bridge.Misses(err)
	case amqp.ErrCondUnauthorizedAccess:
		return bridge.Forbids(err)
	case amqp.ErrCondNotAllowed, amqp.ErrCondNotImplemented, amqp.ErrCondInvalidField, amqp.ErrCondPreconditionFailed:
		return bridge.Errorf(bridge.Configuration, "%w; look at up.to and down.from, and at options.destination", err)
	}
	return err
}

// conn is one connection. It implements [bridge.Conn].
type conn struct {
	d        *dialer
	e        *bridge.Epoch
	session  *amqp.Session
	senders  map[string]*sender // by address; owned by Send after Dial
	receipts bridge.Receipts
}
