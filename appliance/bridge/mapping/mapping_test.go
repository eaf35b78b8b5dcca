package mapping

import (
	"errors"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/codec"
	"edgepost/appliance/message"
)

func TestTemplates(t *testing.T) {
	values := map[string]string{Gateway: "gw1", Topic: "device/lamp1/out/state/x", Device: "lamp1"}
	get := func(name string) string { return values[name] }
	for _, c := range []struct{ template, want, wrong string }{
		{"", "", ""},
		{"plain $ text {}", "plain $ text {}", ""},
		{"a/${gw}/${topic}", "a/gw1/device/lamp1/out/state/x", ""},
		{"${topic[0]}-${topic[1]}-${topic[4]}", "device-lamp1-x", ""},
		{"${topic[3:]}", "state/x", ""},
		{"${topic[5]}", "", "needs ${topic[5]}"},
		{"${topic[5:]}", "", "needs ${topic[5:]}"},
		{"${key}", "", "needs ${key}"},
		{"${nothing}", "", "there is no ${nothing} here"},
		{"${gw", "", "has no"},
		{"${topic[x]}", "", "not understood"},
		{"${topic[-1]}", "", "not understood"},
		{"${topic[1}", "", "not understood"},
		{"${}", "", "there is no ${}"},
	} {
		parsed, err := ParseTemplate(c.template, Gateway, Topic, Device, Key)
		got := ""
		if err == nil {
			got, err = parsed.Fill(get)
		}
		if got != c.want && c.wrong == "" || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%q gives %q, %v; want %q, %q", c.template, got, err, c.want, c.wrong)
		}
	}
}

func TestTemplateFilter(t *testing.T) {
	for template, want := range map[string]message.Filter{
		"a/b": "a/b", "a/${gw}/b": "a/+/b", "a/x-${gw}/b": "a/+/b", "ep/${gw}/up/${topic}": "ep/+/up/#", "${topic}": "#", "a/${topic[2]}/${topic[3:]}": "a/+/#",
		"a/b-${topic}": "a/#",
	} {
		parsed, err := ParseTemplate(template, Gateway, Topic)
		if got := parsed.Filter(); err != nil || got != want {
			t.Errorf("%q may give %q, want %q; %v", template, got, want, err)
		}
	}
}

// Whatever a template and a topic are, what comes out is selected by the template's filter, or there is an error.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a/${gw}/${topic}", "${topic[2]}x/${topic[1:]}", "${device}/${", "${topic[100]}"} {
		f.Add(s, "device/lamp1/out/state")
	}
	f.Fuzz(func(t *testing.T, template, topic string) {
		parsed, err := ParseTemplate(template, Gateway, Topic, Device)
		if err != nil {
			return
		}
		out, err := parsed.Fill(func(name string) string { return map[string]string{Gateway: "gw1", Topic: topic, Device: "d"}[name] })
		if err != nil || strings.ContainsAny(template+topic, "+#\x00") {
			return
		}
		to, err := message.ParseTopic(out)
		filter, err2 := message.ParseFilter(string(parsed.Filter()))
		if err == nil && err2 == nil && !strings.HasPrefix(out, "$") && !filter.Match(to) {
			t.Errorf("%q of %q gives %q, which %q does not select", template, topic, out, filter)
		}
	})
}

func up(t *testing.T, format Format, headers bool) *Up {
	t.Helper()
	to, err := ParseTemplate("up/${gw}/${topic}", Gateway, Topic)
	key, err2 := ParseTemplate("${device}", Device)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return &Up{Here: Here{Gateway: "gw1", Epoch: "aaaaaaaa", Bridge: "b"}, Format: format, Headers: headers, To: to, Key: key}
}

func sample() *message.Message {
	m := message.New("device/lamp1/out/state", []byte(`{"on":true}`))
	m.ID, m.Seq, m.ContentType, m.Priority = message.ID{Epoch: "aaaaaaaa", Seq: 7}, 7, "application/json", 8
	m.Event.Extensions = []message.Property{{Key: "traceparent", Value: "00-aa-bb-01"}}
	m.Properties = []message.Property{{Key: "k", Value: "v"}}
	return m
}

