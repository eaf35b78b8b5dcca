// Package cli is edgepost's command line: a table of commands over the standard flag package. All
// but serve, log and version talk to a running appliance over its HTTP interface, on the gateway
// through the control socket: whoever can open that socket is the owner and needs no token.
//
// # Conventions
//
// Flags may stand anywhere, -x means --x, and -- ends them. Every command takes
//
//	-data DIR    data directory of the appliance on this machine (EDGEPOST_DATA; default "data")
//	-url URL     its HTTP or HTTPS address instead, from elsewhere (EDGEPOST_URL)
//	-token T     token of a device or key (EDGEPOST_TOKEN); the control socket needs none
//	-fingerprint F, -cacert FILE   whom to trust at an https:// address (EDGEPOST_FINGERPRINT, EDGEPOST_CACERT)
//	-json        machine-readable output: one object, or one a line
//
// A flag wins over the environment; -data and -url on the command line win over both variables.
// Results go to standard output, everything else to standard error.
//
// # Exit codes
//
//	0  done
//	1  failed: here, or inside the appliance
//	2  the command line is wrong
//	3  no appliance was reached
//	4  refused: the appliance answered no; the code in parentheses is the problem's
//	5  timeout: it took longer than was asked for; nothing is undone
//
// # Guarantees
//
//   - send prints the id only after the message is on stable storage.
//   - listen acknowledges a message only after its line was written to standard output without an
//     error. A line may come twice after a crash of either side; within one run each id comes once.
package cli
