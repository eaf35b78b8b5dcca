package packet

import (
	"bytes"

	paho "github.com/eclipse/paho.golang/packets"
)

// paho5Oracle is github.com/eclipse/paho.golang/packets v0.23.0, which speaks 5.0.
func paho5Oracle() oracle {
	several := func(p *Packet) string {
		if len(p.Props.SubscriptionIDs) > 1 {
			return "it has room for one subscription identifier only"
		}
		return ""
	}
	return oracle{
		name: "paho.golang", v: V5, read: paho5Read, write: paho5Write,
		cannotRead: func(p *Packet) string {
			if p.Type == DISCONNECT && p.Code == 0 && p.Props.all() == 0 {
				return "it wants a reason code in an empty DISCONNECT (5.0 §3.14.2.1 allows to omit it)"
			}
			return several(p)
		},
		cannotWrite: func(p *Packet) string {
			const message = 1<<PropPayloadFormat | 1<<PropMessageExpiry | 1<<PropContentType | 1<<PropResponseTopic | 1<<PropCorrelationData
			if p.Will != nil && p.Will.Props.all()&message != 0 {
				return "it drops all properties of a will but the delay and the user properties"
			}
			return several(p)
		},
	}
}

func paho5Read(v Version, wire []byte) (Packet, error) {
	cp, err := paho.ReadPacket(bytes.NewReader(wire))
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Type: Type(cp.Type)}
	switch m := cp.Content.(type) {
	case *paho.Connect:
		p.Connect = Connect{
			ProtocolName: []byte(m.ProtocolName), Version: v, CleanStart: m.CleanStart, KeepAlive: m.KeepAlive, ClientID: []byte(m.ClientID),
			HasUsername: m.UsernameFlag, Username: []byte(m.Username), HasPassword: m.PasswordFlag, Password: m.Password,
		}
		p.Props = fromPaho5(m.Properties)
		if m.WillFlag {
			p.Will = &Will{Retain: m.WillRetain, QoS: m.WillQOS, Topic: []byte(m.WillTopic), Payload: m.WillMessage, Props: fromPaho5(m.WillProperties)}
		}
	case *paho.Connack:
		p.SessionPresent, p.Code, p.Props = m.SessionPresent, m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Publish:
		p.Dup, p.QoS, p.Retain, p.ID, p.Topic, p.Payload, p.Props = m.Duplicate, m.QoS, m.Retain, m.PacketID, []byte(m.Topic), m.Payload, fromPaho5(m.Properties)
	case *paho.Puback:
		p.ID, p.Code, p.Props = m.PacketID, m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Pubrec:
		p.ID, p.Code, p.Props = m.PacketID, m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Pubrel:
		p.ID, p.Code, p.Props = m.PacketID, m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Pubcomp:
		p.ID, p.Code, p.Props = m.PacketID, m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Subscribe:
		p.ID, p.Props = m.PacketID, fromPaho5(m.Properties)
		for _, s := range m.Subscriptions {
			p.Filters = append(p.Filters, Subscription{Filter: []byte(s.Topic), QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling})
		}
	case *paho.Suback:
		p.ID, p.Codes, p.Props = m.PacketID, m.Reasons, fromPaho5(m.Properties)
	case *paho.Unsubscribe:
		p.ID, p.Props = m.PacketID, fromPaho5(m.Properties)
		for _, topic := range m.Topics {
			p.Filters = append(p.Filters, Subscription{Filter: []byte(topic)})
		}
	case *paho.Unsuback:
		p.ID, p.Codes, p.Props = m.PacketID, m.Reasons, fromPaho5(m.Properties)
	case *paho.Disconnect:
		p.Code, p.Props = m.ReasonCode, fromPaho5(m.Properties)
	case *paho.Auth:
		p.Code, p.Props = m.ReasonCode, fromPaho5(m.Properties)
	}
	return p, nil
}

func paho5Write(_ Version, p *Packet) ([]byte, error) {
	cp := paho.NewControlPacket(byte(p.Type))
	cp.Flags = fixedFlags(p.Type) // its own AUTH has the reserved flags 0001, against [MQTT-3.15.1-1]
	props := toPaho5(&p.Props)
	switch m := cp.Content.(type) {
	case *paho.Connect:
		m.ProtocolName, m.ProtocolVersion, m.CleanStart, m.KeepAlive, m.ClientID = string(p.ProtocolName), byte(p.Version), p.CleanStart, p.KeepAlive, string(p.ClientID)
		m.UsernameFlag, m.Username, m.PasswordFlag, m.Password, m.Properties = p.HasUsername, string(p.Username), p.HasPassword, p.Password, props
		if w := p.Will; w != nil {
			m.WillFlag, m.WillRetain, m.WillQOS, m.WillTopic, m.WillMessage, m.WillProperties = true, w.Retain, w.QoS, string(w.Topic), w.Payload, toPaho5(&w.Props)
		}
	case *paho.Connack:
		m.SessionPresent, m.ReasonCode, m.Properties = p.SessionPresent, p.Code, props
	case *paho.Publish:
		m.Duplicate, m.QoS, m.Retain, m.PacketID, m.Topic, m.Payload, m.Properties = p.Dup, p.QoS, p.Retain, p.ID, string(p.Topic), p.Payload, props
	case *paho.Puback:
		m.PacketID, m.ReasonCode, m.Properties = p.ID, p.Code, props
	case *paho.Pubrec:
		m.PacketID, m.ReasonCode, m.Properties = p.ID, p.Code, props
	case *paho.Pubrel:
		m.PacketID, m.ReasonCode, m.Properties = p.ID, p.Code, props
	case *paho.Pubcomp:
		m.PacketID, m.ReasonCode, m.Properties = p.ID, p.Code, props
	case *paho.Subscribe:
		m.PacketID, m.Properties = p.ID, props
		for _, s := range p.Filters {
			m.Subscriptions = append(m.Subscriptions, paho.SubOptions{Topic: string(s.Filter), QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling})
		}
	case *paho.Suback:
		m.PacketID, m.Reasons, m.Properties = p.ID, p.Codes, props
	case *paho.Unsubscribe:
		m.PacketID, m.Properties = p.ID, props
		for _, s := range p.Filters {
			m.Topics = append(m.Topics, string(s.Filter))
		}
	case *paho.Unsuback:
		m.PacketID, m.Reasons, m.Properties = p.ID, p.Codes, props
	case *paho.Disconnect:
		m.ReasonCode, m.Properties = p.Code, props
	case *paho.Auth:
		m.ReasonCode, m.Properties = p.Code, props
	}
	var buf bytes.Buffer
	_, err := cp.WriteTo(&buf)
	return buf.Bytes(), err
}

