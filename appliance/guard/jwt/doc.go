// Package jwt checks JSON Web Tokens of any number of issuers: a [Verifier] turns a token into an
// [Identity], or into a [message.Problem] that says why not. Signatures are go-jose's; what go-jose,
// like other libraries, lets through is refused here before and after it.
//
//   - A token has at most [MaxToken] bytes and the shape of three base64url words before anything
//     parses it, so a refused one costs a bounded amount. Encodings must be canonical.
//   - alg is EdDSA, ES256 or RS256 (RSA keys of 2,048 bits and more), and the one that belongs to
//     the key. HS256 is for an issuer that is configured with a secret and nothing else. A header
//     brings no key: jwk, jku, x5c and x5u are ignored, kid only chooses among the issuer's own.
//     crit in any form is refused (RFC 7515 §4.1.11: we understand none).
//   - iss, aud, sub and exp must be there. Duplicate names, text that is not UTF-8 and control
//     characters are refused, a type (typ) that the issuer does not use too (RFC 8725 §3.11).
//   - Keys belong to one issuer, and so do verified tokens in the cache: it is keyed by the SHA-256 of the
//     whole token, one cache an issuer, and emptied when the issuer's keys change. Without keys
//     nothing passes.
//   - A key set comes by HTTPS, is kept on disk and serves while its source cannot be reached, for
//     a week unless configured; see [Remote].
//   - Time is judged against the clock's floor: while the clock is not trusted a token that ended
//     before the floor is refused, and one from the future is not (RFC 7519 §4.1.4 to 4.1.6).
//
// What a token allows stands in its claim "acl", in the form of EMQX; see [ACL].
package jwt
