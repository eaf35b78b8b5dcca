//go:build !omit_stomp

package stomp

import (
	"context"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "stomp", Schemes: []string{"stomp", "stomps"}, Headers: true, Up: true, Down: true, Check: check, Open: open,
		Options: []bridge.Option{
			{Name: "host", Help: "the virtual host; default /"},
			{Name: "destination", Help: "queue or topic, for Artemis, whose addresses do not say it; default: nothing is said"},
			{Name: "durable", Help: "name of a durable subscription; topics are read through it; default: none"},
			{Name: "client_id", Help: "what a durable subscription belongs to; default edgepost-<gateway>-<bridge>"},
			{Name: "prefetch", Most: 1000, Help: "messages of each destination on their way here, 1 to 1000; default 64"},
			{Name: "keep_alive", Most: 3600, Help: "seconds, 1 to 3600; a half-open connection is noticed within twice this and a second; default 30"},
		},
	}
}

func check(c *bridge.Config, mistake func(key, format string, args ...any)) {
	if len(c.Up.Filters) > 0 && c.Up.To == bridge.DefaultTo {
		mistake("up.to", "it is missing; write a destination of the broker, such as \"/queue/ep.up\"")
	}
	if s := c.Options["destination"]; s != "" && s != "queue" && s != "topic" {
		mistake("options.destination", "%.40q is neither queue nor topic", s)
	}
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	d := &dialer{c: c, host: c.Options["host"], id: c.Options["client_id"], kind: c.Options["destination"]}
	if d.host == "" {
		d.host = "/"
	}
	if d.id == "" {
		d.id = "edgepost-" + here.Gateway + "-" + c.Name
	}
	d.prefetch, d.alive = c.Number("prefetch", 64), time.Duration(c.Number("keep_alive", 30))*time.Second
	return d, nil
}

// dialer implements [bridge.Dialer].
type dialer struct {
	c        *bridge.Config
	host, id string
	kind     string // queue, topic or ""
	prefetch int
	alive    time.Duration
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, to bridge.Target) (_ bridge.Conn, err error) {
	c := &conn{d: d, inlet: to.Inlet, waiting: make(map[uint64]*bridge.Outgoing), lost: make(chan struct{})}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if to.Up || to.Inlet == nil { // a probe at least signs in
		if c.up, err = d.connect(ctx, to.URL, ""); err != nil {
			return nil, err
		}
	}
	if to.Inlet == nil {
		return c, nil
	}
	id := ""
	if d.c.Options["durable"] != "" {
		id = d.id
	}
	if c.down, err = d.connect(ctx, to.URL, id); err != nil {
		return nil, err
	}
	return c, c.subscribe(ctx)
}

// conn is one epoch. It implements [bridge.Conn].
type conn struct {
	d        *dialer
	inlet    bridge.Inlet
	up, down *session // nil: not that way

	early []*frame // what came while Dial subscribed

	mu      sync.Mutex                  // guards what follows
	waiting map[uint64]*bridge.Outgoing // by receipt
	last    uint64

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

func (c *conn) close() {
	for _, s := range []*session{c.up, c.down} {
		if s != nil {
			s.close()
		}
	}
}

// Serve implements [bridge.Conn].
func (c *conn) Serve(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	defer c.close()
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.up != nil {
		work.Go(func() { c.fail(c.confirm()) })
		work.Go(func() { c.fail(c.up.beat(own)) })
	}
	if c.down != nil {
		go func() { c.fail(c.receive()) }() // it ends with the connection, or with the Take that it is in
		work.Go(func() { c.fail(c.down.beat(own)) })
	}
	select {
	case <-c.lost:
		return c.why
	case <-ctx.Done():
		return ctx.Err()
	}
}

// destination writes an address as a destination: what stands behind a prefix such as /queue/ or /exchange/name/ in
// levels separated by dots.
func destination(address string) string {
	at := 0
	if strings.HasPrefix(address, "/") {
		slashes := 2
		if strings.HasPrefix(address, "/exchange/") || strings.HasPrefix(address, "/amq/") {
			slashes = 3
		}
		for ; at < len(address) && slashes > 0; at++ {
			if address[at] == '/' {
				slashes--
			}
		}
	}
	return address[:at] + strings.ReplaceAll(address[at:], "/", ".")
}
