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
	present uint64 // bit n = property n

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

	MessageExpiry     uint32 // seconds
	SessionExpiry     uint32 // seconds; 0xFFFFFFFF = never
	WillDelay         uint32 // seconds
	MaximumPacketSize uint32 // bytes, at least 1

	ServerKeepAlive   uint16 // seconds
	ReceiveMaximum    uint16 // at least 1
	TopicAliasMaximum uint16
	TopicAlias        uint16 // at least 1

	PayloadFormat byte // 0 bytes, 1 UTF-8
	MaximumQoS    byte // 0 or 1

	RequestProblemInfo  bool
	RequestResponseInfo bool
	RetainAvailable     bool
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
func (p *Properties) Has(id PropertyID) bool {
	switch id {
	case PropUser:
		return len(p.User) > 0
	case PropSubscriptionID:
		return len(p.SubscriptionIDs) > 0
	default:
		return p.present>>id&1 == 1
	}
}

// Mark makes properties present: their fields are written by [Packet.Append].
func (p *Properties) Mark(ids ...PropertyID) {
	for _, id := range ids {
		p.present |= 1 << id
	}
}

// Unmark makes a property absent.
func (p *Properties) Unmark(id PropertyID) { p.present &^= 1 << id }
