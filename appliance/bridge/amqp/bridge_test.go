//go:build !omit_amqp

package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/Azure/go-amqp"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

func class(err error) string {
	if err == nil {
		return ""
	}
	return bridge.Classify(err).Class.String()
}

// through is a message encoded for the network and read back.
func through(t *testing.T, m *amqp.Message) *amqp.Message {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back amqp.Message
	if err := back.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return &back
}

func TestEventBothWays(t *testing.T) {
	out := bridge.Wire{
		Address: "ep.up", Key: "lamp1", ContentType: "application/json", Body: []byte(`{"on":true}`), Event: true, ID: "k3f9w2xq-7", Source: "/edgepost/gw1",
		Headers:  []message.Property{{Key: "id", Value: "k3f9w2xq-7"}, {Key: "source", Value: "/edgepost/gw1"}, {Key: "specversion", Value: "1.0"}},
		Priority: 7, TTL: time.Minute, Response: "answers", Correlation: []byte("c1"),
	}
	for _, prefix := range []string{mapping.Colon, mapping.Underscore} {
		d := &dialer{c: &bridge.Config{Options: map[string]string{"prefix": prefix}}}
		m := through(t, d.message(&bridge.Outgoing{Wire: out}))
		if !m.Header.Durable || m.Header.Priority != 7 || m.Header.TTL != time.Minute || m.Properties.MessageID != "k3f9w2xq-7" || *m.Properties.GroupID != "lamp1" || *m.Properties.ReplyTo != "answers" {
			t.Errorf("%+v %+v", m.Header, m.Properties)
		}
		if m.ApplicationProperties[prefix+"id"] != "k3f9w2xq-7" {
			t.Errorf("%v", m.ApplicationProperties)
		}
		in, err := wire(m, "ep.up")
		if err != nil {
			t.Fatal(err)
		}
		if !in.Event || !slices.Equal(in.Headers, out.Headers) || string(in.Body) != string(out.Body) || in.ContentType != out.ContentType || in.TTL != time.Minute || in.Address != "ep/up" || in.Key != "lamp1" || string(in.Correlation) != "c1" {
			t.Errorf("%+v", in)
		}
	}
}

// What other programs send: texts, several data sections, numbers and times as properties.
func TestForeignMessages(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w, err := wire(through(t, &amqp.Message{Value: "on", ApplicationProperties: map[string]any{"n": int64(7), "at": at, "ok": true}}), "a.b")
	if err != nil || string(w.Body) != "on" || !w.Text || w.Event {
		t.Errorf("%+v %v", w, err)
	}
	if !slices.Equal(w.Headers, []message.Property{{Key: "at", Value: "2026-01-02T03:04:05Z"}, {Key: "n", Value: "7"}, {Key: "ok", Value: "true"}}) {
		t.Errorf("%v", w.Headers)
	}
	if w, err = wire(through(t, &amqp.Message{Data: [][]byte{[]byte("a"), []byte("b")}}), ""); err != nil || string(w.Body) != "ab" {
		t.Errorf("%q %v", w.Body, err)
	}
	for _, m := range []*amqp.Message{{Value: map[string]any{"a": int64(1)}}, {Sequence: [][]any{{int64(1)}}}} {
		if _, err := wire(through(t, m), ""); !errors.Is(err, errBody) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		state amqp.DeliveryState
		class string
	}{
		{&amqp.StateAccepted{}, ""},
		{&amqp.StateRejected{}, "refused"},
		{&amqp.StateRejected{Error: &amqp.Error{Condition: amqp.ErrCondResourceLimitExceeded}}, "refused"},
		{&amqp.StateRejected{Error: &amqp.Error{Condition: amqp.ErrCondMessageSizeExceeded}}, "rejected"},
		{&amqp.StateReleased{}, "refused"},
		{&amqp.StateModified{}, "refused"},
		{&amqp.StateModified{UndeliverableHere: true}, "rejected"},
	} {
		if got := class(verdict(c.state)); got != c.class {
			t.Errorf("%T: %q, want %q", c.state, got, c.class)
		}
	}
}

