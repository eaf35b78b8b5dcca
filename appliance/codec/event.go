package codec

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"net/url"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/message"
)

// Limits of structured events. A payload of [message.MaxPayload] bytes fits in the worst escaping.
const (
	MaxEventBytes = 2 << 20
	MaxBatchBytes = 8 << 20
	MaxBatch      = 1000 // events in one batch
	maxName       = 20   // bytes of an attribute's name; CloudEvents 1.0 §3.1.1 recommends it
)

const defaultType = "edgepost.message"

// IndexError says which event of a batch is wrong, counted from 0.
type IndexError struct {
	Index int
	Err   error
}

func (e *IndexError) Error() string { return fmt.Sprintf("event %d: %v", e.Index, e.Err) }

// Unwrap gives the [message.Problem].
func (e *IndexError) Unwrap() error { return e.Err }

// DecodeEvent reads one structured event (CloudEvents 1.0). mediaType is the request's Content-Type.
// The topic of the message stays empty. The payload may alias body. Errors are a [message.Problem].
func DecodeEvent(mediaType string, body []byte) (*message.Message, error) {
	t, err := structured(mediaType, EventJSON, EventXML, EventProtobuf)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxEventBytes {
		return nil, message.Problemf(message.CodeTooLarge, "the event has %d bytes; the limit is %d", len(body), MaxEventBytes)
	}
	switch t {
	case EventJSON:
		return decodeJSON(body)
	case EventXML:
		return decodeXML(body)
	default:
		return decodeProto(body)
	}
}

// DecodeBatch reads a batch of events, which may be empty. Errors are a [message.Problem]; what is
// wrong with one event is wrapped in an [IndexError]. See [DecodeEvent].
func DecodeBatch(mediaType string, body []byte) ([]*message.Message, error) {
	t, err := structured(mediaType, BatchJSON, BatchXML, BatchProtobuf)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxBatchBytes {
		return nil, message.Problemf(message.CodeTooLarge, "the batch has %d bytes; the limit is %d", len(body), MaxBatchBytes)
	}
	switch t {
	case BatchJSON:
		return decodeBatchJSON(body)
	case BatchXML:
		return decodeBatchXML(body)
	default:
		return decodeBatchProto(body)
	}
}

// EncodeEvent writes a message as a structured event; gateway names the source of plain publishes.
// The output depends on nothing else. The error is bad-media-type.
func EncodeEvent(mediaType string, m *message.Message, gateway string) ([]byte, error) {
	t, err := structured(mediaType, EventJSON, EventXML, EventProtobuf)
	if err != nil {
		return nil, err
	}
	switch t {
	case EventJSON:
		return appendJSON(nil, m, gateway), nil
	case EventXML:
		return appendXML([]byte(xmlPreamble), m, gateway, true), nil
	default:
		return appendProto(nil, m, gateway), nil
	}
}

// EncodeBatch writes messages as a batch of events. See [EncodeEvent].
func EncodeBatch(mediaType string, ms []*message.Message, gateway string) ([]byte, error) {
	t, err := structured(mediaType, BatchJSON, BatchXML, BatchProtobuf)
	if err != nil {
		return nil, err
	}
	switch t {
	case BatchJSON:
		return encodeBatchJSON(ms, gateway), nil
	case BatchXML:
		return encodeBatchXML(ms, gateway), nil
	default:
		return encodeBatchProto(ms, gateway), nil
	}
}

