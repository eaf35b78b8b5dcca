// Package webhook is the connector that posts each message to an HTTP server as a CloudEvent (CloudEvents HTTP
// binding 1.0.2): in binary mode with ce-* headers, as structured JSON, or raw.
//
// With secret_file requests are signed as Standard Webhooks says (https://www.standardwebhooks.com): webhook-id is
// the event's id, stable over repetitions; webhook-signature is "v1," and the base64 of the HMAC-SHA256 over
// id "." timestamp "." body.
//
// What an answer means:
//
//	2xx                      confirmed
//	429, 503 with Retry-After the upstream asks to wait
//	408, 425, 429, 5xx       the upstream's failure, or this message's: see bridge.Doubtful
//	400, 409, 422, other 4xx refused; a dead letter after max_attempts tries
//	413, 415                 never to be taken
//	3xx, 401, 403, 404, 405, 407, 410 the configuration is wrong
//
// Requests are made one after the other, so that order is kept; option concurrency trades that for speed.
package webhook
