package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// curl runs the real curl and returns what it printed; -sS and a time limit are added.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		cannot(t, "curl is not installed")
	}
	out, err := exec.Command("curl", append([]string{"-sS", "--max-time", "20"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestCurl publishes over HTTP/1.1 and over HTTP/2 without TLS.
func TestCurl(t *testing.T) {
	g := startGateway(t, "")
	auth := "Authorization: Bearer " + g.addFreeKey()
	for flag, want := range map[string]string{"--http1.1": "1.1 201", "--http2-prior-knowledge": "2 201"} {
		out := curl(t, flag, "-H", auth, "-d", "on", "-w", "\n%{http_version} %{http_code}", "http://"+g.addr+"/v1/publish/lamp/set")
		if !strings.HasSuffix(out, "\n"+want) || !strings.Contains(out, `"id":"`) {
			t.Errorf("curl %s printed %q, want it to end with %q", flag, out, want)
		}
	}
	out := curl(t, "--http2-prior-knowledge", "-H", auth, "http://"+g.addr+"/v1/messages?topic=lamp/%23")
	var page struct{ Messages []delivery }
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Messages) != 2 {
		t.Errorf("history: %v in %s", err, out)
	}
	if out := curl(t, "-w", " %{http_code}", "-o", "/dev/null", "http://"+g.addr+"/metrics"); out != " 401" {
		t.Errorf("/metrics without a token: %s", out)
	}
	if out := curl(t, "-H", auth, "http://"+g.addr+"/metrics"); !strings.Contains(out, "# TYPE edgepost_") {
		t.Errorf("/metrics: %.300s", out)
	}
	if out := curl(t, "http://"+g.addr+"/"); !strings.Contains(out, "edgepost") || strings.Contains(out, "http://cdn") {
		t.Errorf("the page: %.300s", out)
	}
	if out := curl(t, "http://"+g.addr+"/openapi.yaml"); !strings.HasPrefix(out, "openapi: 3.1") {
		t.Errorf("/openapi.yaml: %.100s", out)
	}
}

// event is one server-sent event.
type event struct{ name, id, data string }

// stream runs curl -N on an event stream; close the returned function's process by calling it.
func (g *gateway) stream(t *testing.T, tok, query string, headers ...string) (<-chan event, func()) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		cannot(t, "curl is not installed")
	}
	ctx, cancel := context.WithCancel(context.Background())
	args := []string{"-sSN", "--max-time", "30", "-H", "Authorization: Bearer " + tok}
	for _, h := range headers {
		args = append(args, "-H", h)
	}
	cmd := exec.CommandContext(ctx, "curl", append(args, "http://"+g.addr+"/v1/stream?"+query)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := make(chan event, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		readEvents(out, events)
		cmd.Wait()
	}()
	end := func() { cancel(); <-done }
	t.Cleanup(end)
	return events, end
}

func readEvents(r io.Reader, events chan<- event) {
	var e event
	for s := bufio.NewScanner(r); s.Scan(); {
		field, value, _ := strings.Cut(s.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "":
			if e.data != "" || e.name != "" {
				events <- e
			}
			e = event{}
		}
	}
}

func nextEvent(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(15 * time.Second):
		t.Fatal("no event in 15 s")
	}
	return event{}
}

func TestStreamAndResume(t *testing.T) {
	g := startGateway(t, "")
	tok := g.addFreeKey()
	app := g.api(tok)
	before := app.publish(t, "alarm/door", "0")
	events, end := g.stream(t, tok, "topic=alarm/%23&after="+before.ID)
	var ids []string
	for _, text := range []string{"1", "2", "3"} {
		ids = append(ids, app.publish(t, "alarm/door", text, "Content-Type", "application/json").ID)
	}
	want := func(events <-chan event, i int) {
		t.Helper()
		e := nextEvent(t, events)
		var m delivery
		if err := json.Unmarshal([]byte(e.data), &m); err != nil || e.id != ids[i] || m.payload() != string(rune('1'+i)) {
			t.Errorf("event %d is %+v (%v), want id %s", i, e, err, ids[i])
		}
	}
	for i := range ids {
		want(events, i)
	}
	end()
	g.kill()
	g.start()
	events, _ = g.stream(t, tok, "topic=alarm/%23", "Last-Event-ID: "+ids[0])
	want(events, 1)
	want(events, 2)
	foreign, _ := g.stream(t, tok, "topic=alarm/%23", "Last-Event-ID: aaaaaaaa-1")
	if e := nextEvent(t, foreign); e.name != "gap" {
		t.Errorf("another epoch's position gave %+v first, want event: gap", e)
	}
	app.refused(t, 400, "bad-filter", http.MethodGet, "/v1/stream?topic=a/%23/b", nil)
	app.refused(t, 400, "bad-id", http.MethodGet, "/v1/stream?topic=a", nil, "Last-Event-ID", "4711")
	g.api("").refused(t, 401, "unauthorized", http.MethodGet, "/v1/stream?topic=a", nil)
	g.api(g.addKey("narrow", "-subscribe", "b")).refused(t, 403, "forbidden", http.MethodGet, "/v1/stream?topic=a", nil)
}

func TestLongPoll(t *testing.T) {
	g := startGateway(t, "")
	app := g.api(g.addFreeKey())
	first := app.publish(t, "a/b", "1")
	type page struct {
		Messages []delivery
		Next     string
		Gap      bool
	}
	waiting := make(chan page, 1)
	go func() {
		var p page
		res, err := app.do(http.MethodGet, "/v1/messages?topic=a/%2B&wait=20s&after="+first.ID, nil)
		if err == nil {
			err = json.Unmarshal(res.body, &p)
		}
		if err != nil {
			t.Errorf("long poll: %v", err)
		}
		waiting <- p
	}()
	select {
	case p := <-waiting:
		t.Fatalf("it did not wait: %+v", p)
	case <-time.After(200 * time.Millisecond):
	}
	second := app.publish(t, "a/b", "2")
	select {
	case p := <-waiting:
		if len(p.Messages) != 1 || p.Messages[0].ID != second.ID || p.Next != second.ID || p.Gap {
			t.Errorf("the page is %+v, want %s", p, second.ID)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the publish did not end the wait")
	}
	var p page
	app.want(t, 200, &p, http.MethodGet, "/v1/messages?topic=a/%2B&after=aaaaaaaa-1", nil)
	if !p.Gap || len(p.Messages) != 2 {
		t.Errorf("another epoch's position gave %+v, want a gap and both messages", p)
	}
}
