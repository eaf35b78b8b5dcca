package courier

import (
	"fmt"
	"time"

	"edgepost/appliance/message"
)

// Ref names a subscription that is read over HTTP: a device's inbox, or a named subscription of the
// asking principal. Exactly one field is set.
type Ref struct {
	Device string
	Name   string
}

// NamedSpec is what a back end asks of its durable named subscription. Zero fields take the
// defaults.
type NamedSpec struct {
	Filters     []message.Filter
	After       message.ID    // at creation: owe what is kept behind this message; zero: only what comes
	TTL         time.Duration // messages older than this expire for this subscription; 0: seven days
	MaxAttempts int           // 0: 8
	Window      int           // most leased and unacknowledged messages; 0: 64
}

// Info describes a subscription to its owner or an administrator.
type Info struct {
	Name        string // public name: "device/lamp1", "key/app/jobs", "history/alarms"
	Filters     []message.Filter
	Depth       int64      // messages owed, those on their way included
	InFlight    int        // sent or leased, not acknowledged
	Oldest      message.ID // of the oldest owed message; zero when none
	OldestAge   time.Duration
	Connected   bool
	Since       time.Time // when the link state last changed; zero when never or the clock was not trusted
	TTL         time.Duration
	MaxAttempts int
	Window      int
	Durable     bool
}

// BatchError says which message of an atomic batch was refused; none of it was stored.
type BatchError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return fmt.Sprintf("message %d: %v", e.Index, e.Err) }
func (e *BatchError) Unwrap() error { return e.Err }

// Status is the appliance at one glance; counters run since the process started.
type Status struct {
	Gateway  string
	Epoch    message.Epoch
	Version  string
	Uptime   time.Duration
	Head     uint64 // last durable sequence number
	TailFrom uint64 // oldest sequence number that is still kept
	LogBytes int64  // on disk
	LogLimit int64
	Storage  string // "ok", or why publishers are refused

	Encryption   string // of what is written now: "plain", or the cipher
	LogEncrypted int64  // bytes of the log and the registry on disk that are encrypted …
	LogPlain     int64  // … and that are not; both 0 where nothing is or was encrypted

	Connected     int64 // links attached now
	Subscriptions int64
	Owed          int64 // debts of all subscriptions together
	DeadLetters   int64

	Published int64 // messages stored
	Volatile  int64 // messages delivered without storing
	Sent      int64 // transmissions
	Delivered int64
	Expired   int64
	Dead      int64
	Cancelled int64
	Lost      int64
	Dropped   int64 // volatile messages a full session queue did not take
	Commits   int64 // fsyncs of the log

	ClockTrusted bool
	Anonymous    bool // [access.anonymous] is open
	Warnings     []string
}
