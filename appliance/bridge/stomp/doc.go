// Package stomp is the connector to brokers that speak STOMP 1.2: ActiveMQ Classic, ActiveMQ Artemis, RabbitMQ.
// The protocol is written here, from its specification.
//
// # Out
//
// up.to is a destination in the broker's own terms: "/queue/ep.up" or "/topic/ep.${device}" for ActiveMQ and
// RabbitMQ, "ep.up" for Artemis with option destination. Slashes behind the prefix become dots, so that levels of a
// topic are levels there. Messages are persistent and carry a receipt, which is their confirm; an ERROR ends the
// connection, as the protocol says, and counts against the message that it names.
//
// A JMS consumer gets a TextMessage for text, JSON and XML and a BytesMessage for the rest, with
//
//	JMSPriority, JMSExpiration      the message's; expiration only while the gateway's clock is right
//	JMSCorrelationID, JMSReplyTo    from the message's
//	JMSXGroupID                     the bridge's key, by default the device: one consumer gets a device's messages, in order
//	cloudEvents_id …                an event's attributes, names that selectors can use
//	contentType                     the content type
//	epid                            the id that is stable over resends, for a message in format raw
//
// # In
//
// down.from names destinations, read with client-individual acknowledgement: ACK after the fsync, NACK for what the
// gateway does not take or what is larger than 2 MiB, which ActiveMQ puts to its dead letters, RabbitMQ to the
// queue's dead letter exchange; Artemis drops it. With option durable a topic is read through a durable subscription of that name,
// which keeps messages while the gateway is away.
//
// A message that comes again is not stored again when it is an event or its broker gives it an id that is one for
// ever: ActiveMQ's JMSMessageID, RabbitMQ's amqp-message-id. Artemis' are numbers that begin again with a new store.
//
// ActiveMQ shows a STOMP client no JMSXGroupID, so ${key} is empty there: the device of a command stands in its queue,
// such as /queue/ep.down.lamp1 read as /queue/ep.down.>.
//
// Sending and receiving use a connection each: brokers stop reading from one that sends when they run out of room.
//
// What a broker can still lose after its receipt: ActiveMQ syncs its journal with journalDiskSyncStrategy always, its
// default; Artemis does; RabbitMQ's classic queues write every few hundred milliseconds. And each gives a receipt for
// what it has nowhere to put: a topic without a durable subscription, an exchange of RabbitMQ without a queue.
package stomp
