// Package mqtt is the MQTT listener: 3.1, 3.1.1 and 5.0 over TCP (whatever [net.Listener] is given,
// TLS included) and over WebSocket. It authenticates, translates and keeps one connection's order;
// what is owed to whom is the courier's business. The wire format is package packet.
//
// # Sessions
//
// A session is named by principal and client id. With a session expiry (before 5.0: clean session 0,
// kept [Options.SessionExpiry]) it is a durable subscription over the log, with its filters; its
// queue is the log. Without, it is a subscription that ends with the connection, made with the first
// filter. A second connection of the same client ends the first with 0x8E. A filter inside the
// device's own inbox binds the inbox instead, which waits for the device whatever its session does;
// the newest link of any protocol holds it. What of the inbox the session does not subscribe to stays owed,
// out of the way of the rest, until this or another link asks for it; the trace says "not subscribed". $share filters are one subscription for the group.
//
// # Tokens
//
// A client of 5.0 may bring its token as the data of the authentication method CUSTOM-JWT or OAUTH2-JWT (the names that
// Azure Event Grid gave them) in place of the password. Then an AUTH with 0x19 and the same method may bring a new token of the
// same principal at any time: the connection goes on, until the new token ends and with what it allows. A token that
// is not right ends it with 0x87. Other methods are refused with 0x8C. A connection by password ends with its token.
// (paho.golang up to 0.23 sets a reserved flag in its AUTH, which is malformed by MQTT-3.15.1-1 and ends the connection with 0x81.)
//
// # Guarantees
//
//   - PUBACK and PUBREC of success mean stable storage, in the order of the publishes. 5.0 is told
//     when a message is refused: 0x87 not allowed, 0x90 no such device or group, 0x97 no room,
//     0x83 and 0x80 other; and 0x10 when a message is stored but no subscription selects it, be
//     its device or session connected or not. Before 5.0 what is not allowed is acknowledged and dropped (counted),
//     what is sent to a device or group that does not exist is acknowledged and kept as a dead letter,
//     and what could not be stored ends the connection without an answer.
//   - A publish of QoS 0 is stored too where a device's inbox selects its topic: the inbox promises to keep what is
//     sent to the device, and QoS 0 is what Home Assistant and mosquitto_pub send when nobody tells them otherwise. It is
//     stored whether the device is connected or not, because a connection may be dead already. It goes out
//     with QoS 0 [MQTT-3.8.4-8] and ends as "sent", like all that a client gets with QoS 0.
//   - Inbound QoS 2 of a durable session: the packet id is stored with its message and forgotten
//     durably before PUBCOMP, so no crash repeats the message.
//   - Outbound QoS 2 of a durable session: packet id and message are noted durably before the
//     PUBLISH, the release before the PUBREL. QoS 1 is settled by PUBACK.
//   - On reconnect, what is unacknowledged comes first, in order, with DUP and its packet id. After a
//     crash of the appliance messages of QoS 1 may come under another id.
//   - One copy of a message per session: the highest QoS of the filters that match when it is
//     written, all their identifiers. A message from the inbox is another copy.
//   - At most the client's receive maximum, and [Options.MaxInflight], are unacknowledged; about
//     [Options.MaxBytes] are queued; more waits in the log. Only QoS 0 is dropped, counted.
//   - A publisher that is faster than the disk, or does not read its answers, is not read.
//   - A message that is larger than the client's maximum packet size counts as delivered (5.0 §3.1.2.11.4),
//     and is counted.
//   - A client that answers ≥ 0x80 to a message makes it a dead letter.
//   - A will is published when the connection ends without DISCONNECT 0x00, after its delay unless the
//     client is back; also when the server stops. It is stored before the CONNACK, and published at the
//     next start when the appliance was killed; one of QoS 0 that is not retained is not, for then nobody
//     would be there to get it, and one that cannot be stored, because the disk is full, is kept in memory.
//   - A client that comes back and subscribes what it had writes no session record.
//   - A SUBSCRIBE shows what is retained of everything that anybody was told is stored, or was handed; and
//     of what the client itself published before it.
//
// # Limits
//
//   - $share grants QoS 2 only to a client whose session outlives its connection. A message of QoS 2 is then moved into
//     the session of the member that it was assigned to, durably and before it is sent, and comes from there: nobody else
//     gets it. When that session ends, what was sent is a dead letter; what was not goes back to the group, and after a crash
//     what may have been sent counts as sent. One of QoS 1 goes to another member when the connection ends.
//   - A retained message that is on its way to the client when it subscribes again is sent once more when the
//     first one is acknowledged, unless another has replaced it.
//   - $SYS/broker/load/… are averages that are brought forward when somebody reads them.
//
// # Mapping
//
//	MQTT                        message
//	message expiry              TTL; the remaining seconds go out. 0 counts as 1 s
//	payload format, content     text, content type, response topic, correlation data,
//	type, response topic,       properties
//	correlation, user
//	user properties             a CloudEvent, in the binary mode of its MQTT binding: id, source, type, …
//	specversion, id, source,    under their own names, datacontenttype as the content type; a message
//	type and what belongs to    expiry counts more than the attribute ttl. What is no whole event stays
//	an event                    properties. An event goes out so whatever protocol it came by; before 5.0
//	                            it is its payload
//	content type                an event in structured mode: refused with 0x83 when it is none. A batch, which the
//	application/cloudevents     binding does not have, and other formats are payloads. Source and id are
//	+json, +xml, +protobuf      the idempotency key of an event by QoS 1: the same one again is stored once
//	user property "receipt"     "each" or "final" asks for receipts on $edge/receipt/<name>/<id>
//	                            and, where the publisher itself may publish and receive, on the response
//	                            topic with the correlation data and the same user property
//	RETAIN                      retained; a message to an inbox cannot be
//	QoS 0 without RETAIN        volatile, but into an inbox
//	a longer payload than       refused with 0x97; 0x95 is none of PUBACK's codes
//	the log takes
//
// # Cost
//
// One goroutine a connection, its reader. An idle TCP connection waits in the poller without any
// buffer; others wait with 512 bytes. A writer exists only while something is to be written. The
// read deadline (one and a half times the keep-alive) is the only timer.
package mqtt
