// Edgepost brings messages to the devices of a LAN and keeps each until it is acknowledged; see
// README.md.
package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"edgepost/appliance/cli"
)

// Set by the linker: -ldflags "-X main.version=v1.2.3 -X main.built=1767225600".
var (
	version string
	built   string // unix time of the commit: no clock may show an earlier one
)

func main() {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	if version == "" {
		version = "(devel)"
	}
	var floor time.Time
	if n, err := strconv.ParseInt(built, 10, 64); err == nil {
		floor = time.Unix(n, 0)
	}
	os.Exit(cli.Main(os.Args, version, floor))
}
