//go:build !omit_kafka

package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

// skipEvery is how often the position moves over records that are for others: each time costs a write to the log.
const skipEvery = 10 * time.Second

// from is one entry of down.from.
type from struct {
	topic     string
	partition int32 // -1: all
}

func parseFrom(s string) (from, error) {
	topic, number, one := strings.Cut(s, ":")
	f := from{topicOf(topic), -1}
	if strings.Trim(f.topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || f.topic == "" || len(f.topic) > 249 {
		return f, fmt.Errorf("%.80q is no topic of Kafka; write letters, digits, dots, dashes and underlines", topic)
	}
	if one {
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 0 {
			return f, fmt.Errorf("%.80q: a partition is a number, such as ep.down:3", s)
		}
		f.partition = int32(n)
	}
	return f, nil
}

// part is one partition that is read.
type part struct {
	id     [16]byte // of the topic
	key    uint32   // of its position
	next   int64    // behind the last record that was seen; -1 not known
	stored bool     // there is a position, or one is on its way
	moved  bool     // next is ahead of the position
}

// describe asks for topics; one that is missing is an error.
func (c *conn) describe(ctx context.Context, topics []string) (map[string]kmsg.MetadataResponseTopic, error) {
	known := make(map[string]kmsg.MetadataResponseTopic, len(topics))
	if len(topics) == 0 {
		return known, nil
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: new(t)})
	}
	res, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	for _, t := range res.Topics {
		if t.Topic == nil {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %.80q: %w", *t.Topic, err)
		}
		known[*t.Topic] = t
	}
	return known, nil
}

// assign chooses the partitions and where to begin in each.
func (c *conn) assign(ctx context.Context, known map[string]kmsg.MetadataResponseTopic) error {
	c.parts = make(map[string]map[int32]*part)
	keys := make(map[uint32]string)
	for _, s := range c.d.c.Down.From {
		f, err := parseFrom(s)
		if err != nil {
			return err
		}
		t := known[f.topic]
		if c.d.c.Options["down_key"] != "" && f.partition < 0 {
			f.partition = int32(kgo.StickyKeyPartitioner(nil).ForTopic(f.topic).Partition(&kgo.Record{Key: []byte(c.d.c.Options["down_key"])}, len(t.Partitions)))
		}
		if int(f.partition) >= len(t.Partitions) {
			return bridge.Errorf(bridge.Configuration, "down.from: topic %s has %d partitions, so there is no %d", f.topic, len(t.Partitions), f.partition)
		}
		if c.parts[f.topic] == nil {
			c.parts[f.topic] = make(map[int32]*part)
		}
		for _, p := range t.Partitions {
			if f.partition >= 0 && f.partition != p.Partition {
				continue
			}
			name := f.topic + ":" + strconv.Itoa(int(p.Partition))
			key := positionKey(name)
			if other := keys[key]; other != "" && other != name {
				return bridge.Errorf(bridge.Configuration, "down.from: the positions of %s and %s would be mixed up; read them by two bridges", other, name)
			}
			keys[key] = name
			c.parts[f.topic][p.Partition] = &part{id: t.TopicID, key: key, next: -1}
		}
	}
	return c.begin(ctx)
}

// positionKey numbers a partition: 31 bits, as [bridge.Position] wants.
func positionKey(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32() >> 1
}

// begin sets where to read on: at the stored position, or at the topic's end or start where there is none.
func (c *conn) begin(ctx context.Context) error {
	first, err := c.offsets(ctx, -2)
	if err != nil {
		return err
	}
	last, err := c.offsets(ctx, -1)
	if err != nil {
		return err
	}
	start := make(map[string]map[int32]kgo.Offset, len(c.parts))
	for topic, parts := range c.parts {
		start[topic] = make(map[int32]kgo.Offset, len(parts))
		for n, p := range parts {
			at, known := position(c.e.Inlet.Position(p.key), p.id)
			switch {
			case !known && c.d.c.Options["start"] == "start", at < 0: // at < 0: the topic was made again
				at = first[topic][n]
			case !known:
				at = last[topic][n]
			}
			p.next, p.stored = at, known
			start[topic][n] = kgo.NewOffset().At(at)
			if oldest := first[topic][n]; at < oldest {
				p.next = oldest
				start[topic][n] = kgo.NewOffset().At(oldest)
				c.missed = append(c.missed, missed{topic, n, oldest - at})
			}
		}
	}
	c.client.AddConsumePartitions(start)
	return nil
}

