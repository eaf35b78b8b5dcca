package bridges

import (
	"os"
	"testing"
	"time"
)

// upstream is one row of the table: a real broker, and clients of it that know nothing of edgepost.
type upstream struct {
	name     string // of the row, and of the connector
	broker   string // in package brokers
	protocol string // of brokers.Broker.Addr

	// config is [[bridge]] named "up" that forwards device/+/out/# to where read reads, and what write writes to topics
	// below cmd/. addr is host:port; PASSWORD_FILE becomes
	// the name of a file with the brokers' password.
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
	// settle is how old what the bridge makes at the broker must be to survive a kill.
	settle time.Duration
}

// upstreams are the rows.
func upstreams() []upstream {
	rows := []upstream{mosquitto()}
	if os.Getenv("UPSTREAMS") != "all" {
		return rows
	}
	return append(rows, rabbitmq(),
		stomp("stomp (ActiveMQ 5)", "activemq-debian", "/queue/ep.up", "/queue/ep.down", ""),
		stomp("stomp (ActiveMQ 6)", "activemq", "/queue/ep.up", "/queue/ep.down", ""),
		stomp("stomp (Artemis)", "artemis", "ep.up", "ep.down", "destination = \"queue\"\n"),
		stomp("stomp (RabbitMQ)", "rabbitmq", "/queue/ep.up", "/queue/ep.down", ""))
}
