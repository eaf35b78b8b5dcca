package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

// Wire is a message as an upstream carries it, whatever the protocol. Of an outgoing one everything that a
// protocol can carry should be; of an incoming one a connector fills in what its protocol says.
type Wire struct {
	Address     string             // topic, queue, subject; levels are separated by slashes
	Key         string             // partition or group
	ContentType string             // of the body
	Headers     []message.Property // in binary mode the event's attributes without a prefix; else user properties
	Body        []byte

	ID, Source  string        // of the event, stable over resends; of a raw incoming message what the protocol has, "" none
	Event       bool          // Headers are an event's attributes
	Priority    uint8         // 0..9; of an incoming one 0 means that nothing is said
	TTL         time.Duration // remaining; 0: does not expire
	Text        bool          // the body is text
	Retain      bool
	Attempt     int // 2 or more: it may be a repetition
	Response    string
	Correlation []byte
}

// Format is how messages are written or read.
type Format string

// The formats.
const (
	Event      Format = "event"
	Structured Format = "structured"
	Raw        Format = "raw"
	Auto       Format = "auto"
)

// Names of our attributes.
const (
	viaName      = "epvia"
	backfillName = "epbackfill"
	attemptName  = "attempt"
	keyName      = "partitionkey"
	receiptName  = "epreceipt"
)

// Here is what a mapping must know of the gateway.
type Here struct {
	Gateway string
	Epoch   message.Epoch
	Bridge  string
}

// Fill fills in ${gw} and ${bridge}; an error when others stand there.
func (h Here) Fill(s string) (string, error) {
	t, err := ParseTemplate(s, Gateway, Bridge)
	if err != nil {
		return "", err
	}
	return t.Fill(func(name string) string { return map[string]string{Gateway: h.Gateway, Bridge: h.Bridge}[name] })
}

// Up maps outgoing messages. It is immutable.
type Up struct {
	Here
	Format  Format // Event means structured when Headers is false
	Headers bool   // the protocol has headers
	To, Key Template
}

// Delivery is what belongs to one transmission.
type Delivery struct {
	Attempt   int
	ExpiresIn time.Duration
	Backfill  bool
}

// Encode maps one message, which is not changed. Its own bytes may be shared. An error is the message's.
func (u *Up) Encode(m *message.Message, d Delivery) (Wire, error) {
	w := Wire{
		ContentType: m.ContentType, Body: m.Payload, Priority: m.Priority, TTL: d.ExpiresIn, Retain: m.Retain, Attempt: d.Attempt,
		Response: string(m.Response), Correlation: m.Correlation, ID: m.ID.String(), Source: "/edgepost/" + u.Gateway,
		Text: m.Text || isText(m.ContentType),
	}
	if m.Event.ID != "" && m.Event.Source != "" {
		w.ID, w.Source = m.Event.ID, m.Event.Source
	}
	var err error
	if !u.Key.IsZero() {
		if w.Key, err = u.Key.Fill(func(name string) string { return u.value(name, m, "") }); err != nil {
			w.Key = u.Gateway // a message of the gateway itself
		}
	}
	if w.Address, err = u.To.Fill(func(name string) string { return u.value(name, m, w.Key) }); err != nil {
		return w, err
	}
	if u.Format == Raw {
		w.Headers = m.Properties
		return w, nil
	}
	e := u.marked(m, d, w.Key)
	if u.Format == Event && u.Headers {
		w.Headers, w.Event = codec.Attributes(e, u.Gateway), true
		return w, nil
	}
	w.ContentType, w.Text = codec.EventJSON, true
	w.Body, err = codec.EncodeEvent(codec.EventJSON, e, u.Gateway)
	return w, err
}

func isText(contentType string) bool {
	return strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, codec.JSON) || strings.HasPrefix(contentType, codec.XML) ||
		strings.Contains(contentType, "+json") || strings.Contains(contentType, "+xml")
}

// marked is the message with the attributes that belong to its way.
func (u *Up) marked(m *message.Message, d Delivery, key string) *message.Message {
	e := *m
	via := string(u.Epoch)
	list := make([]message.Property, 0, len(m.Event.Extensions)+4)
	for _, p := range m.Event.Extensions {
		switch {
		case p.Key == viaName:
			via = p.Value + " " + via
		case p.Key == backfillName || p.Key == attemptName || p.Key == keyName && key != "":
		default:
			list = append(list, p)
		}
	}
	list = append(list, message.Property{Key: viaName, Value: via})
	if d.Attempt > 1 {
		list = append(list, message.Property{Key: attemptName, Value: strconv.Itoa(d.Attempt)})
	}
	if d.Backfill {
		list = append(list, message.Property{Key: backfillName, Value: "true"})
	}
	if key != "" {
		list = append(list, message.Property{Key: keyName, Value: key})
	}
	e.Event.Extensions, e.TTL = list, d.ExpiresIn
	return &e
}

