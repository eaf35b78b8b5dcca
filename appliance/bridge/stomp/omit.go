//go:build omit_stomp

package stomp

import "edgepost/appliance/bridge"

// Kind says that the connector is not compiled in.
func Kind() bridge.Kind { return bridge.Kind{Name: "stomp"} }
