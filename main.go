// Edgepost brings messages to the devices of a LAN and keeps each until it is acknowledged; see
// README.md.
package main

import (
	"os"
	"runtime/debug"

	"edgepost/appliance/cli"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	if version == "" {
		version = "(devel)"
	}
	os.Exit(cli.Main(os.Args, version))
}
