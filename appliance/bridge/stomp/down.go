//go:build !omit_stomp

package stomp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/bridge/stomp/client"
)

// subscribed is the receipt of subscriptions; those of messages are numbers.
const subscribed = "subscribed"

// subscribe begins to read each destination of down.from, and returns when the broker has agreed to all.
func (c *conn) subscribe(ctx context.Context) error {
	for i, from := range c.c.Down.From {
		if err := c.down.Write(c.subscription(i, from)); err != nil {
			return err
		}
		select {
		case <-c.agreed:
		case <-ctx.Done():
			return fmt.Errorf("destination %.80q: %w", from, context.Cause(ctx))
		}
	}
	return nil
}

func (c *conn) subscription(i int, from string) *client.Frame {
	f := &client.Frame{Command: "SUBSCRIBE"}
	o, n := c.c.Options, strconv.Itoa(i)
	if name := o["durable"]; name != "" && (strings.HasPrefix(from, "/topic/") || o["destination"] == "topic") {
		c.durable(f, name+"-"+n)
	}
	if _, named := f.Look("id"); !named {
		f.Set("id", n)
	}
	f.Set("destination", from)
	f.Set("ack", "client-individual")
	f.Set("receipt", subscribed)
	switch c.down.kind {
	case rabbit:
		f.Set("prefetch-count", o["prefetch"])
	case artemis:
		f.Set("consumer-window-size", strconv.Itoa(c.c.Number("prefetch")<<12))
	default:
		f.Set("activemq.prefetchSize", o["prefetch"])
	}
	switch o["destination"] {
	case "queue":
		f.Set("subscription-type", "ANYCAST")
	case "topic":
		f.Set("subscription-type", "MULTICAST")
	}
	return f
}

// durable makes a subscription one that stays: each broker calls it otherwise.
func (c *conn) durable(f *client.Frame, name string) {
	switch c.down.kind {
	case rabbit:
		f.Set("id", c.c.Options["client_id"]+"-"+name)
		f.Set("durable", "true")
		f.Set("auto-delete", "false")
	case artemis:
		f.Set("durable-subscription-name", name)
	default:
		f.Set("activemq.subscriptionName", name)
	}
}

// message hands one over.
func (c *conn) message(f *client.Frame) {
	in := bridge.Incoming{Wire: c.wire(f), Done: func(refused error) error {
		a := &client.Frame{Command: "ACK"}
		if refused != nil {
			a.Command = "NACK"
			if c.down.kind == rabbit {
				a.Set("requeue", "false")
			}
		}
		a.Set("id", f.Get("ack"))
		return c.down.Write(a)
	}}
	if f.Dropped > 0 {
		in.Bad = fmt.Errorf("it has %d bytes; the limit is %d", f.Dropped, client.MaxBody)
	}
	c.e.Inlet.Take(in)
}

// wire maps what came.
func (c *conn) wire(f *client.Frame) bridge.Wire {
	w := bridge.Wire{
		Address: address(f.Get("destination")), ContentType: f.Get("content-type"), Body: f.Body, Key: f.Get("JMSXGroupID"),
		Response: address(f.Get("reply-to")), Correlation: []byte(f.Get("correlation-id")), ID: c.id(f),
	}
	if w.ContentType == "" {
		w.ContentType = f.Get("contentType")
	}
	_, sized := f.Look("content-length")
	w.Text = !sized || f.Get("amq-msg-type") == "text"
	if n, err := strconv.ParseUint(f.Get("priority"), 10, 8); err == nil {
		w.Priority = uint8(n)
	}
	if ms, err := strconv.ParseInt(f.Get("expires"), 10, 64); err == nil && ms > 0 && time.Now().Unix() > trusted {
		w.TTL = max(time.Until(time.UnixMilli(ms)), time.Second)
	}
	w.ReadHeaders(func(yield func(name, value string) bool) {
		for name, value := range f.Headers() {
			if !known(name) && !yield(name, value) {
				return
			}
		}
	}, mapping.Underscore)
	return w
}

// id is what names the message for ever, "" when nothing does.
func (c *conn) id(f *client.Frame) string {
	if id := f.Get("epid"); id != "" {
		return id
	}
	if id := f.Get("amqp-message-id"); id != "" {
		return id
	}
	if id := f.Get("message-id"); c.down.kind == activemq && strings.HasPrefix(id, "ID:") {
		return id
	}
	return ""
}

// known reports whether a header is the protocol's or a broker's, not an application's.
func known(name string) bool {
	switch name {
	case "destination", "subscription", "message-id", "ack", "content-type", "content-length", "contentType", "priority", "expires", "timestamp", "persistent",
		"redelivered", "correlation-id", "reply-to", "JMSXGroupID", "JMSXGroupSeq", "amq-msg-type", "epid", "receipt", "expiration", "type", "destination-type", "subscription-type",
		"transaction", "selector", "login", "passcode":
		return true
	}
	return strings.HasPrefix(name, "amqp-") || strings.HasPrefix(name, "_AMQ_") || strings.HasPrefix(name, "x-")
}

// address is a destination in levels: "/queue/a.b" is "a/b".
func address(destination string) string {
	if strings.HasPrefix(destination, "/") {
		_, rest, _ := strings.Cut(destination[1:], "/")
		destination = rest
	}
	return strings.ReplaceAll(destination, ".", "/")
}
