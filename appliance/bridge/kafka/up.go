//go:build !omit_kafka

package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// Send implements [bridge.Conn].
func (c *conn) Send(ctx context.Context, batch []*bridge.Outgoing) error {
	for _, o := range batch {
		done := make(chan struct{})
		c.client.Produce(ctx, record(o), func(_ *kgo.Record, err error) { // in order for each partition
			defer close(done)
			if !errors.Is(err, kgo.ErrClientClosed) && !errors.Is(err, context.Canceled) { // the connection is over: it counts as not sent
				o.Answer(c.verdict(o, err))
			}
		})
		if !c.single {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// verdict says what an error means for one message.
func (c *conn) verdict(o *bridge.Outgoing, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		// The broker refuses a batch as a whole. Alone it is clear who is to blame.
		if len(o.Body) < c.d.c.Number("max_message") && !c.single {
			c.d.single.Store(true)
			return bridge.Errorf(bridge.Temporary, "a batch was too large for the topic: %w; from now on messages go one by one; with max_message as in the topic's max.message.bytes they need not", err)
		}
		return bridge.Errorf(bridge.Rejected, "%w; look at the topic's max.message.bytes, and options.max_message", err)
	case errors.Is(err, kerr.InvalidRecord):
		return bridge.Errorf(bridge.Rejected, "%w", err)
	case c.d.topic == "" && (errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.InvalidTopicException) || errors.Is(err, kerr.TopicAuthorizationFailed)):
		// Other messages go to other topics.
		return bridge.Errorf(bridge.Refused, "topic %.80q: %w", topicOf(o.Address), err)
	}
	return explain(fmt.Errorf("topic %.80q: %w", topicOf(o.Address), err))
}

// record maps a message: CloudEvents' Kafka binding 1.0.2 §3.1 (binary) and §3.2 (structured).
func record(o *bridge.Outgoing) *kgo.Record {
	r := &kgo.Record{Topic: topicOf(o.Address), Value: o.Body}
	if o.Key != "" {
		r.Key = []byte(o.Key)
	}
	if o.ContentType != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: contentType, Value: []byte(o.ContentType)})
	}
	o.WriteHeaders(mapping.KafkaStyle, func(name, value string) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	})
	return r
}

const contentType = "content-type"
