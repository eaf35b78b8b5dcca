package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

func stored(topic, contentType, payload string) *message.Message {
	m := message.New(message.Topic(topic), []byte(payload))
	m.ContentType = contentType
	m.ID = message.ID{Epoch: "k3f9w2xq", Seq: 4712}
	m.Seq = 4712
	m.Time = time.Date(2026, 11, 23, 6, 0, 0, 250e6, time.UTC)
	m.From = "app"
	return m
}

const storedPrefix = `"seq":4712,"id":"k3f9w2xq-4712","topic":"a/b",`

func TestAppendMessage(t *testing.T) {
	when := `"time":"2026-11-23T06:00:00.250Z","priority":4,"from":"app",`
	for _, c := range []struct{ name, ct, payload, want string }{
		{"json", JSON, `{"a": 1}`, `"ct":"application/json",` + when + `"data":{"a": 1}`},
		{"json with parameter", "application/json; charset=UTF-8", `1`, `"ct":"application/json; charset=UTF-8",` + when + `"data":1`},
		{"suffix", "application/senml+json", `[]`, `"ct":"application/senml+json",` + when + `"data":[]`},
		{"big integer", JSON, `9007199254740993`, `"ct":"application/json",` + when + `"data":9007199254740993`},
		{"line breaks", "text/json", "{\r\n \"a b\" : [ 1, 2.50e+01 ],\n\"c\":\"x\\n \u2028灯\"}", `"ct":"text/json",` + when + `"data":{"a b":[1,2.50e+01],"c":"x\n \u2028灯"}`},
		{"broken json", JSON, `{"a":`, `"ct":"application/json",` + when + `"text":"{\"a\":"`},
		{"json that is not utf-8", JSON, "\"\xff\"", `"ct":"application/json",` + when + `"data_base64":"Iv8i"`},
		{"deep json", JSON, strings.Repeat("[", 999) + strings.Repeat("]", 999), `"ct":"application/json",` + when + `"text":"` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `"`},
		{"text", "text/plain", "开灯\n\u2028\u2029\x00\x1f\"\\\t\r\x7f", `"ct":"text/plain",` + when + `"text":"开灯\n\u2028\u2029\u0000\u001f\"\\\t\r` + "\x7f\""},
		{"no type, text", "", "on", when + `"text":"on"`},
		{"no type, binary", "", "\xff", when + `"data_base64":"/w=="`},
		{"no type, empty", "", "", when + `"text":""`},
		{"no type, json", "", "{}", when + `"text":"{}"`},
		{"binary type", Octets, "on", `"ct":"application/octet-stream",` + when + `"data_base64":"b24="`},
		{"foreign charset", "text/plain;charset=gbk", "on", `"ct":"text/plain;charset=gbk",` + when + `"data_base64":"b24="`},
		{"xml", "image/svg+xml", "<a/>", `"ct":"image/svg+xml",` + when + `"text":"<a/>"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(AppendMessage(nil, stored("a/b", c.ct, c.payload)))
			if want := storedPrefix + c.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			checkObject(t, stored("a/b", c.ct, c.payload))
		})
	}
}

func TestAppendMessageFields(t *testing.T) {
	m := message.New("a\u0001", nil)
	if got, want := string(AppendMessage([]byte("x"), m)), `x"topic":"a\u0001","priority":4,"text":""`; got != want {
		t.Errorf("volatile: got %s want %s", got, want)
	}
	m.Properties = []message.Property{{Key: "k", Value: "v"}, {Key: "t", Value: "1"}, {Key: "t", Value: "2"}, {Key: "l", Value: ""}, {Key: "t", Value: "3"}}
	m.Response = "a/answer"
	m.Correlation = []byte{0, 1}
	want := `"topic":"a\u0001","priority":4,"properties":{"k":"v","t":["1","2","3"],"l":""},"response":"a/answer","correlation_base64":"AAE=","text":""`
	if got := string(AppendMessage(nil, m)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	checkObject(t, m)
}

// checkObject proves that encoding/json reads the object as the message's own values.
func checkObject(t *testing.T, m *message.Message) {
	t.Helper()
	out := append(AppendMessage([]byte{'{'}, m), '}')
	if bytes.ContainsAny(out, "\n\r\u2028\u2029") || !utf8.Valid(out) {
		t.Errorf("not one line of UTF-8: %q", out)
	}
	var o struct {
		Seq         uint64
		ID          string
		Topic       string
		CT          string
		Time        time.Time
		Priority    uint8
		From        string
		Properties  map[string]any
		Response    string
		Correlation []byte `json:"correlation_base64"`
		Data        json.RawMessage
		Text        *string
		Binary      *string `json:"data_base64"`
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	clean := func(s string) string { return strings.ToValidUTF8(strings.ReplaceAll(s, "\xff", "\uFFFD"), "\uFFFD") }
	if !m.ID.IsZero() && (o.Seq != m.Seq || o.ID != m.ID.String()) || utf8.ValidString(string(m.Topic)) && o.Topic != string(m.Topic) ||
		utf8.ValidString(m.ContentType) && o.CT != m.ContentType || utf8.ValidString(m.From) && o.From != m.From ||
		o.Priority != m.Priority || !bytes.Equal(o.Correlation, m.Correlation) {
		t.Errorf("%+v became %s", m, out)
	}
	if !o.Time.Equal(m.Time.Truncate(time.Millisecond)) {
		t.Errorf("time %v became %v", m.Time, o.Time)
	}
	byKey := map[string][]string{}
	for _, p := range m.Properties {
		byKey[clean(p.Key)] = append(byKey[clean(p.Key)], p.Value)
	}
	if len(byKey) != len(o.Properties) {
		t.Errorf("properties %v became %v", byKey, o.Properties)
	}
	checkPayload(t, m.Payload, o.Data, o.Text, o.Binary)
}

// checkPayload proves that the payload is shown once, as its own value.
func checkPayload(t *testing.T, payload, data []byte, text, binary *string) {
	t.Helper()
	shown := 0
	if data != nil {
		shown++
		var a, b any
		da, db := json.NewDecoder(bytes.NewReader(payload)), json.NewDecoder(bytes.NewReader(data))
		da.UseNumber()
		db.UseNumber()
		if da.Decode(&a) != nil || db.Decode(&b) != nil {
			t.Fatalf("data is not JSON: %s", data)
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if !bytes.Equal(x, y) {
			t.Errorf("payload %s became %s", x, y)
		}
	}
	if text != nil {
		shown++
		if *text != string(payload) {
			t.Errorf("payload %q became the text %q", payload, *text)
		}
	}
	if binary != nil {
		shown++
		if *binary != base64.StdEncoding.EncodeToString(payload) {
			t.Errorf("payload %q became %q", payload, *binary)
		}
	}
	if shown != 1 {
		t.Errorf("the payload is shown %d times", shown)
	}
}

func FuzzAppendMessage(f *testing.F) {
	f.Add("a/b", JSON, []byte("{\"a\": [1,\n 2]}"), "k", "v", "k", int64(1))
	f.Add("灯", "text/plain", []byte("\u2028x\x00"), "a", "\xff", "b", int64(-1))
	f.Add("a", "application/json;charset=gbk", []byte("\xff"), "\xff", "", "\xfe", int64(0))
	f.Fuzz(func(t *testing.T, topic, ct string, payload []byte, k1, v, k2 string, when int64) {
		m := stored(topic, ct, string(payload))
		if when >= 0 {
			m.Time = time.UnixMilli(when % 253_402_300_000_000)
		}
		if utf8.ValidString(k1) && utf8.ValidString(k2) {
			m.Properties = []message.Property{{Key: k1, Value: v}, {Key: k2, Value: k1}, {Key: k1, Value: ""}}
		}
		m.Correlation = payload
		checkObject(t, m)
	})
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e-7,true,null,"\u00e9\n"]}`, `01`, `"\x"`, `[1,]`, `{"a" 1}`, ` 1 `, `-`, `1.`, "\"\t\"", `nul`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := json.Valid(b) && utf8.Valid(b)
		if got := validJSON(b); got != want && bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) < MaxDepth {
			t.Errorf("validJSON(%q) = %v", b, got)
		}
	})
}

func TestAppendMessageAllocatesNothing(t *testing.T) {
	m := stored("device/lamp1/in/set", JSON, `{"on":true,"level":80}`)
	m.Properties = []message.Property{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = AppendMessage(buf[:0], m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	for _, c := range []struct{ name, ct, payload string }{
		{"json256", JSON, `{"t":21.5,"s":"` + strings.Repeat("x", 230) + `"}`},
		{"text256", "text/plain", strings.Repeat("温度21.5 ", 25)},
		{"binary4K", Octets, strings.Repeat("\x00\xff", 2048)},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := stored("device/lamp1/in/set", c.ct, c.payload)
			buf := make([]byte, 0, 8192)
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Payload)))
			for b.Loop() {
				buf = AppendMessage(buf[:0], m)
			}
		})
	}
}