// What one gateway sends another one reads: payload, type, priority, remaining time, trace context and identity are the
// same, in every format that carries them.
func TestThereAndBack(t *testing.T) {
	for _, c := range []struct {
		format  Format
		headers bool
		back    Format
	}{{Event, true, Auto}, {Event, false, Auto}, {Structured, true, Structured}, {Structured, false, Auto}} {
		w, err := up(t, c.format, c.headers).Encode(sample(), Delivery{Attempt: 3, ExpiresIn: 90 * time.Second, Backfill: true})
		if err != nil {
			t.Fatal(err)
		}
		if w.Address != "up/gw1/device/lamp1/out/state" || w.Key != "lamp1" || w.ID != "aaaaaaaa-7" || w.Source != "/edgepost/gw1" || w.Attempt != 3 || !w.Text {
			t.Errorf("%s: %+v", c.format, w)
		}
		to, _ := ParseTemplate("in/${topic[2:]}", Topic)
		down := &Down{Here: Here{Gateway: "gw2", Epoch: "bbbbbbbb"}, Format: c.back, To: to}
		m, key, err := down.Decode(&w)
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic != "in/device/lamp1/out/state" || string(m.Payload) != `{"on":true}` || m.ContentType != "application/json" || m.Priority != 8 || m.TTL != 90*time.Second || key != "/edgepost/gw1\x00aaaaaaaa-7" {
			t.Errorf("%s: %+v, key %q", c.format, m, key)
		}
		want := map[string]string{"traceparent": "00-aa-bb-01", "epvia": "aaaaaaaa", "attempt": "3", "epbackfill": "true", "partitionkey": "lamp1"}
		for _, p := range m.Event.Extensions {
			if want[p.Key] == p.Value {
				delete(want, p.Key)
			}
		}
		if len(want) > 0 {
			t.Errorf("%s: %v are missing in %v", c.format, want, m.Event.Extensions)
		}
		// The first gateway drops it when it comes back, through the second too.
		m.ID = message.ID{Epoch: "bbbbbbbb", Seq: 9}
		w, err = up(t, c.format, c.headers).Encode(m, Delivery{})
		if err != nil {
			t.Fatal(err)
		}
		if w.ID != "aaaaaaaa-7" || w.Source != "/edgepost/gw1" {
			t.Errorf("%s: identity behind a second gateway: %s %s", c.format, w.Source, w.ID)
		}
		for _, epoch := range []message.Epoch{"aaaaaaaa"} {
			if _, _, err := (&Down{Here: Here{Epoch: epoch}, Format: c.back, To: to}).Decode(&w); !errors.Is(err, ErrLoop) {
				t.Errorf("%s: at %s: %v", c.format, epoch, err)
			}
		}
	}
}

func TestRaw(t *testing.T) {
	w, err := up(t, Raw, true).Encode(sample(), Delivery{Attempt: 1})
	if err != nil || string(w.Body) != `{"on":true}` || len(w.Headers) != 1 || w.Event {
		t.Errorf("%+v %v", w, err)
	}
	to, _ := ParseTemplate("x/${key}", Key)
	down := &Down{Format: Auto, To: to}
	m, key, err := down.Decode(&Wire{Body: []byte("on"), Key: "k", Priority: 9, TTL: time.Minute, ContentType: "text/plain", Response: "a/#"})
	if err != nil || m.Topic != "x/k" || m.Priority != 9 || m.TTL != time.Minute || key != "" || m.Response != "" {
		t.Errorf("%+v %q %v", m, key, err)
	}
	if _, key, err = down.Decode(&Wire{Body: []byte("on"), Key: "k", ID: "7"}); err != nil || key != "\x007" {
		t.Errorf("the protocol's own id: %q %v", key, err)
	}
	for _, c := range []struct {
		d *Down
		w Wire
	}{
		{&Down{Format: Auto}, Wire{Body: []byte("on")}},                                      // no subject says the topic
		{&Down{Format: Structured, To: to}, Wire{Body: []byte("on"), Key: "k"}},              // not an event
		{&Down{Format: Raw, To: to}, Wire{Body: []byte("on")}},                               // no key
		{&Down{Format: Raw, To: to}, Wire{Body: []byte("on"), Key: "a/#"}},                   // no topic
		{&Down{Format: Auto, To: to}, Wire{Body: []byte("{"), ContentType: codec.EventJSON}}, // a broken event
	} {
		if m, _, err := c.d.Decode(&c.w); err == nil {
			t.Errorf("%+v is taken as %+v", c.w, m)
		}
	}
}

// FuzzDecode: whatever comes is a good message or an error.
func FuzzDecode(f *testing.F) {
	f.Add("t/x", "application/json", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a/b","data":1}`), "specversion", "1.0", true)
	f.Add("t/x", "", []byte("on"), "", "", false)
	f.Fuzz(func(t *testing.T, address, contentType string, body []byte, name, value string, event bool) {
		to, _ := ParseTemplate("in/${topic}", Topic)
		w := &Wire{Address: address, ContentType: contentType, Body: body, Event: event, Headers: []message.Property{{Key: name, Value: value}}}
		for _, format := range []Format{Auto, Structured, Raw} {
			m, _, err := (&Down{Format: format, To: to, Here: Here{Epoch: "aaaaaaaa"}}).Decode(w)
			if err == nil && m.Check() != nil {
				t.Errorf("%v is taken: %v", m, m.Check())
			}
		}
	})
}
