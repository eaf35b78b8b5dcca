package cli

import (
	"context"
	"fmt"
	"runtime"
)

func versionCommand() *command {
	c := &command{name: "version", short: "print the version", flags: newFlags(), local: true}
	c.run = func(_ context.Context, call *call) error {
		if call.json {
			return call.printValue(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{call.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
		}
		return call.print(fmt.Sprintf("edgepost %s (%s, %s/%s)\n", call.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH))
	}
	return c
}
