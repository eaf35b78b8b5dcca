// Package oauth is a small authorization server for the devices and programs of one gateway: it signs access
// tokens of the form of RFC 9068 (at+jwt, EdDSA), keeps the list of what was revoked, and the requests of the
// device authorization grant (RFC 8628) until a person decides. HTTP is package oauthapi's; who a client is,
// and what it may do, is package auth's.
//
//   - A token stands for a registered device or key, its subject "device/lamp1" or "key/app", and ends with the
//     credential that it was issued for (claim cred). It allows what the register allows, at most what its scope
//     says, and administration only with the scope admin.
//   - Two keys are published, the current one and the next, so that who keeps our key set a while knows the next one
//     when it comes. Every 90 days, or when somebody says so, the next becomes the current. A key that was current is
//     published until the last token it signed has ended.
//   - What was revoked is on stable storage before the call returns: single tokens, and all of a subject that were
//     issued so far. A list that cannot be read ends every token: the keys are made anew.
//   - Times are those of the clock's floor while the clock is not trusted: a token's end is never in 1970, and it
//     passes with the time that the gateway is on.
//   - Requests of devices are in memory only: a stranger writes nothing to flash, and a restart forgets them.
//
// Files, in the directory that [Open] is given, mode 0600, each replaced whole:
//
//	keys      {"format":1,"keys":[{"seed":…,"state":"current","since":age in ns}…]}
//	revoked   {"format":1,"tokens":[{"id":…,"until":unix}…],"subjects":[{"subject":…,"before":unix,"until":unix}…]}
package oauth
