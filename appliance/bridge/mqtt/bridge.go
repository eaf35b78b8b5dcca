//go:build !omit_mqtt

package mqtt

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

const (
	writeTimeout = 30 * time.Second
	unanswered   = 1024 // most publishes whose PUBACK is waited for; the engine's window is the real limit
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "mqtt", Schemes: []string{"mqtt", "mqtts"}, Up: true, Down: true, Open: open, Check: check,
		Options: []bridge.Option{
			{Name: "client_id", Help: "default edgepost-<gateway>-<bridge>"},
			{Name: "keep_alive", Help: "seconds, 1 to 3600; a half-open connection is noticed within this and the third of it; default 30", Most: 3600},
			{Name: "max_message", Help: "bytes of a message, topic and envelope included, above which the broker would drop it; default: no limit", Most: 1 << 28},
		},
	}
}

func check(c *bridge.Config, mistake func(key, format string, args ...any)) {
	for i, f := range c.Down.From {
		if _, err := message.ParseFilter(f); err != nil {
			mistake("down.from["+strconv.Itoa(i)+"]", "%s", message.ProblemOf(err).Detail)
			continue
		}
		to, err := mapping.ParseTemplate(c.Up.To, mapping.Gateway, mapping.Bridge, mapping.Topic, mapping.Device, mapping.Key)
		if up := to.Filter(); err == nil && len(c.Up.Filters) > 0 && c.Up.Format == string(mapping.Raw) && (up.Covers(message.Filter(f)) || message.Filter(f).Covers(up)) {
			mistake("down.from["+strconv.Itoa(i)+"]", "%q may bring back what up.to sends, and raw messages carry no mark that would end the loop; use other topics, or the format event", f)
		}
	}
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	id := c.Options["client_id"]
	if id == "" {
		id = "edgepost-" + here.Gateway + "-" + c.Name
	}
	return &dialer{c: c, id: id, most: c.Number("max_message", 0), alive: time.Duration(c.Number("keep_alive", 30)) * time.Second}, nil
}

type dialer struct {
	c     *bridge.Config
	id    string
	most  int
	alive time.Duration
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, to bridge.Target) (bridge.Conn, error) {
	o := paho.NewClientOptions().SetClientID(d.id).SetUsername(d.c.Username).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).SetAutoAckDisabled(true).SetOrderMatters(true).
		SetCleanSession(to.Inlet == nil || to.Probe).SetKeepAlive(d.alive).SetPingTimeout(max(d.alive/3, time.Second)).SetWriteTimeout(writeTimeout).
		SetConnectTimeout(writeTimeout)
	if to.Probe {
		o.SetClientID("edgepost-probe-" + strconv.FormatUint(rand.Uint64(), 36))
	}
	secret, err := d.c.Secret()
	if err != nil {
		return nil, err
	}
	o.SetPassword(secret).AddBroker(to.URL.String())
	trial := &trial{}
	defer trial.over()
	o.SetCustomOpenConnectionFn(func(u *url.URL, _ paho.ClientOptions) (net.Conn, error) {
		n, err := d.connect(ctx, u)
		if err == nil {
			trial.guard(ctx, n)
		}
		return n, err
	})
	c := &conn{acks: make(chan pending, unanswered), lost: make(chan struct{}), inlet: to.Inlet, most: d.most}
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { c.fail(err) })
	o.SetDefaultPublishHandler(c.received)
	c.client = paho.NewClient(o)
	token := c.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		c.client.Disconnect(0)
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		return nil, connectError(err, d.c.Username)
	}
	if to.Inlet == nil || to.Probe {
		return c, nil
	}
	if err := c.subscribe(ctx, d.c.Down.From); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// trial closes a connection whose handshake takes longer than its context: the library would wait for ever.
type trial struct {
	mu   sync.Mutex // guards stop
	stop func() bool
}

func (t *trial) guard(ctx context.Context, c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop = context.AfterFunc(ctx, func() { _ = c.Close() })
}

// over ends the trial, however it went.
func (t *trial) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
}

