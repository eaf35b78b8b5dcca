package bridge

import (
	"context"
	"sync/atomic"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// Wire is a message as an upstream carries it.
type Wire = mapping.Wire

// Mistake reports what is wrong with a configuration. key is relative to the bridge: "options.queue", "up.to".
type Mistake func(key, format string, args ...any)

// Kind is one connector.
type Kind struct {
	Name    string   // in configurations: kind = "mqtt"
	Schemes []Scheme // of its addresses; the first is shown in help
	Options []Option // the keys of section [bridge.options]; others are refused
	Headers bool     // the protocol carries headers, so events go in binary mode
	Up      bool     // it can send
	Down    bool     // it can receive

	// MustAddress says that up.to has no default, because that would make an address of each of the gateway's topics,
	// and what to write, such as ["ep.up"]: "" there is a default.
	MustAddress string

	// Check reports what is wrong with a configuration beyond what [Config.Check] sees; it touches nothing. May
	// be nil.
	Check func(c *Config, mistake Mistake)

	// Open makes the dialer of one bridge; it touches neither network nor files. c.Options holds every option with its
	// default, see [Option]. nil: the connector is not compiled into this program.
	Open func(c *Config, here mapping.Here) (Dialer, error)

	// Explain adds to an error of the protocol or its library what can help, as an [Error]; others it returns as they
	// are. The engine has it explain whatever ends a connection or keeps one from being made. May be nil.
	Explain func(err error) error
}

// Scheme is how addresses of a connector begin.
type Scheme struct {
	Name   string // "mqtts"
	Port   string // of an address without one
	Secure bool   // over TLS
}

// Dialer opens connections of one bridge. Safe for concurrent use: a test may run beside the bridge itself.
type Dialer interface {
	// Dial connects to the address of an epoch and gets everything ready, subscriptions included; with [Epoch.Probe] it
	// only looks whether that would succeed. Errors are best an [Error]. It must return soon after ctx is done, which
	// may be a deadline of a few seconds. What it left behind is closed by the epoch, also when it fails: see
	// [Epoch.Connect], [Epoch.OnEnd] and [Epoch.Go].
	Dial(ctx context.Context, e *Epoch) (Conn, error)
}

// Conn is what sends over one connection.
type Conn interface {
	// Send transmits messages in order and returns when the connection has taken them, which may be long before the
	// upstream has confirmed them: each is answered by [Outgoing.Answer], from any goroutine, in any order. It is
	// called by one goroutine at a time, and ctx ends with the epoch. An error ends the connection; what is not
	// answered counts as not sent.
	Send(ctx context.Context, batch []*Outgoing) error
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
	// Bad says why the message cannot be taken as it came: it is too large, or not readable. It is refused like one
	// that the gateway does not take.
	Bad error
	// Done is called once the message is on stable storage (nil), or refused for good (an error in words): then an
	// upstream that keeps dead letters should be told, another be acknowledged. It must not block for long. Its error
	// ends the connection. nil: there is nothing to acknowledge.
	Done func(refused error) error
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

// Outgoing is one transmission.
type Outgoing struct {
	Wire
	Msg *message.Message // what was mapped; read only

	// Answered takes the first answer; it is called from any goroutine.
	Answered func(o *Outgoing, err error)

	seq      uint64
	size     int
	sent     time.Time // handed to the connection
	alone    bool      // when nothing else was on its way
	answered atomic.Bool
	state    outcome // the flight's
}

// Answer says that the upstream has confirmed the message (nil), or what is wrong: an [Error] of class Refused or
// Rejected is about this message, Doubtful may be, any other ends the connection. Only the first answer counts.
func (o *Outgoing) Answer(err error) {
	if !o.answered.Swap(true) {
		o.Answered(o, err)
	}
}
