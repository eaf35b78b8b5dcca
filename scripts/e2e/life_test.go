package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestJavaScriptClient delivers to the `ws` package of npm.
func TestJavaScriptClient(t *testing.T) {
	if _, err := os.Stat("ws/node_modules/ws"); err != nil {
		cannot(t, "the npm package ws is not installed; scripts/setup does it")
	}
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	var ids []string
	for i := range 5 {
		ids = append(ids, app.publish(t, "device/lamp1/in/set", fmt.Sprintf(`{"n":%d,"s":"你好"}`, i), "Content-Type", "application/json").ID)
	}
	out, err := exec.Command("node", "ws/listen.js", "ws://"+g.addr+"/v1/ws", "lamp1", tok, "5").CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 6 || !strings.Contains(lines[0], `"protocol":"edgepost.v1.json"`) {
		t.Fatalf("node printed\n%s", out)
	}
	for i, id := range ids {
		if !strings.Contains(lines[i+1], `"`+id+`"`) || !strings.Contains(lines[i+1], fmt.Sprintf(`"data":{"n":%d,"s":"你好"}`, i)) {
			t.Errorf("line %d is %s, want %s", i, lines[i+1], id)
		}
		within(t, 5*time.Second, id+" is not delivered", func() bool { return app.trace(t, id)["device/lamp1"].State == "delivered" })
	}
}

// TestTraceSaysWhere follows one message: it waits with a reason, is sent, is delivered.
func TestTraceSaysWhere(t *testing.T) {
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	s := app.publish(t, "device/lamp1/in/set", "on")
	if s.Subscriptions != 1 {
		t.Errorf("it matched %d subscriptions, want 1", s.Subscriptions)
	}
	where := func() place { return app.trace(t, s.ID)["device/lamp1"] }
	if p := where(); p.State != "waiting" || !strings.Contains(p.Reason, "offline") {
		t.Errorf("offline, the trace says %+v", p)
	}
	link := g.mustDial("lamp1", tok)
	m := link.msg(t)
	if m.ID != s.ID || m.Attempt != 1 || m.From != "app" || m.payload() != "on" {
		t.Errorf("received %+v", m)
	}
	if p := where(); p.State != "sent" || p.Attempt != 1 {
		t.Errorf("before the ack, the trace says %+v", p)
	}
	link.ack(t, m.Seq)
	within(t, 5*time.Second, "not delivered", func() bool { return where().State == "delivered" })
	if out := g.must(nil, "trace", s.ID); !strings.Contains(out, "delivered") || !strings.Contains(out, "device/lamp1") {
		t.Errorf("edgepost trace printed\n%s", out)
	}
}

func TestDeadLetterAndRequeue(t *testing.T) {
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	s := app.publish(t, "device/lamp1/in/set", "boom")
	link := g.mustDial("lamp1", tok)
	m := link.msg(t)
	link.send(map[string]any{"nack": map[string]any{"sub": 0, "seq": m.Seq, "reason": "cannot boom", "reject": true}})
	within(t, 5*time.Second, "not dead", func() bool { return app.trace(t, s.ID)["device/lamp1"].State == "dead" })
	app.publish(t, "a", "x") // the settlement rides in its frame, so from here on the dead letter survives
	g.kill()
	g.start()
	type letter struct {
		Entry        uint64
		Subscription string
		Reason       string
		Message      delivery
	}
	var found letter
	within(t, 5*time.Second, "no dead letter", func() bool {
		for line := range strings.Lines(g.must(nil, "dead", "list", "-json")) {
			if err := json.Unmarshal([]byte(line), &found); err != nil {
				t.Fatalf("dead list printed %q: %v", line, err)
			}
		}
		return found.Entry != 0
	})
	if found.Message.ID != s.ID || found.Subscription != "device/lamp1" || !strings.Contains(found.Reason, "cannot boom") {
		t.Errorf("the dead letter is %+v", found)
	}
	entry := fmt.Sprint(found.Entry)
	if out := g.must(nil, "dead", "show", entry); !strings.Contains(out, "cannot boom") {
		t.Errorf("dead show printed\n%s", out)
	}
	link = g.mustDial("lamp1", tok)
	g.must(nil, "dead", "requeue", entry)
	again := link.msg(t)
	if again.ID != s.ID || again.Seq == m.Seq || again.payload() != "boom" {
		t.Errorf("requeued, it came as %+v; want the id %s and a new seq", again, s.ID)
	}
	link.ack(t, again.Seq)
	within(t, 5*time.Second, "not delivered", func() bool { return app.trace(t, s.ID)["device/lamp1"].State == "delivered" })
	if r := g.run("dead", "requeue", entry); r.code != 4 {
		t.Errorf("requeued twice: exit %d, %s", r.code, r.errout)
	}
}

