// Package cert is the gateway's TLS: what it shows of itself, how connections begin, and the certificates
// of devices.
//
// # What the gateway shows
//
//   - At the first start a P-256 key and a self-signed certificate for all of the machine's names and addresses. When
//     those change, or the end comes near, the certificate is made anew with the same key and subject: the
//     fingerprint ([Served.Fingerprint], of the public key) stays, and so does what a client checks that was
//     given the old certificate as its authority. It is limited to the gateway's own names, so
//     that who installs it as an authority trusts it for nothing else.
//   - Instead, a certificate of one's own from two files, read again when they change. A broken pair changes nothing
//     but a warning.
//   - For names that resolve publicly, certificates by ACME (RFC 8555), unless built with omit_acme.
//
// It is valid from the program's build on, because a gateway without a battery starts in 1970; and the
// present, for all checks, is never before the clock's floor.
//
// # How connections begin
//
// [Listener] does the handshake in a goroutine that ends with it (that halves the memory of an idle
// connection: the stack that it needs is not the stack that waiting needs), within ten seconds, and a bounded number at the
// same time. When too many are on their way the oldest one ends, so that who only opens connections
// keeps nobody out.
//
// # Certificates of devices
//
// A small authority of the gateway's own signs what devices ask for. Only a certificate that is in its
// book counts: [Keeper.Issue] writes it there before it hands it out, [Keeper.Revoke] strikes it out. The book is asked in
// tls.Config.VerifyConnection, which unlike VerifyPeerCertificate runs for resumed sessions too, and again
// for each HTTP request; connections that began with the certificate are cut.
//
// # Files
//
// All are in the data directory's tls/ (0700), 0600, and written whole: a temporary file, fsync, rename,
// fsync of the directory; but the book, which grows by lines, each fsynced.
//
//	server.key   PKCS #8, PEM: the key that the fingerprint is of
//	server.pem   the self-signed certificate
//	ca.key       the key of the authority for devices; made with its first certificate
//	ca.pem       its certificate
//	devices      the book: a line is the CRC-32C of the rest in 8 hex digits, a space, and a JSON object
//	acme.key     the account's key
//	acme.pem     the certificates by ACME and their key
//
// A line of the book is {"issue":FINGERPRINT,"device":ID,"serial":HEX,"ca":HEX,"until":UNIX} or
// {"end":FINGERPRINT}; fingerprints are SHA-256 of the certificate. The newest line may be torn: nobody
// was told that it is there. A damaged line before it may have ended any certificate above it, so all of those
// end.
package cert
