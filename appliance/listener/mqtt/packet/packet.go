package packet

// Packet is one control packet of any type: one flat struct, so that a connection decodes into the
// same one for ever. Which fields mean something depends on Type; [Packet.Decode] leaves the
// others zero. Slices alias the body that was decoded.
type Packet struct {
	Type Type

	// The flags of a PUBLISH.
	Dup    bool
	Retain bool
	QoS    byte

	// SessionPresent belongs to CONNACK.
	SessionPresent bool

	// Code is the reason code of CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT and AUTH; an
	// omitted one reads as [Success]. In a CONNACK before 5.0 it is the return code, 0 to 5
	// (see [ReturnCode]).
	Code byte

	// ID is the packet id of PUBLISH with QoS 1 and 2, the four acks, SUBSCRIBE, SUBACK, UNSUBSCRIBE
	// and UNSUBACK: 1 to 65,535.
	ID uint16

	// Topic and Payload belong to PUBLISH. An empty topic comes with a topic alias, in 5.0 only.
	Topic   []byte
	Payload []byte

	// Filters are those of SUBSCRIBE and, without options, of UNSUBSCRIBE.
	Filters []Subscription

	// Codes are the answers of SUBACK and of 5.0's UNSUBACK, one for each filter, in order.
	Codes []byte

	// Props are the properties of 5.0; those of a will are in Will.
	Props Properties

	Connect
}

// Connect is what only a CONNECT carries (5.0 §3.1).
type Connect struct {
	ProtocolName []byte
	Version      Version
	CleanStart   bool
	HasUsername  bool
	HasPassword  bool
	KeepAlive    uint16 // seconds; 0 = none
	ClientID     []byte // empty = the server assigns one
	Username     []byte
	Password     []byte
	Will         *Will // nil = none
}

// Will is the message that a CONNECT leaves for its own end (5.0 §3.1.2.5).
type Will struct {
	Retain  bool
	QoS     byte
	Topic   []byte
	Payload []byte
	Props   Properties
}

// Subscription is one filter of a SUBSCRIBE with its options (5.0 §3.8.3.1). Before 5.0 only QoS
// exists, in an UNSUBSCRIBE only Filter.
type Subscription struct {
	Filter            []byte
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained, 1 only to a new subscription, 2 never
}

// keepFilters bounds what a packet keeps for its next use: one large SUBSCRIBE must not stay
// allocated for the life of the connection.
const keepFilters = 16

// Clear forgets everything, and so also every slice of the last body. A few small slices stay
// allocated for the next [Packet.Decode].
func (p *Packet) Clear() {
	filters, user, ids := p.Filters, p.Props.User, p.Props.SubscriptionIDs
	*p = Packet{}
	p.Filters = reuse(filters)
	p.Props.User = reuse(user)
	p.Props.SubscriptionIDs = reuse(ids)
}

// reuse empties s for its next use, or drops it when it is large.
func reuse[T any](s []T) []T {
	if cap(s) > keepFilters {
		return nil
	}
	clear(s[:cap(s)])
	return s[:0]
}
