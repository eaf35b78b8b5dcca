package outbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Kind is the first byte of every record; the numbers are on disk.
type Kind uint8

// The kinds of records.
const (
	KindMessage    Kind = 1 // a message, or a second copy of one that was delayed or requeued
	KindSettlement Kind = 2 // how debts ended
	KindChange     Kind = 3 // a subscription was made, changed, linked or removed
	KindCancel     Kind = 4 // a message was withdrawn
	KindRelease    Kind = 5 // a delayed message has gone out, or a dead letter was taken back
	KindNote       Kind = 6 // what a protocol must remember with a subscription
	KindCleaned    Kind = 7 // settled records up to here may be gone
	KindMove       Kind = 8 // a subscription owes the second copy that follows, and not the first any more
)

// Entry is one decoded record at its place in the log. What it points to is shared and immutable.
type Entry struct {
	Seq  uint64
	Kind Kind

	Msg    *message.Message // KindMessage
	Target uint64           // KindMessage: owed by this subscription alone; 0: by whoever matches
	Held   bool             // KindMessage: delayed, so nobody owes it yet
	Cold   bool             // a carried copy: it creates no debts

	Settled []Settlement // KindSettlement
	Change  *Change      // KindChange
	Age     int64        // KindChange: when, on the age clock
	Cancel  uint64       // KindCancel: the sequence number
	Notes   Notes        // KindNote
	Moved   Move         // KindMove

	release uint64 // KindRelease: sequence number of the delayed message, or entry of the dead letter
	dead    bool   // KindRelease: release names a dead letter
	cleaned uint64 // KindCleaned: the sequence number

	origin uint64 // KindMessage: place of the first copy
	idem   *idemKey
}

// Settlement is the end of one debt.
type Settlement struct {
	Sub      uint64
	Seq      uint64
	State    message.State
	Attempts int
	Reason   string
	Bytes    int64 // of the record, when State is Dead: the dead letters are limited by size
	Wall     int64 // in an [Outcome]: when it became durable, unix ns, 0 unknown; not stored
}

// Move names a debt whose place in the log changes.
type Move struct{ Sub, Seq uint64 }

// givenUp reports whether the settlement makes a dead letter.
func (s *Settlement) givenUp() bool { return s.State == message.Dead || s.State == message.Expired }

// ChangeOp is what a [Change] does.
type ChangeOp string

// The operations of a change.
const (
	OpPut    ChangeOp = "put"    // make the subscription, or replace its filters and policy
	OpDelete ChangeOp = "delete" // end it with all it owes
	OpLink   ChangeOp = "link"   // a link is about to send: after a crash, the first window may have been sent
	OpUnlink ChangeOp = "unlink" // the link is gone, nothing is on its way
	OpRewind ChangeOp = "rewind" // owe again what Debts lists
)

// Change is one change of the subscription table, effective at its own sequence number.
type Change struct {
	Op     ChangeOp        `json:"op"`
	Sub    uint64          `json:"sub"`
	Spec   json.RawMessage `json:"spec,omitempty"`   // put: the courier's description
	Debts  []byte          `json:"debts,omitempty"`  // put, rewind: explicit debts as a delivery.Set
	Urgent []byte          `json:"urgent,omitempty"` // those of Debts that are urgent
	Shown  bool            `json:"shown,omitempty"`  // put: the debts are retained messages, to be shown as such
	Reach  int             `json:"reach,omitempty"`  // link: that many of the first owed may be on their way, in each lane
	From   uint64          `json:"from,omitempty"`   // put, rewind: besides, owe what matches from here to the change itself
}

// Bits of a message record's flags: which optional fields follow, in this order.
const (
	hasType = 1 << iota
	hasFrom
	hasPriority
	hasTTL
	hasDelay
	hasProperties
	hasEvent
	hasResponse
	hasCorrelation
	hasIdem
	isRetained
	hasOrigin
	hasTarget
	hasReceipt
	hasQoS
	hasClient
	isTrusted // the wall clock was trusted when the original of a second copy was stored
	isText
	knownFlags = 1<<iota - 1
)

