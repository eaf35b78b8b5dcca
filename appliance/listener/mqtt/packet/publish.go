package packet

// Publish is a PUBLISH on its way to one of many receivers: what differs between them is here,
// what does not (Topic, Shared, Payload) is made once and used by all.
type Publish struct {
	Dup    bool
	Retain bool
	QoS    byte
	ID     uint16 // for QoS 1 and 2

	Topic   string // empty only with Alias
	Payload []byte

	// 5.0 only; ignored before.
	Alias           uint16 // topic alias; 0 = none
	HasExpiry       bool
	MessageExpiry   uint32 // seconds that are left
	SubscriptionIDs []uint32
	Shared          []byte // from [Properties.AppendShared]
}

// AppendHead writes the packet up to its payload, which the caller writes next, unchanged. The
// fields are the caller's own and are not checked again; Topic is at most 65,535 bytes and the
// whole at most [MaxBody] (see [Publish.Size]).
func (p *Publish) AppendHead(dst []byte, v Version) []byte { return dst }

// Size returns the bytes of the whole packet with its payload, to compare with the receiver's maximum
// packet size [MQTT-3.1.2-24].
func (p *Publish) Size(v Version) int { return 0 }

// AppendShared writes those properties of a message that are the same for all its receivers, for
// [Publish.Shared]: payload format, content type, response topic, correlation data and user
// properties, in that order [MQTT-3.3.2-18].
func (p *Properties) AppendShared(dst []byte) ([]byte, error) { return dst, nil }