func (u *Up) value(name string, m *message.Message, key string) string {
	switch name {
	case Gateway:
		return u.Gateway
	case Bridge:
		return u.Bridge
	case Topic:
		return string(m.Topic)
	case Device:
		return deviceOf(m)
	case Key:
		return key
	}
	return ""
}

// deviceOf is the device of a topic device/<id>/…, or who published.
func deviceOf(m *message.Message) string {
	if after, ok := strings.CutPrefix(string(m.Topic), "device/"); ok {
		id, _, _ := strings.Cut(after, "/")
		return id
	}
	return m.From
}

// Down maps incoming messages. It is immutable.
type Down struct {
	Here
	Format Format
	To     Template // zero: the event's subject
}

// ErrLoop says that a message came through this gateway before.
var ErrLoop = errors.New("the message came through this gateway already")

// maxVia bounds the gateways that one message passes.
const maxVia = 16

// Decode maps one message. key names it for deduplication, "" when nothing does. An error is the message's:
// another try gives the same; [ErrLoop] means that it is to be dropped.
func (d *Down) Decode(w *Wire) (m *message.Message, key string, err error) {
	if m, err = d.read(w); err != nil {
		return nil, "", err
	}
	if err := d.checkVia(m); err != nil {
		return nil, "", err
	}
	if err := wish(m); err != nil {
		return nil, "", err
	}
	to, err := d.address(m, w)
	if err != nil {
		return nil, "", err
	}
	if m.Topic, err = message.ParseTopic(to); err != nil {
		return nil, "", err
	}
	if m.TTL == 0 {
		m.TTL = min(w.TTL, message.MaxTTL)
	}
	switch {
	case m.Event.ID != "":
		key = m.Event.Source + "\x00" + m.Event.ID
	case w.ID != "":
		key = w.Source + "\x00" + w.ID
	}
	return m, key, m.Check()
}

// read makes a message of what came, without a topic.
func (d *Down) read(w *Wire) (*message.Message, error) {
	format := d.Format
	switch {
	case format == Raw:
		return raw(w), nil
	case w.Event:
		return binary(w)
	case codec.IsEvent(w.ContentType):
		return codec.DecodeEvent(w.ContentType, w.Body)
	case format == Auto:
		if m, err := codec.DecodeEvent(codec.EventJSON, w.Body); err == nil {
			return m, nil
		}
		return raw(w), nil
	}
	m, err := codec.DecodeEvent(codec.EventJSON, w.Body)
	if err != nil {
		return nil, fmt.Errorf("it is no CloudEvent, and this bridge's down.format is %s: %w", format, err)
	}
	return m, nil
}

func binary(w *Wire) (*message.Message, error) {
	get := func(name string) string {
		for _, h := range w.Headers {
			if h.Key == name {
				return h.Value
			}
		}
		return ""
	}
	var more []message.Property
	for _, h := range w.Headers {
		if !codec.CoreAttribute(h.Key) {
			more = append(more, h)
		}
	}
	return codec.Binary(get, more, w.ContentType, w.Body)
}

func raw(w *Wire) *message.Message {
	m := message.New("", w.Body)
	m.ContentType, m.Properties, m.Correlation, m.Text = w.ContentType, w.Headers, w.Correlation, w.Text
	if _, err := message.ParseTopic(w.Response); err == nil {
		m.Response = message.Topic(w.Response)
	}
	if w.Priority > 0 {
		m.Priority = min(w.Priority, message.MaxPriority)
	}
	return m
}

func (d *Down) checkVia(m *message.Message) error {
	for _, p := range m.Event.Extensions {
		if p.Key != viaName {
			continue
		}
		via := strings.Fields(p.Value)
		if slices.Contains(via, string(d.Epoch)) || len(via) >= maxVia {
			return ErrLoop
		}
	}
	return nil
}

// wish reads which receipts whoever sent the event wants.
func wish(m *message.Message) error {
	for _, p := range m.Event.Extensions {
		switch {
		case p.Key != receiptName:
		case p.Value == "each":
			m.Receipt = message.EachReceipt
		case p.Value == "final":
			m.Receipt = message.FinalReceipt
		default:
			return fmt.Errorf("its attribute %s is %.40q; there are each and final", receiptName, p.Value)
		}
	}
	return nil
}

func (d *Down) address(m *message.Message, w *Wire) (string, error) {
	if d.To.IsZero() {
		if m.Event.Subject == "" {
			return "", errors.New("it has no subject that would say the topic; set down.to")
		}
		return m.Event.Subject, nil
	}
	return d.To.Fill(func(name string) string {
		switch name {
		case Gateway:
			return d.Gateway
		case Bridge:
			return d.Bridge
		case Topic:
			return w.Address
		case Key:
			return w.Key
		case Subject:
			return m.Event.Subject
		}
		return ""
	})
}
