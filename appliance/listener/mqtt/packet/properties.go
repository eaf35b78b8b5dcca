package packet

// PropertyID names a property of MQTT 5.0 (5.0 §2.2.2.2).
type PropertyID byte

// The properties.
const (
	PropPayloadFormat       PropertyID = 1
	PropMessageExpiry       PropertyID = 2
	PropContentType         PropertyID = 3
	PropResponseTopic       PropertyID = 8
	PropCorrelationData     PropertyID = 9
	PropSubscriptionID      PropertyID = 11
	PropSessionExpiry       PropertyID = 17
	PropAssignedClientID    PropertyID = 18
	PropServerKeepAlive     PropertyID = 19
	PropAuthMethod          PropertyID = 21
	PropAuthData            PropertyID = 22
	PropRequestProblemInfo  PropertyID = 23
	PropWillDelay           PropertyID = 24
	PropRequestResponseInfo PropertyID = 25
	PropResponseInfo        PropertyID = 26
	PropServerReference     PropertyID = 28
	PropReasonString        PropertyID = 31
	PropReceiveMaximum      PropertyID = 33
	PropTopicAliasMaximum   PropertyID = 34
	PropTopicAlias          PropertyID = 35
	PropMaximumQoS          PropertyID = 36
	PropRetainAvailable     PropertyID = 37
	PropUser                PropertyID = 38
	PropMaximumPacketSize   PropertyID = 39
	PropWildcardAvailable   PropertyID = 40
	PropSubIDAvailable      PropertyID = 41
	PropSharedAvailable     PropertyID = 42
)

// Properties are those of one packet or will. A field means something only when [Properties.Has]
// says that it is present, and is written only after [Properties.Mark]; User and SubscriptionIDs
// are present when they are not empty.
type Properties struct {
	present propertySet // without User and SubscriptionIDs

	User            []UserProperty
	SubscriptionIDs []uint32 // 1 to 268,435,455; more than one only from the server

	ContentType      []byte
	ResponseTopic    []byte
	CorrelationData  []byte
	AssignedClientID []byte
	AuthMethod       []byte
	AuthData         []byte
	ResponseInfo     []byte
	ServerReference  []byte
	ReasonString     []byte

	MessageExpiry     uint32 // seconds; absent: never
	SessionExpiry     uint32 // seconds; 0xFFFFFFFF: never; absent: 0, and in a CONNACK what was asked for
	WillDelay         uint32 // seconds; absent: 0
	MaximumPacketSize uint32 // bytes, at least 1; absent: MaxBody and its header

	ServerKeepAlive   uint16 // seconds; absent: what was asked for
	ReceiveMaximum    uint16 // at least 1; absent: 65,535
	TopicAliasMaximum uint16 // absent: 0
	TopicAlias        uint16 // at least 1

	PayloadFormat byte // 0 bytes, 1 UTF-8; absent: 0
	MaximumQoS    byte // 0 or 1; absent: 2

	RequestProblemInfo  bool // absent: true
	RequestResponseInfo bool // absent: false
	RetainAvailable     bool // absent: true, like the following
	WildcardAvailable   bool
	SubIDAvailable      bool
	SharedAvailable     bool
}

// UserProperty is a pair that the sender chose; the same key may come again (5.0 §3.1.2.11.8).
type UserProperty struct {
	Key   []byte
	Value []byte
}

// Has reports whether the property is present.
func (p *Properties) Has(id PropertyID) bool { return p.all().has(id) }

// Mark makes properties present: their fields are written by [Packet.Append].
func (p *Properties) Mark(ids ...PropertyID) {
	p.present |= set(ids...) &^ set(PropUser, PropSubscriptionID)
}

// Unmark makes a property absent.
func (p *Properties) Unmark(id PropertyID) { p.present &^= set(id) }

// propertySet has bit n for property n.
type propertySet uint64

