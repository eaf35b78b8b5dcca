//go:build !omit_mqtt

package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

const (
	writeTimeout = 30 * time.Second
	// maxPacket is the largest packet that is read: a structured event of the largest payload fits.
	maxPacket = 2<<20 + 64<<10
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "mqtt", Schemes: []bridge.Scheme{{Name: "mqtt", Port: "1883"}, {Name: "mqtts", Port: "8883", Secure: true}},
		Up: true, Down: true, Open: open, Check: check,
		Options: []bridge.Option{
			{Name: "client_id", Help: "default edgepost-<gateway>-<bridge>", Default: "edgepost-${gw}-${bridge}", Template: true},
			{Name: "keep_alive", Help: "seconds, 1 to 3600; a half-open connection is noticed within this and the third of it; default 30", Default: "30", Most: 3600},
			{Name: "max_message", Help: "bytes of a message, topic and envelope included, above which the broker would drop it; default: no limit", Most: 1 << 28},
		},
	}
}

func check(c *bridge.Config, mistake bridge.Mistake) {
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

func open(c *bridge.Config, _ mapping.Here) (bridge.Dialer, error) { return &dialer{c}, nil }

// dialer implements [bridge.Dialer].
type dialer struct{ c *bridge.Config }

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	in := e.Inlet != nil && !e.Probe
	alive := time.Duration(d.c.Number("keep_alive")) * time.Second
	o := paho.NewClientOptions().AddBroker(e.URL.String()).SetClientID(d.c.Options["client_id"]).SetUsername(d.c.Username).SetPassword(e.Secret).
		SetProtocolVersion(4).SetCleanSession(!in).SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).
		SetAutoAckDisabled(true).SetOrderMatters(true).
		SetKeepAlive(alive).SetPingTimeout(max(alive/3, time.Second)).SetWriteTimeout(writeTimeout).SetConnectTimeout(writeTimeout)
	if e.Probe {
		o.SetClientID("edgepost-probe-" + strconv.FormatUint(rand.Uint64(), 36))
	}
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		n, err := e.Connect(ctx)
		if err != nil {
			return nil, err
		}
		return bridge.NewFramed(n, bounded), nil
	})
	c := &conn{most: d.c.Number("max_message"), e: e}
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { e.Fail(err) })
	o.SetDefaultPublishHandler(c.received)
	c.client, c.receipts = paho.NewClient(o), bridge.NewReceipts(e)
	e.OnEnd(func() { c.client.Disconnect(100) }) // what was not acknowledged is forgotten with it
	if err := done(ctx, c.client.Connect()); err != nil {
		return nil, connectError(err, d.c.Username)
	}
	if !in {
		return c, nil
	}
	return c, c.subscribe(ctx, d.c.Down.From)
}

// done waits for a token of the library.
func done(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func connectError(err error, user string) error {
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return bridge.Refuses(user, err)
	case errors.Is(err, packets.ErrorRefusedIDRejected), errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return bridge.Errorf(bridge.Configuration, "the broker refuses the connection: %w; look at options.client_id", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return bridge.HangsUp("MQTT", err)
	}
	return err
}

// bounded reads a packet's fixed header (MQTT 3.1.1 §2.2): the library would allocate whatever it announces, up to 256
// MiB. A length of more than four bytes the library refuses itself.
func bounded(r *bufio.Reader) (f bridge.Frame, err error) {
	for shift := -7; ; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return f, err
		}
		f.Head = append(f.Head, c)
		if shift >= 0 {
			f.Rest |= uint64(c&0x7f) << shift
		}
		if f.Rest > maxPacket {
			return f, fmt.Errorf("the broker announces a packet of %d bytes; the limit is %d", f.Rest, maxPacket)
		}
		if shift >= 0 && (c&0x80 == 0 || shift == 21) {
			return f, nil
		}
	}
}

// conn is one client of the library. It implements [bridge.Conn].
type conn struct {
	client   paho.Client
	e        *bridge.Epoch
	receipts bridge.Receipts // PUBACKs come in order (§4.6)
	most     int
}

// subscribe returns when the broker has granted QoS 1 for everything.
func (c *conn) subscribe(ctx context.Context, from []string) error {
	filters := make(map[string]byte, len(from))
	for _, f := range from {
		filters[f] = 1
	}
	token := c.client.SubscribeMultiple(filters, nil)
	err := done(ctx, token)
	if t, ok := token.(*paho.SubscribeToken); ok && ctx.Err() == nil {
		for f, code := range t.Result() {
			if code == 0x80 {
				return bridge.Errorf(bridge.Configuration, "the broker refuses the subscription of %q; look at its access rules", f)
			}
		}
	}
	return err
}

// received runs on the library's reader, one message after the other.
func (c *conn) received(_ paho.Client, m paho.Message) {
	if c.e.Inlet == nil { // a broker that sends what nobody subscribed
		m.Ack()
		return
	}
	// What the gateway does not take is acknowledged like the rest: this protocol cannot refuse.
	c.e.Inlet.Take(bridge.Incoming{
		Wire: bridge.Wire{Address: m.Topic(), Body: m.Payload(), Retain: m.Retained()},
		Done: func(error) error { m.Ack(); return nil },
	})
}

// Send implements [bridge.Conn]. The library's Publish hangs for its write timeout when the connection is lost under
// it, so it is not waited for then.
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	end := make(chan error, 1)
	go func() {
		for _, o := range batch {
			if err := c.publish(ctx, o); err != nil {
				end <- err
				return
			}
		}
		end <- nil
	}()
	select {
	case err := <-end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish hands one message to the library.
func (c *conn) publish(ctx context.Context, o *bridge.Outgoing) error {
	if _, err := message.ParseTopic(o.Address); err != nil {
		o.Answer(bridge.Errorf(bridge.Rejected, "up.to gives %.80q, which is no topic: %w", o.Address, err))
		return nil
	}
	if size := len(o.Address) + len(o.Body); c.most > 0 && size > c.most {
		o.Answer(bridge.Errorf(bridge.Rejected, "it has %d bytes; options.max_message is %d", size, c.most))
		return nil
	}
	token := c.client.Publish(o.Address, 1, o.Retain, o.Body)
	return c.receipts.Add(ctx, o, func(ctx context.Context) error { return done(ctx, token) })
}
