//go:build !omit_stomp

package stomp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/bridge"
)

// Send implements [bridge.Conn].
func (c *conn) Send(_ context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		f := c.frame(o)
		c.mu.Lock()
		c.last++
		f.set("receipt", strconv.FormatUint(c.last, 10))
		c.waiting[c.last] = o
		c.mu.Unlock()
		if err := c.up.write(f, textual(o)); err != nil {
			return err
		}
	}
	return nil
}

// textual reports whether a broker may make a text message of it.
func textual(o *bridge.Outgoing) bool { return o.Text && utf8.Valid(o.Body) }

const attribute = "cloudEvents_"

// trusted is before any version of this program: while the clock shows less, a time of day would be nonsense.
const trusted = 1_700_000_000

// frame maps a message.
func (c *conn) frame(o *bridge.Outgoing) *frame {
	f := &frame{command: "SEND", body: o.Body}
	f.set("destination", destination(o.Address))
	f.set("persistent", "true")
	f.set("priority", strconv.Itoa(int(o.Priority)))
	f.some("content-type", o.ContentType)
	if utf8.Valid(o.Correlation) {
		f.some("correlation-id", string(o.Correlation))
	}
	if c.up.kind == rabbit {
		f.some("amqp-message-id", o.ID)
		if o.TTL > 0 {
			f.set("expiration", strconv.FormatInt(max(o.TTL.Milliseconds(), 1), 10))
		}
	} else {
		c.jms(f, o)
	}
	prefix := ""
	if o.Event {
		prefix = attribute
	} else {
		f.some("epid", o.ID)
	}
	for _, h := range o.Headers {
		if o.Event || !known(h.Key) { // a property must not become a part of the protocol
			f.set(prefix+h.Key, h.Value)
		}
	}
	return f
}

// jms adds what JMS clients of ActiveMQ and Artemis see.
func (c *conn) jms(f *frame, o *bridge.Outgoing) {
	if now := time.Now(); o.TTL > 0 && now.Unix() > trusted {
		f.set("expires", strconv.FormatInt(now.Add(o.TTL).UnixMilli(), 10))
	}
	if o.Response != "" && c.up.kind == artemis {
		f.set("reply-to", destination(o.Response))
	} else if o.Response != "" {
		f.set("reply-to", "/topic/"+destination(o.Response)) // without a prefix it ends the connection
	}
	f.some("JMSXGroupID", o.Key)
	f.some("contentType", o.ContentType)
	kind := "bytes"
	if textual(o) {
		kind = "text"
	}
	f.set("amq-msg-type", kind)
	switch c.d.kind {
	case "queue":
		f.set("destination-type", "ANYCAST")
	case "topic":
		f.set("destination-type", "MULTICAST")
	}
}

// confirm answers messages until the connection ends.
func (c *conn) confirm() error {
	for {
		f, err := read(c.up.r)
		if err != nil {
			return err
		}
		switch f.command {
		case "RECEIPT":
			if o := c.taken(f.get("receipt-id")); o != nil {
				o.Answer(nil)
			}
		case "ERROR":
			err := verdict(f)
			if o := c.taken(f.get("receipt-id")); o != nil && err.Class != bridge.Configuration {
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

// taken is the message of a receipt; nil when there is none.
func (c *conn) taken(receipt string) *bridge.Outgoing {
	n, err := strconv.ParseUint(receipt, 10, 64)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.waiting[n]
	delete(c.waiting, n)
	return o
}

// verdict says what can help against an ERROR. The protocol has no codes, so the words decide.
func verdict(f *frame) *bridge.Error {
	text := said(f)
	low := strings.ToLower(text)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(low, w) {
				return true
			}
		}
		return false
	}
	err := fmt.Errorf("the broker ended the connection with an error: %s", text)
	switch {
	case has("too large", "larger than", "max size", "exceeds"):
		return &bridge.Error{Class: bridge.Rejected, Err: err}
	case has("not authorized", "not_authorized", "access_refused", "access refused", "permission", "security"):
		return bridge.Errorf(bridge.Configuration, "%w; the broker's access rules forbid it to this user", err)
	case has("not exist", "not found", "not_found", "unknown destination", "invalid destination", "no queue"):
		return bridge.Errorf(bridge.Configuration, "%w; create it, or look at up.to, down.from and options.destination", err)
	}
	return &bridge.Error{Class: bridge.Doubtful, Err: err}
}
