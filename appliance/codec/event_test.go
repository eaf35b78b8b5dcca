package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// received is an event with all that an event can bring.
func received() *message.Message {
	m := message.New("", []byte(`{"n":9007199254740993,"名":"灯"}`))
	m.ContentType = JSON
	m.Priority = 7
	m.TTL = 90 * time.Second
	m.Event = message.Event{
		ID: "A-1", Source: "/mycontext", Type: "com.example.on", Subject: "车间/灯", DataSchema: "urn:x",
		Time: "2026-11-23T14:00:00.5+08:00",
		Extensions: []message.Property{
			{Key: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			{Key: "partitionkey", Value: "灯 & <1>"},
		},
	}
	return m
}

func TestEncodeGolden(t *testing.T) {
	plain := stored("车间/灯", "text/plain", "开 <灯>\r\n")
	plain.TTL = 1500 * time.Millisecond
	plain.Properties = []message.Property{{Key: "unit", Value: "C"}, {Key: "id", Value: "no"}, {Key: "Not-A-Name", Value: "no"}, {Key: "unit", Value: "F"}}
	relayed := received()
	relayed.ID, relayed.Seq = message.ID{Epoch: "k3f9w2xq", Seq: 4712}, 4800
	binary := stored("a", "", "\x00\xff")
	for _, c := range []struct {
		name, mediaType string
		m               *message.Message
		want            string
	}{
		{
			"plain json", EventJSON, plain,
			`{"specversion":"1.0","id":"k3f9w2xq-4712","source":"/edgepost/ep-1","type":"edgepost.message","subject":"车间/灯",` +
				`"time":"2026-11-23T06:00:00.250Z","unit":"C","priority":4,"ttl":2,"datacontenttype":"text/plain","data":"开 <灯>\r\n"}`,
		},
		{
			"relayed json", EventJSON, relayed,
			`{"specversion":"1.0","id":"A-1","source":"/mycontext","type":"com.example.on","subject":"车间/灯","time":"2026-11-23T14:00:00.5+08:00",` +
				`"dataschema":"urn:x","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","partitionkey":"灯 & <1>",` +
				`"priority":7,"ttl":90,"epid":"k3f9w2xq-4712","epseq":"4800","datacontenttype":"application/json","data":{"n":9007199254740993,"名":"灯"}}`,
		},
		{
			"binary json", EventJSON, binary,
			`{"specversion":"1.0","id":"k3f9w2xq-4712","source":"/edgepost/ep-1","type":"edgepost.message","subject":"a",` +
				`"time":"2026-11-23T06:00:00.250Z","priority":4,"data_base64":"AP8="}`,
		},
		{
			"plain xml", EventXML, plain,
			xmlPreamble + `<event` + xmlNamespaces + ` specversion="1.0"><id>k3f9w2xq-4712</id><source>/edgepost/ep-1</source><type>edgepost.message</type>` +
				`<subject>车间/灯</subject><time>2026-11-23T06:00:00.250Z</time><unit xsi:type="ce:string">C</unit><priority xsi:type="ce:integer">4</priority>` +
				`<ttl xsi:type="ce:integer">2</ttl><datacontenttype>text/plain</datacontenttype><data xsi:type="xs:string">开 &lt;灯&gt;&#xD;&#xA;</data></event>`,
		},
		{
			"binary xml", EventXML, binary,
			xmlPreamble + `<event` + xmlNamespaces + ` specversion="1.0"><id>k3f9w2xq-4712</id><source>/edgepost/ep-1</source><type>edgepost.message</type>` +
				`<subject>a</subject><time>2026-11-23T06:00:00.250Z</time><priority xsi:type="ce:integer">4</priority><data xsi:type="xs:base64Binary">AP8=</data></event>`,
		},
		{
			"binary protobuf", EventProtobuf, binary,
			"\x0a\x0dk3f9w2xq-4712" + "\x12\x0e/edgepost/ep-1" + "\x1a\x031.0" + "\x22\x10edgepost.message" +
				"\x2a\x0e\x0a\x08priority\x12\x02\x10\x04" + "\x2a\x0e\x0a\x07subject\x12\x03\x1a\x01a" +
				"\x2a\x15\x0a\x04time\x12\x0d\x3a\x0b\x08\xe0\xac\x8f\xd8\x06\x10\x80\xe5\x9aw" + "\x32\x02\x00\xff",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := EncodeEvent(c.mediaType, c.m, "ep-1")
			if err != nil || string(got) != c.want {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, c.want)
			}
		})
	}
}