func connectError(err error, user string) error {
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return bridge.Errorf(bridge.Configuration, "the broker refuses user %q: %w; look at username, password_file or token_file", user, err)
	case errors.Is(err, packets.ErrorRefusedIDRejected), errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return bridge.Errorf(bridge.Configuration, "the broker refuses the connection: %w; look at options.client_id", err)
	}
	return err
}

// connect opens the network connection.
func (d *dialer) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	c, err := d.c.Dial(ctx, u, map[string]string{"mqtt": "1883", "mqtts": "8883"}, u.Scheme == "mqtts")
	if err != nil {
		return nil, err
	}
	return &bounded{Conn: c}, nil
}

// conn is one client of the library. It implements [bridge.Conn].
type conn struct {
	client paho.Client
	inlet  bridge.Inlet
	most   int
	acks   chan pending

	once sync.Once
	lost chan struct{} // closed behind why
	why  error
}

type pending struct {
	token paho.Token
	o     *bridge.Outgoing
}

func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.why = err
		close(c.lost)
	})
}

// subscribe returns when the broker has granted QoS 1 for everything.
func (c *conn) subscribe(ctx context.Context, from []string) error {
	filters := make(map[string]byte, len(from))
	for _, f := range from {
		filters[f] = 1
	}
	token := c.client.SubscribeMultiple(filters, nil)
	select {
	case <-token.Done():
	case <-c.lost:
		return c.why
	case <-ctx.Done():
		return ctx.Err()
	}
	if t, ok := token.(*paho.SubscribeToken); ok {
		for f, code := range t.Result() {
			if code == 0x80 {
				return bridge.Errorf(bridge.Configuration, "the broker refuses the subscription of %q; look at its access rules", f)
			}
		}
	}
	return token.Error()
}

// received runs on the library's reader, one message after the other.
func (c *conn) received(_ paho.Client, m paho.Message) {
	if c.inlet == nil { // a broker that sends what nobody subscribed
		m.Ack()
		return
	}
	// What the gateway does not take is acknowledged like the rest: this protocol cannot refuse.
	c.inlet.Take(bridge.Incoming{
		Wire: bridge.Wire{Address: m.Topic(), Body: m.Payload(), Retain: m.Retained()},
		Done: func(error) { m.Ack() },
	})
}

// Send implements [bridge.Conn]. The library's Publish hangs for its write timeout when the connection is lost under
// it, so it is not waited for then.
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, o := range batch {
			if !c.publish(ctx, o) {
				return
			}
		}
	}()
	select {
	case <-done:
		return nil
	case <-c.lost:
		return c.why
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish hands one message to the library; false when the connection is lost.
func (c *conn) publish(ctx context.Context, o *bridge.Outgoing) bool {
	if _, err := message.ParseTopic(o.Address); err != nil {
		o.Answer(bridge.Errorf(bridge.Rejected, "up.to gives %.80q, which is no topic: %w", o.Address, err))
		return true
	}
	if size := len(o.Address) + len(o.Body); c.most > 0 && size > c.most {
		o.Answer(bridge.Errorf(bridge.Rejected, "it has %d bytes; options.max_message is %d", size, c.most))
		return true
	}
	p := pending{c.client.Publish(o.Address, 1, o.Retain, o.Body), o}
	select {
	case c.acks <- p:
		return true
	case <-c.lost:
	case <-ctx.Done():
	}
	return false
}

// Serve implements [bridge.Conn]: it waits for the PUBACKs, which come in order (MQTT 3.1.1 §4.6).
func (c *conn) Serve(ctx context.Context) error {
	defer c.close()
	for {
		var p pending
		select {
		case p = <-c.acks:
		case <-c.lost:
			return c.why
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-p.token.Done():
		case <-c.lost:
			return c.why
		case <-ctx.Done():
			return ctx.Err()
		}
		p.o.Answer(p.token.Error())
	}
}

// close ends the client; what was not acknowledged is forgotten with it.
func (c *conn) close() {
	c.fail(net.ErrClosed)
	c.client.Disconnect(100)
}
