package bridges

import (
	"testing"
	"time"
)

// upstream is one row of the table: a real broker, and clients of it that know nothing of edgepost.
type upstream struct {
	name     string // of the row
	kind     string // in configurations
	broker   string // in package brokers
	protocol string // of brokers.Broker.Addr: where the clients are
	behind   string // where the proxy leads to, if that is another port: what comes there is told the proxy's address

	// config is [[bridge]] named "up" that forwards device/+/out/# to where read reads, and what write writes to topics
	// below cmd/. addr is host:port; PASSWORD_FILE becomes the name of a file with the brokers' password.
	config func(addr string) string
	// prepare makes what the broker does not make by itself; nil nothing. It is called after each start.
	prepare func(t *testing.T, addr string)
	// read consumes what the gateway sends until stop is called; it survives the broker's death.
	read func(t *testing.T, addr string, got *tally) (stop func())
	// write has the broker take the numbers from…to, trying again until each is acknowledged. An id of the message, or
	// of the event that it holds, is the number.
	write func(t *testing.T, addr string, from, to int)
	// tell sends a command to the device lamp1 as the README's lines for this kind want it; nil: there are none for this
	// row.
	tell func(t *testing.T, addr, body string)
	// forgets says what the broker loses in a kill of what it has acknowledged; "" nothing. Its row is not held to
	// account for that, but for what a rewind brings back.
	forgets string
	// settle is how old what the bridge makes at the broker must be to survive a kill.
	settle time.Duration
	// deaf is a gateway that needs half a minute or more to notice that its connections are dead: the half-open network
	// belongs to the long run then.
	deaf bool
}