var (
	errShort  = errors.New("record ends early")
	errOrigin = errors.New("a second copy does not say of what")
)

type idemKey struct{ key, body [16]byte }

// appendMessage encodes a message record: kind, flags, topic, the optional fields, and the payload
// up to the end. origin is the first copy's place (0: this is the first copy).
func appendMessage(b []byte, m *message.Message, origin, target uint64, idem *idemKey) []byte {
	var flags uint64
	set := func(on bool, bit uint64) {
		if on {
			flags |= bit
		}
	}
	set(m.ContentType != "", hasType)
	set(m.From != "", hasFrom)
	set(m.Priority != message.DefaultPriority, hasPriority)
	set(m.TTL > 0, hasTTL)
	set(m.Delay > 0, hasDelay)
	set(len(m.Properties) > 0, hasProperties)
	event := hasEventOf(&m.Event)
	set(event, hasEvent)
	set(m.Response != "", hasResponse)
	set(len(m.Correlation) > 0, hasCorrelation)
	set(idem != nil, hasIdem)
	set(m.Retain, isRetained)
	set(origin != 0, hasOrigin)
	set(target != 0, hasTarget)
	set(m.Receipt != 0, hasReceipt)
	set(m.QoS != message.AtLeastOnce, hasQoS)
	set(m.Client != "", hasClient)
	set(origin != 0 && !m.Time.IsZero(), isTrusted)
	set(m.Text, isText)

	b = append(b, byte(KindMessage))
	b = binary.AppendUvarint(b, flags)
	b = appendString(b, string(m.Topic))
	for _, s := range [...]struct {
		bit uint64
		s   string
	}{{hasType, m.ContentType}, {hasFrom, m.From}} {
		if flags&s.bit != 0 {
			b = appendString(b, s.s)
		}
	}
	if flags&hasPriority != 0 {
		b = append(b, m.Priority)
	}
	if flags&hasTTL != 0 {
		b = binary.AppendUvarint(b, uint64(m.TTL))
	}
	if flags&hasDelay != 0 {
		b = binary.AppendUvarint(b, uint64(m.Delay))
	}
	if flags&hasProperties != 0 {
		b = appendProperties(b, m.Properties)
	}
	if event {
		for _, s := range [...]string{m.Event.ID, m.Event.Source, m.Event.Type, m.Event.Subject, m.Event.DataSchema, m.Event.Time} {
			b = appendString(b, s)
		}
		b = appendProperties(b, m.Event.Extensions)
	}
	return appendMessageTail(b, m, flags, origin, target, idem)
}

func appendMessageTail(b []byte, m *message.Message, flags, origin, target uint64, idem *idemKey) []byte {
	if flags&hasResponse != 0 {
		b = appendString(b, string(m.Response))
	}
	if flags&hasCorrelation != 0 {
		b = appendString(b, string(m.Correlation))
	}
	if flags&hasIdem != 0 {
		b = append(append(b, idem.key[:]...), idem.body[:]...)
	}
	if flags&hasOrigin != 0 {
		b = binary.AppendUvarint(b, origin)
		if flags&isTrusted != 0 {
			b = binary.AppendUvarint(b, uint64(m.Time.UnixMilli()))
		}
	}
	if flags&hasTarget != 0 {
		b = binary.AppendUvarint(b, target)
	}
	if flags&hasReceipt != 0 {
		b = append(b, byte(m.Receipt))
	}
	if flags&hasQoS != 0 {
		b = append(b, byte(m.QoS))
	}
	if flags&hasClient != 0 {
		b = appendString(b, m.Client)
	}
	return append(b, m.Payload...)
}

func hasEventOf(e *message.Event) bool {
	return e.ID != "" || e.Source != "" || e.Type != "" || e.Subject != "" || e.DataSchema != "" || e.Time != "" || len(e.Extensions) > 0
}

