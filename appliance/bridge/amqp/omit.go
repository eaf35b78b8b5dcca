//go:build omit_amqp

package amqp

import "edgepost/appliance/bridge"

// Kind says that the connector is not compiled in.
func Kind() bridge.Kind { return bridge.Kind{Name: "amqp"} }
