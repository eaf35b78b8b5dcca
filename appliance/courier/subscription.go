package courier

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
)

// Kind is what a subscription is for.
type Kind string

// The kinds of subscriptions.
const (
	Inbox    Kind = "inbox"    // a registered device's; there whether it is connected or not
	Named    Kind = "named"    // a principal's own durable one
	Live     Kind = "live"     // ends with its link, never stored
	Session  Kind = "session"  // what a client subscribed, kept for Expiry after its link is gone
	Shared   Kind = "shared"   // several links: each message goes to one of them
	History  Kind = "history"  // nobody connects: owes the last Keep per topic
	Retained Kind = "retained" // nobody connects: owes the last retained message per topic
	Will     Kind = "will"     // nobody connects, owes nothing: see [KeptWill]
	Final    Kind = "final"    // nobody connects: owes what a final receipt is still due for
	Refused  Kind = "refused"  // nobody connects: what it owes ends as a dead letter at once, see [Courier.Bury]
	Bridge   Kind = "bridge"   // of a bridge to an upstream; ends with the bridge only
)

// Spec describes a subscription. It is stored in the log as JSON.
type Spec struct {
	Name        string           `json:"name"`  // public and unique: "device/lamp1", "key/app/jobs"
	Owner       string           `json:"owner"` // principal whose rules hold at delivery
	Kind        Kind             `json:"kind"`
	Filters     []message.Filter `json:"filters"`
	TTL         time.Duration    `json:"ttl,omitempty"`          // 0: messages expire by their own TTL only
	MaxAttempts int              `json:"max_attempts,omitempty"` // 0: the default
	Window      int              `json:"window,omitempty"`       // 0: the default
	Keep        int              `json:"keep,omitempty"`         // History: how many per topic
	Passing     []message.Filter `json:"passing,omitempty"`      // matching messages are handed on if a link has room, never owed
	Expiry      time.Duration    `json:"expiry,omitempty"`       // Session, Shared: ends when nobody linked for so long; 0: never
	Meta        json.RawMessage  `json:"meta,omitempty"`         // the protocol's own, kept with the subscription
	Token       string           `json:"token,omitempty"`        // Will: see [KeptWill]
	NotFrom     string           `json:"not_from,omitempty"`     // what this publisher sent is not owed: it came from there
}

// internal reports whether no link ever attaches.
func (s *Spec) internal() bool {
	return s.Kind == History || s.Kind == Retained || s.Kind == Final || s.Kind == Will || s.Kind == Refused
}

// The names of the subscriptions that serve the courier itself, beside the histories'.
const (
	retainedName = "retained"
	receiptsName = "receipts"
)

// ownName reports whether a name is that of a subscription whose debts are nobody's business: no
// principal's subscription has it, for those begin with who it is and a slash.
func ownName(name string) bool { return name == retainedName || name == receiptsName }

// liveID marks the numbers of subscriptions that are never stored.
const liveID = 1 << 63

// subscription is one subscription and all that is known about it. Its shard's goroutine owns it. There are
// thousands: small fields stand together, so that it has at most 416 bytes, a size that Go allocates.
//
// Invariants: links is empty or pull is nil; only a Shared has more than one link. state is open
// exactly when there is a link or pull. linked is what the log says: that a transmission may be on
// its way. held names the link that has a message in flight, for a Shared only.
type subscription struct {
	id      uint64
	spec    Spec
	applied uint64 // during replay: everything up to here is in state already
	state   *delivery.State
	seen    uint64 // last sequence number matched: several filters may match one message

	links  []*attachment
	held   map[uint64]*attachment
	moving map[uint64]bool   // on their way to a member's session, see [Member], or back
	gifts  map[uint64]uint64 // owed by a Session that a group gave it: the group's number
	pull   *puller
	reach  int // so many of the first owed may be on their way, the log says; 0: none

	granted int // as reach, of what could not be written: delivery goes on without

	changed int64  // when a link came or went, unix ns; 0: not since the start, or the clock was not trusted
	used    int64  // when it was last linked, on the age clock
	left    string // why the last link went; "" when none did since the start
	handed  uint64 // shard.volatiles when it was last handed one: several filters may match

	turn     int32  // of links: whose turn it is
	slot     int32  // place in shard.timers, -1: not there
	loose    int32  // settlements handed to the outbox that are not yet durable
	drops    uint32 // volatile messages that no link had room for, since the start
	queued   bool   // is in shard.dirty
	widening bool   // a larger reach is on its way to the log
	over     bool   // holds more than its share of the log
	near     bool   // holds four fifths of it: the alarm was raised
	rewound  bool   // owes again what a settlement on its way to the log may end

	notes map[uint32][]byte        // the protocol's own, see [Note]
	shown map[uint64]bool          // owed because they were retained when the subscription was made
	again map[uint64]message.Topic // of shown: asked for again while on their way, so owed once more when acknowledged

	alias    map[uint64]uint64 // id's number → place, for second copies on their way
	withdraw map[uint64]bool   // cancelled while on their way
	asked    map[uint64]*Item  // on their way, with a receipt asked for
	topics   map[message.Topic][]uint64
}

