package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

// publishEvents takes CloudEvents 1.0 in the three content modes of their HTTP binding (§3): binary,
// structured and batched.
func (a *api) publishEvents(c *call) error {
	contentType := c.r.Header.Get("Content-Type")
	if codec.IsBatch(contentType) {
		return a.publishBatch(c, contentType)
	}
	m, err := a.readEvent(c, contentType)
	if err != nil {
		return err
	}
	if err := a.addressEvent(c, m); err != nil {
		return err
	}
	wait, err := c.deliveryWait(m)
	if err != nil {
		return err
	}
	return a.store(c, m, wait)
}

func (a *api) readEvent(c *call, contentType string) (*message.Message, error) {
	if codec.IsEvent(contentType) {
		b, err := c.body(min(a.MaxMessage*6+64<<10, codec.MaxEventBytes)) // JSON writes a byte in up to six
		if err != nil {
			return nil, err
		}
		return codec.DecodeEvent(contentType, b)
	}
	h := c.r.Header
	if h.Get("Ce-Specversion") == "" {
		return nil, message.Problemf(message.CodeBadRequest, "this is no CloudEvent: it has neither a ce-specversion header nor the content type %s; POST /v1/publish/TOPIC takes plain payloads", codec.EventJSON)
	}
	attributes, extensions, err := readAttributes(h)
	if err != nil {
		return nil, err
	}
	b, err := c.body(a.MaxMessage)
	if err != nil {
		return nil, err
	}
	return codec.Binary(func(name string) string { return attributes[name] }, extensions, contentType, b)
}

// coreAttribute reports whether it is one of those that [codec.Binary] asks for by name.
func coreAttribute(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "dataschema":
		return true
	}
	return false
}

// readAttributes decodes the ce- headers (HTTP binding §3.1.3). Extensions are sorted, because
// net/http forgets the order.
func readAttributes(h http.Header) (attributes map[string]string, extensions []message.Property, err error) {
	attributes = make(map[string]string)
	for name, values := range h {
		name, ok := strings.CutPrefix(name, "Ce-")
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		if len(values) != 1 {
			return nil, nil, message.Problemf(message.CodeBadRequest, "the header ce-%.40s is there %d times; give it once", name, len(values))
		}
		value, err := codec.UnescapeHeader(values[0])
		if err != nil {
			return nil, nil, err
		}
		if coreAttribute(name) {
			attributes[name] = value
		} else {
			extensions = append(extensions, message.Property{Key: name, Value: value})
		}
	}
	slices.SortFunc(extensions, func(x, y message.Property) int { return strings.Compare(x.Key, y.Key) })
	return attributes, extensions, nil
}

// addressEvent gives an event its topic, its idempotency key and what the headers say.
func (a *api) addressEvent(c *call, m *message.Message) error {
	if err := a.describe(c.r.Header, m); err != nil {
		return err
	}
	topic := m.Event.Subject
	switch {
	case c.query.Has("topic"):
		topic = c.query.Get("topic")
	case topic == "":
		return message.Problemf(message.CodeBadTopic, "the event has no topic; give ?topic=, or put it into the event's subject")
	}
	var err error
	if m.Topic, err = message.ParseTopic(topic); err != nil {
		return err
	}
	if m.Key == "" {
		m.Key = codec.EventKey(&m.Event)
	}
	if int64(len(m.Payload)) > a.MaxMessage {
		return message.Problemf(message.CodeTooLarge, "the event's data has %d bytes; the limit is %d", len(m.Payload), a.MaxMessage)
	}
	return m.Check()
}

// publishBatch stores all events or none.
func (a *api) publishBatch(c *call, contentType string) error {
	h := c.r.Header
	switch {
	case c.query.Has("wait") || c.query.Has("timeout"):
		return message.Problemf(message.CodeBadRequest, "a batch cannot wait for its delivery; ask GET /v1/messages/{id} for each")
	case h.Get("Idempotency-Key") != "":
		return message.Problemf(message.CodeBadRequest, "Idempotency-Key is for one message; the events of a batch have their source and id")
	case h.Get("Message-Durability") == "volatile":
		return message.Problemf(message.CodeBadRequest, "a batch is stored as a whole, so it cannot be volatile")
	}
	b, err := c.body(a.MaxBatch)
	if err != nil {
		return err
	}
	ms, err := codec.DecodeBatch(contentType, b)
	if err != nil {
		return err
	}
	for i, m := range ms {
		if err := a.addressEvent(c, m); err != nil {
			return &codec.IndexError{Index: i, Err: err}
		}
	}
	out := []byte(`{"messages":[`)
	if len(ms) > 0 {
		stored, err := a.core.PublishAll(c.r.Context(), c.grant, ms)
		if err != nil {
			return err
		}
		for i := range stored {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendStored(out, &stored[i]), '}')
		}
	}
	return c.answer(http.StatusCreated, append(out, "]}\n"...))
}
