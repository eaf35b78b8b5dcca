//go:build !omit_rabbitmq

package rabbitmq

import (
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

func TestRoutingKeysKeepLevels(t *testing.T) {
	for topic, key := range map[string]string{
		"a/b/c": "a.b.c", "v1.2/x": "v1%2E2.x", "100%/a": "100%25.a", "a//b": "a..b", "%2E": "%252E", "温度/1": "温度.1",
	} {
		if got := routingKey(topic); got != key {
			t.Errorf("%q: %q, want %q", topic, got, key)
		}
		if got := address(key); got != topic {
			t.Errorf("back from %q: %q", key, got)
		}
	}
	if got := address("plain%key.x"); got != "plain%key/x" {
		t.Errorf("what nobody escaped: %q", got)
	}
}

func FuzzRoutingKey(f *testing.F) {
	f.Add("a/b.c%2E")
	f.Fuzz(func(t *testing.T, s string) {
		if got := address(routingKey(s)); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	})
}

// TestMapping: what goes out comes back.
func TestMapping(t *testing.T) {
	w := bridge.Wire{
		Address: "a/b.c", ContentType: "application/json", Body: []byte("{}"), ID: "id1", Event: true, Priority: 7, TTL: 90 * time.Second,
		Response: "r/x", Correlation: []byte{0, 255}, Headers: []message.Property{{Key: "id", Value: "id1"}, {Key: "specversion", Value: "1.0"}},
	}
	p := publishing(&bridge.Outgoing{Wire: w})
	if p.DeliveryMode != amqp.Persistent || p.Headers["cloudEvents:id"] != "id1" || p.Expiration != "90000" {
		t.Errorf("%+v", p)
	}
	p.Headers["x-death"] = []any{amqp.Table{"count": int64(1)}}
	got := wire(&amqp.Delivery{
		RoutingKey: routingKey(w.Address), ContentType: p.ContentType, Body: p.Body, MessageId: p.MessageId, Priority: p.Priority, Expiration: p.Expiration,
		ReplyTo: p.ReplyTo, CorrelationId: p.CorrelationId, Headers: p.Headers,
	})
	if got.Address != w.Address || got.ContentType != w.ContentType || got.ID != w.ID || got.Priority != 7 || got.TTL != w.TTL || !got.Event ||
		got.Response != w.Response || string(got.Correlation) != string(w.Correlation) || len(got.Headers) != 2 || got.Headers[0] != w.Headers[0] {
		t.Errorf("%+v", got)
	}
	raw := wire(&amqp.Delivery{Headers: amqp.Table{"n": int32(5), "ok": true, "x-death": []any{}, "when": time.Unix(0, 0)}})
	if len(raw.Headers) != 3 || raw.Headers[0].Value != "5" || raw.Headers[1].Value != "true" || raw.Headers[2].Value != "1970-01-01T00:00:00Z" || raw.Event {
		t.Errorf("%+v", raw.Headers)
	}
	if jms := wire(&amqp.Delivery{Headers: amqp.Table{"cloudEvents_specversion": "1.0", "cloudEvents_id": "1", "other": "x"}}); !jms.Event || len(jms.Headers) != 2 {
		t.Errorf("%+v", jms)
	}
}

func TestErrorsSayWhatCanHelp(t *testing.T) {
	for reason, want := range map[string]struct {
		code  int
		class bridge.Class
		text  string
	}{
		"NOT_FOUND - no queue 'q' in vhost '/'":                                  {404, bridge.Configuration, "create it"},
		"ACCESS_REFUSED - access to queue 'q' refused":                           {403, bridge.Configuration, "permissions"},
		"NOT_ALLOWED - vhost x not found":                                        {530, bridge.Configuration, "virtual host"},
		"RESOURCE_LOCKED - exclusive use":                                        {405, bridge.Configuration, "for itself"},
		"PRECONDITION_FAILED - inequivalent arg 'x-queue-type'":                  {406, bridge.Configuration, "queue_type"},
		"PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out":  {406, bridge.Temporary, "timed out"},
		"CONNECTION_FORCED - broker forced connection closure with reason 'shut": {320, bridge.Temporary, "shut"},
	} {
		err := bridge.Classify(explain(&amqp.Error{Code: want.code, Reason: reason, Server: true}))
		if err.Class != want.class || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v: %v", reason, err.Class, err)
		}
	}
	if n, ok := tooLarge(&amqp.Error{Code: 406, Reason: "PRECONDITION_FAILED - message size 1100 is larger than configured max size 1000"}); !ok || n != 1000 {
		t.Error(n, ok)
	}
	if _, ok := tooLarge(&amqp.Error{Code: 406, Reason: "PRECONDITION_FAILED - message size"}); ok {
		t.Error("a limit where none stands")
	}
}