// at reads through a pointer, nil as zero.
func at[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func fromPaho5(m *paho.Properties) Properties {
	p := Properties{
		ContentType: []byte(m.ContentType), ResponseTopic: []byte(m.ResponseTopic), CorrelationData: m.CorrelationData, AssignedClientID: []byte(m.AssignedClientID),
		AuthMethod: []byte(m.AuthMethod), AuthData: m.AuthData, ResponseInfo: []byte(m.ResponseInfo), ServerReference: []byte(m.ServerReference),
		ReasonString: []byte(m.ReasonString), MessageExpiry: at(m.MessageExpiry), SessionExpiry: at(m.SessionExpiryInterval), WillDelay: at(m.WillDelayInterval),
		MaximumPacketSize: at(m.MaximumPacketSize), ServerKeepAlive: at(m.ServerKeepAlive), ReceiveMaximum: at(m.ReceiveMaximum), TopicAliasMaximum: at(m.TopicAliasMaximum),
		TopicAlias: at(m.TopicAlias), PayloadFormat: at(m.PayloadFormat), MaximumQoS: at(m.MaximumQOS), RequestProblemInfo: at(m.RequestProblemInfo) == 1,
		RequestResponseInfo: at(m.RequestResponseInfo) == 1, RetainAvailable: at(m.RetainAvailable) == 1, WildcardAvailable: at(m.WildcardSubAvailable) == 1,
		SubIDAvailable: at(m.SubIDAvailable) == 1, SharedAvailable: at(m.SharedSubAvailable) == 1,
	}
	if m.SubscriptionIdentifier != nil {
		p.SubscriptionIDs = []uint32{uint32(*m.SubscriptionIdentifier)}
	}
	for _, u := range m.User {
		p.User = append(p.User, UserProperty{[]byte(u.Key), []byte(u.Value)})
	}
	p.present = ^propertySet(0)
	lossyProperties(&p)
	return markAll(p)
}

func toPaho5(p *Properties) *paho.Properties {
	one := func(id PropertyID, on bool) *byte {
		if !p.Has(id) {
			return nil
		}
		var b byte
		if on {
			b = 1
		}
		return &b
	}
	m := &paho.Properties{
		ContentType: string(p.ContentType), ResponseTopic: string(p.ResponseTopic), CorrelationData: p.CorrelationData, AssignedClientID: string(p.AssignedClientID),
		AuthMethod: string(p.AuthMethod), AuthData: p.AuthData, ResponseInfo: string(p.ResponseInfo), ServerReference: string(p.ServerReference),
		ReasonString:  string(p.ReasonString),
		MessageExpiry: pick(p, PropMessageExpiry, p.MessageExpiry), SessionExpiryInterval: pick(p, PropSessionExpiry, p.SessionExpiry),
		WillDelayInterval: pick(p, PropWillDelay, p.WillDelay), MaximumPacketSize: pick(p, PropMaximumPacketSize, p.MaximumPacketSize),
		ServerKeepAlive: pick(p, PropServerKeepAlive, p.ServerKeepAlive), ReceiveMaximum: pick(p, PropReceiveMaximum, p.ReceiveMaximum),
		TopicAliasMaximum: pick(p, PropTopicAliasMaximum, p.TopicAliasMaximum), TopicAlias: pick(p, PropTopicAlias, p.TopicAlias),
		PayloadFormat: pick(p, PropPayloadFormat, p.PayloadFormat), MaximumQOS: pick(p, PropMaximumQoS, p.MaximumQoS),
		RequestProblemInfo: one(PropRequestProblemInfo, p.RequestProblemInfo), RequestResponseInfo: one(PropRequestResponseInfo, p.RequestResponseInfo),
		RetainAvailable: one(PropRetainAvailable, p.RetainAvailable), WildcardSubAvailable: one(PropWildcardAvailable, p.WildcardAvailable),
		SubIDAvailable: one(PropSubIDAvailable, p.SubIDAvailable), SharedSubAvailable: one(PropSharedAvailable, p.SharedAvailable),
	}
	if len(p.SubscriptionIDs) > 0 {
		id := int(p.SubscriptionIDs[0])
		m.SubscriptionIdentifier = &id
	}
	for _, u := range p.User {
		m.User = append(m.User, paho.User{Key: string(u.Key), Value: string(u.Value)})
	}
	return m
}

func pick[T any](p *Properties, id PropertyID, v T) *T {
	if !p.Has(id) {
		return nil
	}
	return &v
}