// decodeMessage is the inverse of appendMessage. The payload aliases data.
func decodeMessage(seq uint64, data []byte, stamp wal.Stamp, epoch message.Epoch) (Entry, error) {
	r := reader{b: data[1:]}
	flags := r.uvarint()
	if flags > knownFlags {
		return Entry{}, fmt.Errorf("decode message: unknown flags %#x; the record was written by a newer version", flags)
	}
	m := &message.Message{Priority: message.DefaultPriority, QoS: message.AtLeastOnce}
	e := Entry{Seq: seq, Kind: KindMessage, Msg: m, origin: seq}
	m.Topic = message.Topic(r.string())
	if flags&hasType != 0 {
		m.ContentType = r.string()
	}
	if flags&hasFrom != 0 {
		m.From = r.string()
	}
	if flags&hasPriority != 0 {
		m.Priority = r.byte()
	}
	if flags&hasTTL != 0 {
		m.TTL = time.Duration(r.uvarint())
	}
	if flags&hasDelay != 0 {
		m.Delay = time.Duration(r.uvarint())
		e.Held = true
	}
	if flags&hasProperties != 0 {
		m.Properties = r.properties()
	}
	if flags&hasEvent != 0 {
		v := &m.Event
		for _, s := range [...]*string{&v.ID, &v.Source, &v.Type, &v.Subject, &v.DataSchema, &v.Time} {
			*s = r.string()
		}
		v.Extensions = r.properties()
	}
	decodeMessageTail(&r, &e, flags)
	if r.err != nil {
		return Entry{}, fmt.Errorf("decode message: %w", r.err)
	}
	m.Retain, m.Text = flags&isRetained != 0, flags&isText != 0
	m.Payload = r.b
	stampMessage(m, seq, e.origin, stamp, epoch)
	return e, nil
}

func decodeMessageTail(r *reader, e *Entry, flags uint64) {
	m := e.Msg
	if flags&hasResponse != 0 {
		m.Response = message.Topic(r.string())
	}
	if flags&hasCorrelation != 0 {
		m.Correlation = []byte(r.string())
	}
	if flags&hasIdem != 0 {
		e.idem = &idemKey{key: [16]byte(r.take(16)), body: [16]byte(r.take(16))}
	}
	if flags&hasOrigin != 0 {
		if e.origin = r.uvarint(); e.origin == 0 && r.err == nil {
			r.err = errOrigin
		}
		if flags&isTrusted != 0 {
			m.Time = time.UnixMilli(int64(r.uvarint()))
		}
	}
	if flags&hasTarget != 0 {
		e.Target = r.uvarint()
	}
	if flags&hasReceipt != 0 {
		m.Receipt = message.ReceiptMode(r.byte())
	}
	if flags&hasQoS != 0 {
		m.QoS = message.QoS(r.byte())
	}
	if flags&hasClient != 0 {
		m.Client = r.string()
	}
}

// stampMessage fills in what the place in the log decides.
func stampMessage(m *message.Message, seq, origin uint64, stamp wal.Stamp, epoch message.Epoch) {
	m.Seq, m.Age = seq, stamp.Age
	m.ID = message.ID{Epoch: epoch, Seq: origin}
	if origin == seq && stamp.Wall != 0 {
		m.Time = time.Unix(0, stamp.Wall)
	}
	if m.TTL > 0 {
		m.Expires = later(later(stamp.Age, int64(m.TTL)), int64(m.Delay))
	}
}

// later adds a span of time to an age; it stops at the end of time.
func later(age, span int64) int64 {
	if span > math.MaxInt64-age {
		return math.MaxInt64
	}
	return age + span
}

