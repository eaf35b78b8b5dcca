//go:build !omit_kafka

package kafka

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"edgepost/appliance/bridge"
)

func downConfig(options map[string]string) *bridge.Config {
	c := config()
	c.Up = bridge.Up{}
	c.Down.From, c.Options = []string{"ep.down"}, options
	return c
}

// What came before the bridge is not for it, what comes while it is away is, and nothing comes twice: also when a
// part of what was handed over was never stored.
func TestDownGoesOnWhereItWasStored(t *testing.T) {
	k := cluster(t)
	produce(t, k, []string{"old"}, 0)
	in, d := newInlet(), mustOpen(t, downConfig(nil))
	_, ended, stop := connect(t, d, k, in)
	in.wait(t, 0, ended) // the places are stored, although nothing came
	stop()
	produce(t, k, []string{"a", "b", "c", "d"}, 0)
	_, ended, stop = connect(t, d, k, in)
	got := in.wait(t, 4, ended)
	stop()
	slices.Sort(got)
	if !slices.Equal(got, []string{"a0", "b1", "c2", "d3"}) {
		t.Errorf("%v", got)
	}
	// All that was stored of one partition is forgotten but its beginning: it comes again, and only that.
	first := in.got[0]
	count := 0
	for _, m := range in.got {
		if m.Position.Key == first.Position.Key {
			count++
		}
	}
	in.positions[first.Position.Key], in.got = first.Position.Value, in.got[:4-count+1]
	_, ended, stop = connect(t, d, k, in)
	in.wait(t, 4, ended)
	stop()
	produce(t, k, []string{"e"}, 4)
	_, ended, _ = connect(t, d, k, in)
	if got := in.wait(t, 5, ended); got[4] != "e4" {
		t.Errorf("%v", got)
	}
}

// A gateway of a fleet reads its own key's partition, and moves over what is for others.
func TestDownByKey(t *testing.T) {
	k := cluster(t)
	in, d := newInlet(), mustOpen(t, downConfig(map[string]string{"down_key": "${gw}", "start": "start"}))
	var keys []string
	for i := range 60 {
		keys = append(keys, []string{"gw1", "gw2", "gw3", "gw4", "gw5"}[i%5])
	}
	produce(t, k, keys, 0)
	_, ended, stop := connect(t, d, k, in)
	got := in.wait(t, 12, ended)
	stop()
	for i, s := range got {
		if !strings.HasPrefix(s, "gw1") {
			t.Errorf("message %d is %s", i, s)
		}
	}
	if len(in.positions) != 1 {
		t.Errorf("%d partitions were read", len(in.positions))
	}
	want := kgo.StickyKeyPartitioner(nil).ForTopic("ep.down").Partition(&kgo.Record{Key: []byte("gw1")}, 3)
	if name := positionKey("ep.down:" + string(rune('0'+want))); in.positions[name] == nil {
		t.Errorf("not partition %d was read", want)
	}
}

// What the topic deleted before it was read is said, once.
func TestDownSaysWhatRetentionDeleted(t *testing.T) {
	k := cluster(t)
	in := newInlet()
	c := downConfig(map[string]string{"start": "start"})
	c.Down.From = []string{"ep.down:1"}
	d := mustOpen(t, c)
	into := func(first int) {
		client, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for i := range 4 {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "ep.down", Partition: 1, Value: []byte{byte('a' + first + i)}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	into(0)
	_, ended, stop := connect(t, d, k, in)
	in.wait(t, 4, ended)
	stop()
	into(4)
	deleteBefore(t, k, 6)
	_, ended, stop = connect(t, d, k, in)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "deleted 2 records of partition 1") {
		t.Fatalf("it ended with %v", err)
	}
	stop()
	_, ended, _ = connect(t, d, k, in)
	if got := strings.Join(in.wait(t, 6, ended), ""); got != "abcdgh" {
		t.Errorf("it read %s", got)
	}
}

func deleteBefore(t *testing.T, k *kfake.Cluster, offset int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic, p := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
	topic.Topic, p.Partition, p.Offset = "ep.down", 1, offset
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

// A topic that was deleted and made again is another one: its start is not behind a position in the old one.
func TestDownReadsANewTopicFromItsStart(t *testing.T) {
	k := cluster(t)
	in, d := newInlet(), mustOpen(t, downConfig(map[string]string{"start": "start"}))
	produce(t, k, []string{"a", "a", "a"}, 0)
	_, ended, stop := connect(t, d, k, in)
	in.wait(t, 3, ended)
	stop()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	del := kmsg.NewPtrDeleteTopicsRequest()
	name := kmsg.NewDeleteTopicsRequestTopic()
	name.Topic = new("ep.down")
	del.TopicNames, del.Topics = []string{"ep.down"}, append(del.Topics, name)
	if _, err := del.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "ep.down", 3, 1
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	produce(t, k, []string{"a"}, 7)
	_, ended, _ = connect(t, d, k, in)
	if got := in.wait(t, 4, ended); got[3] != "a7" {
		t.Errorf("%v", got)
	}
}

// A probe takes nothing.
func TestProbe(t *testing.T) {
	if err := probe(t, cluster(t), downConfig(nil)); err != nil {
		t.Error(err)
	}
}
