//go:build !omit_kafka

package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
)

const (
	patience    = time.Minute      // without a confirmation, or without any broker that answers
	pingEvery   = 10 * time.Second //
	readLimit   = 16 << 20         // largest answer that is read, and batch after decompression
	fetchBytes  = 1 << 20          // of a fetch: memory of a small gateway
	maxMessage  = 1_000_012        // the brokers' own default (message.max.bytes)
	mostWaiting = 8192             // records in the producer: above the engine's largest window
)

// Kind is the connector.
func Kind() bridge.Kind {
	return bridge.Kind{
		Name: "kafka", Schemes: []string{"kafka", "kafkas"}, Headers: true, Up: true, Down: true, Check: check, Open: open,
		Options: []bridge.Option{
			{Name: "mechanism", Help: "plain, scram-sha-256, scram-sha-512 or oauthbearer; default: oauthbearer with a token, plain with a password"},
			{Name: "token_url", Help: "an authorization server's token endpoint, for oauthbearer: asked with client_id and client_secret_file"},
			{Name: "client_id", Help: "of the authorization server"},
			{Name: "client_secret_file", Help: "of the authorization server"},
			{Name: "scope", Help: "of the token, separated by spaces"},
			{Name: "compression", Help: "none, gzip, snappy, lz4 or zstd; default snappy"},
			{Name: "max_message", Help: "bytes of a batch; default 1000012, as the brokers'"},
			{Name: "down_key", Help: "take only records with this key, such as ${gw}, from its partition"},
			{Name: "start", Help: "where to begin in a topic that was never read: end or start; default end"},
		},
	}
}

func check(c *bridge.Config, mistake func(key, format string, args ...any)) {
	if len(c.Up.Filters) > 0 && c.Up.To == bridge.DefaultTo {
		mistake("up.to", "it is missing; write a topic that many gateways share, such as \"ep.up\": a topic of Kafka for each of the gateway's would be far too many")
	}
	for i, f := range c.Down.From {
		if _, err := parseFrom(f); err != nil {
			mistake("down.from["+strconv.Itoa(i)+"]", "%s", err)
		}
	}
	if _, err := newDialer(c, mapping.Here{}); err != nil {
		var o *optionError
		if errors.As(err, &o) {
			mistake("options."+o.name, "%s", o.err)
		}
	}
}

// optionError is what is wrong with an option.
type optionError struct {
	name string
	err  error
}

func (e *optionError) Error() string { return "options." + e.name + ": " + e.err.Error() }

func open(c *bridge.Config, here mapping.Here) (bridge.Dialer, error) { return newDialer(c, here) }

// dialer implements [bridge.Dialer].
type dialer struct {
	c       *bridge.Config
	here    mapping.Here
	topic   string // what all messages go to; "" when they have topics of their own
	key     string // option down_key
	atStart bool
	batch   int32
	codec   kgo.CompressionCodec
	tokens  tokens
	single  atomic.Bool // a batch was too large for the broker: the next connections send one by one, so that only the culprit fails
}

