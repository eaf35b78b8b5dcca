package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaClient is a client at the broker's own port, past the proxy.
func kafkaClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func createTopics(c *kgo.Client, partitions int32, names ...string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	return nil
}

func openKafka(t *testing.T) *upstream {
	b := newBrokerFor(t, "kafka")
	admin := kafkaClient(t, b.Addr("kafka"), kgo.RecordDeliveryTimeout(time.Minute))
	reader := kafkaClient(t, b.Addr("kafka"), kgo.ConsumeTopics("ep.up"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	u := &upstream{Broker: b, t: t, proxy: newProxy(t, b.Front(), b.Addr("kafka+behind")), scheme: "kafka", config: `kind = "kafka"
[bridge.up]
filters = ["device/+/out/#"]
to = "ep.up"
[bridge.down]
from = ["ep.down"]
to = "device/lamp/in/command"
format = "raw"
`}
	u.prepare = func() error { return createTopics(admin, 4, "ep.up", "ep.down") }
	u.send = func(ids []string) error {
		var records []*kgo.Record
		for _, id := range ids {
			records = append(records, &kgo.Record{Topic: "ep.down", Key: []byte(id), Value: []byte(id)})
		}
		return admin.ProduceSync(context.Background(), records...).FirstErr()
	}
	seen := map[string]int{}
	u.collect = func(int) (map[string]int, error) {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			f := reader.PollFetches(ctx)
			cancel()
			if f.Err0() != nil && f.NumRecords() == 0 {
				return seen, nil
			}
			f.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
		}
	}
	return u
}

// TestKafkaFaults runs messages both ways through a real Apache Kafka that is killed, cut off and away.
func TestKafkaFaults(t *testing.T) { testBridgeFaults(t, openKafka) }
