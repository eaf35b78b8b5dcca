package bridges

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func kafka() upstream {
	return upstream{
		name: "Apache Kafka 4", kind: "kafka", broker: "kafka", protocol: "kafka", behind: "kafka+behind", read: kafkaRead, write: kafkaWrite, tell: kafkaTell, deaf: true,
		prepare: func(t *testing.T, addr string) { kafkaTopics(t, addr, "ep.up", "ep.down") },
		config: func(addr string) string {
			return `[[bridge]]
name = "up"
kind = "kafka"
urls = ["kafka://` + addr + `"]
[bridge.up]
filters = ["device/+/out/#"]
to = "ep.up"
[bridge.down]
from = ["ep.down"]
to = "cmd/x"
format = "raw"
`
		},
	}
}

func TestLossKafka(t *testing.T) { testLoss(t, kafka()) }

func kafkaClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// kafkaTopics makes topics of four partitions; those that exist stay.
func kafkaTopics(t *testing.T, addr string, names ...string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, name := range names {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 4, 1
		req.Topics = append(req.Topics, topic)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := req.RequestWith(ctx, kafkaClient(t, addr))
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range res.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			t.Fatal(err)
		}
	}
}

func kafkaTell(t *testing.T, addr, body string) {
	t.Helper()
	r := &kgo.Record{Topic: "ep.down", Key: []byte("lamp1"), Value: []byte(body)}
	if err := kafkaClient(t, addr).ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func kafkaRead(t *testing.T, addr string, got *tally) func() {
	t.Helper()
	c := kafkaClient(t, addr, kgo.ConsumeTopics("ep.up"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got.add(string(r.Value)) }) // errors: it tries again
		}
	}()
	return cancel
}

// kafkaWrite leaves most of trying again to the client: it numbers its records, so that the broker keeps each once. What
// fails there was not sent: the broker was away when the client asked for its number.
func kafkaWrite(t *testing.T, addr string, from, to int) {
	c := kafkaClient(t, addr)
	for at := from; at < to; at += 100 {
		var list []*kgo.Record
		for n := at; n < min(at+100, to); n++ {
			list = append(list, &kgo.Record{Topic: "ep.down", Key: []byte(strconv.Itoa(n)), Value: []byte(plain(n))})
		}
		for len(list) > 0 && t.Context().Err() == nil {
			var failed []*kgo.Record
			for _, r := range c.ProduceSync(t.Context(), list...) {
				if r.Err != nil {
					failed = append(failed, r.Record)
				}
			}
			list = failed
		}
	}
}
