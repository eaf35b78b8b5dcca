// Package oauthapi is the gateway's authorization server over HTTP:
//
//	POST /oauth2/token                             client_credentials (RFC 6749 §4.4), device_code (RFC 8628 §3.4)
//	POST /oauth2/device_authorization              RFC 8628 §3.1
//	POST /oauth2/revoke                            RFC 7009
//	POST /oauth2/introspect                        RFC 7662
//	GET  /oauth2/jwks                              RFC 7517 §5
//	GET  /.well-known/oauth-authorization-server   RFC 8414
//
// Requests are forms in the body and nothing else; errors are the JSON of RFC 6749 §5.2. What takes a secret or shows a token
// is served over TLS, through a trusted proxy that was asked over it, and to the gateway itself; elsewhere it is
// invalid_request. Clients show their secret in the Authorization header or in the body, not in both, or a device's certificate
// (RFC 8705 §2). A token that is asked for over a connection with a certificate is bound to it.
//
// The addresses in the metadata have the name by which the gateway was asked; issuer is what [oauth] configures.
package oauthapi
