// Package sse serves GET /v1/stream: messages as server-sent events (WHATWG HTML, "Server-sent events"), for EventSource in
// browsers and for curl.
//
//		retry: 2000                       how long EventSource waits before it comes again
//		event: gap                        first, when messages behind the asked position are no longer kept
//		data: {"after":"k3f9w2xq-4700"}
//
//		id: k3f9w2xq-4712                 absent for a volatile message
//		data: {"seq":4712,"id":"k3f9w2xq-4712","topic":"alarm/1",…,"attempt":1}
//
//		:                                 a comment when nothing else was written for 25 seconds
//
//		event: bye                        the stream ends and not by the client's doing
//		data: {"reason":"stopping"}
//
//	  - Order is the log's; nothing is skipped without a gap event. EventSource sends the last id it saw as Last-Event-ID, and the
//	    stream goes on behind it; it goes before ?after=, which stays in the address for ever.
//	  - There are no acks: a message ends as "sent" once the stream's queue has it, and what a broken connection swallowed is read
//	    again by its id. So a stream has no durable name: who must acknowledge uses WebSocket or a named subscription.
//	  - A reader that does not take one write within the write timeout is cut. Until then it costs its bounded queue; the messages
//	    behind that stay in the log. Volatile messages it misses are dropped and counted.
//	  - All that waits is written at once.
//
// Each stream is one handler goroutine of net/http with its buffers, some 26 KiB over HTTP/1.1; sharing the WebSocket's small
// buffers by hijacking is left for when it is measured to matter. HTTP/2 works the same, through
// [http.ResponseController].
package sse
