package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/appliance/bridge/mapping"
)

// franzClient is one producer; a reader is another client.
type franzClient struct {
	addr string
	up   *kgo.Client
}

func openFranz(ctx context.Context, addr string) (client, error) {
	up, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		return nil, err
	}
	return &franzClient{addr, up}, up.Ping(ctx)
}

func (c *franzClient) prepare(ctx context.Context, ours string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range []string{ours, "bench." + libQueue} {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, t)
	}
	res, err := req.RequestWith(ctx, c.up)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("topic %s: %w", t.Topic, err)
		}
	}
	return nil
}

func (c *franzClient) send(w *mapping.Wire, answered func(error)) error {
	r := &kgo.Record{Topic: w.Address, Key: []byte(w.Key), Value: w.Body}
	for _, h := range w.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + h.Key, Value: []byte(h.Value)})
	}
	c.up.Produce(context.Background(), r, func(_ *kgo.Record, err error) { answered(err) })
	return nil
}

// receive reads from the start. Kafka acknowledges nothing, and the connector commits no offsets either.
func (c *franzClient) receive(ctx context.Context, from string, got func()) error {
	down, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{from: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchMaxBytes(1<<20), kgo.FetchMaxPartitionBytes(512<<10), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer down.Close()
	for ctx.Err() == nil {
		f := down.PollFetches(ctx)
		if err := f.Err0(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		f.EachRecord(func(*kgo.Record) { got() })
	}
	return nil
}

func (c *franzClient) close() { c.up.Close() }
