package packet

import (
	"bytes"

	paho "github.com/eclipse/paho.mqtt.golang/packets"
)

// paho3Oracle is github.com/eclipse/paho.mqtt.golang/packets v1.5.1, which speaks 3.1 and 3.1.1.
func paho3Oracle(v Version) oracle {
	return oracle{
		name: "paho.mqtt.golang", v: v, read: paho3Read, write: paho3Write,
		cannotRead: func(p *Packet) string {
			if p.Type == CONNECT && v == V31 && !p.HasPassword {
				return "it insists on a user name and password that 3.1 lets a client announce and not send"
			}
			return ""
		},
		cannotWrite: func(*Packet) string { return "" },
	}
}

func paho3Read(v Version, wire []byte) (Packet, error) {
	cp, err := paho.ReadPacket(bytes.NewReader(wire))
	if err != nil {
		return Packet{}, err
	}
	var p Packet
	switch m := cp.(type) {
	case *paho.ConnectPacket:
		p = Packet{Type: CONNECT, Connect: Connect{
			ProtocolName: []byte(m.ProtocolName), Version: v, CleanStart: m.CleanSession, KeepAlive: m.Keepalive, ClientID: []byte(m.ClientIdentifier),
			HasUsername: m.UsernameFlag, Username: []byte(m.Username), HasPassword: m.PasswordFlag, Password: m.Password,
		}}
		if m.WillFlag {
			p.Will = &Will{Retain: m.WillRetain, QoS: m.WillQos, Topic: []byte(m.WillTopic), Payload: m.WillMessage}
		}
	case *paho.ConnackPacket:
		p = Packet{Type: CONNACK, SessionPresent: m.SessionPresent && v != V31, Code: m.ReturnCode}
	case *paho.PublishPacket:
		p = Packet{Type: PUBLISH, Dup: m.Dup, QoS: m.Qos, Retain: m.Retain, ID: m.MessageID, Topic: []byte(m.TopicName), Payload: m.Payload}
	case *paho.PubackPacket:
		p = Packet{Type: PUBACK, ID: m.MessageID}
	case *paho.PubrecPacket:
		p = Packet{Type: PUBREC, ID: m.MessageID}
	case *paho.PubrelPacket:
		p = Packet{Type: PUBREL, ID: m.MessageID}
	case *paho.PubcompPacket:
		p = Packet{Type: PUBCOMP, ID: m.MessageID}
	case *paho.SubscribePacket:
		p = Packet{Type: SUBSCRIBE, ID: m.MessageID}
		for i, topic := range m.Topics {
			qos := m.Qoss[i]
			if v == V31 {
				qos &= 3 // the other bits are not used
			}
			p.Filters = append(p.Filters, Subscription{Filter: []byte(topic), QoS: qos})
		}
	case *paho.SubackPacket:
		p = Packet{Type: SUBACK, ID: m.MessageID, Codes: m.ReturnCodes}
	case *paho.UnsubscribePacket:
		p = Packet{Type: UNSUBSCRIBE, ID: m.MessageID}
		for _, topic := range m.Topics {
			p.Filters = append(p.Filters, Subscription{Filter: []byte(topic)})
		}
	case *paho.UnsubackPacket:
		p = Packet{Type: UNSUBACK, ID: m.MessageID}
	case *paho.PingreqPacket:
		p = Packet{Type: PINGREQ}
	case *paho.PingrespPacket:
		p = Packet{Type: PINGRESP}
	case *paho.DisconnectPacket:
		p = Packet{Type: DISCONNECT}
	}
	return p, nil
}

func paho3Write(_ Version, p *Packet) ([]byte, error) {
	cp := paho.NewControlPacket(byte(p.Type))
	switch m := cp.(type) {
	case *paho.ConnectPacket:
		m.ProtocolName, m.ProtocolVersion, m.CleanSession, m.Keepalive, m.ClientIdentifier = string(p.ProtocolName), byte(p.Version), p.CleanStart, p.KeepAlive, string(p.ClientID)
		m.UsernameFlag, m.Username, m.PasswordFlag, m.Password = p.HasUsername, string(p.Username), p.HasPassword, p.Password
		if w := p.Will; w != nil {
			m.WillFlag, m.WillRetain, m.WillQos, m.WillTopic, m.WillMessage = true, w.Retain, w.QoS, string(w.Topic), w.Payload
		}
	case *paho.ConnackPacket:
		m.SessionPresent, m.ReturnCode = p.SessionPresent, p.Code
	case *paho.PublishPacket:
		m.Dup, m.Qos, m.Retain, m.MessageID, m.TopicName, m.Payload = p.Dup, p.QoS, p.Retain, p.ID, string(p.Topic), p.Payload
	case *paho.PubackPacket:
		m.MessageID = p.ID
	case *paho.PubrecPacket:
		m.MessageID = p.ID
	case *paho.PubrelPacket:
		m.MessageID = p.ID
	case *paho.PubcompPacket:
		m.MessageID = p.ID
	case *paho.SubscribePacket:
		m.MessageID = p.ID
		for _, f := range p.Filters {
			m.Topics, m.Qoss = append(m.Topics, string(f.Filter)), append(m.Qoss, f.QoS)
		}
	case *paho.SubackPacket:
		m.MessageID, m.ReturnCodes = p.ID, p.Codes
	case *paho.UnsubscribePacket:
		m.MessageID = p.ID
		for _, f := range p.Filters {
			m.Topics = append(m.Topics, string(f.Filter))
		}
	case *paho.UnsubackPacket:
		m.MessageID = p.ID
	}
	var buf bytes.Buffer
	err := cp.Write(&buf)
	return buf.Bytes(), err
}
