//go:build !omit_rabbitmq

package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const farewell = time.Second

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "rabbitmq", Schemes: []bridge.Scheme{{Name: "amqp", Port: "5672"}, {Name: "amqps", Port: "5671", Secure: true}},
		Headers: true, Up: true, Down: true, Check: check, Open: open, Explain: explain,
		Options: []bridge.Option{
			{Name: "exchange", Help: "what to publish to; \"\" is the default exchange, where up.to names a queue; default amq.topic", Default: "amq.topic", Empty: true},
			{Name: "queue_type", Help: "quorum or classic: make the queues of down.from; default: they must exist", OneOf: []string{"quorum", "classic"}},
			{Name: "bind", Help: "routing keys to bind the queues made with, separated by spaces; ${gw} is the gateway's name"},
			{Name: "dead_letters", Help: "exchange where the queues made put what is rejected; default: nowhere, it is dropped"},
			{Name: "delivery_limit", Help: "deliveries of one message by a quorum queue made, before the dead letters; default 10", Default: "10", Most: 1000},
			{Name: "prefetch", Help: "messages of each queue on their way here, 1 to 1000; default 64", Default: "64", Most: 1000},
			{Name: "keep_alive", Help: "seconds, 1 to 3600; a half-open connection is noticed within this and a half of it; default 30", Default: "30", Most: 3600},
		},
	}
}

func check(c *bridge.Config, mistake bridge.Mistake) {
	if strings.Contains(c.Up.To, ".") {
		mistake("up.to", "%.80q has a dot; write levels with slashes: they become dots in the routing key", c.Up.To)
	}
	if _, err := mapping.ParseTemplate(c.Options["bind"], mapping.Gateway, mapping.Bridge); err != nil {
		mistake("options.bind", "%s", err)
	}
	for i, s := range c.URLs {
		if _, err := vhost(s); err != nil {
			mistake("urls["+strconv.Itoa(i)+"]", "%s", err)
		}
	}
}

// vhost is the path of an address: amqp://host/name, "/" without one.
func vhost(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	name, err := url.PathUnescape(path)
	if err != nil || strings.Contains(path, "/") {
		return "", fmt.Errorf("the path of %.80q is no name of a virtual host; a slash in it is written %%2f", address)
	}
	if name == "" {
		name = "/"
	}
	return name, nil
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) { return &dialer{c, here}, nil }

// dialer implements [bridge.Dialer].
type dialer struct {
	c    *bridge.Config
	here mapping.Here
}

// conn is one epoch. It implements [bridge.Conn].
type conn struct {
	d       *dialer
	e       *bridge.Epoch
	up      *amqp.Channel
	waiting bridge.Tags

	returned map[key][]string // why messages came back that are not confirmed yet; owned by confirm
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	c := &conn{d: d, e: e, returned: make(map[key][]string)}
	if e.Up {
		if err := c.readyUp(ctx); err != nil {
			return nil, err
		}
	}
	if e.Inlet == nil && (!e.Probe || len(d.c.Down.From) == 0) {
		return c, nil
	}
	return c, c.readyDown(ctx)
}

// channel opens a connection with its one channel. closed says why it ended.
func (c *conn) channel(ctx context.Context, way string) (_ *amqp.Channel, b *bounded, closed chan *amqp.Error, err error) {
	o := c.d.c
	name, err := vhost(c.e.URL.String())
	if err != nil {
		return nil, nil, nil, bridge.Errorf(bridge.Configuration, "%w", err)
	}
	conf := amqp.Config{
		Vhost: name, Heartbeat: time.Duration(o.Number("keep_alive")) * time.Second, FrameSize: 128 << 10, ChannelMax: 8, Locale: "en_US",
		Properties: amqp.NewConnectionProperties(), SASL: []amqp.Authentication{&amqp.PlainAuth{Username: o.Username, Password: c.e.Secret}},
	}
	conf.Properties.SetClientConnectionName("edgepost " + c.d.here.Gateway + " " + o.Name + " " + way)
	if o.Username == "" && o.CertFile != "" && !o.Bearer() {
		conf.SASL = []amqp.Authentication{&amqp.ExternalAuth{}}
	}
	wire, err := c.e.Connect(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	b = &bounded{}
	client, err := amqp.Open(bridge.NewFramed(wire, b.head), conf)
	if err != nil {
		return nil, nil, nil, refusal(err, o.Username)
	}
	c.e.OnEnd(func() { _ = client.CloseDeadline(time.Now().Add(farewell)) }) // the peer may be gone
	c.e.OnRenewal(func(token string) error { return client.UpdateSecret(token, "a newer token") })
	ch, err := client.Channel()
	if err != nil {
		return nil, nil, nil, err
	}
	return ch, b, ch.NotifyClose(make(chan *amqp.Error, 1)), nil
}

// refusal says what can help when the handshake failed. The library takes every end of it for wrong credentials,
// which RabbitMQ answers by closing the connection.
func refusal(err error, user string) error {
	switch {
	case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrSASL):
		return bridge.Refuses(user, err)
	case errors.Is(err, amqp.ErrVhost):
		return bridge.Errorf(bridge.Configuration, "%w; look at the virtual host, the path in urls, and at the user's permissions for it", err)
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok && e.Server {
		return explain(err)
	}
	return bridge.HangsUp("AMQP 0-9-1", err)
}

// explain says what can help against a closed channel or connection (AMQP 0-9-1 §1.2.1, reply codes).
func explain(err error) error {
	e, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Code == amqp.NotFound:
		return bridge.Errorf(bridge.Configuration, "%w; create it, or look at options.exchange and down.from", err)
	case e.Code == amqp.AccessRefused:
		return bridge.Errorf(bridge.Configuration, "%w; give the user permissions: configure and write for queues made here, write for the exchange, read for the queues", err)
	case e.Code == amqp.NotAllowed:
		return bridge.Errorf(bridge.Configuration, "%w; look at the virtual host, the path in urls", err)
	case e.Code == amqp.ResourceLocked:
		return bridge.Errorf(bridge.Configuration, "%w; somebody else has the queue for itself", err)
	case e.Code == amqp.PreconditionFailed && strings.Contains(e.Reason, "inequivalent"):
		return bridge.Errorf(bridge.Configuration, "%w; it was made otherwise: leave options.queue_type away to take it as it is", err)
	case e.Code == amqp.NotImplemented:
		return bridge.Errorf(bridge.Configuration, "%w", err)
	}
	return err
}