// puller is who fetches from a subscription instead of linking to it.
type puller struct {
	waits []*fetch
	order Window // what it leased and has not acknowledged
}

// took takes a number that is leased no more out of the order, if anybody leases.
func (p *puller) took(seq uint64) {
	if p != nil {
		p.order.Take(seq)
	}
}

// stamp notes that a link comes or goes.
func (s *subscription) stamp(wall time.Time) {
	if s.changed = 0; !wall.IsZero() {
		s.changed = wall.UnixNano()
	}
}

// since is when a link came or went; zero when that is not known.
func (s *subscription) since() time.Time {
	if s.changed == 0 {
		return time.Time{}
	}
	return time.Unix(0, s.changed)
}

func (s *subscription) durable() bool { return s.id&liveID == 0 }

// connected reports whether something takes deliveries now.
func (s *subscription) connected() bool { return len(s.links) > 0 || s.pull != nil }

// free is the next link that takes deliveries, in turn; nil when all are behind.
func (s *subscription) free() *attachment {
	for range s.links {
		s.turn = (s.turn + 1) % int32(len(s.links))
		if a := s.links[s.turn]; !a.stuck {
			return a
		}
	}
	return nil
}

// excludes reports whether the message is not owed although a filter selects it.
func (s *Spec) excludes(m *message.Message) bool { return s.NotFrom != "" && m.From == s.NotFrom }

// matches reports whether one of the filters selects the topic.
func (s *subscription) matches(t message.Topic) bool {
	return slices.ContainsFunc(s.spec.Filters, func(f message.Filter) bool { return f.Match(t) })
}

// A state in a snapshot: format, number, applied, reach, count of withdrawn, these, used, the spec as
// JSON with its length, the notes, in giftFormat how many gifts there are and for each its place and the group, and delivery's
// own encoding.
const (
	stateFormat = 1
	giftFormat  = 2
)

func (s *subscription) encode(applied uint64) ([]byte, error) {
	spec, err := json.Marshal(&s.spec)
	if err != nil {
		return nil, fmt.Errorf("encode subscription %s: %w", s.spec.Name, err)
	}
	format := uint64(stateFormat)
	if len(s.gifts) > 0 {
		format = giftFormat
	}
	b := binary.AppendUvarint(nil, format)
	b = binary.AppendUvarint(b, s.id)
	b = binary.AppendUvarint(b, applied)
	b = binary.AppendUvarint(b, uint64(s.reach))
	b = binary.AppendUvarint(b, uint64(len(s.withdraw)))
	for seq := range s.withdraw {
		b = binary.AppendUvarint(b, seq)
	}
	b = binary.AppendVarint(b, s.used)
	b = binary.AppendUvarint(b, uint64(len(spec)))
	b = append(b, spec...)
	b = binary.AppendUvarint(b, uint64(len(s.notes)))
	for key, value := range s.notes {
		b = binary.AppendUvarint(b, uint64(key))
		b = binary.AppendUvarint(b, uint64(len(value)))
		b = append(b, value...)
	}
	return s.state.AppendBinary(s.appendGifts(b)), nil
}

var errState = errors.New("decode subscription: it ends early")

func (c *Courier) decodeSubscription(b []byte) (*subscription, error) {
	var head [5]uint64
	for i := range head {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errState
		}
		head[i], b = v, b[n:]
	}
	if head[0] != stateFormat && head[0] != giftFormat {
		return nil, fmt.Errorf("decode subscription: format %d is not known; it was written by a newer version", head[0])
	}
	var withdraw map[uint64]bool
	for range head[4] {
		if withdraw == nil {
			withdraw = make(map[uint64]bool)
		}
		seq, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errState
		}
		withdraw[seq], b = true, b[n:]
	}
	used, n := binary.Varint(b)
	if n <= 0 {
		return nil, errState
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, errState
	}
	var spec Spec
	if err := json.Unmarshal(b[n:n+int(size)], &spec); err != nil {
		return nil, fmt.Errorf("decode subscription: %w", err)
	}
	s := c.newSubscription(head[1], spec)
	b, err := s.decodeNotes(b[n+int(size):])
	if err != nil {
		return nil, fmt.Errorf("decode subscription %s: %w", spec.Name, err)
	}
	if head[0] == giftFormat {
		if b, err = s.decodeGifts(b); err != nil {
			return nil, fmt.Errorf("decode subscription %s: %w", spec.Name, err)
		}
	}
	state, _, err := delivery.Decode(c.policy(&spec), b)
	if err != nil {
		return nil, fmt.Errorf("decode subscription %s: %w", spec.Name, err)
	}
	s.state, s.applied, s.reach, s.withdraw, s.used = state, head[2], int(head[3]), withdraw, used
	return s, nil
}

func (c *Courier) newSubscription(id uint64, spec Spec) *subscription {
	return &subscription{id: id, spec: spec, state: delivery.New(c.policy(&spec)), slot: -1}
}

func (c *Courier) policy(s *Spec) delivery.Policy {
	p := c.o.Policy
	if s.MaxAttempts > 0 {
		p.MaxAttempts = s.MaxAttempts
	}
	if s.Window > 0 {
		p.Window = s.Window
	}
	return p
}
