// Package message holds the nouns of message delivery and their rules: [Message], [Topic],
// [Filter], [ID], [Receipt], [DeadLetter] and [Problem]. It is pure: no clock, no lock, no I/O,
// and it imports nothing of edgepost. Everything else speaks in these types.
//
// Topics are MQTT topic names and filters are MQTT topic filters on every protocol
// (MQTT 5.0 §4.7), so a rule, a subscription and a trace mean the same thing everywhere.
package message