func appendProperties(b []byte, ps []message.Property) []byte {
	b = binary.AppendUvarint(b, uint64(len(ps)))
	for _, p := range ps {
		b = appendString(appendString(b, p.Key), p.Value)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads any record.
func decode(seq uint64, data []byte, stamp wal.Stamp, epoch message.Epoch) (Entry, error) {
	if len(data) == 0 {
		return Entry{}, errShort
	}
	e := Entry{Seq: seq, Kind: Kind(data[0])}
	switch e.Kind {
	case KindMessage:
		return decodeMessage(seq, data, stamp, epoch)
	case KindSettlement:
		var err error
		e.Settled, err = decodeSettlements(data[1:])
		return e, err
	case KindChange:
		e.Change, e.Age = new(Change), stamp.Age
		if err := json.Unmarshal(data[1:], e.Change); err != nil {
			return Entry{}, fmt.Errorf("decode change: %w", err)
		}
		return e, nil
	case KindCancel:
		r := reader{b: data[1:]}
		e.Cancel = r.uvarint()
		return e, r.err
	case KindRelease:
		r := reader{b: data[1:]}
		e.dead = r.byte() != 0
		e.release = r.uvarint()
		return e, r.err
	case KindNote:
		var err error
		e.Notes, err = decodeNotes(data[1:])
		return e, err
	case KindCleaned:
		r := reader{b: data[1:]}
		e.cleaned = r.uvarint()
		return e, r.err
	case KindMove:
		r := reader{b: data[1:]}
		e.Moved = Move{Sub: r.uvarint(), Seq: r.uvarint()}
		return e, r.err
	default:
		return Entry{}, fmt.Errorf("decode record %d: unknown kind %d; the log was written by a newer version", seq, data[0])
	}
}

func appendCleaned(seq uint64) []byte {
	return binary.AppendUvarint([]byte{byte(KindCleaned)}, seq)
}

func appendMove(m Move) []byte {
	return binary.AppendUvarint(binary.AppendUvarint([]byte{byte(KindMove)}, m.Sub), m.Seq)
}

func appendRelease(dead bool, n uint64) []byte {
	b := []byte{byte(KindRelease), 0}
	if dead {
		b[1] = 1
	}
	return binary.AppendUvarint(b, n)
}

// Describe says in one line what a record is: for `edgepost log dump`.
func Describe(seq uint64, data []byte) string {
	e, err := decode(seq, data, wal.Stamp{}, "")
	if err != nil {
		return "unreadable: " + err.Error()
	}
	switch e.Kind {
	case KindMessage:
		s := fmt.Sprintf("message %s from %q, %d bytes", e.Msg.Topic, e.Msg.From, len(e.Msg.Payload))
		if e.Msg.ID.Seq != seq {
			s += fmt.Sprintf(", copy of %d", e.Msg.ID.Seq)
		}
		return s
	case KindSettlement:
		return describeSettlements(e.Settled)
	case KindChange:
		return fmt.Sprintf("change: %s subscription %d %s", e.Change.Op, e.Change.Sub, e.Change.Spec)
	case KindCancel:
		return fmt.Sprintf("cancel %d", e.Cancel)
	case KindNote:
		return fmt.Sprintf("%d notes of subscription %d", len(e.Notes.List), e.Notes.Sub)
	case KindMove:
		return fmt.Sprintf("subscription %d owes the copy that follows instead of %d", e.Moved.Sub, e.Moved.Seq)
	case KindCleaned:
		return fmt.Sprintf("cleaned up to %d", e.cleaned)
	default:
		return fmt.Sprintf("release %d (dead letter: %t)", e.release, e.dead)
	}
}

// reader decodes the fields of a record; after the first error everything reads as zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return make([]byte, min(max(n, 0), 16))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	return string(r.take(int(n)))
}

func (r *reader) properties() []message.Property {
	n := r.uvarint()
	if n > message.MaxProperties {
		r.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	ps := make([]message.Property, 0, n)
	for range n {
		ps = append(ps, message.Property{Key: r.string(), Value: r.string()})
	}
	return ps
}

func (r *reader) fail() {
	r.b = nil
	if r.err == nil {
		r.err = errShort
	}
}
