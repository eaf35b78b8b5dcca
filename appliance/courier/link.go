package courier

import (
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/message"
)

// Link is one connection's end of one subscription: a WebSocket `sub`, an SSE stream, an MQTT
// session. The shard that owns the subscription calls it; a session implements it.
type Link interface {
	// Deliver enqueues d for the session's writer and returns at once; it never blocks and never
	// does I/O. false means "no room or no credit": the subscription is then behind, keeps the
	// message, and goes on after [Attachment.Ready].
	Deliver(d Delivery) bool

	// Flush says that this was all for now: whoever writes may begin. It follows one or several calls of Deliver of which one
	// was true, and does not block either.
	Flush()

	// Lost says, once, that the link no longer holds the subscription through no act of its own.
	// It must not block. Nothing is delivered after it.
	Lost(why Cause)
}

// Cause is why a link lost its subscription.
type Cause uint8

// The causes. TakenOver becomes 4010 on WebSocket, 0x8E on MQTT and 409 on HTTP.
const (
	TakenOver Cause = iota + 1 // a newer link attached to the same subscription
	Removed                    // the subscription, its device or its key was removed
	Stopping                   // the appliance is stopping
)

func (c Cause) String() string {
	switch c {
	case TakenOver:
		return "taken over"
	case Removed:
		return "removed"
	case Stopping:
		return "the appliance is stopping"
	}
	return "unknown"
}

// Reasons why links close, beside the protocols' own.
const (
	Goodbye = "disconnected"            // the client said so
	Broken  = "the connection broke"    // without a word
	Silent  = "no sign of life in time" // the keep-alive ended
)

// Attachment is what a link holds after attaching. All calls are safe for concurrent use, return
// without waiting for I/O (they may wait for room in the shard's mailbox), and do nothing once the
// link is lost or closed.
type Attachment interface {
	// Ack says that the device has these sequence numbers. The session checks beforehand that it
	// sent them and that they are unacknowledged ([Window]); others are ignored.
	Ack(seqs []uint64)
	// Sent says that these were transmitted and that no ack follows (MQTT: QoS 0): they end as "sent".
	Sent(seqs []uint64)
	// Nack says that the device could not take seq now. It counts as an attempt; the message comes
	// again after delay, or after the policy's backoff when delay is 0. reject gives it up at once.
	Nack(seq uint64, delay time.Duration, reason string, reject bool)
	// Ready says that a Deliver that returned false may be tried again.
	Ready()
	// Select changes which messages the link takes: see [AttachOptions]. What is on its way stays so.
	Select(filters []message.Filter)
	// Close gives the subscription back; what is unacknowledged is owed again. A subscription made
	// without a name ends with it. why is for people: the reason that the device is offline.
	Close(why string)
}

// Member is a link's hold of a [Shared].
type Member interface {
	Attachment
	// Give has messages that this link was handed owed by the durable subscription of that name alone, from which
	// they come as [Delivery.Direct]: what is promised to one receiver must not go to another. Until that is
	// durable nobody gets them; if it fails, they go to any member again. A link of that subscription that is handed one has the
	// subscription [Courier.Note] something before it sends it: where a crash finds a note behind it, it may have been sent. When
	// the subscription ends, what was or may have been sent ends dead, and the rest is the group's again.
	Give(seqs []uint64, name string)
}

// Delivery is one transmission of one message over one link.
type Delivery struct {
	*Item
	Seq       uint64        // what an ack names; position in the log, 0 for a volatile message
	Attempt   int           // 1 for the first transmission; from 2 on it may be a duplicate (MQTT: DUP)
	ExpiresIn time.Duration // remaining time to live when it was enqueued; 0: does not expire
	Direct    bool          // it was stored for this subscription alone, whatever its filters
	Backlog   bool          // it was owed before the link came, which asked for FreshFirst
	Retained  bool          // it was kept as its topic's last retained message when the subscription was made
}

// Item is a message with its encodings, shared by all its receivers: each wire format is encoded
// once. It is immutable and safe for concurrent use.
type Item struct {
	Msg *message.Message

	direct bool // stored for one subscription, whatever its filters; the shard's

	first atomic.Pointer[encoding] // the form that was asked for first, for most messages the only one
	mu    sync.Mutex               // guards other
	other map[any][]byte
}

type encoding struct {
	key   any
	bytes []byte
}

// NewItem wraps a message for delivery.
func NewItem(m *message.Message) *Item { return &Item{Msg: m} }

// Encoded returns the message in the wire format that key names, calling encode the first time.
// The result is shared: nobody may change it.
func (it *Item) Encoded(key any, encode func(*message.Message) []byte) []byte {
	if e := it.first.Load(); e != nil && e.key == key {
		return e.bytes
	}
	it.mu.Lock()
	defer it.mu.Unlock()
	first := it.first.Load()
	if first != nil && first.key == key {
		return first.bytes
	}
	if b, ok := it.other[key]; ok {
		return b
	}
	b := encode(it.Msg)
	switch {
	case first == nil:
		it.first.Store(&encoding{key, b})
	case it.other == nil:
		it.other = map[any][]byte{key: b}
	default:
		it.other[key] = b
	}
	return b
}

// AttachOptions tune one link's hold.
type AttachOptions struct {
	Window     int           // most unacknowledged messages; 0: the subscription's policy
	AckTimeout time.Duration // a transmission unacknowledged for longer counts as a failed attempt; 0: never
	AutoSettle bool          // the protocol has no acks: a message accepted by Deliver ends as "sent"

	// FreshFirst has what is owed when the link comes go behind what comes afterwards, and only as much of it as
	// [Filler.Backlog] allows.
	FreshFirst bool

	// Select are the filters of which one must select a message for this link to take it; none: it takes all.
	// Others stay owed and wait for another selection or another link, without keeping up what follows. Not
	// for a [Shared]. Nobody may change the slice afterwards.
	Select []message.Filter
}

// Filler is an [Attachment] whose link asked for FreshFirst.
type Filler interface {
	// Backlog allows so many more messages of the backlog, in place of what was allowed before. As the other calls.
	Backlog(n int)
}

// Request asks for a subscription.
type Request struct {
	Filter message.Filter
	After  message.ID // start behind this message; zero: only what comes from now on
	Name   string     // "" ends with its link; otherwise durable, private to its owner
}

// Query asks for a page of the log.
type Query struct {
	Filter message.Filter
	After  message.ID    // zero: from the oldest kept message
	Limit  int           // 1..1000
	Wait   time.Duration // wait so long for a first message; 0: do not wait
}

// Page is the answer to a [Query].
type Page struct {
	Messages []*message.Message
	Next     message.ID // where the next page starts (use as After); zero when the log is empty
	Gap      bool       // messages between After and the first one are no longer kept
}

// Acks is a batch of acknowledgements by id, as HTTP clients send them.
type Acks struct {
	UpTo  message.ID // everything sent up to and including this one, in send order, that is not nacked
	IDs   []message.ID
	Nacks []NackByID
}

// NackByID refuses one message.
type NackByID struct {
	ID     message.ID
	Delay  time.Duration
	Reason string
	Reject bool // give it up at once: it becomes a dead letter
}

// AckResult says what an [Acks] did. Unknown ids were not on their way on this subscription: never
// sent, already settled, or returned to the queue after their lease.
type AckResult struct {
	Settled int
	Unknown []message.ID
}
