// Package delivery is the state machine of one subscription: what it owes, what is on its way, what
// comes again and when, and what has been given up. It is pure: events and the time come in, answers
// go out; it has no clock, lock, goroutine or I/O, and a [State] must be used by one goroutine at a
// time. The courier's shards run it against real links.
//
// A subscription owes sequence numbers of the log, in two lanes: urgent ones go ahead of the others.
// What it guarantees to its caller:
//
//   - Order: first transmissions keep sequence order within a lane. Retries that are due go first.
//   - At least once: a number is owed until Ack, Drop, Cancel, or until its attempts are used up; it
//     is offered again after every lost link. Candidate.Attempt is above 1 whenever the receiver may
//     have seen the message before.
//   - Once: each number ends exactly once, and what has ended is never offered.
//   - Attempts: only a nack or a missed deadline is a failed attempt; a lost link is not.
//   - A number that waits for its retry blocks nothing, until very many wait ([Policy]).
//   - A number that the caller parks, because the link does not take it, is owed and blocks nothing.
//
// The caller's duties: after every change call [State.Next] until it has nothing or the link takes
// no more, reporting each accepted one with [State.Sent]; call [State.Timeouts] when [State.Wake]
// says so; settle what Ack, Nack, Timeouts, Cancel, Drop and [State.Withdrawn] end.
//
// # Binary form
//
// [Set.AppendBinary] and [State.AppendBinary] write, with uvarints in their shortest form
// (encoding/binary):
//
//	set:    length of what follows in bytes, 0 for the empty set
//	        first number
//	        tokens: v > 0    the next number is v+1 above the last one
//	                0, k > 0 the next k numbers follow the last one without a gap
//	state:  version byte 1
//	        normal lane: set, then the highest number that may have been sent (0 none)
//	        urgent lane: the same
//	        count of failures, then for each in ascending order:
//	            distance from the one before (from 0 for the first), failed attempts (1..65535)
package delivery
