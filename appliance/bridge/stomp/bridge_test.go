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
	"testing/synctest"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// broker is the other end of a connection.
type broker struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// expect reads a frame.
func (b *broker) expect(command string) *frame {
	b.t.Helper()
	f, err := read(b.r)
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
			go func() { defer c.Close(); serve(&broker{t, c, bufio.NewReaderSize(c, maxLine+1)}) }()
		}
	}()
	return &url.URL{Scheme: "stomp", Host: l.Addr().String()}
}

func dial(t *testing.T, c *bridge.Config, to bridge.Target) (bridge.Conn, error) {
	t.Helper()
	d, err := open(c, mapping.Here{Gateway: "gw1"})
	if err != nil {
		t.Fatal(err)
	}
	return d.Dial(t.Context(), to)
}

// inlet gathers what comes.
type inlet chan bridge.Incoming

func (n inlet) Take(in bridge.Incoming)  { n <- in }
func (n inlet) Position(_ uint32) []byte { return nil }

func TestSendIsConfirmedByReceiptsAndEndsWithAnError(t *testing.T) {
	u := listen(t, func(b *broker) {
		if f := b.expect("CONNECT"); f.get("accept-version") != "1.2" || f.get("host") != "/" || f.get("login") != "me" || f.get("heart-beat") != "30000,30000" {
			t.Errorf("%+v", f)
		}
		b.say("CONNECTED\nversion:1.2\nserver:ActiveMQ/5.17\nheart-beat:0,0\n\n\x00\n")
		first := b.expect("SEND")
		for name, want := range map[string]string{
			"destination": "/queue/ep.up.d1", "persistent": "true", "priority": "6", "amq-msg-type": "text", "JMSXGroupID": "d1", "correlation-id": "c1",
			"cloudEvents_id": "1", "reply-to": "/topic/device.d1.in.r", "content-type": "text/plain",
		} {
			if got := first.get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if ms := first.get("expires"); len(ms) != 13 {
			t.Errorf("expires: %q", ms)
		}
		second, third := b.expect("SEND"), b.expect("SEND")
		if second.get("amq-msg-type") != "bytes" || second.get("epid") != "2" || second.get("receipt") == "mine" || second.get("transaction") != "" || second.get("color") != "red" {
			t.Errorf("%+v", second)
		}
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", third.get("receipt"))
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", first.get("receipt"))
		b.say("RECEIPT\nreceipt-id:77\n\n\x00")
		b.say("ERROR\nreceipt-id:%s\nmessage:too large\n\n\x00", second.get("receipt"))
	})
	file := t.TempDir() + "/none"
	if _, err := dial(t, &bridge.Config{PasswordFile: file}, bridge.Target{URL: u, Up: true}); err == nil || bridge.Classify(err).Class != bridge.Configuration {
		t.Error(err)
	}
	conn, err := dial(t, &bridge.Config{Username: "me"}, bridge.Target{URL: u, Up: true})
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]chan error, 3)
	out := func(i int, w bridge.Wire) *bridge.Outgoing {
		answers[i] = make(chan error, 1)
		return bridge.NewOutgoing(w, func(err error) { answers[i] <- err })
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
	if err := conn.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "too large") || bridge.Classify(err).Class != bridge.Temporary {
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
		if f := b.expect("CONNECT"); f.get("client-id") != "edgepost-gw1-b" {
			t.Errorf("%+v", f)
		}
		b.say("CONNECTED\nversion:1.2\nserver:RabbitMQ/3.10\nheart-beat:0,0\n\n\x00\n")
		f := b.expect("SUBSCRIBE")
		if f.get("ack") != "client-individual" || f.get("destination") != "/topic/cmd.d1" || f.get("prefetch-count") != "64" || f.get("durable") != "true" || f.get("id") != "edgepost-gw1-b-mine-0" {
			t.Errorf("%+v", f)
		}
		b.say("MESSAGE\nack:a1\ndestination:/topic/cmd.d1\ncloudEvents_specversion:1.0\ncloudEvents_id:7\ncloudEvents_id:8\nother:x\npriority:9\n\nearly\x00")
		b.say("RECEIPT\nreceipt-id:%s\n\n\x00", f.get("receipt"))
		b.say("MESSAGE\nack:a2\ncontent-length:%d\n\n%s\x00", maxBody+1, strings.Repeat("x", maxBody+1))
		b.say("MESSAGE\nack:a3\ndestination:/topic/cmd.d2\namqp-message-id:m3\nx-death:1\ncolor:red\ncontent-length:1\n\nz\x00")
		for range 3 {
			f, err := read(b.r)
			if err != nil {
				return
			}
			done <- f.command + " " + f.get("id") + " " + f.get("requeue")
		}
		b.say("ERROR\nmessage:access_refused\n\n\x00")
	})
	c := &bridge.Config{Name: "b", Options: map[string]string{"durable": "mine"}, Down: bridge.Down{From: []string{"/topic/cmd.d1"}}}
	in := make(inlet, 10)
	conn, err := dial(t, c, bridge.Target{URL: u, Inlet: in})
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error)
	go func() { end <- conn.Serve(t.Context()) }()
	first := <-in
	if first.Address != "cmd/d1" || !first.Event || len(first.Headers) != 2 || first.Headers[1].Value != "7" || string(first.Body) != "early" || first.Priority != 9 || !first.Text {
		t.Errorf("%+v", first.Wire)
	}
	if got := <-done; got != "NACK a2 false" {
		t.Error(got)
	}
	second := <-in
	if second.Event || second.ID != "m3" || len(second.Headers) != 1 || second.Headers[0].Key != "color" || second.Text {
		t.Errorf("%+v", second.Wire)
	}
	second.Done(fmt.Errorf("not ours"))
	if got := <-done; got != "NACK a3 false" {
		t.Error(got)
	}
	first.Done(nil)
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
		_, err := dial(t, &bridge.Config{Username: "me"}, bridge.Target{URL: u, Up: true})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "x.y.z") {
			t.Errorf("%q: %v", answer, err)
		}
	}
	if _, err := dial(t, &bridge.Config{Username: "a\nb"}, bridge.Target{URL: listen(t, func(*broker) {}), Up: true}); err == nil || !strings.Contains(err.Error(), "login") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d, err := open(&bridge.Config{}, mapping.Here{})
	if err != nil {
		t.Fatal(err)
	}
	u := listen(t, func(b *broker) { b.expect("CONNECT"); cancel(); _, _ = b.r.ReadByte() })
	if _, err := d.Dial(ctx, bridge.Target{URL: u, Up: true}); err == nil {
		t.Error("a broker that never answers is connected")
	}
}

func TestHeartBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &session{net: ours}
		s.r = bufio.NewReader(s)
		s.agree(&frame{headers: []header{{"heart-beat", "10000,4000"}}}, 8*time.Second)
		if s.silent != 21*time.Second || s.every != 8*time.Second {
			t.Fatal(s.silent, s.every)
		}
		go func() { _ = s.beat(t.Context()) }()
		begin := time.Now()
		b := make([]byte, 1)
		for range 3 {
			if _, err := theirs.Read(b); err != nil || b[0] != '\n' {
				t.Fatal(b, err)
			}
		}
		if d := time.Since(begin); d > 3*s.every {
			t.Errorf("three beats in %v", d)
		}
		go func() { _, _ = theirs.Write([]byte("\n\n")) }()
		go func() { // the broker is there, and then says nothing
			for {
				if _, err := theirs.Read(b); err != nil {
					return
				}
			}
		}()
		begin = time.Now()
		if _, err := read(s.r); err == nil || !strings.Contains(err.Error(), "not even a heart-beat") {
			t.Error(err)
		}
		if d := time.Since(begin); d != s.silent {
			t.Errorf("noticed after %v", d)
		}
		s.close()
		theirs.Close()
	})
	s := &session{}
	s.agree(&frame{}, time.Second)
	if s.silent != 0 || s.every != 0 {
		t.Error("heart-beats with a broker that has none")
	}
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
		if err := verdict(&frame{headers: []header{{"message", text}}}); err.Class != want {
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