// Binary makes a message from an event in binary mode. get returns a core attribute by its bare
// name ("id", "specversion"), "" when absent; extensions are the remaining attributes without their
// prefix, decoded (HTTP: [UnescapeHeader]); contentType is the datacontenttype. body is kept. See [DecodeEvent].
func Binary(get func(name string) string, extensions []message.Property, contentType string, body []byte) (*message.Message, error) {
	e := draft{m: message.New("", body)}
	for _, name := range [...]string{"specversion", "id", "source", "type", "subject", "time", "dataschema"} {
		if err := e.set(name, get(name)); err != nil {
			return nil, err
		}
	}
	for _, x := range extensions {
		if CoreAttribute(x.Key) {
			return nil, message.Problemf(message.CodeBadRequest, "the event's attribute %s does not belong among its extensions", x.Key)
		}
		if err := e.set(x.Key, x.Value); err != nil {
			return nil, err
		}
	}
	e.m.ContentType = contentType
	return e.finish()
}

// draft is an event while its attributes arrive.
type draft struct {
	m    *message.Message
	spec string
}

// core returns where a core attribute is kept, nil for an extension.
func (e *draft) core(name string) *string {
	ev := &e.m.Event
	switch name {
	case "specversion":
		return &e.spec
	case "id":
		return &ev.ID
	case "source":
		return &ev.Source
	case "type":
		return &ev.Type
	case "subject":
		return &ev.Subject
	case "time":
		return &ev.Time
	case "dataschema":
		return &ev.DataSchema
	case "datacontenttype":
		return &e.m.ContentType
	}
	return nil
}

// CoreAttribute reports whether CloudEvents itself defines the attribute.
func CoreAttribute(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype":
		return true
	}
	return false
}

// set takes one attribute. An empty core attribute counts as absent.
func (e *draft) set(name, value string) error {
	if field := e.core(name); field != nil {
		if *field != "" {
			return message.Problemf(message.CodeBadRequest, "the event's attribute %s is given twice", name)
		}
		*field = value
		return nil
	}
	if !AttributeName(name) {
		return message.Problemf(message.CodeBadName, "the event's attribute %.40q is not allowed: 1 to %d of a-z 0-9, and not data", name, maxName)
	}
	if len(e.m.Event.Extensions) >= message.MaxProperties {
		return message.Problemf(message.CodeTooLarge, "the event has more than %d extensions", message.MaxProperties)
	}
	for _, x := range e.m.Event.Extensions {
		if x.Key == name {
			return message.Problemf(message.CodeBadRequest, "the event's attribute %s is given twice", name)
		}
	}
	e.m.Event.Extensions = append(e.m.Event.Extensions, message.Property{Key: name, Value: value})
	return nil
}

// finish checks the event as a whole (CloudEvents 1.0 §3.1).
func (e *draft) finish() (*message.Message, error) {
	ev := &e.m.Event
	if e.spec != "1.0" {
		return nil, message.Problemf(message.CodeBadRequest, "the event's specversion is %.20q; only \"1.0\" is supported", e.spec)
	}
	for _, a := range [...]message.Property{{Key: "id", Value: ev.ID}, {Key: "source", Value: ev.Source}, {Key: "type", Value: ev.Type}} {
		if a.Value == "" {
			return nil, message.Problemf(message.CodeBadRequest, "the event has no %s; CloudEvents require id, source, specversion and type", a.Key)
		}
	}
	if ev.Time != "" {
		if _, err := time.Parse(time.RFC3339, strings.ToUpper(ev.Time)); err != nil {
			return nil, message.Problemf(message.CodeBadRequest, "the event's time %.40q is not RFC 3339, like 2026-11-23T06:00:00Z", ev.Time)
		}
	}
	return e.m, e.own()
}

// own takes our own extensions out of the event. A priority or ttl that is not a whole number is
// somebody else's and travels on as it is.
func (e *draft) own() error {
	rest := e.m.Event.Extensions[:0]
	for _, x := range e.m.Event.Extensions {
		n, err := strconv.ParseUint(x.Value, 10, 64)
		switch {
		case err != nil, x.Key != "priority" && x.Key != "ttl", strconv.FormatUint(n, 10) != x.Value:
			rest = append(rest, x)
		case x.Key == "priority" && n > message.MaxPriority:
			return message.Problemf(message.CodeBadRequest, "the event's priority %s is out of range 0 to %d", x.Value, message.MaxPriority)
		case x.Key == "priority":
			e.m.Priority = uint8(n)
		case n > uint64(message.MaxTTL/time.Second):
			return message.Problemf(message.CodeBadRequest, "the event's ttl %s is out of range 0 to %d seconds", x.Value, message.MaxTTL/time.Second)
		default:
			e.m.TTL = time.Duration(n) * time.Second
		}
	}
	if e.m.Event.Extensions = rest; len(rest) == 0 {
		e.m.Event.Extensions = nil
	}
	return nil
}