func TestErrorsSayWhatHelps(t *testing.T) {
	for _, c := range []struct {
		err   error
		class string
		words string
	}{
		{explain(fmt.Errorf("address: %w", &amqp.Error{Condition: amqp.ErrCondNotFound})), "configuration", "create it"},
		{explain(&amqp.LinkError{RemoteErr: &amqp.Error{Condition: amqp.ErrCondUnauthorizedAccess}}), "configuration", "access rules"},
		{explain(&amqp.SessionError{RemoteErr: &amqp.Error{Condition: amqp.ErrCondNotAllowed}}), "configuration", "options.destination"},
		{explain(&amqp.ConnError{RemoteErr: &amqp.Error{Condition: amqp.ErrCondConnectionForced}}), "temporary", "forced"},
		{explain(io.EOF), "temporary", "EOF"},
		{refusal(errors.New("SASL PLAIN auth failed with code 0x1"), "me"), "configuration", `user "me"`},
		{refusal(io.EOF, "me"), "temporary", "with or without TLS"},
		{refusal(context.DeadlineExceeded, "me"), "temporary", "deadline"},
		{refusal(&amqp.ConnError{RemoteErr: &amqp.Error{Condition: amqp.ErrCondUnauthorizedAccess}}, "me"), "configuration", "forbid"},
	} {
		if class(c.err) != c.class || !strings.Contains(c.err.Error(), c.words) {
			t.Errorf("%v: class %s, want %s", c.err, class(c.err), c.class)
		}
	}
}

func TestOptions(t *testing.T) {
	kind := Kind()
	for _, c := range []struct {
		to      string
		options map[string]string
		key     string
	}{
		{"ep.up", nil, ""},
		{"", nil, "up.to"},
		{bridge.DefaultTo, nil, "up.to"},
		{"ep.up", map[string]string{"destination": "exchange"}, "options.destination"},
		{"ep.up", map[string]string{"prefix": "ce_"}, "options.prefix"},
		{"ep.up", map[string]string{"prefix": mapping.Underscore, "destination": "topic"}, ""},
	} {
		got := ""
		conf := &bridge.Config{Name: "b", Kind: "amqp", URLs: []string{"amqp://h"}, Up: bridge.Up{To: c.to, Filters: []message.Filter{"#"}}, Options: c.options}
		conf.Check([]bridge.Kind{kind}, func(key, _ string, _ ...any) { got = key })
		if got != c.key {
			t.Errorf("%+v: mistake at %q, want %q", c, got, c.key)
		}
	}
	conf := bridge.Config{Name: "b", Up: bridge.Up{To: "up.${gw}", Filters: []message.Filter{"#"}}}
	d, err := kind.Dialer(conf, mapping.Here{Gateway: "gw1"})
	if err != nil || d.(*dialer).address != "up.gw1" || d.(*dialer).c.Options["container_id"] != "edgepost-gw1-b" || d.(*dialer).c.Options["prefix"] != mapping.Colon {
		t.Errorf("%+v %v", d, err)
	}
	conf.Up.To = "up.${device}"
	if d, err = kind.Dialer(conf, mapping.Here{Gateway: "gw1"}); err != nil || d.(*dialer).address != "" {
		t.Errorf("an address for each message: %+v %v", d, err)
	}
}

// FuzzWire: whatever a broker passes on, nothing panics.
func FuzzWire(f *testing.F) {
	d := &dialer{c: &bridge.Config{Options: map[string]string{"prefix": mapping.Colon}}}
	b, err := d.message(&bridge.Outgoing{Wire: bridge.Wire{Body: []byte("x"), Key: "k", Headers: []message.Property{{Key: "specversion", Value: "1.0"}}, Event: true}}).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, data []byte) {
		var m amqp.Message
		if m.UnmarshalBinary(data) == nil {
			_, _ = wire(&m, "a.b") // an error refuses the message
		}
	})
}
