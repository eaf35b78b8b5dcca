package outbox

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

var testEpoch = message.NewEpoch(4711)

// randomMessage fills every field with some probability.
func randomMessage(r *rand.Rand) *message.Message {
	text := func() string { return strings.Repeat("aß世\x01", r.IntN(4))[:0] + strings.Repeat("é", r.IntN(90)) }
	maybe := func() string {
		if r.IntN(2) == 0 {
			return ""
		}
		return text()
	}
	props := func() (ps []message.Property) {
		for range r.IntN(4) * r.IntN(2) {
			ps = append(ps, message.Property{Key: "k" + text(), Value: maybe()})
		}
		return ps
	}
	m := message.New(message.Topic("t/"+text()), bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(300)))
	m.ContentType, m.From = maybe(), maybe()
	m.Priority, m.QoS, m.Retain = uint8(r.IntN(10)), message.QoS(r.IntN(3)), r.IntN(2) == 0
	if r.IntN(2) == 0 {
		m.TTL = time.Duration(r.Int64N(int64(message.MaxTTL)))
	}
	if r.IntN(3) == 0 {
		m.Delay = time.Duration(1 + r.Int64N(int64(message.MaxTTL)))
	}
	m.Receipt = message.ReceiptMode(r.IntN(3))
	m.Properties = props()
	if r.IntN(2) == 0 {
		m.Event = message.Event{ID: maybe(), Source: maybe(), Type: maybe(), Subject: maybe(), DataSchema: maybe(), Time: maybe(), Extensions: props()}
	}
	m.Response = message.Topic(maybe())
	if r.IntN(2) == 0 {
		m.Correlation = []byte("c" + text())
	}
	return m
}

func TestMessageRecordKeepsEveryField(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 800 {
		m := randomMessage(r)
		var idem *idemKey
		if r.IntN(2) == 0 {
			idem = &idemKey{key: [16]byte{1, 2}, body: [16]byte{3}}
		}
		stamp := wal.Stamp{Wall: r.Int64N(1 << 60), Age: r.Int64N(1 << 60)}
		var origin, target uint64
		seq := 1 + r.Uint64N(1<<62)
		if r.IntN(2) == 0 {
			origin, target = 1+r.Uint64N(seq), r.Uint64N(1<<63)
			m.Time = time.UnixMilli(r.Int64N(1 << 50))
		}
		data := appendMessage(nil, m, origin, target, idem)
		e, err := decode(seq, data, stamp, testEpoch)
		if err != nil {
			t.Fatal(err)
		}
		want := *m
		want.Seq, want.Age, want.ID = seq, stamp.Age, message.ID{Epoch: testEpoch, Seq: seq}
		if origin != 0 {
			want.ID.Seq = origin
		} else {
			want.Time = time.Unix(0, stamp.Wall)
		}
		if m.TTL > 0 {
			want.Expires = stamp.Age + int64(m.TTL) + int64(m.Delay)
		}
		if !reflect.DeepEqual(*e.Msg, want) {
			t.Fatalf("got  %+v\nwant %+v", *e.Msg, want)
		}
		if e.Target != target || e.Held != (m.Delay > 0) || (e.idem == nil) != (idem == nil) || idem != nil && *e.idem != *idem {
			t.Fatalf("got %+v", e)
		}
		for n := range data[:len(data)-len(m.Payload)] {
			if _, err := decode(seq, data[:n], stamp, testEpoch); err == nil {
				t.Fatalf("cut to %d of %d bytes it decodes", n, len(data))
			}
		}
	}
}

func TestLastingTimesDoNotOverflow(t *testing.T) {
	m := message.New("a", nil)
	m.TTL, m.Delay = math.MaxInt64, math.MaxInt64
	e, err := decode(7, appendMessage(nil, m, 0, 0, nil), wal.Stamp{Age: math.MaxInt64 - 1}, testEpoch)
	if err != nil || e.Msg.Expires < math.MaxInt64-1 {
		t.Fatalf("expires at %d, %v", e.Msg.Expires, err)
	}
}