// AttributeName reports whether an extension may have the name (CloudEvents 1.0 §3.1.1, §3.4).
func AttributeName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !digit(c) && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxName && s != "data"
}

// Attributes returns all attributes of a message shown as an event, in the order of the package
// comment, without prefix, and without datacontenttype: the bindings carry that as the content type. Values
// are UTF-8; HTTP needs [EscapeHeader] on them.
func Attributes(m *message.Message, gateway string) []message.Property {
	e := &m.Event
	as := make([]message.Property, 0, 10+len(e.Extensions)+len(m.Properties))
	add := func(name, value string) {
		if value != "" {
			as = append(as, message.Property{Key: name, Value: value})
		}
	}
	add("specversion", "1.0")
	add("id", first(e.ID, plainID(m)))
	add("source", first(e.Source, "/edgepost/"+url.PathEscape(gateway)))
	add("type", first(e.Type, defaultType))
	add("subject", first(e.Subject, string(m.Topic)))
	add("time", first(e.Time, plainTime(m)))
	add("dataschema", e.DataSchema)
	free := len(as)
	for _, list := range [...][]message.Property{e.Extensions, m.Properties} {
		for _, x := range list {
			if AttributeName(x.Key) && !CoreAttribute(x.Key) && !ours(m, x.Key) && !named(as[free:], x.Key) {
				as = append(as, x)
			}
		}
	}
	if !named(as[free:], "priority") {
		add("priority", strconv.Itoa(int(m.Priority)))
	}
	if m.TTL > 0 && !named(as[free:], "ttl") {
		add("ttl", strconv.FormatInt(int64((m.TTL+time.Second-1)/time.Second), 10))
	}
	if ours(m, "epid") {
		add("epid", m.ID.String())
		add("epseq", strconv.FormatUint(m.Seq, 10))
	}
	return as
}

// ours reports whether the attribute is written from our own id, so that one from another
// gateway gives way.
func ours(m *message.Message, name string) bool {
	return (name == "epid" || name == "epseq") && m.Event.ID != "" && !m.ID.IsZero()
}

func named(as []message.Property, name string) bool {
	for _, a := range as {
		if a.Key == name {
			return true
		}
	}
	return false
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// plainID names a plain publish. A volatile message has no id of its own, yet an event needs one.
func plainID(m *message.Message) string {
	if !m.ID.IsZero() {
		return m.ID.String()
	}
	h := fnv.New64a()
	for _, part := range [...]string{m.From, string(m.Topic), strconv.FormatInt(m.Time.UnixNano(), 10)} {
		_, _ = h.Write(append([]byte(part), 0))
	}
	_, _ = h.Write(m.Payload)
	return "v-" + strconv.FormatUint(h.Sum64(), 16)
}

func plainTime(m *message.Message) string {
	if m.Time.IsZero() {
		return ""
	}
	return m.Time.UTC().Format(timeLayout)
}

// EventKey is the idempotency key of an event that came without one: (source, id) names an
// occurrence once and for all (CloudEvents 1.0 §3.1.1). A source is a URI reference and so has no
// space.
func EventKey(e *message.Event) string {
	key := "ce " + e.Source + " " + e.ID
	if len(key) <= message.MaxAttributeBytes {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "ce " + base64.RawStdEncoding.EncodeToString(sum[:])
}