func TestTooManyAttempts(t *testing.T) {
	g := startGateway(t, "[delivery]\nmax_attempts = 3\nbackoff_base = \"10ms\"\n")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	s := app.publish(t, "device/lamp1/in/set", "x")
	link := g.mustDial("lamp1", tok)
	for attempt := 1; attempt <= 3; attempt++ {
		m := link.msg(t)
		if m.ID != s.ID || m.Attempt != attempt {
			t.Fatalf("attempt %d came as %+v", attempt, m)
		}
		link.send(map[string]any{"nack": map[string]any{"sub": 0, "seq": m.Seq, "reason": "busy"}})
	}
	within(t, 5*time.Second, "not dead", func() bool { return app.trace(t, s.ID)["device/lamp1"].State == "dead" })
	if p := app.trace(t, s.ID)["device/lamp1"]; p.Reason == "" || p.Attempt != 3 {
		t.Errorf("the trace says %+v", p)
	}
}

func TestExpiryPriorityCancel(t *testing.T) {
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	const topic = "device/lamp1/in/set"
	short := app.publish(t, topic, "short", "Message-TTL", "1")
	normal := app.publish(t, topic, "normal")
	gone := app.publish(t, topic, "gone")
	urgent := app.publish(t, topic, "urgent", "Message-Priority", "9")
	var c struct{ Cancelled int }
	app.want(t, 200, &c, http.MethodDelete, "/v1/messages/"+gone.ID, nil)
	if c.Cancelled != 1 {
		t.Errorf("cancelled at %d subscriptions, want 1", c.Cancelled)
	}
	g.kill() // all of it is durable
	g.start()
	within(t, 10*time.Second, "not expired", func() bool { return app.trace(t, short.ID)["device/lamp1"].State == "expired" })
	if p := app.trace(t, gone.ID)["device/lamp1"]; p.State != "cancelled" {
		t.Errorf("cancelled, the trace says %+v", p)
	}
	link := g.mustDial("lamp1", tok)
	for _, want := range []stored{urgent, normal} {
		m := link.msg(t)
		if m.ID != want.ID {
			t.Errorf("received %s, want %s", m.payload(), want.ID)
		}
		link.ack(t, m.Seq)
	}
	if f, err := link.read(300 * time.Millisecond); err == nil {
		t.Errorf("then came %s", show(f))
	}
}

func TestDelay(t *testing.T) {
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	began := time.Now()
	late := app.publish(t, "device/lamp1/in/set", "late", "Message-Delay", "2")
	if p := app.trace(t, late.ID)[""]; p.State != "waiting" || !strings.Contains(p.Reason, "delay") {
		t.Errorf("the trace says %+v", p)
	}
	g.kill()
	g.start()
	now := app.publish(t, "device/lamp1/in/set", "now")
	link := g.mustDial("lamp1", tok)
	if m := link.msg(t); m.ID != now.ID {
		t.Errorf("first came %+v", m)
	} else {
		link.ack(t, m.Seq)
	}
	m := link.msg(t)
	if took := time.Since(began); m.ID != late.ID || took < 1900*time.Millisecond || took > 8*time.Second {
		t.Errorf("after %v came %+v, want %s after 2 s", took, m, late.ID)
	}
}

