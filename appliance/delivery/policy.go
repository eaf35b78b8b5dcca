package delivery

import (
	"math"
	"time"
)

// What zero fields of a [Policy] mean.
const (
	DefaultWindow      = 64
	DefaultMaxAttempts = 8
	DefaultBase        = time.Second
	DefaultMax         = 10 * time.Minute
)

// Policy is how one subscription is served. Zero fields take the defaults.
//
// While more than 1,024 messages, or four windows if that is more, wait for their retries, nothing
// new is sent: who refuses so many would refuse the others too, and the wait must not fill the memory.
type Policy struct {
	Window      int // most messages in flight, up to 2^31-1
	MaxAttempts int // failed attempts after which a message is given up, up to 65,535; negative: never
	Backoff     Backoff
}

// Backoff is the time before a retry: exponential with full jitter, that is a random part of Base
// after the first failure, of 2 × Base after the second, and so on up to Max.
type Backoff struct {
	Base, Max time.Duration
	// Jitter returns a random number from 0 to n-1; n is above 0. nil: the whole time.
	Jitter func(n int64) int64
}

// Delay returns how long to wait after that many failures, from 1 on.
func (b Backoff) Delay(fails int) time.Duration {
	base, limit := b.Base, b.Max
	if base <= 0 {
		base = DefaultBase
	}
	if limit <= 0 {
		limit = DefaultMax
	}
	d := min(base, limit)
	for i := 1; i < fails && d < limit; i++ {
		if d > limit/2 {
			d = limit
		} else {
			d *= 2
		}
	}
	if b.Jitter != nil {
		return time.Duration(b.Jitter(int64(d)))
	}
	return d
}

// rules is a Policy as a State keeps it: small, with the defaults filled in.
type rules struct {
	window, maxFails int32 // maxFails 0: no limit
	backoff          Backoff
}

func (p Policy) rules() rules {
	r := rules{window: DefaultWindow, maxFails: DefaultMaxAttempts, backoff: p.Backoff}
	if p.Window > 0 {
		r.window = int32(min(p.Window, math.MaxInt32))
	}
	switch {
	case p.MaxAttempts < 0:
		r.maxFails = 0
	case p.MaxAttempts > 0:
		r.maxFails = int32(min(p.MaxAttempts, math.MaxUint16))
	}
	return r
}

// Verdict is what a failed attempt led to.
type Verdict uint8

// The verdicts.
const (
	Ignored   Verdict = iota // it was not in flight; nothing changed
	Retry                    // it waits for its retry ([State.RetryDue])
	Exhausted                // its attempts are used up: it is no longer owed, the caller settles it as dead
	Withdrawn                // it was cancelled while in flight: it is no longer owed, [State.Withdrawn] has it
)

func (v Verdict) String() string {
	switch v {
	case Retry:
		return "retry"
	case Exhausted:
		return "exhausted"
	case Withdrawn:
		return "withdrawn"
	default:
		return "ignored"
	}
}
