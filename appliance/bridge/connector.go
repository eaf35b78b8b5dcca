package bridge

import (
	"context"
	"net/url"
	"sync/atomic"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// Wire is a message as an upstream carries it.
type Wire = mapping.Wire

// Kind is one connector.
type Kind struct {
	Name    string   // in configurations: kind = "mqtt"
	Schemes []string // of its addresses; the first is shown in help
	Options []Option // the keys of section [bridge.options]; others are refused
	Headers bool     // the protocol carries headers, so events go in binary mode
	Up      bool     // it can send
	Down    bool     // it can receive

	// Check reports what is wrong with a configuration beyond what [Config.Check] sees; it touches nothing. May
	// be nil. key is relative to the bridge: "options.queue", "up.to".
	Check func(c *Config, mistake func(key, format string, args ...any))

	// Open makes the dialer of one bridge; it touches neither network nor files. nil: the connector is not
	// compiled into this program.
	Open func(c *Config, here mapping.Here) (Dialer, error)
}

// Option is one key of [bridge.options].
type Option struct {
	Name, Help string
	Most       int // it is a whole number from 1 to this, see [Config.Number]; 0: it is not
}

// Dialer opens connections of one bridge. Safe for concurrent use: a test may run beside the bridge itself.
type Dialer interface {
	// Dial connects to one address and gets everything ready, subscriptions included; with [Target.Probe] it only
	// looks whether that would succeed. Errors are best an [Error]. It must return soon after ctx is done, which
	// may be a deadline of a few seconds.
	Dial(ctx context.Context, to Target) (Conn, error)
}

// Target is what to dial.
type Target struct {
	URL   *url.URL
	Probe bool // only look: take no session over, receive nothing, change nothing
	Up    bool // messages will be sent
	Inlet Inlet
}

// Inlet takes what comes; nil when the bridge receives nothing.
type Inlet interface {
	// Take hands one message over, in the order they came. It blocks while too many wait for the disk, until the
	// connection is given up. Done is called later, from another goroutine, unless the connection is given up.
	Take(in Incoming)
	// Position returns what was stored last with that key in [Incoming.Position]; nil before the first.
	Position(key uint32) []byte
}

// Incoming is one message that came.
type Incoming struct {
	Wire
	// Done is called once the message is on stable storage (nil), or refused for good (an error in words): then an
	// upstream that keeps dead letters should be told, another be acknowledged. It must not block for long.
	Done func(err error)
	// Position is the place behind this message in an upstream that counts: stored in the same frame. Key is below
	// 1<<31 and names the partition, Value has at most 64 bytes. Empty: the message is deduplicated by its id.
	Position Position
	// Skip: there is nothing to store but Position, which moved over what is not for this gateway.
	Skip bool
}

// Position is how far an upstream was read.
type Position struct {
	Key   uint32
	Value []byte
}

// Conn is one connection to an upstream: one epoch, never reused.
type Conn interface {
	// Send transmits messages in order and returns when the connection has taken them, which may be long before the
	// upstream has confirmed them: each is answered by [Outgoing.Answer], from any goroutine, in any order. It is
	// called by one goroutine at a time. An error ends the connection; what is not answered counts as not sent.
	Send(ctx context.Context, batch []*Outgoing) error
	// Serve runs the connection until it fails or ctx is done, closes it and says why it ended. A Take that still
	// waits for the disk when it returns is let go then, and none follows.
	Serve(ctx context.Context) error
}

// Outgoing is one transmission.
type Outgoing struct {
	Wire
	Msg *message.Message // what was mapped; read only

	seq      uint64
	size     int
	answered atomic.Bool
	state    outcome // the flight's
	answer   func(*Outgoing, error)
}

// NewOutgoing makes a transmission whose answer goes to fn: for the tests of connectors.
func NewOutgoing(w Wire, fn func(err error)) *Outgoing {
	return &Outgoing{Wire: w, answer: func(_ *Outgoing, err error) { fn(err) }}
}

// Answer says that the upstream has confirmed the message (nil), or what is wrong: an [Error] of class Refused or
// Rejected is about this message, Doubtful may be, any other ends the connection. Only the first answer counts.
func (o *Outgoing) Answer(err error) {
	if !o.answered.Swap(true) {
		o.answer(o, err)
	}
}
