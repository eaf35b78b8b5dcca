package message

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	for _, n := range []uint64{0, 1, 31, 1<<EpochBits - 1, 1 << EpochBits, math.MaxUint64, 0x123456789a} {
		e := NewEpoch(n)
		if len(e) != 8 || e != NewEpoch(n&(1<<EpochBits-1)) {
			t.Errorf("epoch %x is %q", n, e)
		}
		for _, seq := range []uint64{1, 4712, math.MaxUint64} {
			id := ID{Epoch: e, Seq: seq}
			if back, err := ParseID(id.String()); err != nil || back != id || id.IsZero() {
				t.Errorf("%v became %v: %v", id, back, err)
			}
		}
	}
	if NewEpoch(1) == NewEpoch(2) || NewEpoch(1<<39) == NewEpoch(0) || !(ID{}).IsZero() {
		t.Error("epochs meet")
	}
	for _, s := range []string{
		"", "-", "k3f9w2xq", "k3f9w2xq-", "k3f9w2xq-0", "k3f9w2xq-007", "k3f9w2xq-+7", "k3f9w2xq--7", "k3f9w2xq-7 ", " k3f9w2xq-7", "k3f9w2x-7",
		"k3f9w2xqq-7", "k3f9l2xq-7", "k3f9 2xq-7", "K3F9W2XQ-7", "k3f9w2xq-18446744073709551616", "k3f9w2xq-7-7", "k3f9w2xq-1_0", "k3f9w2xq-0x1", "4712",
		strings.Repeat("x", 1<<16),
	} {
		_, err := ParseID(s)
		wantCode(t, s[:min(len(s), 30)], err, CodeBadID)
		if len(err.Error()) > 300 {
			t.Errorf("the error about %d bytes has %d", len(s), len(err.Error()))
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("k3f9w2xq-4712")
	f.Add("k3f9w2xq-007")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && (id.String() != s || id.IsZero()) {
			t.Fatalf("%q was read as %v", s, id)
		}
		if err != nil && ProblemOf(err) == nil {
			t.Fatalf("%q: %v is no problem", s, err)
		}
	})
}

func TestNewHasTheDefaults(t *testing.T) {
	m := New("a", []byte("x"))
	if m.Priority != DefaultPriority || m.QoS != AtLeastOnce || m.Volatile || m.Urgent() || m.Check() != nil {
		t.Errorf("%+v: %v", m, m.Check())
	}
	for p := range uint8(MaxPriority + 1) {
		if m.Priority = p; m.Urgent() != (p >= 7) || m.Check() != nil {
			t.Errorf("priority %d: urgent %t, %v", p, m.Urgent(), m.Check())
		}
	}
}

