// Package amqp is the connector to AMQP 1.0 brokers: ActiveMQ Artemis, ActiveMQ Classic, RabbitMQ 4 (and 3 with its
// plugin), Qpid, Service Bus.
//
// Messages go out durable, many at a time, and are confirmed by the broker's disposition "accepted". They carry
// message-id (the event's, stable over resends), content-type, correlation-id, reply-to, priority, ttl, group-id
// (the bridge's key, by default the device: JMSXGroupID) and an event's attributes as application properties
// cloudEvents:…, as the AMQP binding of CloudEvents says; option prefix has cloudEvents_ for JMS selectors.
// up.to is an address in the broker's own terms: "ep.up"; "/queues/ep.up" for RabbitMQ 4, "/queue/ep.up" for 3.
//
// A token is shown as the password of SASL PLAIN, or by XOAUTH2 with option mechanism; RabbitMQ 3's plugin takes none.
//
// What comes is acknowledged after the fsync; what the gateway does not take is rejected, so that the broker puts
// it to its dead letters: RabbitMQ's dead letter exchange, ActiveMQ.DLQ, Artemis' dead letter address, where a queue is
// bound to that. It is deduplicated by its event or message-id.
//
// An address is a queue, unless option destination says topic: Artemis would otherwise make a new address one that
// keeps nothing for those who are not there. A topic is read through a durable subscription named after the gateway
// and the bridge.
//
// What a broker can still lose after it accepted: Artemis syncs its journal and Classic does when journalDiskSyncStrategy
// is always; RabbitMQ's classic queues gather for a few hundred milliseconds, its quorum queues sync.
package amqp
