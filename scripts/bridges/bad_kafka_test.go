package bridges

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/scripts/brokers"
)

func TestBadKafka(t *testing.T) {
	b := startBroker(t, "kafka")
	kafkaTopics(t, b.Addr("kafka"), "ep.up")
	right, other := secretFile(t, brokers.Password), secretFile(t, "wrong")
	// keys stand before [bridge.up], more behind its lines.
	text := func(scheme, port, keys, more string) string {
		return "[[bridge]]\nname = \"up\"\nkind = \"kafka\"\nurls = [\"" + scheme + "://" + b.Addr(port) + "\"]\n" + keys + "\n[bridge.up]\nfilters = [\"device/+/out/#\"]\nto = \"ep.up\"\n" + more
	}
	login := func(file, mechanism string) string {
		return text("kafka", "kafka+sasl", "username = \""+brokers.User+"\"\npassword_file = \""+file+"\"", "[bridge.options]\nmechanism = \""+mechanism+"\"")
	}
	token := func(s string) string {
		return text("kafka", "kafka+sasl", "token_file = \""+secretFile(t, s)+"\"", "")
	}
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"edge","iat":%d,"exp":%d}`, time.Now().Unix(), time.Now().Add(time.Hour).Unix())) + "."
	simple := text("kafka", "kafka", "", "")
	bad(t, append(badTLS(t, b, single{kind: "kafka", to: "ep.up"}, "kafka", "kafka+mtls", "kafka"), []wrong{
		{name: "plain", text: login(right, "plain"), state: "connected"},
		{name: "scram-sha-256", text: login(right, "scram-sha-256"), state: "connected"},
		{name: "scram-sha-512", text: login(right, "scram-sha-512"), state: "connected"},
		{name: "token", text: token(jwt), state: "connected"},
		{name: "tls", text: text("kafkas", "kafka+tls", "ca_file = \""+b.Authority()+"\"", ""), state: "connected"},
		{name: "nobody-listens", text: with(t, simple, b.Addr("kafka"), freeAddr(t)), state: "waiting", words: "nothing listens there"},
		{name: "wrong-password", text: login(other, "plain"), state: "misconfigured", words: "refuses this user"},
		{name: "wrong-password-scram", text: login(other, "scram-sha-512"), state: "misconfigured", words: "refuses this user"},
		{name: "wrong-token", text: token("x.y.z"), state: "misconfigured", words: "refuses this user"},
		{name: "no-user", text: text("kafka", "kafka+sasl", "", ""), state: "misconfigured", words: "SASL"},
		{name: "no-file", text: login("/nonexistent", "plain"), state: "misconfigured", words: "/nonexistent"},
		{
			name: "missing-topic", text: with(t, simple, `"ep.up"`, `"ep.none"`), state: "misconfigured", words: "create it",
			repair: func() { kafkaTopics(t, b.Addr("kafka"), "ep.none") },
		},
	}...))
}

// TestKafkaTooLarge: what the topic does not take is a dead letter, and nothing else is.
func TestKafkaTooLarge(t *testing.T) {
	b := startBroker(t, "kafka")
	c := kafkaClient(t, b.Addr("kafka"), kgo.ConsumeTopics("ep.small"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	req, topic, limit := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic(), kmsg.NewCreateTopicsRequestTopicConfig()
	limit.Name, limit.Value = "max.message.bytes", new("3000")
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor, topic.Configs = "ep.small", 1, 1, append(topic.Configs, limit)
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	kafkaTopics(t, b.Addr("kafka"), "ep.down")
	g := newGateway(t, with(t, kafka().config(b.Addr("kafka")), `"ep.up"`, `"ep.small"`)+"[bridge.options]\ncompression = \"none\"\n")
	g.start()
	must := func(args ...string) string {
		text, err := g.run(args...)
		if err != nil {
			t.Fatal(text)
		}
		return text
	}
	must("bridge", "pause", "up") // so that they go together
	for i := range 60 {
		size := 200
		if i == 30 {
			size = 5000
		}
		g.say("device/lamp/out/x", strings.Repeat(string(rune('A'+i%26)), size))
	}
	must("bridge", "resume", "up")
	wait(t, "all but one are confirmed, and that one is given up", func() bool {
		s := g.bridge()
		return s.State == "connected" && s.Owed == 0 && s.Counters["confirmed"] >= 59 && s.Counters["dead"] > 0
	})
	wait(t, "it is the only dead letter", func() bool {
		dead := must("dead", "list", "-json")
		return strings.Count(dead, "\n") == 0 && strings.Contains(dead, "MESSAGE_TOO_LARGE")
	})
	seen := map[string]bool{}
	for len(seen) < 59 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		f := c.PollFetches(ctx)
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
