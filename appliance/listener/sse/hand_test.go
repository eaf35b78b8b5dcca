package sse

import "edgepost/appliance/courier"

// hand delivers one message, as a turn of the shard with nothing more does.
func hand(l courier.Link, d courier.Delivery) bool {
	taken := l.Deliver(d)
	l.Flush()
	return taken
}
