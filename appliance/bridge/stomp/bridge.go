//go:build !omit_stomp

package stomp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/bridge/stomp/client"
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "stomp", Schemes: []bridge.Scheme{{Name: "stomp", Port: "61613"}, {Name: "stomps", Port: "61614", Secure: true}},
		Headers: true, Up: true, Down: true, MustAddress: "/queue/ep.up", Open: open,
		Options: []bridge.Option{
			{Name: "host", Help: "the virtual host; default /", Default: "/"},
			{Name: "destination", Help: "queue or topic, for Artemis, whose addresses do not say it; default: nothing is said", OneOf: []string{"queue", "topic"}},
			{Name: "durable", Help: "name of a durable subscription; topics are read through it; default: none"},
			{Name: "client_id", Help: "what a durable subscription belongs to; default edgepost-<gateway>-<bridge>", Default: "edgepost-${gw}-${bridge}", Template: true},
			{Name: "prefetch", Help: "messages of each destination on their way here, 1 to 1000; default 64", Default: "64", Most: 1000},
			{Name: "keep_alive", Help: "seconds, 1 to 3600; a half-open connection is noticed within twice this and a second; default 30", Default: "30", Most: 3600},
		},
	}
}

func open(c *bridge.Config, _ mapping.Here) (bridge.Dialer, error) { return &dialer{c}, nil }

// dialer implements [bridge.Dialer].
type dialer struct{ c *bridge.Config }

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	c := &conn{c: d.c, e: e, agreed: make(chan struct{}, len(d.c.Down.From))}
	var err error
	if e.Up || e.Inlet == nil { // a probe at least logs in
		if c.up, err = c.login(ctx, ""); err != nil {
			return nil, err
		}
	}
	if e.Inlet != nil {
		id := ""
		if d.c.Options["durable"] != "" {
			id = d.c.Options["client_id"]
		}
		if c.down, err = c.login(ctx, id); err != nil {
			return nil, err
		}
	}
	for _, s := range []*session{c.up, c.down} {
		if s != nil {
			e.Go(s.Beat)
			e.Go(func(context.Context) error { return c.receive(s) })
		}
	}
	if e.Inlet == nil {
		return c, nil
	}
	return c, c.subscribe(ctx)
}

// conn is one epoch. It implements [bridge.Conn].
type conn struct {
	c        *bridge.Config
	e        *bridge.Epoch
	up, down *session // nil: not that way
	agreed   chan struct{}
	waiting  bridge.Tags // by receipt
}

// session is one connection, and whose broker is there: each has headers of its own.
type session struct {
	*client.Conn
	kind flavor
}

type flavor uint8

const (
	other flavor = iota
	activemq
	artemis
	rabbit
)

func flavorOf(server string) flavor {
	switch {
	case strings.HasPrefix(server, "RabbitMQ"):
		return rabbit
	case strings.Contains(server, "Artemis"):
		return artemis
	case strings.HasPrefix(server, "ActiveMQ"):
		return activemq
	}
	return other
}

// login opens one connection. id is of a client that owns a durable subscription.
func (c *conn) login(ctx context.Context, id string) (*session, error) {
	wire, err := c.e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	alive := time.Duration(c.c.Number("keep_alive")) * time.Second
	s, err := client.Login(wire, client.Options{Host: c.c.Options["host"], Login: c.c.Username, Passcode: c.e.Secret, ID: id, Alive: alive})
	switch {
	case errors.Is(err, client.ErrRefused):
		return nil, bridge.Refuses(c.c.Username, fmt.Errorf("%w; or options.host is wrong", err))
	case errors.Is(err, client.ErrVersion), errors.Is(err, client.ErrValue):
		return nil, bridge.Errorf(bridge.Configuration, "%w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, bridge.HangsUp("STOMP", err)
	case err != nil:
		return nil, err
	}
	c.e.OnEnd(s.Close)
	return &session{s, flavorOf(s.Server)}, nil
}

// receive reads until the connection ends.
func (c *conn) receive(s *session) error {
	for {
		f, err := s.Read()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(f.Get("receipt-id"), 10, 64)
		var o *bridge.Outgoing
		if err == nil {
			o = c.waiting.Take(n)
		}
		switch {
		case f.Command == "MESSAGE" && s == c.down:
			c.message(f)
		case f.Command == "RECEIPT" && o != nil:
			o.Answer(nil)
		case f.Command == "RECEIPT" && f.Get("receipt-id") == subscribed:
			select {
			case c.agreed <- struct{}{}: // there is room for all that is waited for
			default:
			}
		case f.Command == "ERROR":
			err := verdict(f)
			if o != nil && err.Class != bridge.Configuration {
				o.Answer(err)
			}
			return ending(err)
		}
	}
}

// ending is an error that is not about a message any more.
func ending(err *bridge.Error) error {
	if err.Class == bridge.Configuration {
		return err
	}
	return &bridge.Error{Class: bridge.Temporary, Err: err.Err}
}

// verdict says what can help against an ERROR. The protocol has no codes, so the words decide.
func verdict(f *client.Frame) *bridge.Error {
	low := strings.ToLower(f.Said())
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(low, w) {
				return true
			}
		}
		return false
	}
	err := fmt.Errorf("the broker ended the connection with an error: %s", f.Said())
	switch {
	case has("too large", "larger than", "max size", "exceeds"):
		return &bridge.Error{Class: bridge.Rejected, Err: err}
	case has("not authorized", "not_authorized", "access_refused", "access refused", "permission", "security"):
		return bridge.Classify(bridge.Forbids(err))
	case has("not exist", "not found", "not_found", "unknown destination", "invalid destination", "no queue"):
		return bridge.Errorf(bridge.Configuration, "%w; create it, or look at up.to, down.from and options.destination", err)
	}
	return &bridge.Error{Class: bridge.Doubtful, Err: err}
}
