//go:build !omit_kafka

package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const (
	patience    = time.Minute      // without any broker that answers
	pingEvery   = 10 * time.Second //
	readLimit   = 16 << 20         // largest answer that is read, and batch after decompression
	fetchBytes  = 1 << 20          // of a fetch: memory of a small gateway
	mostWaiting = 8192             // records in the producer: above the engine's largest window
)

// codecs are the compressions that brokers know.
func codecs() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
}

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "kafka", Schemes: []bridge.Scheme{{Name: "kafka", Port: "9092"}, {Name: "kafkas", Port: "9092", Secure: true}},
		Headers: true, Up: true, Down: true, MustAddress: "ep.up", Check: check, Open: open, Explain: explain,
		Options: []bridge.Option{
			{Name: "mechanism", Help: "plain, scram-sha-256, scram-sha-512 or oauthbearer; default: oauthbearer with a token, plain with a password", OneOf: []string{"plain", "scram-sha-256", "scram-sha-512", "oauthbearer"}},
			{Name: "compression", Help: "none, gzip, snappy, lz4 or zstd; default snappy", Default: "snappy", OneOf: slices.Sorted(maps.Keys(codecs()))},
			{Name: "max_message", Help: "bytes of a batch; default 1000012, as the brokers' (message.max.bytes)", Default: "1000012", Least: 1024, Most: readLimit},
			{Name: "down_key", Help: "take only records with this key, such as ${gw}, from its partition", Template: true},
			{Name: "start", Help: "where to begin in a topic that was never read: end or start; default end", Default: "end", OneOf: []string{"end", "start"}},
		},
	}
}

func check(c *bridge.Config, mistake bridge.Mistake) {
	for i, f := range c.Down.From {
		if _, err := parseFrom(f); err != nil {
			mistake("down.from["+strconv.Itoa(i)+"]", "%s", err)
		}
	}
	checkLogin(c, mistake)
}

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) {
	return &dialer{c: c, here: here, topic: topicOf(c.OneAddress(here))}, nil
}

// dialer implements [bridge.Dialer].
type dialer struct {
	c      *bridge.Config
	here   mapping.Here
	topic  string      // what all messages go to; "" when they have topics of their own
	single atomic.Bool // a batch was too large for the broker: the next connections send one by one, so that only the culprit fails
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, e *bridge.Epoch) (bridge.Conn, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(e.URL.Host), kgo.ClientID("edgepost-" + d.here.Gateway), kgo.DisableClientMetrics(), kgo.MetadataMinAge(500 * time.Millisecond),
		kgo.Dialer(func(ctx context.Context, _, host string) (net.Conn, error) { return e.Open(ctx, host) }),
		kgo.BrokerMaxReadBytes(readLimit), kgo.MaxDecompressBatchBytes(readLimit), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes / 2),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ProducerBatchMaxBytes(int32(d.c.Number("max_message"))), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(mostWaiting),
		kgo.ProducerBatchCompression(codecs()[d.c.Options["compression"]], kgo.NoCompression()),
	}
	if m := d.mechanism(e); m != nil {
		opts = append(opts, kgo.SASL(login{m}))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, bridge.Errorf(bridge.Configuration, "%w", err)
	}
	e.OnEnd(client.Close)
	c := &conn{d: d, e: e, client: client, single: d.single.Load()}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	e.Go(c.ping)
	return c, nil
}

// ready looks that the cluster answers and has what the bridge wants.
func (c *conn) ready(ctx context.Context) error {
	if err := c.client.Ping(ctx); err != nil {
		return err
	}
	var topics []string
	if c.e.Up && c.d.topic != "" {
		topics = append(topics, c.d.topic)
	}
	for _, f := range c.d.c.Down.From {
		from, err := parseFrom(f)
		if err != nil {
			return err
		}
		topics = append(topics, from.topic)
	}
	known, err := c.describe(ctx, topics)
	if err != nil || c.e.Inlet == nil {
		return err
	}
	if err := c.assign(ctx, known); err != nil {
		return err
	}
	c.e.Go(c.receive)
	return nil
}

// explain says what can help against an error of the cluster.
func explain(err error) error {
	var early *kgo.ErrFirstReadEOF
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return refusal(err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return bridge.Errorf(bridge.Configuration, "%w; the broker's access rules forbid it: the user needs Write and Describe on the topics of up.to, Read and Describe on those of down.from", err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InvalidTopicException):
		return bridge.Misses(err)
	case errors.Is(err, kerr.InvalidTimestamp):
		return bridge.Errorf(bridge.Configuration, "%w; look at this gateway's clock", err)
	case errors.As(err, &early):
		return bridge.Errorf(bridge.Configuration, "%w (kafkas:// is TLS, kafka:// is not)", err)
	}
	return err
}

// topicOf makes a topic of Kafka of a name in levels.
func topicOf(address string) string { return strings.ReplaceAll(address, "/", ".") }

// conn is one client of the library. It implements [bridge.Conn].
type conn struct {
	d      *dialer
	e      *bridge.Epoch
	client *kgo.Client
	single bool                       // messages go one by one
	parts  map[string]map[int32]*part // what is read; owned by the receiver after Dial
	missed []missed                   // said when their place is stored
}

// ping looks that there is a cluster: the library tries for ever to reach one.
func (c *conn) ping(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for answered := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		ping, done := context.WithTimeout(ctx, pingEvery)
		err := c.client.Ping(ping)
		done()
		if err == nil {
			answered = time.Now()
		}
		if silent := time.Since(answered); silent > patience {
			return fmt.Errorf("no broker answered for %v: %w", silent.Round(time.Second), err)
		}
	}
}
