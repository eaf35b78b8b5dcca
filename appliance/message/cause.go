package message

import "time"

// DeadCause is a reason why messages became dead letters.
type DeadCause struct {
	Reason         string // "": all that found no place among the others
	Count          int64
	Oldest, Newest time.Time // zero: the clock was not trusted
	Example        uint64    // the newest entry
}
