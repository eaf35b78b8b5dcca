//go:build !omit_stomp

package stomp

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/bridge/stomp/client"
)

// trusted is before any version of this program: while the clock shows less, a time of day would be nonsense.
const trusted = 1_700_000_000

// Send implements [bridge.Conn].
func (c *conn) Send(_ context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		f := c.frame(o)
		f.Set("receipt", strconv.FormatUint(c.waiting.Add(o), 10))
		if err := c.up.Write(f); err != nil {
			return err
		}
	}
	return nil
}

// frame maps a message.
func (c *conn) frame(o *bridge.Outgoing) *client.Frame {
	f := &client.Frame{Command: "SEND", Body: o.Body, Text: o.Text && utf8.Valid(o.Body)}
	f.Set("destination", destination(o.Address))
	f.Set("persistent", "true")
	f.Set("priority", strconv.Itoa(int(o.Priority)))
	f.Some("content-type", o.ContentType)
	if utf8.Valid(o.Correlation) {
		f.Some("correlation-id", string(o.Correlation))
	}
	if c.up.kind == rabbit {
		f.Some("amqp-message-id", o.ID)
		if o.TTL > 0 {
			f.Set("expiration", strconv.FormatInt(max(o.TTL.Milliseconds(), 1), 10))
		}
	} else {
		c.jms(f, o)
	}
	if !o.Event {
		f.Some("epid", o.ID)
	}
	o.WriteHeaders(mapping.Underscore, func(name, value string) {
		if !known(name) { // a property must not become a part of the protocol
			f.Set(name, value)
		}
	})
	return f
}

// jms adds what JMS clients of ActiveMQ and Artemis see.
func (c *conn) jms(f *client.Frame, o *bridge.Outgoing) {
	if now := time.Now(); o.TTL > 0 && now.Unix() > trusted {
		f.Set("expires", strconv.FormatInt(now.Add(o.TTL).UnixMilli(), 10))
	}
	if o.Response != "" && c.up.kind == artemis {
		f.Set("reply-to", destination(o.Response))
	} else if o.Response != "" {
		f.Set("reply-to", "/topic/"+destination(o.Response)) // without a prefix it ends the connection
	}
	f.Some("JMSXGroupID", o.Key)
	f.Some("contentType", o.ContentType)
	kind := "bytes"
	if f.Text {
		kind = "text"
	}
	f.Set("amq-msg-type", kind)
	switch c.c.Options["destination"] {
	case "queue":
		f.Set("destination-type", "ANYCAST")
	case "topic":
		f.Set("destination-type", "MULTICAST")
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