func TestHistoryOfLastMessages(t *testing.T) {
	g := startGateway(t, "[storage]\nretain_age = \"1s\"\n[[history]]\nname = \"alarms\"\nfilter = \"alarm/#\"\nlast = 2\n")
	app := g.api(g.addFreeKey())
	for i := range 5 {
		app.publish(t, "alarm/door", fmt.Sprint("door", i))
		app.publish(t, "alarm/roof", fmt.Sprint("roof", i))
	}
	g.kill()
	g.start()
	var p struct{ Messages []delivery }
	app.want(t, 200, &p, http.MethodGet, "/v1/messages?topic=alarm/%23", nil)
	var got []string
	for _, m := range p.Messages {
		got = append(got, m.payload())
	}
	if text := strings.Join(got, " "); !strings.HasSuffix(text, "door3 roof3 door4 roof4") {
		t.Errorf("history holds %s", text)
	}
}

func TestWaitReceiptVolatile(t *testing.T) {
	g := startGateway(t, "")
	tok, appTok := g.addDevice("lamp1"), g.addFreeKey()
	app := g.api(appTok)
	lamp, listener := g.mustDial("lamp1", tok), g.mustDial("", appTok)
	if f := listener.ask(t, 2, map[string]any{"sub": map[string]any{"topic": "$edge/receipt/app/#"}}); f.OK == nil {
		t.Fatalf("sub was answered by %s", show(f))
	}
	go func() {
		for {
			f, err := lamp.read(20 * time.Second)
			if err != nil {
				return
			}
			if f.Msg != nil && f.Msg.Seq > 0 {
				lamp.send(map[string]any{"ack": map[string]any{"sub": 0, "upto": f.Msg.Seq}})
			}
		}
	}()
	var s stored
	app.want(t, 201, &s, http.MethodPost, "/v1/publish/device/lamp1/in/set?wait=delivered&timeout=10s", []byte("x"), "Message-Receipt", "each")
	if len(s.States) != 1 || s.States[0].State != "delivered" || s.States[0].Subscription != "device/lamp1" {
		t.Errorf("wait=delivered answered %+v", s)
	}
	within(t, 10*time.Second, "no receipt says delivered", func() bool {
		m := listener.msg(t)
		return m.Topic == "$edge/receipt/app/"+s.ID && strings.Contains(m.payload(), "delivered")
	})
	app.want(t, 202, nil, http.MethodPost, "/v1/publish/device/lamp1/in/now", []byte("x"), "Message-Durability", "volatile")
	app.refused(t, 400, "bad-request", http.MethodPost, "/v1/publish/a", []byte("x"), "Message-Durability", "volatile", "Message-Delay", "5")
}

// TestRevokedAtOnce: a removed device is cut off, and the newest link to an inbox wins.
func TestRevokedAtOnce(t *testing.T) {
	g := startGateway(t, "")
	tok := g.addDevice("lamp1")
	older := g.mustDial("lamp1", tok)
	newer := g.mustDial("lamp1", tok)
	older.wantEnd(t, 4010)
	g.must(nil, "device", "rm", "lamp1")
	newer.wantEnd(t, 4011)
	if _, err := g.dial("lamp1", tok); err == nil {
		t.Error("a removed device connected")
	}
}

// TestClosedByDefault: nothing is open without a token, unless -anonymous says so, aloud.
func TestClosedByDefault(t *testing.T) {
	g := startGateway(t, "")
	for _, path := range []string{"/v1/messages?topic=a", "/v1/status", "/v1/devices", "/metrics", "/v1/messages/aaaaaaaa-1", "/v1/subscriptions"} {
		g.api("").refused(t, 401, "unauthorized", http.MethodGet, path, nil)
	}
	g.stop()
	g.args = append(g.args, "-anonymous")
	g.start()
	g.api("").publish(t, "a", "x")
	if out := g.out.String(); !strings.Contains(strings.ToLower(out), "anonymous") {
		t.Errorf("serve -anonymous does not warn:\n%s", out)
	}
	if out := g.must(nil, "status", "-json"); !strings.Contains(out, `"anonymous":true`) {
		t.Errorf("status does not say so: %s", out)
	}
	g.api("").refused(t, 403, "forbidden", http.MethodGet, "/v1/devices", nil)
}
