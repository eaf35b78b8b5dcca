//go:build !omit_kafka

package kafka

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// cluster is a fake of one broker with topics of 3 partitions.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, "ep.up", "ep.down", "other")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// inlet stores at once what it takes.
type inlet struct {
	e         *bridge.Epoch
	mu        sync.Mutex
	got       []bridge.Incoming // without those that only move a position
	skips     int
	positions map[uint32][]byte
	more      chan struct{} // room for one
}

func newInlet() *inlet { return &inlet{positions: map[uint32][]byte{}, more: make(chan struct{}, 1)} }

func (i *inlet) Take(in bridge.Incoming) {
	i.mu.Lock()
	i.positions[in.Position.Key] = in.Position.Value
	if in.Skip {
		i.skips++
	} else {
		i.got = append(i.got, in)
	}
	i.mu.Unlock()
	if in.Done != nil {
		if err := in.Done(nil); err != nil {
			i.e.Fail(err)
		}
	}
	select {
	case i.more <- struct{}{}:
	default:
	}
}

func (i *inlet) Position(key uint32) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.positions[key]
}

// wait returns when n messages came, or the connection ended.
func (i *inlet) wait(t *testing.T, n int, ended <-chan error) []string {
	t.Helper()
	for {
		i.mu.Lock()
		var got []string
		for _, in := range i.got {
			got = append(got, string(in.Body))
		}
		skips := i.skips
		i.mu.Unlock()
		if len(got) >= n && (n > 0 || skips > 0) {
			return got
		}
		select {
		case <-i.more:
		case err := <-ended:
			t.Fatalf("%d of %d came: %v", len(got), n, err)
		case <-t.Context().Done():
			t.Fatal("the test was stopped")
		}
	}
}

func config() *bridge.Config {
	return &bridge.Config{Name: "k", Kind: "kafka", URLs: []string{"kafka://h"}, Up: bridge.Up{To: "ep.up", Filters: []message.Filter{"#"}}}
}

func mustOpen(t *testing.T, c *bridge.Config) bridge.Dialer {
	t.Helper()
	kind := Kind()
	d, err := kind.Dialer(*c, mapping.Here{Gateway: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// epoch begins one to the cluster.
func epoch(t *testing.T, k *kfake.Cluster, c *bridge.Config) *bridge.Epoch {
	t.Helper()
	kind := Kind()
	return bridge.NewEpoch(t.Context(), &kind, c, &url.URL{Scheme: "kafka", Host: k.ListenAddrs()[0]})
}

// probe dials and ends.
func probe(t *testing.T, k *kfake.Cluster, c *bridge.Config) error {
	t.Helper()
	e := epoch(t, k, c)
	e.Probe = true
	made, err := e.Dial(mustOpen(t, c))
	if err == nil && made.(*conn).parts != nil {
		t.Error("it reads")
	}
	_ = e.End()
	return err
}

// connect dials and serves. ended tells why it ended.
func connect(t *testing.T, d bridge.Dialer, k *kfake.Cluster, in *inlet) (conn bridge.Conn, ended <-chan error, stop func()) {
	t.Helper()
	e := epoch(t, k, d.(*dialer).c)
	if in != nil {
		e.Inlet, in.e = in, e
	}
	conn, err := e.Dial(d)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	e.Go(func(ctx context.Context) error {
		<-ctx.Done()
		end <- context.Cause(ctx)
		return nil
	})
	stop = func() { _ = e.End() }
	t.Cleanup(stop)
	return conn, end, stop
}

// send hands messages over together and returns what each was answered.
func send(t *testing.T, conn bridge.Conn, ws ...bridge.Wire) []error {
	t.Helper()
	out := make([]error, len(ws))
	var wg sync.WaitGroup
	batch := make([]*bridge.Outgoing, len(ws))
	for i, w := range ws {
		wg.Add(1)
		batch[i] = &bridge.Outgoing{Wire: w, Answered: func(_ *bridge.Outgoing, err error) { out[i] = err; wg.Done() }}
	}
	if err := conn.Send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return out
}

func class(err error) string {
	if err == nil {
		return ""
	}
	return bridge.Classify(err).Class.String()
}

func TestHeadersOfTheBinding(t *testing.T) {
	r := record(&bridge.Outgoing{Wire: bridge.Wire{Address: "ep/up", Key: "lamp", ContentType: "text/plain", Event: true, Headers: []message.Property{{Key: "specversion", Value: "1.0"}, {Key: "id", Value: "a-1"}}, Body: []byte("x")}})
	if r.Topic != "ep.up" || string(r.Key) != "lamp" || len(r.Headers) != 3 || r.Headers[0].Key != "content-type" || r.Headers[2].Key != "ce_id" || string(r.Headers[2].Value) != "a-1" {
		t.Errorf("%+v", r)
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: "foreign", Value: []byte("y")}, kgo.RecordHeader{Key: "ce_bad", Value: []byte{0xff}})
	w := wire(r)
	if !w.Event || w.Address != "ep/up" || w.ContentType != "text/plain" || len(w.Headers) != 2 || w.Headers[1] != (message.Property{Key: "id", Value: "a-1"}) {
		t.Errorf("%+v", w)
	}
	w = wire(&kgo.Record{Topic: "t", Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("1")}, {Key: "k", Value: []byte("v")}}})
	if w.Event || len(w.Headers) != 2 {
		t.Errorf("without a version it is no event: %+v", w)
	}
}

