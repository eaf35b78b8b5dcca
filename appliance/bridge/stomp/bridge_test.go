//go:build !omit_stomp

package stomp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/bridge/stomp/client"
	"edgepost/appliance/message"
)

// broker is the other end of a connection.
type broker struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// frame is what a client sent: the lines of its head, and its body. Escapes are left as they are.
type frame struct {
	command string
	headers map[string]string
	body    string
}

func (b *broker) read() (frame, error) {
	all, err := b.r.ReadString(0)
	if err != nil {
		return frame{}, err
	}
	head, body, _ := strings.Cut(strings.TrimLeft(strings.TrimSuffix(all, "\x00"), "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	f := frame{command: lines[0], headers: make(map[string]string), body: body}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		if _, again := f.headers[name]; again {
			return f, fmt.Errorf("header %s stands there twice", name)
		}
		f.headers[name] = strings.ReplaceAll(value, `\c`, ":")
	}
	return f, nil
}

// expect reads a frame.
func (b *broker) expect(command string) frame {
	b.t.Helper()
	f, err := b.read()
	if err != nil || f.command != command {
		b.t.Fatalf("%+v, %v; want %s", f, err, command)
	}
	return f
}

func (b *broker) say(format string, args ...any) {
	b.t.Helper()
	if _, err := fmt.Fprintf(b, format, args...); err != nil {
		b.t.Fatal(err)
	}
}

// listen takes connections and gives each to serve.
func listen(t *testing.T, serve func(b *broker)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(&broker{t, c, bufio.NewReaderSize(c, 32<<10)}) }()
		}
	}()
	return &url.URL{Scheme: "stomp", Host: l.Addr().String()}
}

