package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/scripts/brokers"
)

// bridgeCase is one bridge of a gateway, and what its state must come to.
type bridgeCase struct {
	name   string
	lines  string // of [[bridge]] before [bridge.up]
	more   string // behind it
	state  string
	error  string // a part of it
	repair func() error
}

// testBridgeCases runs all bridges on one gateway, which must not mind.
func testBridgeCases(t *testing.T, cases []bridgeCase) {
	t.Helper()
	var text strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&text, "[[bridge]]\nname = %q\n%s\n[bridge.up]\nfilters = [\"device/+/out/#\"]\n%s\n", c.name, c.lines, c.more)
	}
	g := startGateway(t, text.String())
	for _, c := range cases {
		var s bridgeState
		for until := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			s = g.bridge(c.name)
			if s.State == c.state && strings.Contains(s.Error, c.error) {
				break
			}
			if time.Now().After(until) {
				t.Errorf("%s: %s, %q; want %s, with %q", c.name, s.State, s.Error, c.state, c.error)
				break
			}
		}
		if c.repair == nil {
			continue
		}
		if err := c.repair(); err != nil {
			t.Fatal(err)
		}
		g.must(nil, "bridge", "resume", c.name) // it would try again by itself, but seldom
		within(t, time.Minute, c.name+" does not connect after the repair", func() bool { return g.bridge(c.name).State == "connected" })
	}
}

