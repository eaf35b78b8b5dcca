// Package codec turns messages into bytes for the outside and back: the JSON object that HTTP, SSE
// and WebSocket show ([AppendMessage]), CloudEvents 1.0 in its JSON, XML and Protobuf formats
// ([DecodeEvent], [EncodeEvent]) and in binary mode ([Binary], [Attributes]), and the gzip and
// deflate content codings ([Inflate], [Deflate]). It is pure: bytes in, bytes out.
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
// priority and ttl are written as integers. The number of transmissions belongs to a delivery, not to a message; whoever
// delivers adds it.
//
// # Payloads
//
// A payload is opaque. Whatever a format does to carry it, decoding gives the same bytes again,
// big integers included; only white space around a JSON value is not kept. The sources of the
// rules are CloudEvents 1.0.2 with its JSON and Protobuf formats, and the XML format 1.0.3-wip.
//
// # Safety
//
// Everything here takes bytes from strangers. Sizes, counts and depths are bounded by the constants below,
// XML knows neither DTD nor entities of its own, duplicate members are refused, and whatever is
// wrong is a [message.Problem].
package codec
