// Package bridge connects the gateway's log to upstream brokers and services, both ways, through any outage.
// It knows no protocol: a connector does, in a package of its own (see [Kind], [Dialer], [Conn]).
//
// # The way out
//
// A bridge has one durable subscription, "bridge/<name>", that its own principal owns. While the upstream is
// connected a link is attached to it: the engine maps what it is handed and gives it to the connection, at most
// a window of messages that are not confirmed, which finds its own size unless one is configured (Up.Window).
// While it is not connected the bridge holds nothing but what the log holds: memory does not grow with an outage.
//
//   - Nothing is settled in the log that the upstream did not confirm.
//   - First transmissions keep the order of the log. The log is told of confirmations as far as they are without
//     a hole: after a lost connection everything behind the hole is sent again, in order, with the same ids.
//   - A message that the upstream refuses is set aside, tried again later, and becomes a dead letter after
//     [Up.MaxAttempts] tries, or at once when the refusal is final; it never keeps up the others. An upstream
//     that is down costs no message its tries.
//
// # The way in
//
// What comes is stored in atomic frames, in the order it came, and acknowledged upstream after the fsync. The
// ids of the last [remembered] events of a bridge ride in the same frames, so a repetition is not stored again,
// however long it took. Where the upstream counts ([Incoming.Position]) its count rides in the frame instead and
// the next connection goes on from there: exactly once. While the storage takes nothing, nothing is acknowledged.
//
// # Connections
//
// Each connection is an epoch: when anything fails it is thrown away, and another is dialled after a backoff with
// full jitter, at the next of the bridge's addresses. Errors say what can help: see [Class].
//
// An access token of an authorization server ([Token]) is asked for when a connection needs it, kept until shortly before
// its end, and replaced when the upstream refuses it. Kafka and RabbitMQ are shown the newer one on the standing
// connection; others may end it with the old one, and the next connection shows the newer.
package bridge