// TestReturnsAndConfirms: a confirm after a return is no success, and of two with the same id and key the first is it.
func TestReturnsAndConfirms(t *testing.T) {
	c := &conn{returned: make(map[key][]string)}
	confirms, returns, closed := make(chan amqp.Confirmation), make(chan amqp.Return), make(chan *amqp.Error, 1)
	answers := make([]error, 4)
	for i, id := range []string{"a", "b", "b", "c"} {
		c.waiting.Add(&bridge.Outgoing{Wire: bridge.Wire{Address: "k", ID: id, Body: make([]byte, 10*i)}, Answered: func(_ *bridge.Outgoing, err error) { answers[i] = err }})
	}
	done := make(chan error)
	go func() { done <- c.confirm(confirms, returns, closed) }()
	returns <- amqp.Return{ReplyCode: 312, ReplyText: "NO_ROUTE", RoutingKey: "k", MessageId: "b"}
	for n := range 3 {
		confirms <- amqp.Confirmation{DeliveryTag: uint64(n + 1), Ack: n != 2}
	}
	close(returns)
	closed <- &amqp.Error{Code: 406, Reason: "PRECONDITION_FAILED - message size 30 is larger than configured max size 29"}
	close(confirms)
	<-done
	if len(c.returned) != 0 {
		t.Errorf("returns are kept for ever: %v", c.returned)
	}
	if answers[0] != nil {
		t.Error(answers[0])
	}
	for i, want := range map[int]string{1: "312 NO_ROUTE: no queue", 2: "basic.nack", 3: "max_message_size is 29"} {
		if answers[i] == nil || !strings.Contains(answers[i].Error(), want) {
			t.Errorf("%d: %v", i, answers[i])
		}
	}
	if e := bridge.Classify(answers[3]); e.Class != bridge.Rejected {
		t.Error(e.Class)
	}
}

func TestWhatTheProtocolHasNoRoomFor(t *testing.T) {
	long := strings.Repeat("x", 256)
	for want, w := range map[string]bridge.Wire{
		"routing key": {Address: long}, "id": {ID: long}, "content type": {ContentType: long}, "property": {Headers: []message.Property{{Key: long}}}, "": {ID: long[1:]},
	} {
		p := publishing(&bridge.Outgoing{Wire: w})
		if err := tooLong(&p, routingKey(w.Address)); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), "its "+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestVirtualHosts(t *testing.T) {
	for address, want := range map[string]string{"amqp://h": "/", "amqp://h/": "/", "amqp://h/prod": "prod", "amqp://h/a%2fb": "a/b", "amqp://h/a/b": ""} {
		got, err := vhost(address)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	c := bridge.Config{Name: "b", Kind: "rabbitmq", URLs: []string{"amqp://h/a/b"}, Options: map[string]string{"queue_type": "stream", "bind": "a.${topic}", "prefetch": "0", "keep_alive": "x", "delivery_limit": "1001"}}
	c.Up.To = "ep.${topic}"
	got := map[string]bool{}
	c.Check([]bridge.Kind{Kind()}, func(key, _ string, _ ...any) { got[key] = true })
	for _, key := range []string{"up.to", "urls[0]", "options.queue_type", "options.bind", "options.prefetch", "options.keep_alive", "options.delivery_limit"} {
		if !got[key] {
			t.Errorf("%s passes", key)
		}
	}
	kind := Kind()
	for _, exchange := range []map[string]string{nil, {"exchange": ""}} {
		d, err := kind.Dialer(bridge.Config{Options: exchange}, mapping.Here{})
		if err != nil || (d.(*dialer).c.Options["exchange"] == "") != (exchange != nil) || d.(*dialer).c.Number("prefetch") != 64 {
			t.Error(d, err)
		}
	}
}
