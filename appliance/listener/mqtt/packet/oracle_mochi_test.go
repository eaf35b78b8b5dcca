package packet

import (
	"bytes"
	"errors"
	"fmt"

	mochi "github.com/mochi-mqtt/server/v2/packets"
)

// mochiOracle is github.com/mochi-mqtt/server/v2/packets v2.7.9.
func mochiOracle(v Version) oracle {
	return oracle{
		name: "mochi", v: v, read: mochiRead, write: mochiWrite,
		cannotRead: func(p *Packet) string {
			switch {
			case p.Type == DISCONNECT && p.Code != 0 && p.Props.all() == 0:
				return "it skips a reason code that no property length follows (5.0 §3.14.2.1 allows that)"
			case p.Type == AUTH && p.Code == 0:
				return "it wants a reason code in an empty AUTH (5.0 §3.15.2.1 allows to omit it)"
			case p.Type == CONNECT && v == V31 && !p.HasPassword:
				return "it insists on a user name and password that 3.1 lets a client announce and not send"
			}
			return ""
		},
		cannotWrite: func(p *Packet) string {
			if p.Type >= PUBACK && p.Type <= PUBCOMP && p.Code != 0 && p.Code < 0x80 && p.Props.all() == 0 {
				return "it drops reason codes below 0x80"
			}
			return ""
		},
	}
}

func mochiRead(v Version, wire []byte) (Packet, error) {
	_, _, n, head, err := ReadHeader(wire)
	if err != nil {
		return Packet{}, err
	}
	pk := mochi.Packet{ProtocolVersion: byte(v)}
	if err := pk.FixedHeader.Decode(wire[0]); err != nil {
		return Packet{}, err
	}
	pk.FixedHeader.Remaining = n
	decode := map[byte]func([]byte) error{
		mochi.Connect: pk.ConnectDecode, mochi.Connack: pk.ConnackDecode, mochi.Publish: pk.PublishDecode, mochi.Puback: pk.PubackDecode,
		mochi.Pubrec: pk.PubrecDecode, mochi.Pubrel: pk.PubrelDecode, mochi.Pubcomp: pk.PubcompDecode, mochi.Subscribe: pk.SubscribeDecode,
		mochi.Suback: pk.SubackDecode, mochi.Unsubscribe: pk.UnsubscribeDecode, mochi.Unsuback: pk.UnsubackDecode, mochi.Pingreq: pk.PingreqDecode,
		mochi.Pingresp: pk.PingrespDecode, mochi.Disconnect: pk.DisconnectDecode, mochi.Auth: pk.AuthDecode,
	}[pk.FixedHeader.Type]
	if decode == nil {
		return Packet{}, fmt.Errorf("type %d", pk.FixedHeader.Type)
	}
	err = decode(bytes.Clone(wire[head:]))
	if v == V31 && errors.Is(err, mochi.ErrProtocolViolationQosOutOfRange) {
		return Packet{}, errFlaw // 3.1 does not use the six other bits of the byte
	}
	if err != nil {
		return Packet{}, err
	}
	return fromMochi(v, &pk), nil
}

func mochiWrite(v Version, p *Packet) ([]byte, error) {
	pk := toMochi(v, p)
	encode := map[Type]func(*bytes.Buffer) error{
		CONNECT: pk.ConnectEncode, CONNACK: pk.ConnackEncode, PUBLISH: pk.PublishEncode, PUBACK: pk.PubackEncode, PUBREC: pk.PubrecEncode,
		PUBREL: pk.PubrelEncode, PUBCOMP: pk.PubcompEncode, SUBSCRIBE: pk.SubscribeEncode, SUBACK: pk.SubackEncode, UNSUBSCRIBE: pk.UnsubscribeEncode,
		UNSUBACK: pk.UnsubackEncode, PINGREQ: pk.PingreqEncode, PINGRESP: pk.PingrespEncode, DISCONNECT: pk.DisconnectEncode, AUTH: pk.AuthEncode,
	}[p.Type]
	var buf bytes.Buffer
	err := encode(&buf)
	return buf.Bytes(), err
}

