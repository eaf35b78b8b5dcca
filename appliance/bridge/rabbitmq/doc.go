// Package rabbitmq is the connector to RabbitMQ by AMQP 0-9-1, versions 3 and 4.
//
// # Out
//
// Messages go to one exchange (option exchange, by default amq.topic) with publisher confirms, persistent and
// mandatory. up.to gives the routing key: its slashes become dots, and what is a dot or a percent sign in a topic
// becomes %2E or %25, so that levels stay levels and the way back is unambiguous. With option exchange = "" the key
// is the name of a queue.
//
// A confirm does not say that a message is anywhere: RabbitMQ confirms what no queue is bound for, behind a
// basic.return. So a returned message counts as not taken: others go on, and when none passes the bridge waits and
// says so.
//
// A message carries message-id (the event's, stable over resends), content type, priority, expiration, reply-to,
// correlation-id, and an event's attributes as headers cloudEvents:…, the names of the AMQP 1.0 binding, which is
// what RabbitMQ 4 makes of them for its AMQP 1.0 clients.
//
// # In
//
// down.from names queues. They must exist, unless option queue_type says which type to make: quorum queues with a
// delivery limit keep what they confirmed over the loss of a node and an acknowledgement over a kill, classic ones
// bring acknowledged messages back after a kill; the ids of what was stored keep them from coming twice. Option bind
// binds the queues made to the exchange. A message is acknowledged after the fsync; what the gateway does not take
// is rejected without requeue, which puts it to the queue's dead letter exchange. So is what is larger than 2 MiB.
//
// Without a username a client certificate is the log-in (EXTERNAL). An access token is shown as the password, and the
// next one by update-secret on the standing connection.
//
// Sending and receiving use a connection each: RabbitMQ stops reading from one that publishes when it runs out of
// memory or disk.
//
// What RabbitMQ can still lose after its confirm: a classic queue writes to disk, without waiting for it, every few
// hundred milliseconds; a quorum queue syncs. But a quorum queue in its first second is lost with all it confirmed when
// RabbitMQ is killed: which log is its own reaches the disk only when nobody asked for it for half a second. It comes
// back empty and without a leader, for good, and answers nobody. For queue q of vhost / this lets it go on:
//
//	rabbitmqctl eval "ra:trigger_election({'%2F_q',node()})."
//
// Seen with RabbitMQ 3.10 and a client that was not this one.
package rabbitmq