func TestRoundTrips(t *testing.T) {
	for _, mediaType := range []string{EventJSON, EventXML, EventProtobuf} {
		for _, p := range []struct{ ct, payload string }{
			{JSON, `{"n":9007199254740993,"名":"灯"}`},
			{JSON, `not json`},
			{JSON, "{\n \"a\": 1.0e5\r\n}"},
			{Text, "开灯\r\n\t<&>"},
			{Text, "\x00\x01"},
			{Text, "\xff"},
			{"", "text"},
			{"", ""},
			{Octets, "\x00\xff"},
			{XML, `<?xml version="1.0"?><a b="c"/>`},
			{Protobuf, "\x08\x01"},
		} {
			m := received()
			m.ContentType, m.Payload = p.ct, []byte(p.payload)
			b, err := EncodeEvent(mediaType, m, "ep-1")
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeEvent(mediaType, b)
			if err != nil {
				t.Errorf("%s: %v in %s", mediaType, err, b)
				continue
			}
			if mediaType == EventProtobuf { // sorted, and a Timestamp has neither zone nor spelling
				m.Event.Time = "2026-11-23T06:00:00.5Z"
				m.Event.Extensions[0], m.Event.Extensions[1] = m.Event.Extensions[1], m.Event.Extensions[0]
			}
			if len(got.Payload) == 0 && len(m.Payload) == 0 {
				got.Payload = m.Payload
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("%s\ngot  %+v\nwant %+v", mediaType, got, m)
			}
		}
	}
}