func fromMochi(v Version, pk *mochi.Packet) Packet {
	p := Packet{
		Type: Type(pk.FixedHeader.Type), ID: pk.PacketID, Topic: []byte(pk.TopicName), Payload: pk.Payload,
		Codes: pk.ReasonCodes, Code: pk.ReasonCode, SessionPresent: pk.SessionPresent && v != V31, Props: fromMochiProperties(&pk.Properties),
	}
	if p.Type == PUBLISH {
		p.Dup, p.QoS, p.Retain = pk.FixedHeader.Dup, pk.FixedHeader.Qos, pk.FixedHeader.Retain
	}
	for _, f := range pk.Filters {
		p.Filters = append(p.Filters, Subscription{Filter: []byte(f.Filter), QoS: f.Qos, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling})
	}
	if p.Type == CONNECT {
		c := &pk.Connect
		p.Connect = Connect{
			ProtocolName: c.ProtocolName, Version: v, CleanStart: c.Clean, KeepAlive: c.Keepalive, ClientID: []byte(c.ClientIdentifier),
			HasUsername: c.UsernameFlag, Username: c.Username, HasPassword: c.PasswordFlag, Password: c.Password,
		}
		if c.WillFlag {
			p.Will = &Will{Retain: c.WillRetain, QoS: c.WillQos, Topic: []byte(c.WillTopic), Payload: c.WillPayload, Props: fromMochiProperties(&c.WillProperties)}
		}
	}
	return p
}

func toMochi(v Version, p *Packet) *mochi.Packet {
	pk := &mochi.Packet{
		ProtocolVersion: byte(v), FixedHeader: mochi.FixedHeader{Type: byte(p.Type), Dup: p.Dup, Qos: p.QoS, Retain: p.Retain},
		PacketID: p.ID, TopicName: string(p.Topic), Payload: p.Payload, ReasonCodes: p.Codes, ReasonCode: p.Code, SessionPresent: p.SessionPresent,
		Properties: toMochiProperties(&p.Props), Mods: mochi.Mods{AllowResponseInfo: true},
	}
	if p.Type == PUBREL || p.Type == SUBSCRIBE || p.Type == UNSUBSCRIBE {
		pk.FixedHeader.Qos = 1 // its way to set the reserved flags
	}
	for _, f := range p.Filters {
		pk.Filters = append(pk.Filters, mochi.Subscription{Filter: string(f.Filter), Qos: f.QoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling})
	}
	if p.Type == CONNECT {
		pk.Connect = mochi.ConnectParams{
			ProtocolName: p.ProtocolName, Clean: p.CleanStart, Keepalive: p.KeepAlive, ClientIdentifier: string(p.ClientID),
			UsernameFlag: p.HasUsername, Username: p.Username, PasswordFlag: p.HasPassword, Password: p.Password,
		}
		if w := p.Will; w != nil {
			c := &pk.Connect
			c.WillFlag, c.WillRetain, c.WillQos, c.WillTopic, c.WillPayload, c.WillProperties = true, w.Retain, w.QoS, string(w.Topic), w.Payload, toMochiProperties(&w.Props)
		}
	}
	return pk
}

