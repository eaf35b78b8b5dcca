// Package codec turns messages into bytes for the outside and back: the JSON object that HTTP, SSE
// and WebSocket show ([AppendMessage]), CloudEvents 1.0 in its JSON, XML and Protobuf formats
// ([DecodeEvent], [EncodeEvent]) and in binary mode ([Binary], [Attributes]), and the gzip and
// deflate content codings that come in ([Inflate]). It is pure: bytes in, bytes out.
//
// # Events
//
// A received event keeps what it came with in [message.Event]; [message.Message.Topic] stays empty,
// because the listener decides it. Shown as an event, a message has these attributes:
//
//	attribute        from                                  else
//	specversion      "1.0"
//	id               Event.ID                              the message's ID; of a volatile one, a hash
//	source           Event.Source                          /edgepost/<gateway>
//	type             Event.Type                            edgepost.message
//	subject          Event.Subject                         the topic
//	time             Event.Time, as it came                when it was stored; absent while untrusted
//	datacontenttype  ContentType                           absent
//	dataschema       Event.DataSchema                      absent
//	<extensions>     Event.Extensions, in order
//	<properties>     properties whose name is free and fits an attribute's rule, the first of a name
//	priority         Priority
//	ttl              TTL in whole seconds, rounded up      absent
//	epid, epseq      our ID and position, when the event brought its own id
//
// Attribute values are kept as their canonical strings (CloudEvents 1.0 §3.1), so a received
// integer 5 is shown as "5": binary mode, which most events pass through, has no types either. Only
// priority and ttl are written as integers. A received priority or ttl that is a whole number sets
// the message's own; any other travels on as an extension. A timestamp keeps its spelling, except
// through Protobuf. An extension whose name starts with a digit cannot be written in XML and is
// left out there. The extension "attempt" belongs to a delivery, not to a message: whoever delivers
// adds it.
//
// # Payloads
//
// A payload is opaque. Whatever a format does to carry it, decoding gives the same bytes again, big
// integers included; only white space around a JSON value is not kept. XML payloads are written as
// xs:string, and read from xs:any too: as the child's own bytes, to which the namespaces that it
// borrows from the envelope are added. Without a content type, formats in which text would mean
// something else (JSON) carry binary data.
//
// The rules come from CloudEvents 1.0.2 with its JSON and Protobuf formats and its HTTP binding,
// and from the XML format 1.0.3-wip.
//
// # Safety
//
// Everything here takes bytes from strangers. Sizes, counts and depths are bounded ([MaxEventBytes],
// [MaxBatch], [MaxDepth], the limit of [Inflate]), XML knows neither DTD nor entities of its own,
// duplicate members are refused, and whatever is wrong is a [message.Problem].
//
// Decoded payloads may share memory with the body they came from; nobody may change either.
package codec
