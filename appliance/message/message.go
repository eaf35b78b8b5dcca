package message

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Priorities run from 0 to 9. From [UrgentPriority] on a message goes ahead of the backlog.
const (
	DefaultPriority = 4
	UrgentPriority  = 7
	MaxPriority     = 9
)

// MaxPayload is the largest payload that travels inside the log, in bytes; what is larger belongs
// into a blob.
const MaxPayload = 256 << 10

// Limits of the parts of a message beside its payload.
const (
	MaxProperties     = 64
	MaxPropertyBytes  = 16 << 10 // keys and values of all properties together
	MaxAttributeBytes = 1 << 10  // each of content type, event id, source, type, key …
	MaxTTL            = 10 * 365 * 24 * time.Hour
)

// QoS is MQTT's quality of service of a publish or of a subscription's filter.
type QoS uint8

// The three qualities of service (MQTT 5.0 §4.3).
const (
	AtMostOnce QoS = iota
	AtLeastOnce
	ExactlyOnce
)

// ReceiptMode says which receipts the publisher asked for.
type ReceiptMode uint8

const (
	// NoReceipt announces nothing; outcomes are counted and traced.
	NoReceipt ReceiptMode = iota
	// EachReceipt announces every outcome on the publisher's receipt topic, not stored.
	EachReceipt
	// FinalReceipt also stores one summary message there once nobody owes the message any more.
	FinalReceipt
)

// Property is one user property; order and repeated keys are kept (MQTT 5.0 §3.3.2.3.7).
type Property struct{ Key, Value string }

// Event holds the CloudEvents attributes that a publisher gave (CloudEvents 1.0 §3). Empty fields
// take the defaults of DESIGN §7 when the message is shown as an event.
type Event struct {
	ID, Source, Type, Subject, DataSchema string
	Time                                  string     // RFC 3339, kept as it came
	Extensions                            []Property // lower-case names, in order
}

// Message is one message. What a publisher fills in is above the line; the outbox fills the rest.
// A stored Message is shared by all its receivers and must not be changed, its slices included.
// Start from [New], so that the defaults hold.
type Message struct {
	Topic       Topic
	Payload     []byte
	ContentType string // media type, "" unknown
	Text        bool   // the publisher says that the payload is UTF-8 (MQTT 5.0 §3.3.2.3.2); not checked
	Priority    uint8  // 0..9
	QoS         QoS    // what the publisher asked for
	Retain      bool
	Volatile    bool          // delivered to whoever is connected now, never stored
	TTL         time.Duration // 0: the subscription's own limit
	Delay       time.Duration // 0: at once
	Receipt     ReceiptMode
	Properties  []Property
	Event       Event
	Response    Topic  // where an answer goes (MQTT 5.0 §3.3.2.3.5)
	Correlation []byte // what the answer must carry

	Key string // idempotency key, "" none; only its hash is stored

	// ---- filled in by the appliance ----

	From    string    // the publisher: a device id, key name, or "" for the appliance itself
	Client  string    // the MQTT client id that published it, for "no local"; "" on other protocols
	ID      ID        // zero until stored
	Seq     uint64    // position in the log; differs from ID.Seq after a delay or requeue
	Time    time.Time // when it was stored; zero while the clock is not trusted
	Age     int64     // when it was stored, on the age clock in nanoseconds (system.Clock)
	Expires int64     // when its own TTL ends, on the age clock; 0 never
}

// New returns a message with the defaults: priority 4, QoS 1, stored.
func New(topic Topic, payload []byte) *Message {
	return &Message{Topic: topic, Payload: payload, Priority: DefaultPriority, QoS: AtLeastOnce}
}

// Urgent reports whether the message goes ahead of the backlog.
func (m *Message) Urgent() bool { return m.Priority >= UrgentPriority }

// Check reports what is wrong with a message from outside as a [Problem], or nil. It checks all that does not
// need to know who is asking.
func (m *Message) Check() error {
	if _, err := ParseTopic(string(m.Topic)); err != nil {
		return err
	}
	if len(m.Payload) > MaxPayload {
		return Problemf(CodeTooLarge, "the payload has %d bytes; the limit is %d", len(m.Payload), MaxPayload)
	}
	if m.Priority > MaxPriority {
		return Problemf(CodeBadRequest, "priority %d is out of range 0 to 9", m.Priority)
	}
	if m.TTL < 0 || m.TTL > MaxTTL || m.Delay < 0 || m.Delay > MaxTTL {
		return Problemf(CodeBadRequest, "ttl %v or delay %v is out of range 0 to %v", m.TTL, m.Delay, MaxTTL)
	}
	if m.QoS > ExactlyOnce || m.Receipt > FinalReceipt {
		return Problemf(CodeBadRequest, "qos %d or receipt mode %d is out of range 0 to 2", m.QoS, m.Receipt)
	}
	if m.Volatile && (m.Delay > 0 || m.Retain) {
		return Problemf(CodeBadRequest, "a volatile message is not stored, so it can be neither delayed nor retained")
	}
	if m.Response != "" {
		if _, err := ParseTopic(string(m.Response)); err != nil {
			return err
		}
	}
	return m.checkAttributes()
}

func (m *Message) checkAttributes() error {
	e := &m.Event
	for _, a := range [...]Property{
		{"content type", m.ContentType},
		{"event id", e.ID},
		{"event source", e.Source},
		{"event type", e.Type},
		{"event subject", e.Subject},
		{"event dataschema", e.DataSchema},
		{"event time", e.Time},
		{"correlation data", string(m.Correlation)},
		{"idempotency key", m.Key},
	} {
		if len(a.Value) > MaxAttributeBytes {
			return Problemf(CodeTooLarge, "the %s has %d bytes; the limit is %d", a.Key, len(a.Value), MaxAttributeBytes)
		}
		if a.Key != "correlation data" && badText(a.Value) {
			return Problemf(CodeBadUTF8, "the %s is not valid UTF-8 or has control characters", a.Key)
		}
	}
	total := 0
	for _, list := range [...][]Property{m.Properties, e.Extensions} {
		if len(list) > MaxProperties {
			return Problemf(CodeTooLarge, "the message has %d properties; the limit is %d", len(list), MaxProperties)
		}
		for _, p := range list {
			total += len(p.Key) + len(p.Value)
			if p.Key == "" || badText(p.Key) || !utf8.ValidString(p.Value) || strings.IndexByte(p.Value, 0) >= 0 {
				return Problemf(CodeBadUTF8, "property %.40q is empty, not valid UTF-8 or has control characters", p.Key)
			}
		}
	}
	if total > MaxPropertyBytes {
		return Problemf(CodeTooLarge, "the properties have %d bytes; the limit is %d", total, MaxPropertyBytes)
	}
	return nil
}

func badText(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
