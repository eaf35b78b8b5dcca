// Package seal seals payloads end to end and opens them: between a publisher and a device that share a key, or between the
// gateway and a device that cannot do TLS. It is pure: no clock, no disk, no network.
//
// There is one cipher, AES-256-GCM, and two forms.
//
// [JWE], media type application/jose, is a compact JWE (RFC 7516) with alg "dir" and enc "A256GCM". Its protected header
// carries kid, the topic that it is sealed for as "topic", and the payload's own media type as "cty" where it is known.
// Nothing else is offered: no zip, no crit, no key wrapped with a password or RSA. What has no topic, or another, does not
// open: somebody on the way could have moved it.
//
// [Binary], media type application/vnd.edgepost.a256gcm, is for microcontrollers: 33 bytes more than the payload.
//
//	byte   bytes  field
//	0      1      version, 1
//	1      4      key id: the first four bytes of the SHA-256 of the key
//	5      12     nonce, never used twice with one key
//	17     n      ciphertext of n bytes of payload
//	17+n   16     tag
//
// Authenticated besides (the AAD) are bytes 0 to 4, followed by the topic in UTF-8. A message's id is not: whoever
// publishes does not know it yet, and MQTT 3.1.1 never shows it. The nonce is what names a sealed message, and the topic says
// in which direction it goes, so that what a device sent cannot be sent back to it.
//
// # Test vector
//
//	key      000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
//	         {"kty":"oct","alg":"A256GCM","kid":"630dcd29","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}
//	topic    device/lamp1/in/set
//	payload  {"on":true}, its type application/json
//	nonce    a0a1a2a3a4a5a6a7a8a9aaab
//	AAD      01630dcd29 6465766963652f6c616d70312f696e2f736574
//	binary   01630dcd29 a0a1a2a3a4a5a6a7a8a9aaab 9d3a134367f176cd1700fa ea6402b1ae8405cf94debe9cf30fb71d
//	JWE      eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiNjMwZGNkMjkiLCJjdHkiOiJhcHBsaWNhdGlvbi9qc29uIiwidG9w
//	         aWMiOiJkZXZpY2UvbGFtcDEvaW4vc2V0In0..oKGio6Slpqeoqaqr.nToTQ2fxds0XAPo.MuaxT6egK91CrCRl0bbc4A
//
// # What it promises, and what not
//
//   - Who does not have the key can neither read a payload nor make one. Topic, size, time and key id stay readable.
//   - Nonces made here are 96 random bits: make a new key before 2³² messages (NIST SP 800-38D §8.3). A device without a
//     good random source takes a counter that survives its restarts: two messages under one nonce give the key away.
//   - A sealed payload that is sent again opens again: whoever opens it remembers nonces for as long as it matters to
//     him.
//   - On processors without AES instructions, Go's AES uses tables and its timing may tell about the key to somebody
//     who measures on the same machine.
//
// # Where the gateway seals
//
// The payloads of a device whose key the gateway holds are sealed on their way out, anew for each transmission, and opened before they
// are stored. What is not sealed is refused with the code not-sealed, what is damaged or for another topic with not-opened; MQTT 3.1.1
// cannot refuse, so there such publishes are acknowledged and dropped. What is sent again under its nonce is stored once: the last 2,048
// sealed publishes are remembered until a restart, and over HTTP, WebSocket and MQTT's QoS 1 those of the last ten minutes beyond it. A device to
// which an older one matters puts a counter into its payload.
package seal
