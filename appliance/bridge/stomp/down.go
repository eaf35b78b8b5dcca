//go:build !omit_stomp

package stomp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/message"
)

// subscribe begins to read each destination of down.from, and returns when the broker has agreed to all.
func (c *conn) subscribe(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.down.net.Close() })
	defer stop()
	for i, from := range c.d.c.Down.From {
		if err := c.down.write(c.subscription(i, from), false); err != nil {
			return err
		}
		for agreed := false; !agreed; {
			f, err := read(c.down.r)
			if err != nil {
				return err
			}
			switch f.command {
			case "RECEIPT":
				agreed = true
			case "ERROR":
				return fmt.Errorf("destination %.80q: %w", from, ending(verdict(f)))
			case "MESSAGE":
				c.early = append(c.early, f) // at most what was subscribed to brings unacknowledged
			}
		}
	}
	return nil
}

func (c *conn) subscription(i int, from string) *frame {
	n := strconv.Itoa(c.d.prefetch)
	f := &frame{command: "SUBSCRIBE"}
	f.set("id", strconv.Itoa(i))
	f.set("destination", from)
	f.set("ack", "client-individual")
	f.set("receipt", "subscribed")
	switch c.down.kind {
	case rabbit:
		f.set("prefetch-count", n)
	case artemis:
		f.set("consumer-window-size", strconv.Itoa(c.d.prefetch<<12))
	default:
		f.set("activemq.prefetchSize", n)
	}
	switch c.d.kind {
	case "queue":
		f.set("subscription-type", "ANYCAST")
	case "topic":
		f.set("subscription-type", "MULTICAST")
	}
	if name := c.d.c.Options["durable"]; name != "" && (strings.HasPrefix(from, "/topic/") || c.d.kind == "topic") {
		c.durable(f, name, i)
	}
	return f
}

// durable makes a subscription one that stays: each broker calls it otherwise.
func (c *conn) durable(f *frame, name string, i int) {
	name += "-" + strconv.Itoa(i)
	switch c.down.kind {
	case rabbit: // the first "id" counts
		f.headers[0].value = c.d.id + "-" + name
		f.set("durable", "true")
		f.set("auto-delete", "false")
	case artemis:
		f.set("durable-subscription-name", name)
	default:
		f.set("activemq.subscriptionName", name)
	}
}

// receive reads until the connection ends.
func (c *conn) receive() error {
	for _, f := range c.early {
		if err := c.message(f); err != nil {
			return err
		}
	}
	c.early = nil
	for {
		f, err := read(c.down.r)
		if err != nil {
			return err
		}
		switch f.command {
		case "ERROR":
			return ending(verdict(f))
		case "MESSAGE":
			if err := c.message(f); err != nil {
				return err
			}
		}
	}
}

// message hands one over. What was too large to be kept is refused at once.
func (c *conn) message(f *frame) error {
	ack := f.get("ack")
	if f.dropped > 0 {
		if err := c.answer("NACK", ack); err != nil {
			return fmt.Errorf("refuse a message of %d bytes: %w", f.dropped, err)
		}
		return nil
	}
	c.inlet.Take(bridge.Incoming{Wire: c.wire(f), Done: func(refused error) {
		verb := "ACK"
		if refused != nil {
			verb = "NACK"
		}
		if err := c.answer(verb, ack); err != nil {
			c.fail(err)
		}
	}})
	return nil
}

func (c *conn) answer(verb, ack string) error {
	f := &frame{command: verb}
	f.set("id", ack)
	if verb == "NACK" && c.down.kind == rabbit {
		f.set("requeue", "false")
	}
	return c.down.write(f, false)
}

// wire maps what came.
func (c *conn) wire(f *frame) bridge.Wire {
	w := bridge.Wire{
		Address: address(f.get("destination")), ContentType: f.get("content-type"), Body: f.body, Key: f.get("JMSXGroupID"),
		Response: address(f.get("reply-to")), Correlation: []byte(f.get("correlation-id")),
	}
	if w.ContentType == "" {
		w.ContentType = f.get("contentType")
	}
	_, sized := f.look("content-length")
	w.Text = !sized || f.get("amq-msg-type") == "text"
	if n, err := strconv.ParseUint(f.get("priority"), 10, 8); err == nil {
		w.Priority = uint8(n)
	}
	if ms, err := strconv.ParseInt(f.get("expires"), 10, 64); err == nil && ms > 0 && time.Now().Unix() > trusted {
		w.TTL = max(time.Until(time.UnixMilli(ms)), time.Second)
	}
	w.ID = c.id(f)
	_, w.Event = f.look(attribute + "specversion")
	seen := make(map[string]bool, len(f.headers))
	for _, h := range f.headers {
		short, is := strings.CutPrefix(h.name, attribute)
		if is != w.Event || !w.Event && known(h.name) || seen[short] {
			continue
		}
		seen[short] = true
		w.Headers = append(w.Headers, message.Property{Key: short, Value: h.value})
	}
	return w
}

// id is what names the message for ever, "" when nothing does.
func (c *conn) id(f *frame) string {
	if id := f.get("epid"); id != "" {
		return id
	}
	if id := f.get("amqp-message-id"); id != "" {
		return id
	}
	if id := f.get("message-id"); c.down.kind == activemq && strings.HasPrefix(id, "ID:") {
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