func fromMochiProperties(m *mochi.Properties) Properties {
	p := Properties{
		ContentType: []byte(m.ContentType), ResponseTopic: []byte(m.ResponseTopic), CorrelationData: m.CorrelationData, AssignedClientID: []byte(m.AssignedClientID),
		AuthMethod: []byte(m.AuthenticationMethod), AuthData: m.AuthenticationData, ResponseInfo: []byte(m.ResponseInfo), ServerReference: []byte(m.ServerReference),
		ReasonString: []byte(m.ReasonString), MessageExpiry: m.MessageExpiryInterval, SessionExpiry: m.SessionExpiryInterval, WillDelay: m.WillDelayInterval,
		MaximumPacketSize: m.MaximumPacketSize, ServerKeepAlive: m.ServerKeepAlive, ReceiveMaximum: m.ReceiveMaximum, TopicAliasMaximum: m.TopicAliasMaximum,
		TopicAlias: m.TopicAlias, PayloadFormat: m.PayloadFormat, MaximumQoS: m.MaximumQos, RequestProblemInfo: m.RequestProblemInfo == 1,
		RequestResponseInfo: m.RequestResponseInfo == 1, RetainAvailable: m.RetainAvailable == 1, WildcardAvailable: m.WildcardSubAvailable == 1,
		SubIDAvailable: m.SubIDAvailable == 1, SharedAvailable: m.SharedSubAvailable == 1,
	}
	for _, id := range m.SubscriptionIdentifier {
		p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(id))
	}
	for _, u := range m.User {
		p.User = append(p.User, UserProperty{[]byte(u.Key), []byte(u.Val)})
	}
	p.present = ^propertySet(0)
	lossyProperties(&p)
	return markAll(p)
}

// markAll keeps the marks of fields that exist.
func markAll(p Properties) Properties {
	p.present &= allowed(CONNECT) | allowed(CONNACK) | allowed(PUBLISH) | allowed(will)
	p.present &^= set(PropUser, PropSubscriptionID)
	return p
}

func toMochiProperties(p *Properties) mochi.Properties {
	one := func(on bool) byte {
		if on {
			return 1
		}
		return 0
	}
	m := mochi.Properties{
		ContentType: string(p.ContentType), ResponseTopic: string(p.ResponseTopic), CorrelationData: p.CorrelationData, AssignedClientID: string(p.AssignedClientID),
		AuthenticationMethod: string(p.AuthMethod), AuthenticationData: p.AuthData, ResponseInfo: string(p.ResponseInfo), ServerReference: string(p.ServerReference),
		ReasonString: string(p.ReasonString), MessageExpiryInterval: p.MessageExpiry, SessionExpiryInterval: p.SessionExpiry, WillDelayInterval: p.WillDelay,
		MaximumPacketSize: p.MaximumPacketSize, ServerKeepAlive: p.ServerKeepAlive, ReceiveMaximum: p.ReceiveMaximum, TopicAliasMaximum: p.TopicAliasMaximum,
		TopicAlias: p.TopicAlias, PayloadFormat: p.PayloadFormat, MaximumQos: p.MaximumQoS, RequestProblemInfo: one(p.RequestProblemInfo),
		RequestResponseInfo: one(p.RequestResponseInfo), RetainAvailable: one(p.RetainAvailable), WildcardSubAvailable: one(p.WildcardAvailable),
		SubIDAvailable: one(p.SubIDAvailable), SharedSubAvailable: one(p.SharedAvailable),
		PayloadFormatFlag: p.Has(PropPayloadFormat), SessionExpiryIntervalFlag: p.Has(PropSessionExpiry), ServerKeepAliveFlag: p.Has(PropServerKeepAlive),
		RequestProblemInfoFlag: p.Has(PropRequestProblemInfo), TopicAliasFlag: p.Has(PropTopicAlias), MaximumQosFlag: p.Has(PropMaximumQoS),
		RetainAvailableFlag: p.Has(PropRetainAvailable), WildcardSubAvailableFlag: p.Has(PropWildcardAvailable), SubIDAvailableFlag: p.Has(PropSubIDAvailable),
		SharedSubAvailableFlag: p.Has(PropSharedAvailable),
	}
	for _, id := range p.SubscriptionIDs {
		m.SubscriptionIdentifier = append(m.SubscriptionIdentifier, int(id))
	}
	for _, u := range p.User {
		m.User = append(m.User, mochi.UserProperty{Key: string(u.Key), Val: string(u.Value)})
	}
	return m
}