func set(ids ...PropertyID) (s propertySet) {
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

func (s propertySet) has(id PropertyID) bool { return s>>id&1 == 1 }

func (p *Properties) all() propertySet {
	s := p.present
	if len(p.User) > 0 {
		s |= 1 << PropUser
	}
	if len(p.SubscriptionIDs) > 0 {
		s |= 1 << PropSubscriptionID
	}
	return s
}

func (p *Properties) clear() {
	if p.all() != 0 {
		*p = Properties{User: reuse(p.User), SubscriptionIDs: reuse(p.SubscriptionIDs)}
	}
}

// will stands for the properties of a will where a packet type is asked for.
const will Type = 0

// allowed is table 2-4 of 5.0: the properties that may stand in a packet, or a will.
func allowed(t Type) propertySet {
	const (
		user     = propertySet(1 << PropUser)
		reason   = user | 1<<PropReasonString
		message  = user | 1<<PropPayloadFormat | 1<<PropMessageExpiry | 1<<PropContentType | 1<<PropResponseTopic | 1<<PropCorrelationData
		limits   = user | 1<<PropSessionExpiry | 1<<PropReceiveMaximum | 1<<PropTopicAliasMaximum | 1<<PropMaximumPacketSize
		auth     = user | 1<<PropAuthMethod | 1<<PropAuthData
		offering = 1<<PropMaximumQoS | 1<<PropRetainAvailable | 1<<PropWildcardAvailable | 1<<PropSubIDAvailable | 1<<PropSharedAvailable
	)
	switch t {
	case CONNECT:
		return limits | auth | 1<<PropRequestProblemInfo | 1<<PropRequestResponseInfo
	case CONNACK:
		return limits | auth | reason | offering | 1<<PropAssignedClientID | 1<<PropServerKeepAlive | 1<<PropResponseInfo | 1<<PropServerReference
	case PUBLISH:
		return message | 1<<PropTopicAlias | 1<<PropSubscriptionID
	case will:
		return message | 1<<PropWillDelay
	case SUBSCRIBE:
		return user | 1<<PropSubscriptionID
	case UNSUBSCRIBE:
		return user
	case PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK:
		return reason
	case DISCONNECT:
		return reason | 1<<PropSessionExpiry | 1<<PropServerReference
	case AUTH:
		return reason | auth
	default:
		return 0
	}
}

// The kinds of a property's value (5.0 table 2-4). Only one of the functions below knows a
// property; a field that is nil is not of that kind.

func (p *Properties) uint32Field(id PropertyID) *uint32 {
	switch id {
	case PropMessageExpiry:
		return &p.MessageExpiry
	case PropSessionExpiry:
		return &p.SessionExpiry
	case PropWillDelay:
		return &p.WillDelay
	case PropMaximumPacketSize:
		return &p.MaximumPacketSize
	default:
		return nil
	}
}

func (p *Properties) uint16Field(id PropertyID) *uint16 {
	switch id {
	case PropServerKeepAlive:
		return &p.ServerKeepAlive
	case PropReceiveMaximum:
		return &p.ReceiveMaximum
	case PropTopicAliasMaximum:
		return &p.TopicAliasMaximum
	case PropTopicAlias:
		return &p.TopicAlias
	default:
		return nil
	}
}

func (p *Properties) byteField(id PropertyID) *byte {
	switch id {
	case PropPayloadFormat:
		return &p.PayloadFormat
	case PropMaximumQoS:
		return &p.MaximumQoS
	default:
		return nil
	}
}

func (p *Properties) boolField(id PropertyID) *bool {
	switch id {
	case PropRequestProblemInfo:
		return &p.RequestProblemInfo
	case PropRequestResponseInfo:
		return &p.RequestResponseInfo
	case PropRetainAvailable:
		return &p.RetainAvailable
	case PropWildcardAvailable:
		return &p.WildcardAvailable
	case PropSubIDAvailable:
		return &p.SubIDAvailable
	case PropSharedAvailable:
		return &p.SharedAvailable
	default:
		return nil
	}
}

func (p *Properties) stringField(id PropertyID) *[]byte {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropAssignedClientID:
		return &p.AssignedClientID
	case PropAuthMethod:
		return &p.AuthMethod
	case PropResponseInfo:
		return &p.ResponseInfo
	case PropServerReference:
		return &p.ServerReference
	case PropReasonString:
		return &p.ReasonString
	default:
		return nil
	}
}

func (p *Properties) binaryField(id PropertyID) *[]byte {
	switch id {
	case PropCorrelationData:
		return &p.CorrelationData
	case PropAuthData:
		return &p.AuthData
	default:
		return nil
	}
}
