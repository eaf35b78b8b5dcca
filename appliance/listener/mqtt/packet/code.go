package packet

import (
	"bytes"
	"strconv"
)

// The reason codes of MQTT 5.0 by their names (5.0 §2.4). Below 0x80 is success.
const (
	Success                             byte = 0x00
	NormalDisconnection                 byte = 0x00
	GrantedQoS0                         byte = 0x00
	GrantedQoS1                         byte = 0x01
	GrantedQoS2                         byte = 0x02
	DisconnectWithWillMessage           byte = 0x04
	NoMatchingSubscribers               byte = 0x10
	NoSubscriptionExisted               byte = 0x11
	ContinueAuthentication              byte = 0x18
	ReAuthenticate                      byte = 0x19
	UnspecifiedError                    byte = 0x80
	MalformedPacket                     byte = 0x81
	ProtocolError                       byte = 0x82
	ImplementationSpecificError         byte = 0x83
	UnsupportedProtocolVersion          byte = 0x84
	ClientIdentifierNotValid            byte = 0x85
	BadUserNameOrPassword               byte = 0x86
	NotAuthorized                       byte = 0x87
	ServerUnavailable                   byte = 0x88
	ServerBusy                          byte = 0x89
	Banned                              byte = 0x8A
	ServerShuttingDown                  byte = 0x8B
	BadAuthenticationMethod             byte = 0x8C
	KeepAliveTimeout                    byte = 0x8D
	SessionTakenOver                    byte = 0x8E
	TopicFilterInvalid                  byte = 0x8F
	TopicNameInvalid                    byte = 0x90
	PacketIdentifierInUse               byte = 0x91
	PacketIdentifierNotFound            byte = 0x92
	ReceiveMaximumExceeded              byte = 0x93
	TopicAliasInvalid                   byte = 0x94
	PacketTooLarge                      byte = 0x95
	MessageRateTooHigh                  byte = 0x96
	QuotaExceeded                       byte = 0x97
	AdministrativeAction                byte = 0x98
	PayloadFormatInvalid                byte = 0x99
	RetainNotSupported                  byte = 0x9A
	QoSNotSupported                     byte = 0x9B
	UseAnotherServer                    byte = 0x9C
	ServerMoved                         byte = 0x9D
	SharedSubscriptionsNotSupported     byte = 0x9E
	ConnectionRateExceeded              byte = 0x9F
	MaximumConnectTime                  byte = 0xA0
	SubscriptionIdentifiersNotSupported byte = 0xA1
	WildcardSubscriptionsNotSupported   byte = 0xA2
)

// The return codes of a CONNACK before 5.0 (3.1.1 §3.2.2.3). 0 is accepted.
const (
	RefusedVersion     byte = 1
	RefusedIdentifier  byte = 2
	RefusedUnavailable byte = 3
	RefusedCredentials byte = 4
	RefusedNotAllowed  byte = 5
)

// SubackFailure is the only failure that a SUBACK of 3.1.1 has (3.1.1 §3.9.3).
const SubackFailure byte = 0x80

// ReturnCode translates a reason code into the return code of a CONNACK before 5.0. ok is false
// when that version has no code for it: the connection is closed without a CONNACK.
func ReturnCode(code byte) (rc byte, ok bool) {
	switch code {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return RefusedVersion, true
	case ClientIdentifierNotValid:
		return RefusedIdentifier, true
	case ServerUnavailable, ServerBusy, UseAnotherServer, ServerMoved, QuotaExceeded, ConnectionRateExceeded:
		return RefusedUnavailable, true
	case BadUserNameOrPassword:
		return RefusedCredentials, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return RefusedNotAllowed, true
	default:
		return 0, false
	}
}

// codeAllowed reports whether a packet may carry the reason code (5.0 tables 3-1, 3-4 to 3-10, §3.15.2.1;
// 3.1.1 §3.2.2.3, §3.9.3).
func codeAllowed(v Version, t Type, code byte) bool {
	if v != V5 {
		switch t {
		case CONNACK:
			return code <= RefusedNotAllowed
		case SUBACK:
			return code <= GrantedQoS2 || code == SubackFailure
		default:
			return code == Success
		}
	}
	switch t {
	case CONNACK:
		return connackCode(code)
	case PUBACK, PUBREC:
		return oneOf(code, Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicNameInvalid, PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid)
	case PUBREL, PUBCOMP:
		return code == Success || code == PacketIdentifierNotFound
	case SUBACK:
		return oneOf(code, GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIdentifierInUse, QuotaExceeded, SharedSubscriptionsNotSupported,
			SubscriptionIdentifiersNotSupported, WildcardSubscriptionsNotSupported)
	case UNSUBACK:
		return oneOf(code, Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIdentifierInUse)
	case DISCONNECT:
		return clientDisconnects(code) || serverDisconnects(code)
	case AUTH:
		return oneOf(code, Success, ContinueAuthentication, ReAuthenticate)
	default:
		return false
	}
}

func oneOf(code byte, codes ...byte) bool { return bytes.IndexByte(codes, code) >= 0 }

// connackCode: table 3-1 of 5.0.
func connackCode(code byte) bool {
	return code == Success || code >= UnspecifiedError && code <= Banned ||
		oneOf(code, BadAuthenticationMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded, PayloadFormatInvalid,
			RetainNotSupported, QoSNotSupported, UseAnotherServer, ServerMoved, ConnectionRateExceeded)
}

// serverDisconnects: table 3-10 of 5.0, the codes that only a server sends.
func serverDisconnects(code byte) bool {
	return code >= RetainNotSupported && code <= WildcardSubscriptionsNotSupported ||
		oneOf(code, NotAuthorized, ServerBusy, ServerShuttingDown, KeepAliveTimeout, SessionTakenOver, TopicFilterInvalid)
}

// Error is an offence against the specification in one packet.
type Error struct {
	Code   byte   // reason code of 5.0 for the CONNACK or DISCONNECT that answers it
	Detail string // what is wrong; fit for a reason string
}

func (e *Error) Error() string {
	return "mqtt packet: " + e.Detail + " (0x" + strconv.FormatUint(uint64(e.Code), 16) + ")"
}

func malformed(detail string) error { return &Error{MalformedPacket, detail} }
func protocol(detail string) error  { return &Error{ProtocolError, detail} }
