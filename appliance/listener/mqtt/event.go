package mqtt

import (
	"edgepost/appliance/codec"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// CloudEvents by 5.0 (MQTT binding 1.0.2 §3). In binary mode the attributes are user properties of their own
// names, datacontenttype is the content type. In structured mode the payload is the event, as the content type says.
// Whoever receives it gets it in binary mode.

// structured reports whether the payload is an event in a format that we know. Others are payloads like any, as
// batches are, for which the binding has no mode.
func structured(p *packet.Packet) bool {
	return len(p.Props.ContentType) > 0 && codec.CanDecode(string(p.Props.ContentType))
}

// unwrap puts the event in the place of the payload that it is. The topic stays that of the PUBLISH, a message expiry
// counts more than the attribute ttl, and user properties beside the event stay.
func unwrap(m *message.Message) error {
	e, err := codec.DecodeEvent(m.ContentType, m.Payload)
	if err != nil {
		return err
	}
	m.Payload, m.ContentType, m.Text = e.Payload, e.ContentType, false // the indicator was about the envelope
	become(m, e)
	return nil
}

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
	m.Properties = rest
	become(m, e)
}

// become gives the message what the event is beside its payload. Its source and id name it once and for all.
func become(m, e *message.Message) {
	m.Event, m.Priority, m.Key = e.Event, e.Priority, codec.EventKey(&e.Event)
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
