// Package auth says who is asking and what that principal may do: credentials in, a [Grant] out.
// Denied is the default.
package auth
