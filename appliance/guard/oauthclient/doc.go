// Package oauthclient is the gateway as a client of authorization servers: it gets access tokens by
// client_credentials (RFC 6749 §4.4) for upstreams that want one, and makes the HTTP client with
// which others of the guard talk to such servers.
//
//   - Servers are asked by HTTPS; plain HTTP counts only to a loopback address. Redirects are not
//     followed: the secret goes where it was configured to go.
//   - An answer is read up to [MaxAnswer] bytes.
//   - A token is kept until shortly before its end. However many ask, one request is under way; who
//     comes meanwhile waits for it.
//   - What may pass (no connection, 429, 5xx) is tried again, with growing waits; a refusal is not. After
//     a failure callers get it at once until the wait is over, and a token that still holds is used.
//   - Ends are counted on the monotonic clock: a clock that is set ends no token early or late.
//   - Neither secrets nor tokens are in errors or in the log.
package oauthclient
