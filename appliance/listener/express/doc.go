// Package express is a lane beside net/http for short requests on kept connections, such as publishes:
// there net/http costs more than everything else that a publish needs (two goroutines a request, three
// copies of the header). It serves a connection as long as it knows every request to the letter; the
// first one that it does not know, it gives to net/http together with the connection, unread.
//
// # What it takes
//
// POST over HTTP/1.1 that is there as a whole within a second and 16 KiB, with a Content-Length or without
// a body, that [Options.Takes] wants. Everything else goes to net/http, above all what is refused or read in
// different ways: another version, transfer codings, Expect, Upgrade, Trailer, a Connection that is not keep-alive,
// two Host headers, a folded line, a bare CR or LF, a control character. Limits on slow requests are
// net/http's, which gets them.
//
// A head is parsed by [http.ReadRequest], so there is no second parser to disagree with the first; a head
// that equals the one before on its connection, as a publisher's mostly does, is not parsed again.
//
// # What a handler may rely on
//
//   - The request is valid until the handler returns, and its Header must not be changed.
//   - The body has been read: deadlines that a [http.ResponseController] sets for reading do nothing.
//   - The context ends when the lane is closed, not when the client goes away.
//   - The answer is collected and sent with one write. There is no Flush, no Hijack, no trailer, and no
//     Content-Type that the handler did not set.
package express