// A broker that is short of replicas for a while costs nothing but time, and nothing comes twice.
func TestTransientErrorsAreRetried(t *testing.T) {
	k := cluster(t)
	var mu sync.Mutex
	fails := 0
	k.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if fails++; fails > 3 {
			return nil, nil, false
		}
		return produceAnswer(req.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas.Code), nil, true
	})
	conn, _, _ := connect(t, mustOpen(t, config()), k, nil)
	for i, err := range send(t, conn, bridge.Wire{Address: "ep/up", Body: []byte("a")}, bridge.Wire{Address: "ep/up", Body: []byte("b")}) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if n := records(k, "ep.up"); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

func produceAnswer(req *kmsg.ProduceRequest, code int16) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewProduceResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			sp := kmsg.NewProduceResponseTopicPartition()
			sp.Partition, sp.ErrorCode = rp.Partition, code
			st.Partitions = append(st.Partitions, sp)
		}
		res.Topics = append(res.Topics, st)
	}
	return res
}

func records(k *kfake.Cluster, topic string) (n int64) {
	for p := range int32(3) {
		n += k.PartitionInfo(topic, p).HighWatermark
	}
	return n
}

// A broker refuses a batch as a whole. Only the message that is too large is given up, whatever else was in the batch.
func TestOversizeFailsAlone(t *testing.T) {
	k := cluster(t)
	k.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if len(r.Topics[0].Partitions[0].Records) > 2000 {
			return produceAnswer(r, kerr.MessageTooLarge.Code), nil, true
		}
		return nil, nil, false
	})
	c := config()
	c.Options = map[string]string{"compression": "none"}
	d := mustOpen(t, c)
	large := bridge.Wire{Address: "ep/up", Key: "k", Body: make([]byte, 3000)}
	small := bridge.Wire{Address: "ep/up", Key: "k", Body: make([]byte, 300)}
	all := []bridge.Wire{small, small, small, large, small, small, small, small, small, small}
	conn, _, stop := connect(t, d, k, nil)
	temporary := 0
	for _, err := range send(t, conn, all...) {
		if class(err) == "rejected" {
			t.Errorf("in a batch: %v", err)
		}
		if class(err) == "temporary" {
			temporary++
		}
	}
	if temporary == 0 {
		t.Fatal("the broker took the batch")
	}
	stop()
	conn, _, _ = connect(t, d, k, nil)
	for i, err := range send(t, conn, all...) {
		if want := map[bool]string{true: "rejected"}[i == 3]; class(err) != want {
			t.Errorf("message %d: %v, want class %q", i, err, want)
		}
	}
	// One that the connector itself knows to be too large.
	c.Options["max_message"] = "2048"
	conn, _, _ = connect(t, mustOpen(t, c), k, nil)
	if errs := send(t, conn, small, large, small); errs[0] != nil || class(errs[1]) != "rejected" || errs[2] != nil {
		t.Errorf("%v", errs)
	}
}

