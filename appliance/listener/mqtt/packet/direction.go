package packet

// FromClient checks what depends on the direction: types, reason codes and properties that only a
// server sends. A server calls it after [Packet.Decode].
func (p *Packet) FromClient(v Version) error {
	switch p.Type {
	case CONNACK, SUBACK, UNSUBACK, PINGRESP:
		return protocol(p.Type.String() + " from a client") // §2.1.2
	case PUBLISH:
		if len(p.Props.SubscriptionIDs) > 0 {
			return protocol("subscription identifier from a client") // [MQTT-3.3.4-6]
		}
	case PUBACK, PUBREC: // §3.4.2.1
		if p.Code == NoMatchingSubscribers {
			return protocol("reason code is the server's")
		}
	case DISCONNECT: // §3.14.2.1
		if !clientDisconnects(p.Code) {
			return protocol("reason code is the server's")
		}
	case AUTH: // §3.15.2.1
		if v != V5 || p.Code == Success {
			return protocol("AUTH with Success from a client")
		}
	default: // no more than Decode has checked
	}
	return nil
}

// clientDisconnects: table 3-10 of 5.0, the codes that a client may send.
func clientDisconnects(code byte) bool {
	switch code {
	case NormalDisconnection, DisconnectWithWillMessage, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge,
		MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
		return true
	default:
		return false
	}
}

// FromServer is the same for a client.
func (p *Packet) FromServer(v Version) error {
	switch p.Type {
	case CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ:
		return protocol(p.Type.String() + " from a server") // §2.1.2
	case DISCONNECT:
		switch {
		case v != V5:
			return protocol("DISCONNECT from a server before 5.0")
		case p.Code == DisconnectWithWillMessage:
			return protocol("reason code is the client's") // §3.14.2.1
		case p.Props.Has(PropSessionExpiry):
			return protocol("session expiry in a DISCONNECT from a server") // [MQTT-3.14.2-2]
		}
	case AUTH:
		if v != V5 || p.Code == ReAuthenticate {
			return protocol("AUTH with re-authenticate from a server") // §3.15.2.1
		}
	default: // no more than Decode has checked
	}
	return nil
}