func TestKafkaBadInput(t *testing.T) {
	b := newBrokerFor(t, "kafka")
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	admin := kafkaClient(t, b.Addr("kafka"))
	if err := createTopics(admin, 2, "ep.up", "ep.small"); err != nil {
		t.Fatal(err)
	}
	right, wrong := secretFile(t, brokers.Password), secretFile(t, "wrong")
	kafka := func(scheme, port, more string) string {
		return "kind = \"kafka\"\nurls = [\"" + scheme + "://" + b.Addr(port) + "\"]\n" + more
	}
	login := func(file string) string {
		return "username = \"" + brokers.User + "\"\npassword_file = \"" + file + "\""
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"edge","iat":%d,"exp":%d}`, time.Now().Unix(), time.Now().Add(time.Hour).Unix())) + "."
	up := "to = \"ep.up\"\n"
	option := func(s string) string { return up + "[bridge.options]\nmechanism = \"" + s + "\"" }
	testBridgeCases(t, []bridgeCase{
		{name: "plain", lines: kafka("kafka", "kafka+sasl", login(right)), more: option("plain"), state: "connected"},
		{name: "scram256", lines: kafka("kafka", "kafka+sasl", login(right)), more: option("scram-sha-256"), state: "connected"},
		{name: "scram512", lines: kafka("kafka", "kafka+sasl", login(right)), more: option("scram-sha-512"), state: "connected"},
		{name: "token", lines: kafka("kafka", "kafka+sasl", "token_file = \""+secretFile(t, token)+"\""), more: up, state: "connected"},
		{name: "tls", lines: kafka("kafkas", "kafka+tls", "ca_file = \""+b.Authority()+"\""), more: up, state: "connected"},
		{name: "host", lines: "kind = \"kafka\"\nurls = [\"kafka://" + freeAddr(t) + "\"]", more: up, state: "waiting", error: "nothing listens there"},
		{name: "password", lines: kafka("kafka", "kafka+sasl", login(wrong)), more: option("plain"), state: "misconfigured", error: "refuses this user"},
		{name: "password512", lines: kafka("kafka", "kafka+sasl", login(wrong)), more: option("scram-sha-512"), state: "misconfigured", error: "refuses this user"},
		{name: "badtoken", lines: kafka("kafka", "kafka+sasl", "token_file = \""+secretFile(t, "x.y.z")+"\""), more: up, state: "misconfigured", error: "refuses this user"},
		{name: "nobody", lines: kafka("kafka", "kafka+sasl", ""), more: up, state: "misconfigured", error: "SASL"},
		{name: "nofile", lines: kafka("kafka", "kafka+sasl", login("/nonexistent")), more: option("plain"), state: "misconfigured", error: "/nonexistent"},
		{name: "authority", lines: kafka("kafkas", "kafka+tls", ""), more: up, state: "misconfigured", error: "ca_file"},
		{name: "tlstoplain", lines: kafka("kafkas", "kafka", ""), more: up, state: "misconfigured", error: "TLS"},
		{name: "plaintotls", lines: kafka("kafka", "kafka+tls", ""), more: up, state: "waiting", error: "plaintext connection speaking to a tls endpoint"},
		{name: "topic", lines: kafka("kafka", "kafka", ""), more: "to = \"ep.none\"\n", state: "misconfigured", error: "create the topic", repair: func() error { return createTopics(admin, 1, "ep.none") }},
	})
}

// TestKafkaTooLarge: what the topic does not take is a dead letter, and nothing else is.
func TestKafkaTooLarge(t *testing.T) {
	b := newBrokerFor(t, "kafka")
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	admin := kafkaClient(t, b.Addr("kafka"), kgo.ConsumeTopics("ep.small"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	req, topic, limit := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic(), kmsg.NewCreateTopicsRequestTopicConfig()
	limit.Name, limit.Value = "max.message.bytes", new("3000")
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor, topic.Configs = "ep.small", 1, 1, append(topic.Configs, limit)
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "edgepost.toml")
	text := "[[bridge]]\nname = \"central\"\nkind = \"kafka\"\nurls = [\"kafka://" + b.Addr("kafka") + "\"]\n[bridge.up]\nfilters = [\"device/+/out/#\"]\nto = \"ep.small\"\n[bridge.options]\ncompression = \"none\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "-config", file)
	g.start()
	lamp := g.api(g.addDevice("lamp"))
	g.must(nil, "bridge", "pause", "central") // so that they go together
	for i := range 60 {
		size := 200
		if i == 30 {
			size = 5000
		}
		lamp.publish(t, "device/lamp/out/x", strings.Repeat(string(rune('A'+i%26)), size))
	}
	g.must(nil, "bridge", "resume", "central")
	within(t, time.Minute, "all but one are confirmed, and that one is given up", func() bool {
		s := g.bridge("central")
		return s.State == "connected" && s.Owed == 0 && s.Counters["confirmed"] >= 59 && s.Counters["dead"] > 0
	})
	within(t, 10*time.Second, "it is the only dead letter", func() bool {
		dead := g.run("dead", "list", "-json")
		return strings.Count(dead.out, "\n") == 1 && strings.Contains(dead.out, "MESSAGE_TOO_LARGE")
	})
	seen := map[string]bool{}
	for len(seen) < 59 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		f := admin.PollFetches(ctx)
		cancel()
		if f.Err0() != nil {
			t.Fatalf("%d of 59 arrived: %v", len(seen), f.Err0())
		}
		f.EachRecord(func(r *kgo.Record) {
			for _, h := range r.Headers {
				if h.Key == "ce_id" {
					seen[string(h.Value)] = true
				}
			}
		})
	}
}

func TestAMQPBadInput(t *testing.T) {
	for _, name := range []string{"artemis", "activemq"} {
		t.Run(name, func(t *testing.T) {
			b := newBrokerFor(t, name)
			if err := b.Start(); err != nil {
				t.Fatal(err)
			}
			amqp := func(scheme, file string) string {
				return "kind = \"amqp\"\nurls = [\"" + scheme + "://" + b.Addr("amqp") + "\"]\nusername = \"" + brokers.User + "\"\npassword_file = \"" + file + "\""
			}
			right := secretFile(t, brokers.Password)
			cases := []bridgeCase{
				{name: "right", lines: amqp("amqp", right), more: "to = \"ep.up\"", state: "connected"},
				{name: "templated", lines: amqp("amqp", right), more: "to = \"ep.${device}\"", state: "connected"},
				{name: "host", lines: "kind = \"amqp\"\nurls = [\"amqp://" + freeAddr(t) + "\"]", more: "to = \"ep.up\"", state: "waiting", error: "nothing listens there"},
				{name: "password", lines: amqp("amqp", secretFile(t, "wrong")), more: "to = \"ep.up\"", state: "misconfigured", error: "password_file"},
			}
			if name == "activemq" { // Artemis says nothing at all to TLS where it expects none
				cases = append(cases, bridgeCase{name: "tlstoplain", lines: amqp("amqps", right), more: "to = \"ep.up\"", state: "misconfigured", error: "does not speak TLS"})
			} else { // ActiveMQ makes every queue
				cases = append(cases, bridgeCase{name: "tlstoplain", lines: amqp("amqps", right), more: "to = \"ep.up\"", state: "waiting", error: "no answer"})
				cases = append(cases, bridgeCase{name: "queue", lines: amqp("amqp", right), more: "to = \"strict.none\"", state: "misconfigured", error: "create the queue"})
			}
			testBridgeCases(t, cases)
		})
	}
}