func TestMissingTopics(t *testing.T) {
	k := cluster(t)
	c := config()
	c.Up.To = "none"
	err := probe(t, k, c)
	if class(err) != "configuration" || !strings.Contains(err.Error(), `"none"`) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("up: %v", err)
	}
	c = config()
	c.Down.From = []string{"none"}
	if err = probe(t, k, c); class(err) != "configuration" {
		t.Errorf("down: %v", err)
	}
	c.Down.From = []string{"ep.down:3"}
	e := epoch(t, k, c)
	e.Inlet = newInlet()
	if _, err = e.Dial(mustOpen(t, c)); class(err) != "configuration" || !strings.Contains(err.Error(), "3 partitions") {
		t.Errorf("a partition that is not there: %v", err)
	}
	_ = e.End()
	// Where each message has a topic of its own, one that is missing is the message's fault.
	c = config()
	c.Up.To = "${topic[0]}"
	conn, _, _ := connect(t, mustOpen(t, c), k, nil)
	errs := send(t, conn, bridge.Wire{Address: "none"}, bridge.Wire{Address: "other"})
	if class(errs[0]) != "refused" || errs[1] != nil {
		t.Errorf("%v", errs)
	}
}

// What a real broker says to a wrong password, scripts/bridges tests: the fake one hangs up.
func TestCredentials(t *testing.T) {
	k := cluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "edge", "secret"), kfake.Superuser("SCRAM-SHA-256", "edge", "secret"), kfake.Superuser("SCRAM-SHA-512", "edge", "secret"))
	for _, secret := range []string{"secret", ""} {
		for _, mechanism := range []string{"", "plain", "scram-sha-256", "scram-sha-512"} {
			c := config()
			c.Options = map[string]string{"mechanism": mechanism}
			if secret != "" {
				c.Username, c.PasswordFile = "edge", filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(c.PasswordFile, []byte(secret+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if mechanism != "" {
				said := ""
				checkLogin(c, func(key, format string, args ...any) { said = key + ": " + fmt.Sprintf(format, args...) })
				if said != "options.mechanism: "+mechanism+" needs username and password_file" {
					t.Errorf("%s without a password: %q", mechanism, said)
				}
				continue
			}
			if err := probe(t, k, c); secret == "secret" && err != nil || secret == "" && class(err) != "configuration" {
				t.Errorf("%q with %q: %v", mechanism, secret, err)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		options map[string]string
		from    string
		key     string
	}{
		{nil, "ep.down", ""},
		{map[string]string{"mechanism": "kerberos"}, "ep.down", "options.mechanism"},
		{map[string]string{"mechanism": "oauthbearer"}, "ep.down", "options.mechanism"},
		{map[string]string{"compression": "rar"}, "ep.down", "options.compression"},
		{map[string]string{"max_message": "many"}, "ep.down", "options.max_message"},
		{map[string]string{"start": "middle"}, "ep.down", "options.start"},
		{map[string]string{"down_key": "${device}"}, "ep.down", "options.down_key"},
		{nil, "ep down", "down.from[0]"},
		{nil, "ep.down:x", "down.from[0]"},
		{nil, strings.Repeat("x", 250), "down.from[0]"},
	} {
		conf := config()
		conf.Options, conf.Down.From = c.options, []string{c.from}
		got := ""
		conf.Check([]bridge.Kind{Kind()}, func(key, _ string, _ ...any) { got = key })
		if got != c.key {
			t.Errorf("%v %q: mistake at %q, want %q", c.options, c.from, got, c.key)
		}
	}
}

// produce writes records straight into the cluster.
func produce(t *testing.T, k *kfake.Cluster, keys []string, first int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, key := range keys {
		r := &kgo.Record{Topic: "ep.down", Key: []byte(key), Value: []byte(key + strconv.Itoa(first+i))}
		if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}
