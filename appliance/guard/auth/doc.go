// Package auth says who is asking and what that principal may do: [Credentials] in, a [Grant] out.
// Denied is the default.
//
//   - The first credential that is present decides; after its failure nothing else is tried.
//   - A client's certificate is the first credential; a name and a token beside it must be the same device's.
//   - No credentials at all is the anonymous principal where its rules are configured, else nobody.
//   - An unknown name and a wrong token are one answer, in words and in time.
//   - A device's inbox belongs to the device alone ([Grant.OwnsInbox]): an anonymous client whose
//     rules let it subscribe to everything can watch what is sent to a device, but can neither
//     take it away nor acknowledge it.
//   - A Grant is a picture of the rules at one moment. Who holds one for longer than a request asks
//     [Authenticator.Current] again, so that a changed rule holds for what is already queued.
package auth