// position reads a stored position. at is -1 when it is that of another topic of the same name.
func position(value []byte, id [16]byte) (at int64, known bool) {
	if len(value) != 24 {
		return 0, false
	}
	if [16]byte(value) != id {
		return -1, true
	}
	return int64(binary.BigEndian.Uint64(value[16:])), true
}

func (p *part) position() bridge.Position {
	return bridge.Position{Key: p.key, Value: binary.BigEndian.AppendUint64(p.id[:len(p.id):len(p.id)], uint64(p.next))}
}

// missed are records that the topic deleted before they were read.
type missed struct {
	topic     string
	partition int32
	records   int64
}

// offsets asks for the first (-2) or last (-1) offsets of all partitions.
func (c *conn) offsets(ctx context.Context, at int64) (map[string]map[int32]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 1 // committed
	for topic, parts := range c.parts {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for n := range parts {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = n, at
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	res, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	out := make(map[string]map[int32]int64, len(res.Topics))
	for _, t := range res.Topics {
		out[t.Topic] = make(map[int32]int64, len(t.Partitions))
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("topic %.80q, partition %d: %w", t.Topic, p.Partition, err)
			}
			out[t.Topic][p.Partition] = p.Offset
		}
	}
	return out, nil
}

// receive reads until the connection ends.
func (c *conn) receive(ctx context.Context) error {
	c.settle(true)
	settled := time.Now()
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, skipEvery)
		fetches := c.client.PollFetches(wait)
		cancel()
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, context.DeadlineExceeded) {
				continue
			}
			var gone *kgo.ErrDataLoss
			if !errors.As(e.Err, &gone) {
				return fmt.Errorf("topic %.80q, partition %d: %w", e.Topic, e.Partition, e.Err)
			}
			c.missed = append(c.missed, missed{e.Topic, e.Partition, gone.ResetTo - gone.ConsumedTo})
			c.parts[e.Topic][e.Partition].next = gone.ResetTo
			c.settle(false)
		}
		fetches.EachRecord(c.take)
		if time.Since(settled) > skipEvery {
			c.settle(false)
			settled = time.Now()
		}
	}
	return ctx.Err()
}

// settle stores positions that no message carried: of partitions that were not read before, and behind records that
// were for others. When the topic has deleted what was not read, the connection then ends and says so.
func (c *conn) settle(first bool) {
	for _, m := range c.missed {
		p := c.parts[m.topic][m.partition]
		p.moved, p.stored = false, true
		c.e.Inlet.Take(bridge.Incoming{Skip: true, Position: p.position(), Done: func(error) error {
			return fmt.Errorf("the topic %s has deleted %d records of partition %d before they were read (retention); it is read on from what is left", m.topic, m.records, m.partition)
		}})
	}
	c.missed = nil
	for _, parts := range c.parts {
		for _, p := range parts {
			if p.moved || first && !p.stored {
				p.moved, p.stored = false, true
				c.e.Inlet.Take(bridge.Incoming{Skip: true, Position: p.position()})
			}
		}
	}
}

// take hands one record over.
func (c *conn) take(r *kgo.Record) {
	p := c.parts[r.Topic][r.Partition]
	if p == nil || r.Offset < p.next {
		return
	}
	p.next = r.Offset + 1
	if c.d.c.Options["down_key"] != "" && string(r.Key) != c.d.c.Options["down_key"] {
		p.moved = true
		return
	}
	p.moved, p.stored = false, true
	c.e.Inlet.Take(bridge.Incoming{Wire: wire(r), Position: p.position()})
}

// wire maps a record.
func wire(r *kgo.Record) bridge.Wire {
	w := bridge.Wire{Address: strings.ReplaceAll(r.Topic, ".", "/"), Key: string(r.Key), Body: r.Value}
	w.ReadHeaders(func(yield func(name, value string) bool) {
		for _, h := range r.Headers {
			if h.Key == contentType {
				w.ContentType = string(h.Value)
			} else if !yield(h.Key, string(h.Value)) {
				return
			}
		}
	}, mapping.KafkaStyle)
	return w
}