func TestMessageCheck(t *testing.T) {
	long := strings.Repeat("x", MaxAttributeBytes+1)
	many := make([]Property, MaxProperties+1)
	for i := range many {
		many[i] = Property{fmt.Sprint("k", i), "v"}
	}
	for what, c := range map[string]struct {
		change func(m *Message)
		code   string
	}{
		"nothing":                {func(*Message) {}, ""},
		"the largest payload":    {func(m *Message) { m.Payload = make([]byte, MaxPayload) }, ""},
		"an empty payload":       {func(m *Message) { m.Payload = nil }, ""},
		"payload":                {func(m *Message) { m.Payload = make([]byte, MaxPayload+1) }, CodeTooLarge},
		"topic":                  {func(m *Message) { m.Topic = "a/#" }, CodeBadTopic},
		"no topic":               {func(m *Message) { m.Topic = "" }, CodeBadTopic},
		"priority":               {func(m *Message) { m.Priority = 10 }, CodeBadRequest},
		"qos":                    {func(m *Message) { m.QoS = 3 }, CodeBadRequest},
		"receipt":                {func(m *Message) { m.Receipt = 3 }, CodeBadRequest},
		"ttl":                    {func(m *Message) { m.TTL = -1 }, CodeBadRequest},
		"the longest ttl":        {func(m *Message) { m.TTL = MaxTTL }, ""},
		"long ttl":               {func(m *Message) { m.TTL = MaxTTL + 1 }, CodeBadRequest},
		"delay":                  {func(m *Message) { m.Delay = -time.Second }, CodeBadRequest},
		"long delay":             {func(m *Message) { m.Delay = MaxTTL + 1 }, CodeBadRequest},
		"volatile and delayed":   {func(m *Message) { m.Volatile, m.Delay = true, 1 }, CodeBadRequest},
		"volatile and retained":  {func(m *Message) { m.Volatile, m.Retain = true, true }, CodeBadRequest},
		"volatile":               {func(m *Message) { m.Volatile = true }, ""},
		"response":               {func(m *Message) { m.Response = "a/+" }, CodeBadTopic},
		"a good response":        {func(m *Message) { m.Response = "answers/1" }, ""},
		"content type":           {func(m *Message) { m.ContentType = long }, CodeTooLarge},
		"content type's line":    {func(m *Message) { m.ContentType = "a\r\nb" }, CodeBadUTF8},
		"event id":               {func(m *Message) { m.Event.ID = long }, CodeTooLarge},
		"event source":           {func(m *Message) { m.Event.Source = "\xff" }, CodeBadUTF8},
		"event type":             {func(m *Message) { m.Event.Type = "a\x7f" }, CodeBadUTF8},
		"event subject":          {func(m *Message) { m.Event.Subject = "\x00" }, CodeBadUTF8},
		"event dataschema":       {func(m *Message) { m.Event.DataSchema = long }, CodeTooLarge},
		"event time":             {func(m *Message) { m.Event.Time = long }, CodeTooLarge},
		"correlation":            {func(m *Message) { m.Correlation = []byte(long) }, CodeTooLarge},
		"any bytes to correlate": {func(m *Message) { m.Correlation = []byte{0, 0xff, '\n'} }, ""},
		"key":                    {func(m *Message) { m.Key = long }, CodeTooLarge},
		"key's text":             {func(m *Message) { m.Key = "a\tb" }, CodeBadUTF8},
		"properties":             {func(m *Message) { m.Properties = many }, CodeTooLarge},
		"the most properties":    {func(m *Message) { m.Properties = many[1:] }, ""},
		"extensions":             {func(m *Message) { m.Event.Extensions = many }, CodeTooLarge},
		"both lists together": {func(m *Message) {
			m.Properties = []Property{{"k", strings.Repeat("x", MaxPropertyBytes-2)}}
			m.Event.Extensions = many[:1]
		}, CodeTooLarge},
		"the largest property": {func(m *Message) { m.Properties = []Property{{"k", strings.Repeat("x", MaxPropertyBytes-1)}} }, ""},
		"property without key": {func(m *Message) { m.Properties = []Property{{"", "v"}} }, CodeBadUTF8},
		"property's key":       {func(m *Message) { m.Properties = []Property{{"a\nb", "v"}} }, CodeBadUTF8},
		"property's value":     {func(m *Message) { m.Properties = []Property{{"a", "\xff"}} }, CodeBadUTF8},
		"a NUL in a value":     {func(m *Message) { m.Properties = []Property{{"a", "\x00"}} }, CodeBadUTF8},
		"lines in a value":     {func(m *Message) { m.Properties = []Property{{"a", "x\ny"}, {"a", ""}} }, ""},
	} {
		m := New("device/lamp1/in/set", []byte("{}"))
		c.change(m)
		wantCode(t, what, m.Check(), c.code)
	}
}

