//go:build !omit_rabbitmq

package rabbitmq

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "rabbitmq", Schemes: []string{"amqp", "amqps"}, Headers: true, Up: true, Down: true, Check: check, Open: open,
		Options: []bridge.Option{
			{Name: "exchange", Help: "what to publish to; \"\" is the default exchange, where up.to names a queue; default amq.topic"},
			{Name: "queue_type", Help: "quorum or classic: make the queues of down.from; default: they must exist"},
			{Name: "bind", Help: "routing keys to bind the queues made with, separated by spaces; ${gw} is the gateway's name"},
			{Name: "dead_letters", Help: "exchange where the queues made put what is rejected; default: nowhere, it is dropped"},
			{Name: "delivery_limit", Most: 1000, Help: "deliveries of one message by a quorum queue made, before the dead letters; default 10"},
			{Name: "prefetch", Most: 1000, Help: "messages of each queue on their way here, 1 to 1000; default 64"},
			{Name: "keep_alive", Most: 3600, Help: "seconds, 1 to 3600; a half-open connection is noticed within this and a half of it; default 30"},
		},
	}
}

func check(c *bridge.Config, mistake func(key, format string, args ...any)) {
	if strings.Contains(c.Up.To, ".") {
		mistake("up.to", "%.80q has a dot; write levels with slashes: they become dots in the routing key", c.Up.To)
	}
	if t := c.Options["queue_type"]; t != "" && t != "quorum" && t != "classic" {
		mistake("options.queue_type", "%.40q is neither quorum nor classic", t)
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
	name, err := url.PathUnescape(strings.TrimPrefix(u.EscapedPath(), "/"))
	if err != nil || strings.Contains(u.EscapedPath()[min(1, len(u.EscapedPath())):], "/") {
		return "", fmt.Errorf("the path of %.80q is no name of a virtual host; a slash in it is written %%2f", address)
	}
	if name == "" {
		name = "/"
	}
	return name, nil
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	d := &dialer{c: c, here: here, exchange: "amq.topic"}
	if s, ok := c.Options["exchange"]; ok {
		d.exchange = s
	}
	d.prefetch, d.alive, d.limit = c.Number("prefetch", 64), c.Number("keep_alive", 30), c.Number("delivery_limit", 10)
	return d, nil
}

// dialer implements [bridge.Dialer].
type dialer struct {
	c                      *bridge.Config
	here                   mapping.Here
	exchange               string
	prefetch, alive, limit int
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, to bridge.Target) (_ bridge.Conn, err error) {
	c := &conn{d: d, inlet: to.Inlet, lost: make(chan struct{})}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if to.Up {
		if c.up, err = d.channel(ctx, to.URL, "up"); err != nil {
			return nil, err
		}
		if err := c.readyUp(); err != nil {
			return nil, explain(err)
		}
	}
	if to.Inlet != nil || to.Probe && len(d.c.Down.From) > 0 {
		if c.down, err = d.channel(ctx, to.URL, "down"); err != nil {
			return nil, err
		}
		if err := c.readyDown(ctx, to.Probe); err != nil {
			return nil, explain(err)
		}
	}
	for _, ch := range []*channel{c.up, c.down} {
		if ch != nil && !ch.stop() {
			return nil, context.Cause(ctx)
		}
	}
	return c, nil
}

// channel opens a connection with its one channel.
func (d *dialer) channel(ctx context.Context, to *url.URL, way string) (*channel, error) {
	secret, err := d.c.Secret()
	if err != nil {
		return nil, err
	}
	name, err := vhost(to.String())
	if err != nil {
		return nil, bridge.Errorf(bridge.Configuration, "%w", err)
	}
	conf := amqp.Config{Vhost: name, Heartbeat: time.Duration(d.alive) * time.Second, FrameSize: 128 << 10, ChannelMax: 8, Locale: "en_US", Properties: amqp.NewConnectionProperties()}
	conf.Properties.SetClientConnectionName("edgepost " + d.here.Gateway + " " + d.c.Name + " " + way)
	conf.SASL = []amqp.Authentication{&amqp.PlainAuth{Username: d.c.Username, Password: secret}}
	if d.c.Username == "" && d.c.CertFile != "" {
		conf.SASL = []amqp.Authentication{&amqp.ExternalAuth{}}
	}
	wire, err := d.c.Dial(ctx, to, map[string]string{"amqp": "5672", "amqps": "5671"}, to.Scheme == "amqps")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = wire.Close() })
	b := newBounded(wire)
	conn, err := amqp.Open(b, conf)
	if err != nil {
		stop()
		_ = wire.Close()
		return nil, d.refusal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		stop()
		_ = wire.Close()
		return nil, explain(err)
	}
	return &channel{Channel: ch, conn: conn, wire: b, stop: stop, closed: ch.NotifyClose(make(chan *amqp.Error, 1))}, nil
}

// channel is one connection and its channel.
type channel struct {
	*amqp.Channel
	conn   *amqp.Connection
	wire   *bounded
	closed chan *amqp.Error

	// stop keeps the wire open from now on; until then it ends with the context of the dialling, of which neither the
	// library's handshake nor its calls know: a queue without a leader answers none. false: it ended before.
	stop func() bool
}

// conn is one epoch. It implements [bridge.Conn].
type conn struct {
	d        *dialer
	inlet    bridge.Inlet
	up, down *channel // nil: not that way
	sources  []source

	mu       sync.Mutex // guards waiting
	waiting  []sent     // published and not confirmed, in order
	confirms chan amqp.Confirmation
	returns  chan amqp.Return

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

// close says good-bye, which may be to a peer that is gone.
func (c *conn) close() {
	for _, ch := range []*channel{c.up, c.down} {
		if ch != nil {
			_ = ch.conn.CloseDeadline(time.Now().Add(farewell))
			_ = ch.wire.Close()
		}
	}
}

const farewell = time.Second

// Serve implements [bridge.Conn].
func (c *conn) Serve(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	defer c.close()
	if c.up != nil {
		work.Go(func() { c.fail(c.confirm()) })
	}
	for _, s := range c.sources {
		go func() { c.fail(c.receive(s)) }() // it ends with the connection, or with the Take that it is in
	}
	select {
	case <-c.lost:
		return explain(c.why)
	case <-ctx.Done():
		return ctx.Err()
	}
}
