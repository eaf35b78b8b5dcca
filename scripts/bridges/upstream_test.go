package bridges

import "testing"

// upstream is one row of the table: a real broker, and clients of it that know nothing of edgepost.
type upstream struct {
	name     string // of the row, and of the connector
	broker   string // in package brokers
	protocol string // of brokers.Broker.Addr

	// config is [[bridge]] named "up" that forwards device/+/out/# to where read reads, and what write writes to topics
	// below cmd/. addr is host:port.
	config func(addr string) string
	// read consumes what the gateway sends until stop is called; it survives the broker's death. ready is when it
	// loses nothing any more.
	read func(t *testing.T, addr string, got *tally) (stop func())
	// write has the broker take the numbers from…to, trying again until each is acknowledged, with bodies that are
	// CloudEvents whose id is the number.
	write func(t *testing.T, addr string, from, to int)
	// forgets says what the broker loses in a kill of what it has acknowledged; "" nothing. Its row is not held to
	// account for that, but for what a rewind brings back.
	forgets string
}

func upstreams() []upstream { return []upstream{mosquitto()} }