func TestRules(t *testing.T) {
	r := Rules{
		Publish: []Filter{"a/#", "b/+"}, DenyPublish: []Filter{"a/secret/#"},
		Subscribe: []Filter{"a/#", "+/public"}, DenySubscribe: []Filter{"a/secret/#", "a/+/key"},
	}
	for topic, want := range map[Topic][2]bool{ // publish, receive
		"a": {true, true}, "a/x": {true, true}, "a/secret": {false, false}, "a/secret/x": {false, false},
		"a/x/key": {true, false}, "b/x": {true, false}, "b/public": {true, true}, "b": {false, false}, "$x/public": {false, false},
	} {
		if r.MayPublish(topic) != want[0] || r.MayReceive(topic) != want[1] {
			t.Errorf("%q: publish %t, receive %t; want %v", topic, r.MayPublish(topic), r.MayReceive(topic), want)
		}
	}
	for filter, want := range map[Filter]bool{
		"a/#": true, // what is denied of it is held back message by message
		"a/x": true, "a/secret/#": false, "a/secret/x": false, "a/x/key": false, "b/public": true, "+/public": true, "b/#": false, "#": false, "$x/public": false,
	} {
		if r.MaySubscribe(filter) != want {
			t.Errorf("%q: subscribe %t", filter, !want)
		}
	}
	for what, c := range map[string]struct {
		old, r Rules
		want   bool
	}{
		"itself":              {r, r, true},
		"none":                {r, Rules{DenyPublish: []Filter{"x"}}, true},
		"of none":             {Rules{}, r, false},
		"a filter less":       {Rules{Publish: []Filter{"a", "b"}}, Rules{Publish: []Filter{"b"}}, true},
		"another filter":      {Rules{Publish: []Filter{"a", "b"}}, Rules{Publish: []Filter{"b", "c"}}, false},
		"a smaller filter":    {Rules{Subscribe: []Filter{"#"}}, Rules{Subscribe: []Filter{"a/+"}}, true},
		"what # leaves out":   {Rules{Subscribe: []Filter{"#"}}, Rules{Subscribe: []Filter{"$SYS/x"}}, false},
		"one more denial":     {Rules{Subscribe: []Filter{"#"}}, Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a"}}, true},
		"a denial less":       {Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a"}}, Rules{Subscribe: []Filter{"#"}}, false},
		"a wider denial":      {Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a/b"}}, Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a/#"}}, true},
		"a narrower denial":   {Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a/#"}}, Rules{Subscribe: []Filter{"#"}, DenySubscribe: []Filter{"a/b"}}, false},
		"publish for receive": {Rules{Publish: []Filter{"a"}}, Rules{Subscribe: []Filter{"a"}}, false},
	} {
		if c.r.Within(&c.old) != c.want {
			t.Errorf("%s is within the old rules: %t", what, !c.want)
		}
	}
	var none Rules
	if none.MayPublish("a") || none.MayReceive("a") || none.MaySubscribe("a") {
		t.Error("no rules allow something")
	}
}

func TestProblem(t *testing.T) {
	p := Problemf(CodeForbidden, "%s may not", "app")
	if p.Error() != "forbidden: app may not" {
		t.Errorf("it says %q", p)
	}
	if got := ProblemOf(fmt.Errorf("publish: %w", p)); got != p {
		t.Errorf("a wrapped problem is %v", got)
	}
	if ProblemOf(nil) != nil || ProblemOf(errors.New("x")) != nil {
		t.Error("a problem where there is none")
	}
}

func TestStates(t *testing.T) {
	for s := Stored; s <= Lost; s++ {
		if back, ok := ParseState(s.String()); !ok || back != s {
			t.Errorf("%d is %q, which is %d", s, s, back)
		}
		if s.Final() != (s > Sent) {
			t.Errorf("%q final: %t", s, s.Final())
		}
	}
	for _, word := range []string{"", "unknown", "Sent", "gone"} {
		if s, ok := ParseState(word); ok {
			t.Errorf("%q is state %d", word, s)
		}
	}
	if State(0).String() != "" || State(200).String() != "unknown" {
		t.Errorf("no state is %q, an unknown one %q", State(0), State(200))
	}
}
