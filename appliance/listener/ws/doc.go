// Package ws is the WebSocket listener: GET /v1/ws, subprotocol "edgepost.v1.json" (the default when
// a client asks for none). It authenticates, translates and keeps one connection's order; what is
// owed to whom is the courier's business.
//
// # Objects
//
// Both sides send text frames of JSON objects, one a line, several to a frame; there is no newline
// after the last one. An object is one operation and, if the client wants an answer, an "id" (a number
// or a string of at most 64 bytes) that the answer repeats. Errors are answered with or without an id.
//
//	> {"id":1,"hello":{"device":"lamp1","token":"ep_…"}}   first, ≤ HelloMax bytes, within HelloTimeout
//	< {"id":1,"welcome":{"session":"…","epoch":"k3f9w2xq","max_inflight":64,"max_bytes":262144,"ping_ms":25000}}
//	< {"msg":{"sub":0,"attempt":1,"expires_in":3600,"seq":4712,"id":"k3f9w2xq-4712","topic":"…", … }}
//	> {"ack":{"sub":0,"upto":4712}}                         or "seqs":[4710,4712]
//	> {"nack":{"sub":0,"seq":4712,"reason":"…","delay_ms":500}}      "reject":true gives it up at once
//	> {"id":2,"sub":{"topic":"alarm/#","after":"k3f9w2xq-4700","name":"…"}}    < {"id":2,"ok":{"sub":1,"gap":false}}
//	> {"id":5,"unsub":{"sub":1}}                            or "name"; ends a named subscription for good
//	> {"id":3,"pub":{"topic":"…","data":{…}}}               < {"id":3,"ok":{"id":"k3f9w2xq-4713","seq":4713}}
//	> {"id":4,"auth":{"token":"…"}}                         < {"id":4,"ok":{}}
//	> {"ping":1}                                            < {"pong":1}
//	< {"id":4,"error":{"code":"forbidden","detail":"…"}}    the codes of [message.Problem]
//	< {"bye":{"code":4010,"reason":"taken over","retry_ms":2000}}   then a close frame with that code
//
// hello is left out, or comes without credentials, when the upgrade request had an Authorization
// header or ?ticket=; the welcome is then the first thing the client receives. Without "token" it asks
// for the anonymous principal. A device's inbox is sub 0 and is open from the welcome on; a "sub" inside
// it answers sub 0 and makes no second subscription. Other subs count from 1 and never come again.
//
// pub takes data (JSON), text or data_base64, and ct, key (idempotency), ttl and delay (seconds, or
// "10m"), priority, retain, volatile, properties ({"k":"v","twice":["1","2"]}), response (a topic),
// correlation_base64 and receipt ("each" or "final"). Its answer comes after the fsync; many may be on their way and answers may come in
// another order. A message without seq (0) is volatile: it is not acknowledged.
//
// # Guarantees
//
//   - A pub's ok means stable storage, except {"ok":{"volatile":true}}.
//   - Messages of a sub come in the order the courier gave them, the welcome or the sub's ok first.
//   - "upto" settles what this session was sent on that sub up to and including that message, in send
//     order, and did not nack. That message must itself be unacknowledged.
//   - An ack for what was not sent, or is settled, is the error "not-delivered"; the rest of its batch
//     holds, the connection stays.
//   - At most max_inflight messages are unacknowledged and about max_bytes are queued, over all subs of
//     the session; more wait in the log, not in memory. Only volatile messages are dropped, counted.
//   - A client with MaxPubsInFlight pubs unanswered, or that does not read its answers, is not read.
//   - A client that takes nothing for WriteTimeout is cut; nobody else waits for it.
//
// # Close codes
//
//	1000, 1001  the client's own, echoed
//	1002        broken framing (RFC 6455 §5): reserved bits or opcodes, unmasked, bad fragmentation
//	1003        a binary frame
//	1007        text that is not UTF-8 (RFC 6455 §8.1)
//	4001        no hello within HelloTimeout
//	4002        protocol error: the first object is no hello, or too many malformed objects
//	4003        unauthorized; or the JSON Web Token has ended and "auth" brought no new one
//	4008        stalled: no answer to a ping (a client that does not read is cut without a word)
//	4009        a frame larger than MaxFrame, or than HelloMax before the welcome
//	4010        taken over: a newer session holds the inbox or the named subscription; retry_ms 2000
//	4011        removed or revoked: do not come back with this credential
//	4012        stopping: come back after retry_ms, which has jitter
//	4013        internal error while opening the session; come back after retry_ms
//
// # Cost
//
// One goroutine a connection, its reader, started after the HTTP handler returned so that the
// handler's stack and buffers are freed. It reads frames itself and holds a buffer only while there is input, see
// [edgepost/appliance/listener/quiet]; gorilla's reader waited in 4 KiB of stack instead of 2 and kept 1 KiB. As many
// workers as processors write for all sessions, many objects to a frame, and exist only while something is queued; a
// client that does not take a write at once, or speaks TLS, has a goroutine of its own until it is drained.
//
// Compression is not offered: permessage-deflate costs 0.8–1.2 MB a writer with the standard library, and most objects
// are smaller than its threshold; a frame with RSV1 is a protocol error, and read limits therefore hold
// for what reaches memory.
package ws