func TestOtherRecordsComeBack(t *testing.T) {
	change := &Change{Op: OpPut, Sub: 7, Spec: json.RawMessage(`{"name":"x"}`), Debts: []byte{1, 2, 3}, From: math.MaxUint64, Reach: 64, Shown: true}
	data, err := encodeChange(change)
	if err != nil {
		t.Fatal(err)
	}
	notes := &Notes{Sub: 9, List: []Note{{Key: 1, Value: []byte("a")}, {Key: math.MaxUint32, Value: []byte{}}}}
	for name, c := range map[string]struct {
		data []byte
		want Entry
	}{
		"change":  {data, Entry{Kind: KindChange, Change: change}},
		"cancel":  {appendCancel(math.MaxUint64), Entry{Kind: KindCancel, Cancel: math.MaxUint64}},
		"release": {appendRelease(true, 1<<63), Entry{Kind: KindRelease, dead: true, release: 1 << 63}},
		"let go":  {appendRelease(false, 5), Entry{Kind: KindRelease, release: 5}},
		"move":    {appendMove(Move{3, 1 << 50}), Entry{Kind: KindMove, Moved: Move{3, 1 << 50}}},
		"cleaned": {appendCleaned(1 << 40), Entry{Kind: KindCleaned, cleaned: 1 << 40}},
		"note":    {appendNotes(nil, notes), Entry{Kind: KindNote, Notes: *notes}},
	} {
		c.want.Seq = 3
		got, err := decode(3, c.data, wal.Stamp{}, testEpoch)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, c.want)
		}
		for n := range c.data {
			if _, err := decode(3, c.data[:n], wal.Stamp{}, testEpoch); err == nil {
				t.Errorf("%s: cut to %d of %d bytes it decodes", name, n, len(c.data))
			}
		}
		if s := Describe(3, c.data); s == "" || strings.Contains(s, "unreadable") {
			t.Errorf("%s: described as %q", name, s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		f.Add(appendMessage(nil, randomMessage(r), r.Uint64N(3), r.Uint64N(3), nil))
	}
	f.Add(encodeSettlements([]Settlement{{Sub: 1, Seq: 2, State: message.Delivered, Attempts: 1}, {Sub: 1, Seq: 3, State: message.Delivered, Attempts: 1}}))
	f.Add(appendCancel(9))
	f.Add([]byte(`` + "\x03" + `{"op":"put","sub":1,"debts":"AQID"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decode(5, data, wal.Stamp{Wall: 1, Age: 2}, testEpoch)
		Describe(5, data)
		if topic, ok := topicOf(data); err == nil && e.Kind == KindMessage && (!ok || topic != e.Msg.Topic) {
			t.Fatalf("the topic is %q, alone %q %t", e.Msg.Topic, topic, ok)
		}
		if err != nil || e.Kind != KindMessage {
			return
		}
		// What was decoded means the same when it is written again.
		origin := e.origin
		if origin == e.Seq {
			origin = 0
		}
		again, err := decode(5, appendMessage(nil, e.Msg, origin, e.Target, e.idem), wal.Stamp{Wall: 1, Age: 2}, testEpoch)
		if err != nil {
			t.Fatal(err)
		}
		if !sameMessage(again.Msg, e.Msg) {
			t.Fatalf("got  %+v\nthen %+v", e.Msg, again.Msg)
		}
	})
}

// sameMessage compares what a record holds; empty and missing lists are the same.
func sameMessage(a, b *message.Message) bool {
	x, y := *a, *b
	for _, m := range []*message.Message{&x, &y} {
		m.Payload = append([]byte{}, m.Payload...)
		m.Correlation = append([]byte{}, m.Correlation...)
		m.Properties = append([]message.Property{}, m.Properties...)
		m.Event.Extensions = append([]message.Property{}, m.Event.Extensions...)
		m.Time = time.Time{}
		m.Delay, m.TTL, m.Expires = max(m.Delay, 0), max(m.TTL, 0), 0
	}
	return reflect.DeepEqual(x, y)
}
