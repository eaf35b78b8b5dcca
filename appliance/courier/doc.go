// Package courier brings stored messages to connected devices. Its shards run the state machine of
// package delivery for every subscription against the links that are attached; it is the only place
// where delivery meets I/O and timers.
//
// # Shards
//
// There are as many shards as processors. A shard is one goroutine that owns its subscriptions, their
// timers and their part of the filter tree; a principal's subscriptions live on one shard. The log's
// committer hands every batch of records to every shard as a bounded hint and never waits; a shard
// that missed a hint reads the log instead. Everything else reaches a shard as a function in its
// mailbox, run after the hints that came before it.
//
// # Promises
//
//   - Every subscription that matches a message at the message's place in the log owes it until it
//     is settled: delivered, sent (protocols without acks), expired, dead, cancelled or lost.
//   - First transmissions on a subscription keep log order within a priority lane; retransmissions
//     say so (Attempt ≥ 2). After a crash as many of the first that are owed say so as may
//     have been sent, or acknowledged without a trace in the log: the window, those that wait for
//     retries, and [looseRoom].
//   - A link is never waited for: [Link.Deliver] only enqueues, [Link.Flush] only wakes. A slow one is behind; it delays no
//     other.
//   - Rules are checked again at delivery: a message that its receiver may no longer read ends dead
//     with the reason "forbidden", one that no filter of the subscription selects any more ends
//     cancelled.
//   - A message that a group of subscribers gave to a member's session ([Member.Give]) is owed by that session alone. When the
//     session ends, it is a dead letter if it was sent, or may have been as far as a crash left to know; otherwise the group owes
//     it again, or it is a dead letter if there is no such group any more. A crash between finds each message in one of these places.
//   - Settlements become durable within a second (package outbox). A crash before that transmits
//     again.
package courier
