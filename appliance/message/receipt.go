package message

import "time"

// State is where a message stands, for one subscription.
type State uint8

// The states of DESIGN §4. The first three are on the way; the others are final.
const (
	Stored    State = iota + 1 // fsynced, not yet matched
	Waiting                    // owed, not on its way; the trace says why
	Sent                       // on its way, not acknowledged; final for QoS 0
	Delivered                  // the device acknowledged it
	Expired                    // its time ran out first
	Dead                       // given up: too many attempts, rejected, or over a limit
	Cancelled                  // withdrawn by its publisher, or no longer subscribed
	Lost                       // the disk damaged the record
)

var stateNames = [...]string{"", "stored", "waiting", "sent", "delivered", "expired", "dead", "cancelled", "lost"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Final reports whether nothing more will happen.
func (s State) Final() bool { return s >= Delivered }

// ParseState is the inverse of [State.String]; ok is false for any other word.
func ParseState(s string) (State, bool) {
	for i, n := range stateNames {
		if i > 0 && n == s {
			return State(i), true
		}
	}
	return 0, false
}

// StoredAs answers a publisher: the message is on stable storage (DESIGN §4).
type StoredAs struct {
	ID            ID
	Seq           uint64
	Subscriptions int  // how many subscriptions matched it
	Replayed      bool // an earlier request with the same idempotency key stored it
	Volatile      bool // it was not stored at all; ID and Seq are zero
}

// Receipt is the state that one message reached at one subscription.
type Receipt struct {
	ID           ID
	Topic        Topic
	Subscription string // public name: "device/lamp1", "key/app/jobs", "history/alarms"
	State        State
	Reason       string    // why it waits, or why it ended so
	Attempt      int       // transmissions so far
	At           time.Time // zero while the clock is not trusted
}

// Trace is everything known about one message, oldest first.
type Trace struct {
	Message *Message
	Places  []Receipt // one per subscription that owes or owed it
	Partial bool      // it ended long ago; outcomes are no longer all kept
}

// DeadLetter is a message that one subscription gave up.
type DeadLetter struct {
	Entry        uint64 // names the entry for show and requeue
	Message      *Message
	Subscription string
	Reason       string
	Attempts     int
	At           time.Time
}
