package bridges

import (
	"strings"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

// wrong is what somebody wrote into a configuration that works otherwise, and what is said about it.
type wrong struct{ name, is, instead, state, words string }

func TestBadRabbitMQ(t *testing.T) {
	missing := func(c wrong) wrong { // the queues are not made then
		c.is, c.instead = c.is+"\n", c.instead+"\n"
		return c
	}
	bad(t, rabbitmq(), "amqp091", "does it speak AMQP", []wrong{
		{"wrong user", `username = "edge"`, `username = "nobody"`, "misconfigured", `log-in of user "nobody"`},
		{"virtual host", `"]` + "\nusername", `/none"]` + "\nusername", "misconfigured", "virtual host"},
		{"TLS on a plain port", "amqp://", "amqps://", "misconfigured", "does not speak TLS"},
		missing(wrong{"missing queue", `queue_type = "quorum"`, "", "misconfigured", "no queue 'ep.down'"}),
		{"missing exchange", "[bridge.options]", "[bridge.options]\nexchange = \"none\"", "misconfigured", "no exchange 'none'"},
		{"another type", `"quorum"`, `"classic"`, "misconfigured", "it was made otherwise"},
	}, func(t *testing.T, addr string) { rabbitQueue(t, addr, "made") })
}

func TestBadSTOMP(t *testing.T) {
	bad(t, stomp("", "activemq-debian", "/queue/ep.up", "/queue/ep.down", ""), "stomp", "is it STOMP", []wrong{
		{"wrong user", `username = "edge"`, `username = "nobody"`, "misconfigured", `refuses user "nobody": `},
		{"TLS on a plain port", "stomp://", "stomps://", "", "TLS"},
	}, nil)
}

// bad runs gateways with configurations that are wrong against one broker; none of them ends.
func bad(t *testing.T, u upstream, protocol, speaks string, list []wrong, prepare func(t *testing.T, addr string)) {
	b, err := brokers.New(u.broker, t.TempDir())
	if err != nil {
		cannot(t, err)
	}
	t.Cleanup(b.Kill)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	addr := b.Addr(protocol)
	if prepare != nil {
		prepare(t, addr)
	}
	list = append(list, wrong{"another protocol", addr, httpServer(t), "", speaks}, wrong{"nobody listens", addr, freeAddr(t), "waiting", "nothing listens there"})
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			text := u.config(addr)
			if c.name == "another type" {
				text = strings.ReplaceAll(text, "ep.down", "made")
			}
			changed := strings.Replace(text, c.is, c.instead, 1)
			if changed == text {
				t.Fatal("nothing is wrong")
			}
			g := newGateway(t, changed)
			g.start()
			var got bridge
			if !eventually(45*time.Second, func() bool {
				got = g.bridge()
				return strings.Contains(got.Error, c.words) && (c.state == "" || got.State == c.state || got.State == "connecting")
			}) {
				t.Errorf("state %q, error %q; want %q, %q", got.State, got.Error, c.state, c.words)
			}
			g.publish(0, 1) // it goes on
		})
	}
}