func newDialer(c *bridge.Config, here mapping.Here) (*dialer, error) {
	d := &dialer{c: c, here: here, batch: maxMessage}
	get := func(name string) string {
		switch name {
		case mapping.Gateway:
			return here.Gateway
		case mapping.Bridge:
			return c.Name
		}
		return ""
	}
	if to, err := mapping.ParseTemplate(c.Up.To, mapping.Gateway, mapping.Bridge); err == nil {
		to, _ := to.Fill(get) // a name that is missing: no fixed topic
		d.topic = topicOf(to)
	}
	key, err := mapping.ParseTemplate(c.Options["down_key"], mapping.Gateway, mapping.Bridge)
	if err != nil {
		return nil, &optionError{"down_key", err}
	}
	d.key, _ = key.Fill(get) // both names exist when it counts
	switch s := c.Options["start"]; s {
	case "", "end":
	case "start":
		d.atStart = true
	default:
		return nil, &optionError{"start", fmt.Errorf("%.40q is neither end nor start", s)}
	}
	if s := c.Options["max_message"]; s != "" {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 1024 || n > readLimit {
			return nil, &optionError{"max_message", fmt.Errorf("%.40q is not a number of bytes from 1024 to %d", s, readLimit)}
		}
		d.batch = int32(n)
	}
	codecs := map[string]kgo.CompressionCodec{
		"": kgo.SnappyCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[c.Options["compression"]]
	if !ok {
		return nil, &optionError{"compression", fmt.Errorf("%.40q is not known; there are none, gzip, snappy, lz4, zstd", c.Options["compression"])}
	}
	d.codec = codec
	return d, d.prepareTokens()
}

// Dial implements [bridge.Dialer].
func (d *dialer) Dial(ctx context.Context, to bridge.Target) (bridge.Conn, error) {
	mechanism, err := d.mechanism()
	if err != nil {
		return nil, err
	}
	seed := to.URL.Host
	if to.URL.Port() == "" {
		seed = net.JoinHostPort(to.URL.Hostname(), "9092")
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(seed), kgo.ClientID("edgepost-" + d.here.Gateway), kgo.DisableClientMetrics(), kgo.MetadataMinAge(500 * time.Millisecond),
		kgo.Dialer(func(ctx context.Context, _, host string) (net.Conn, error) {
			return d.c.Dial(ctx, &url.URL{Scheme: to.URL.Scheme, Host: host}, nil, to.URL.Scheme == "kafkas")
		}),
		kgo.BrokerMaxReadBytes(readLimit), kgo.MaxDecompressBatchBytes(readLimit), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes / 2),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ProducerBatchMaxBytes(d.batch), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(mostWaiting),
		kgo.ProducerBatchCompression(d.codec, kgo.NoCompression()),
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	c := &conn{d: d, inlet: to.Inlet, single: d.single.Load(), lost: make(chan struct{})}
	if c.client, err = kgo.NewClient(opts...); err != nil {
		return nil, bridge.Errorf(bridge.Configuration, "%w", err)
	}
	if err := c.ready(ctx, to); err != nil {
		c.client.Close()
		return nil, explain(err)
	}
	return c, nil
}

// ready looks that the cluster answers and has what the bridge wants.
func (c *conn) ready(ctx context.Context, to bridge.Target) error {
	if err := c.client.Ping(ctx); err != nil {
		return err
	}
	var topics []string
	if to.Up && c.d.topic != "" {
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
	if err != nil || to.Inlet == nil {
		return err
	}
	return c.assign(ctx, known)
}

// explain says what can help against an error of the cluster.
func explain(err error) error {
	var early *kgo.ErrFirstReadEOF
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return refusal(err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return bridge.Errorf(bridge.Configuration, "the broker's access rules forbid it: %w; the user needs Write and Describe on the topics of up.to, Read and Describe on those of down.from", err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InvalidTopicException):
		return bridge.Errorf(bridge.Configuration, "%w; create the topic, or look at up.to and down.from", err)
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
	client *kgo.Client
	single bool // messages go one by one
	inlet  bridge.Inlet
	parts  map[string]map[int32]*part // what is read; owned by the receiver after Dial
	missed []missed                   // said when their place is stored

	waiting atomic.Int64 // records that are not confirmed
	heard   atomic.Int64 // Unix nanoseconds: when one was, or the first of them was sent

	once sync.Once
	lost chan struct{} // closed behind why
	why  error
}

func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.why = err
		close(c.lost)
	})
}

// Serve implements [bridge.Conn].
func (c *conn) Serve(ctx context.Context) error {
	defer c.client.Close()
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.inlet != nil {
		go func() { c.fail(c.receive(own)) }() // it ends with own, or with the Take that it is in
	}
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	answered := time.Now()
	for {
		select {
		case <-tick.C:
		case <-c.lost:
			return explain(c.why)
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
		if silent := time.Since(time.Unix(0, c.heard.Load())); c.waiting.Load() > 0 && silent > patience {
			return fmt.Errorf("nothing was confirmed for %v: has every partition a leader, and enough in-sync replicas?", silent.Round(time.Second))
		}
	}
}
