// Package outbox is the durable truth of edgepost: every message, every settlement of a debt and
// every change of a subscription is a record of one write-ahead log (package wal), and what the
// process knows is rebuilt from it.
//
// # Promises
//
//   - [Outbox.Publish] answers after the record is on stable storage. Records keep the order of
//     their sequence numbers for ever; a number that was seen is never used for another message.
//   - A subscription change is effective at its own sequence number and answered after its fsync.
//   - Settlements ride in the next frame, alone within [settleDelay]: a crash before that
//     transmits again, never loses.
//   - No generation of the log is removed while anybody owes a record in it, a dead letter or a
//     delayed message needs it, or the older of the last two snapshots would replay it.
//   - When storage is full or failing, publishers are refused with a [message.Problem]; reading and
//     settling go on, and publishing resumes by itself.
//
// # Records
//
// The first byte is the [Kind]; integers are uvarints, strings carry their length.
//
//	message     1 flags topic [fields that the flags announce] payload
//	settlement  2 base, groups of (subscription, head, [attempts] [reason] [bytes], runs)
//	change      3 JSON of [Change]
//	cancel      4 sequence number
//	release     5 0|1, delayed sequence number | dead-letter entry
//	note        6 subscription, number of notes, (key, value) each; an empty value forgets the key
//	cleaned     7 sequence number: settled records up to it may be gone
//
// # Snapshot
//
// A snapshot is a side generation of records, each a section byte and a body:
//
//	1 head      JSON: format, epoch, counters, where replay starts
//	2 state     one subscription, in the courier's format, with its own applied position
//	3 idem      one remembered idempotency key
//	4 dead      one dead letter
//	5 delayed   one message that waits for its delay
//	6 lifetimes sequence intervals with the earliest expiry in each
//	8 part      the beginning of a large state; the rest follows
//	9 trail     a stretch of the log, and which messages its records tell of
//	7 end       the applied position of sections 3 to 6 and 9, and the smallest of all: replay starts behind it
//
// # Roles
//
// The outbox owns records, the log's space and the tables above. The courier's shards own the live
// delivery states; through [Feed] they lend them for a snapshot and get them back at replay.
package outbox
