package mqtt

import (
	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

// CloudEvents in the binary mode of their MQTT binding (1.0.2 §3.1): the attributes are user properties
// of their own names, datacontenttype is the content type. Structured events are payloads like others.

// takeEvent makes the message an event when its user properties are the attributes of one. Their names have
// no prefix, so who only happens to call a property "id" or "type" is not refused: what is no whole event
// stays as it came. A message expiry counts more than the attribute ttl, because it is what remains.
func takeEvent(m *message.Message) {
	if codec.IsEvent(m.ContentType) || codec.IsBatch(m.ContentType) {
		return
	}
	attributes := make(map[string]string)
	var extensions, rest []message.Property
	for _, p := range m.Properties {
		switch {
		case codec.CoreAttribute(p.Key):
			if _, twice := attributes[p.Key]; twice {
				return
			}
			attributes[p.Key] = p.Value
		case codec.AttributeName(p.Key) && p.Key != receiptProperty:
			extensions = append(extensions, p)
		default:
			rest = append(rest, p)
		}
	}
	if attributes["specversion"] == "" || attributes["datacontenttype"] != "" {
		return
	}
	e, err := codec.Binary(func(name string) string { return attributes[name] }, extensions, m.ContentType, nil)
	if err != nil {
		return
	}
	m.Event, m.Priority, m.Properties = e.Event, e.Priority, rest
	if m.TTL == 0 {
		m.TTL = e.TTL
	}
}

// userProperties are those that go out with the message: of an event its attributes too.
func userProperties(m *message.Message) []message.Property {
	if m.Event.ID == "" {
		return m.Properties
	}
	list := codec.Attributes(m, "") // an event has its own source
	for _, p := range m.Properties {
		if !codec.AttributeName(p.Key) { // the others are among the attributes
			list = append(list, p)
		}
	}
	return list
}