func TestBatch(t *testing.T) {
	for _, mediaType := range []string{BatchJSON, BatchXML, BatchProtobuf} {
		for _, n := range []int{0, 1, 3} {
			var ms []*message.Message
			for range n {
				ms = append(ms, received())
			}
			b, err := EncodeBatch(mediaType, ms, "ep-1")
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeBatch(mediaType, b)
			if err != nil || len(got) != n {
				t.Errorf("%s: %d events became %d, %v", mediaType, n, len(got), err)
			}
		}
		many := make([]*message.Message, MaxBatch+1)
		for i := range many {
			many[i] = message.New("a", nil)
		}
		b, _ := EncodeBatch(mediaType, many, "ep-1")
		_, err := DecodeBatch(mediaType, b)
		wantCode(t, err, message.CodeTooLarge)
		b, _ = EncodeBatch(mediaType, many[1:], "ep-1")
		if got, err := DecodeBatch(mediaType, b); err != nil || len(got) != MaxBatch {
			t.Errorf("%s: %d, %v", mediaType, len(got), err)
		}
		bad := received()
		bad.Event.Time = "yesterday"
		b, _ = EncodeBatch(mediaType, []*message.Message{received(), bad}, "ep-1")
		_, err = DecodeBatch(mediaType, b)
		var ie *IndexError
		if !errors.As(err, &ie) || ie.Index != 1 || !strings.HasPrefix(err.Error(), "event 1: ") {
			t.Errorf("%s: %v", mediaType, err)
		}
		wantCode(t, err, message.CodeBadRequest)
	}
	for _, s := range []string{"{}", "[{}", "[1]", "[,]", "[] x", "[", "\xff"} {
		if _, err := DecodeBatch(BatchJSON, []byte(s)); message.ProblemOf(err) == nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	_, err := DecodeBatch(BatchXML, []byte("<batch"+xmlNamespaces+"><a/></batch>"))
	wantCode(t, err, message.CodeBadRequest)
	for _, f := range []func() error{
		func() error { _, err := DecodeBatch(EventJSON, nil); return err },
		func() error { _, err := EncodeBatch(EventJSON, nil, ""); return err },
		func() error { _, err := EncodeEvent(BatchJSON, received(), ""); return err },
	} {
		wantCode(t, f(), message.CodeBadMediaType)
	}
}

func TestBinaryMode(t *testing.T) {
	m := received()
	m.ID, m.Seq = message.ID{Epoch: "k3f9w2xq", Seq: 4712}, 4712
	core := map[string]string{}
	var extensions []message.Property
	for _, a := range Attributes(m, "ep-1") {
		value, err := UnescapeHeader(EscapeHeader(a.Value))
		if err != nil || value != a.Value {
			t.Errorf("%q became %q, %v", a.Value, value, err)
		}
		if CoreAttribute(a.Key) {
			core[a.Key] = value
		} else {
			extensions = append(extensions, message.Property{Key: a.Key, Value: value})
		}
	}
	got, err := Binary(func(name string) string { return core[name] }, extensions, m.ContentType, m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	want := received()
	want.Event.Extensions = append(want.Event.Extensions, message.Property{Key: "epid", Value: "k3f9w2xq-4712"}, message.Property{Key: "epseq", Value: "4712"})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A second gateway replaces the first one's id.
	got.ID, got.Seq = message.ID{Epoch: "bbbbbbbb", Seq: 1}, 2
	as := Attributes(got, "ep-2")
	if n := len(as); n != 13 || as[n-2].Value != "bbbbbbbb-1" || as[n-1].Value != "2" {
		t.Errorf("%+v", as)
	}
	for _, bad := range []message.Property{{Key: "id", Value: "1"}, {Key: "data", Value: "1"}, {Key: "x-y", Value: ""}, {Key: "partitionkey", Value: "again"}} {
		if _, err := Binary(func(name string) string { return core[name] }, append(extensions, bad), "", nil); message.ProblemOf(err) == nil {
			t.Errorf("%s: %v", bad.Key, err)
		}
	}
	_, err = Binary(func(string) string { return "" }, nil, "", nil)
	wantCode(t, err, message.CodeBadRequest)
}

func TestPlainDefaults(t *testing.T) {
	m := message.New("a/b", []byte("x"))
	value := func(name string) string {
		for _, a := range Attributes(m, "车间 1/x") {
			if a.Key == name {
				return a.Value
			}
		}
		return "absent"
	}
	if got := value("source"); got != "/edgepost/%E8%BD%A6%E9%97%B4%201%2Fx" {
		t.Errorf("source %s", got)
	}
	if got := value("time"); got != "absent" {
		t.Errorf("time %s", got)
	}
	one := value("id")
	if !strings.HasPrefix(one, "v-") || one != value("id") {
		t.Errorf("id %s", one)
	}
	if m.Payload = []byte("y"); value("id") == one {
		t.Error("two volatile messages have the same id")
	}
}

func TestHeaderValues(t *testing.T) {
	for value, want := range map[string]string{"Euro € 😀": "Euro%20%E2%82%AC%20%F0%9F%98%80", "a%b\"": "a%25b%22", "plain": "plain", "": ""} {
		got := EscapeHeader(value)
		if back, err := UnescapeHeader(got); got != want || err != nil || back != value {
			t.Errorf("%q became %q and %q, %v", value, got, back, err)
		}
	}
	for value, want := range map[string]string{`"quoted \" text"`: `quoted " text`, "100": "100", "%e7%81%AF": "灯"} {
		if got, err := UnescapeHeader(value); err != nil || got != want {
			t.Errorf("%q became %q, %v", value, got, err)
		}
	}
	for _, value := range []string{"%", "%4", "%zz", "%ff", "\xff"} {
		if got, err := UnescapeHeader(value); message.ProblemOf(err) == nil {
			t.Errorf("%q became %q", value, got)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	for s, want := range map[string][2]bool{
		EventJSON: {true, false}, "APPLICATION/cloudevents+xml ; charset=utf-8": {true, false}, BatchProtobuf: {false, true}, JSON: {}, "": {},
	} {
		if IsEvent(s) != want[0] || IsBatch(s) != want[1] {
			t.Errorf("%q", s)
		}
	}
}

// fuzzEvent checks what holds for every accepted event: it is complete, and encoding it and decoding
// that gives the same again.
func fuzzEvent(t *testing.T, mediaType string, body []byte) {
	m, err := DecodeEvent(mediaType, body)
	if err != nil {
		if message.ProblemOf(err) == nil {
			t.Fatalf("not a problem: %v", err)
		}
		return
	}
	if m.Event.ID == "" || m.Event.Source == "" || m.Event.Type == "" {
		t.Fatalf("accepted without a required attribute: %+v", m)
	}
	m.Topic = "a"
	legal := m.Check() == nil // what is not is refused later, and need not come back the same
	m.Topic = ""
	for _, target := range []string{EventJSON, EventXML, EventProtobuf} {
		b, err := EncodeEvent(target, m, "ep-1")
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := EncodeEvent(target, m, "ep-1"); !bytes.Equal(b, again) {
			t.Fatalf("not deterministic: %q", b)
		}
		if target == EventJSON && !json.Valid(b) {
			t.Fatalf("not JSON: %s", b)
		}
		if legal && len(b) <= MaxEventBytes {
			comesBack(t, target, b, m)
		}
	}
}

// comesBack checks that b, which is m encoded, is read as m.
func comesBack(t *testing.T, mediaType string, b []byte, m *message.Message) {
	t.Helper()
	got, err := DecodeEvent(mediaType, b)
	if err != nil {
		t.Fatalf("%s does not read its own %q: %v", mediaType, b, err)
	}
	if want := bytes.TrimSpace(m.Payload); !bytes.Equal(bytes.TrimSpace(got.Payload), want) || got.ContentType != m.ContentType {
		t.Fatalf("%s: payload %q %q became %q %q", mediaType, m.ContentType, want, got.ContentType, got.Payload)
	}
	if got.Event.ID != m.Event.ID || got.Event.Source != m.Event.Source || got.Priority != m.Priority || got.TTL != m.TTL {
		t.Fatalf("%s: %+v became %+v", mediaType, m, got)
	}
	if x, y := got.Event.Extensions, m.Event.Extensions; mediaType == EventJSON && !slices.Equal(x, y) {
		t.Fatalf("extensions %q became %q", y, x)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	b, _ := EncodeEvent(EventJSON, received(), "ep-1")
	f.Add(b)
	f.Add([]byte(`{"id":"1","source":"s","type":"t","specversion":"1.0","data":"\ud83d\ude00","datacontenttype":"text/plain","x":-1,"y":true}`))
	f.Add([]byte(`{"id":"1","source":"s","type":"t","specversion":"1.0","data_base64":"AP8="}`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzEvent(t, EventJSON, body) })
}

func FuzzDecodeXML(f *testing.F) {
	b, _ := EncodeEvent(EventXML, received(), "ep-1")
	f.Add(b)
	f.Add([]byte(`<event` + xmlNamespaces + ` specversion="1.0"><id>1</id><source>s</source><type>t</type><data xsi:type="xs:any"><a xs:b="1"/></data></event>`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzEvent(t, EventXML, body) })
}

func FuzzDecodeProtobuf(f *testing.F) {
	b, _ := EncodeEvent(EventProtobuf, received(), "ep-1")
	f.Add(b)
	f.Fuzz(func(t *testing.T, body []byte) { fuzzEvent(t, EventProtobuf, body) })
}

func FuzzDecodeBatch(f *testing.F) {
	for i, mediaType := range []string{BatchJSON, BatchXML, BatchProtobuf} {
		b, _ := EncodeBatch(mediaType, []*message.Message{received(), received()}, "ep-1")
		f.Add(i, b)
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		ms, err := DecodeBatch([]string{BatchJSON, BatchXML, BatchProtobuf}[uint(i)%3], body)
		if err != nil && message.ProblemOf(err) == nil || len(ms) > MaxBatch || err != nil && ms != nil {
			t.Errorf("%d messages, %v", len(ms), err)
		}
	})
}
