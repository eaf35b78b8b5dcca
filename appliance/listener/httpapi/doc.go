// Package httpapi is the HTTP interface of DESIGN §8: it authenticates, translates and answers, and decides nothing. The
// routes are a table ([api.routes]); static/openapi.yaml describes each, and a test holds the two against each other.
//
//   - A 201 means that the message is on stable storage; a 202 that it was volatile and is not.
//   - Errors are problem+json (RFC 9457) with a stable code. Anything that is not a [message.Problem] is an internal error: the
//     client gets an incident number, the log the rest.
//   - What the client did not mean is not guessed: unknown query parameters, unknown Message-* headers, unknown or repeated
//     JSON members and trailing bytes are refused by name.
//   - Paths are matched as they were sent, escaped and never cleaned or redirected: a topic may hold empty levels, and %2F is
//     data in a name.
//   - Every body is read under a byte limit, which holds again after decompression, and under a time limit. Every answer is
//     written under a time limit. A long poll ends when its client goes away.
//   - Browsers: a cross-origin request that could change something is refused unless its origin is configured, because with
//     anonymous access any page could publish otherwise.
//
// All exported things are safe for concurrent use.
package httpapi