// dial connects. end says why the connection ended; what it takes comes out of the inlet.
func dial(t *testing.T, c *bridge.Config, u *url.URL, in inlet) (conn bridge.Conn, end <-chan error, err error) {
	t.Helper()
	kind := Kind()
	c.Name = "b"
	d, err := kind.Dialer(*c, mapping.Here{Gateway: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	e := bridge.NewEpoch(t.Context(), &kind, c, u)
	if e.Up = in == nil; !e.Up {
		e.Inlet = in
	}
	ended := make(chan error, 1)
	e.Go(func(ctx context.Context) error {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil
	})
	t.Cleanup(func() { _ = e.End() })
	conn, err = e.Dial(d)
	return conn, ended, err
}

// inlet gathers what comes.
type inlet chan bridge.Incoming

func (n inlet) Take(in bridge.Incoming)  { n <- in }
func (n inlet) Position(_ uint32) []byte { return nil }

func TestSendIsConfirmedByReceiptsAndEndsWithAnError(t *testing.T) {
	u := listen(t, func(b *broker) {
		if f := b.expect("CONNECT"); f.headers["accept-version"] != "1.2" || f.headers["host"] != "/" || f.headers["login"] != "me" || f.headers["heart-beat"] != "30000,30000" {
			t.Errorf("%+v", f)
		}
		b.say("CONNECTED\nversion:1.2\nserver:ActiveMQ/5.17\nheart-beat:0,0\n\n\x00\n")
		first := b.expect("SEND")
		for name, want := range map[string]string{
			"destination": "/queue/ep.up.d1", "persistent": "true", "priority": "6", "amq-msg-type": "text", "JMSXGroupID": "d1", "correlation-id": "c1",
			"cloudEvents_id": "1", "reply-to": "/topic/device.d1.in.r", "content-type": "text/plain",
		} {
			if got := first.headers[name]; got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if ms := first.headers["expires"]; len(ms) != 13 {
			t.Errorf("expires: %q", ms)
		}
		second, third := b.expect("SEND"), b.expect("SEND")
		if second.headers["amq-msg-type"] != "bytes" || second.headers["epid"] != "2" || second.headers["receipt"] == "mine" || second.headers["transaction"] != "" || second.headers["color"] != "red" {
			t.Errorf("%+v", second)
		}
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", third.headers["receipt"])
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", first.headers["receipt"])
		b.say("RECEIPT\nreceipt-id:77\n\n\x00")
		b.say("ERROR\nreceipt-id:%s\nmessage:too large\n\n\x00", second.headers["receipt"])
	})
	file := t.TempDir() + "/none"
	if _, _, err := dial(t, &bridge.Config{PasswordFile: file}, u, nil); err == nil || bridge.Classify(err).Class != bridge.Configuration {
		t.Error(err)
	}
	conn, end, err := dial(t, &bridge.Config{Username: "me"}, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]chan error, 3)
	out := func(i int, w bridge.Wire) *bridge.Outgoing {
		answers[i] = make(chan error, 1)
		return &bridge.Outgoing{Wire: w, Answered: func(_ *bridge.Outgoing, err error) { answers[i] <- err }}
	}
	batch := []*bridge.Outgoing{
		out(0, bridge.Wire{
			Address: "/queue/ep/up/d1", ContentType: "text/plain", Text: true, Body: []byte("hi"), Key: "d1", Priority: 6, TTL: time.Minute, Correlation: []byte("c1"),
			Response: "device/d1/in/r", Event: true, Headers: []message.Property{{Key: "id", Value: "1"}},
		}),
		out(1, bridge.Wire{
			Address: "/queue/x", Text: true, Body: []byte{0xff}, ID: "2",
			Headers: []message.Property{{Key: "receipt", Value: "mine"}, {Key: "transaction", Value: "t"}, {Key: "content-length", Value: "900"}, {Key: "color", Value: "red"}},
		}),
		out(2, bridge.Wire{Address: "/queue/x"}),
	}
	if err := conn.Send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if err := <-end; err == nil || !strings.Contains(err.Error(), "too large") || bridge.Classify(err).Class != bridge.Temporary {
		t.Error(err)
	}
	if err := <-answers[0]; err != nil {
		t.Error(err)
	}
	if err := <-answers[1]; err == nil || bridge.Classify(err).Class != bridge.Rejected {
		t.Error(err)
	}
	if err := <-answers[2]; err != nil {
		t.Error(err)
	}
}

func TestWhatComesIsAcknowledgedOneByOne(t *testing.T) {
	done := make(chan string, 10)
	u := listen(t, func(b *broker) {
		if f := b.expect("CONNECT"); f.headers["client-id"] != "edgepost-gw1-b" {
			t.Errorf("%+v", f)
		}
		b.say("CONNECTED\nversion:1.2\nserver:RabbitMQ/3.10\nheart-beat:0,0\n\n\x00\n")
		f := b.expect("SUBSCRIBE")
		if f.headers["ack"] != "client-individual" || f.headers["destination"] != "/topic/cmd.d1" || f.headers["prefetch-count"] != "64" || f.headers["durable"] != "true" || f.headers["id"] != "edgepost-gw1-b-mine-0" {
			t.Errorf("%+v", f)
		}
		b.say("MESSAGE\nack:a1\ndestination:/topic/cmd.d1\ncloudEvents_specversion:1.0\ncloudEvents_id:7\ncloudEvents_id:8\nother:x\npriority:9\n\nearly\x00")
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", f.headers["receipt"])
		b.say("MESSAGE\nack:a2\ncontent-length:%d\n\n%s\x00", client.MaxBody+1, strings.Repeat("x", client.MaxBody+1))
		b.say("MESSAGE\nack:a3\ndestination:/topic/cmd.d2\namqp-message-id:m3\nx-death:1\ncolor:red\ncontent-length:1\n\nz\x00")
		for range 3 {
			f, err := b.read()
			if err != nil {
				return
			}
			done <- f.command + " " + f.headers["id"] + " " + f.headers["requeue"]
		}
		b.say("ERROR\nmessage:access_refused\n\n\x00")
	})
	c := &bridge.Config{Name: "b", Options: map[string]string{"durable": "mine"}, Down: bridge.Down{From: []string{"/topic/cmd.d1"}}}
	in := make(inlet, 10)
	_, end, err := dial(t, c, u, in)
	if err != nil {
		t.Fatal(err)
	}
	first := <-in
	if first.Address != "cmd/d1" || !first.Event || len(first.Headers) != 2 || first.Headers[1].Value != "7" || string(first.Body) != "early" || first.Priority != 9 || !first.Text {
		t.Errorf("%+v", first.Wire)
	}
	large := <-in
	if large.Bad == nil || !strings.Contains(large.Bad.Error(), "2097153 bytes") {
		t.Errorf("%v", large.Bad)
	}
	if err := large.Done(large.Bad); err != nil {
		t.Error(err)
	}
	if got := <-done; got != "NACK a2 false" {
		t.Error(got)
	}
	second := <-in
	if second.Event || second.ID != "m3" || len(second.Headers) != 1 || second.Headers[0].Key != "color" || second.Text {
		t.Errorf("%+v", second.Wire)
	}
	if err := second.Done(fmt.Errorf("not ours")); err != nil {
		t.Error(err)
	}
	if got := <-done; got != "NACK a3 false" {
		t.Error(got)
	}
	if err := first.Done(nil); err != nil {
		t.Error(err)
	}
	if got := <-done; got != "ACK a1 " {
		t.Error(got)
	}
	if err := <-end; bridge.Classify(err).Class != bridge.Configuration {
		t.Error(err)
	}
}

func TestBadStarts(t *testing.T) {
	for answer, want := range map[string]string{
		"ERROR\nmessage:Bad CONNECT\n\nAccess refused for user 'me'\nat x.y.z\n\x00": "Access refused for user 'me'", "CONNECTED\nversion:1.1\n\n\x00": "STOMP 1.2 is wanted",
		"": "is it STOMP there", "HTTP/1.1 400 Bad Request\r\n\r\n": "is it STOMP there", "\x15\x03\x01\x00\x02\x02\x0a": "is it STOMP there",
	} {
		u := listen(t, func(b *broker) { b.expect("CONNECT"); b.say("%s", answer) })
		_, _, err := dial(t, &bridge.Config{Username: "me"}, u, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "x.y.z") {
			t.Errorf("%q: %v", answer, err)
		}
	}
	if _, _, err := dial(t, &bridge.Config{Username: "a\nb"}, listen(t, func(*broker) {}), nil); err == nil || !strings.Contains(err.Error(), "login") {
		t.Error(err)
	}
	kind := Kind()
	d, err := kind.Dialer(bridge.Config{Name: "b"}, mapping.Here{Gateway: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	u := listen(t, func(b *broker) { b.expect("CONNECT"); cancel(); _, _ = b.r.ReadByte() })
	e := bridge.NewEpoch(ctx, &kind, &bridge.Config{}, u)
	if _, err := e.Dial(d); err == nil {
		t.Error("a broker that never answers is connected")
	}
	_ = e.End()
}

func TestDestinationsAndAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"/queue/ep.up": "/queue/ep.up", "/topic/ep/a/b": "/topic/ep.a.b", "/exchange/amq.topic/a/b": "/exchange/amq.topic/a.b", "/amq/queue/x/y": "/amq/queue/x.y", "ep/up": "ep.up", "/queue": "/queue",
	} {
		if got := destination(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	for d, want := range map[string]string{"/queue/a.b": "a/b", "a.b": "a/b", "": "", "/queue": ""} {
		if got := address(d); got != want {
			t.Errorf("%q: %q, want %q", d, got, want)
		}
	}
}

func TestErrorsSayWhatCanHelp(t *testing.T) {
	for text, want := range map[string]bridge.Class{
		"User me is not authorized to write to: queue://x": bridge.Configuration, "AMQ339001: Destination does not exist: strict.x": bridge.Configuration,
		"Max frame size exceeds": bridge.Rejected, "java.lang.NullPointerException": bridge.Doubtful,
	} {
		f := &client.Frame{}
		f.Set("message", text)
		if err := verdict(f); err.Class != want {
			t.Errorf("%s: %v", text, err.Class)
		}
	}
}

func TestMistakes(t *testing.T) {
	c := bridge.Config{Name: "b", Kind: "stomp", URLs: []string{"stomp://h"}, Up: bridge.Up{Filters: []message.Filter{"#"}}, Options: map[string]string{"destination": "stack", "prefetch": "1001", "keep_alive": "0"}}
	full := c.WithDefaults()
	got := map[string]bool{}
	full.Check([]bridge.Kind{Kind()}, func(key, _ string, _ ...any) { got[key] = true })
	for _, key := range []string{"up.to", "options.destination", "options.prefetch", "options.keep_alive"} {
		if !got[key] {
			t.Errorf("%s passes", key)
		}
	}
}
