// Package mapping turns stored messages into what an upstream carries, and back. It is pure.
//
// # Formats
//
//	event       CloudEvents 1.0 in binary mode where the protocol has headers, in structured JSON where not
//	structured  CloudEvents 1.0 in structured JSON
//	raw         the payload as it is; user properties become headers where there are some
//	auto        incoming only: an event where there is one, else raw
//
// An event's (source, id) is stable over resends: consumers deduplicate by it. It carries content type,
// priority, remaining time to live and trace context, and these of ours:
//
//	attempt     2 or more when the upstream may have seen it before
//	epbackfill  "true": it comes from the backlog, behind newer ones
//	epvia       epochs of the gateways it came through, separated by spaces; a gateway that finds its own there drops
//	            the message: loops end
//
// On the way in the attribute epreceipt asks for receipts, as the gateway's own publishers do: "final" has a summary
// stored once nobody owes the message any more, "each" has every outcome announced, not stored. They are published to
// $edge/receipt/bridge/<name>/<id>, which a bridge can forward like any topic.
//
// # Templates
//
// A template is text with ${name} in it. Names that stand for a topic may be cut: ${topic[2]} is one level
// (from 0), ${topic[2:]} the rest from there.
//
//	${gw}       the gateway's name
//	${bridge}   the bridge's name
//	${topic}    the message's topic; on the way in the upstream's address, in levels
//	${device}   the device a topic device/<id>/… belongs to; on the way out the publisher of any other
//	${key}      on the way out the bridge's key, on the way in the upstream's
//	${subject}  on the way in the event's subject
//
// A template that needs what a message does not have is an error of that message.
package mapping
