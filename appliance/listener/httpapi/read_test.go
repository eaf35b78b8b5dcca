package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

func TestHistory(t *testing.T) {
	s := start(t)
	w := s.send("GET", "/v1/messages?topic=a/%23&after=k3f9w2xq-40&limit=5&wait=30s", "")
	if got := w.Header().Get("Link"); got != `</v1/messages?after=k3f9w2xq-41&limit=5&topic=a%2F%23&wait=30s>; rel="next"` {
		t.Errorf("Link %q", got)
	}
	if want := (courier.Query{Filter: "a/#", After: mid(40), Limit: 5, Wait: 30 * time.Second}); s.query != want {
		t.Errorf("asked %+v, want %+v", s.query, want)
	}
	s.page.Gap = true
	w = s.send("GET", "/v1/messages?topic=a", "", "Accept: text/html, application/cloudevents-batch+json;q=0.9, application/json")
	var events []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &events); err != nil || len(events) != 1 || events[0]["source"] != "/edgepost/ep-test" || w.Header().Get("Message-Gap") != "true" ||
		w.Header().Get("Content-Type") != "application/cloudevents-batch+json" {
		t.Errorf("%v %v %s", err, w.Header(), w.Body)
	}
	if w = s.send("GET", "/v1/messages?topic=a", "", "Accept: application/cloudevents-batch+json;q=0, */*"); !strings.HasSuffix(w.Body.String(), "\"gap\":true}\n") {
		t.Errorf("%s", w.Body)
	}
	problem(t, s.send("GET", "/v1/messages?topic=a", "", "Accept: text/html"), message.CodeBadMediaType)
	s.page = courier.Page{}
	w = s.send("GET", "/v1/messages?topic=a", "")
	if strings.TrimSpace(w.Body.String()) != `{"messages":[],"gap":false}` || w.Header().Get("Link") != "" {
		t.Errorf("an empty log: %v %s", w.Header(), w.Body)
	}
	for i := range 300 { // several parts
		m := message.New(message.Topic(fmt.Sprintf("t/%d", i)), []byte(strings.Repeat("x", 500)))
		m.ID, m.Seq = mid(uint64(i+1)), uint64(i+1)
		s.page.Messages = append(s.page.Messages, m)
	}
	var page struct {
		Messages []struct{ ID, Text string }
	}
	w = s.send("GET", "/v1/messages?topic=a&limit=1000", "")
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Messages) != 300 || page.Messages[299].ID != "k3f9w2xq-300" {
		t.Errorf("%v, %d messages", err, len(page.Messages))
	}
}

func TestLongPollEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.page = courier.Page{}
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		finished := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(finished)
			s.h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/messages?topic=a&wait=30s", nil))
		}()
		synctest.Wait()
		cancel()
		<-finished
		// When it is not the client but the appliance that goes, an empty 200 would be a lie.
		if problem(t, w, message.CodeUnavailable); time.Since(began) != 0 || s.log.Len() != 0 || w.Header().Get("Retry-After") == "" {
			t.Errorf("after %v: logged %q", time.Since(began), s.log)
		}
	})
}

func TestTraceWithoutMessage(t *testing.T) {
	s := start(t)
	s.trc = &message.Trace{Partial: true}
	if w := s.send("GET", "/v1/messages/k3f9w2xq-1", ""); strings.TrimSpace(w.Body.String()) != `{"states":[],"partial":true}` {
		t.Errorf("%s", w.Body)
	}
}

func TestAcks(t *testing.T) {
	s := start(t)
	w := s.send("POST", "/v1/devices/lamp1/acks", `{"upto":"k3f9w2xq-5","ids":["k3f9w2xq-7","k3f9w2xq-9"],"nack":[{"id":"k3f9w2xq-3","delay_ms":500,"reason":"busy","reject":true}]}`)
	want := courier.Acks{UpTo: mid(5), IDs: []message.ID{mid(7), mid(9)}, Nacks: []courier.NackByID{{ID: mid(3), Delay: 500 * time.Millisecond, Reason: "busy", Reject: true}}}
	if w.Code != 200 || !reflect.DeepEqual(s.acks, want) {
		t.Errorf("%d %s, asked %+v", w.Code, w.Body, s.acks)
	}
	s.acked = courier.AckResult{Settled: 1, Unknown: []message.ID{mid(9)}}
	if w := s.send("POST", "/v1/subscriptions/jobs/acks", `{"ids":["k3f9w2xq-7","k3f9w2xq-9"]}`); strings.TrimSpace(w.Body.String()) != `{"settled":1,"unknown":["k3f9w2xq-9"]}` {
		t.Errorf("%s", w.Body)
	}
	s.acked = courier.AckResult{Unknown: []message.ID{mid(9)}}
	problem(t, s.send("POST", "/v1/devices/lamp1/acks", `{"ids":["k3f9w2xq-9"]}`), message.CodeNotDelivered)
	for body, code := range map[string]string{
		`{}`: message.CodeBadRequest, `{"ids":[]}`: message.CodeBadRequest, `{"upto":"7"}`: message.CodeBadID, `{"ids":["k3f9w2xq-7",""]}`: message.CodeBadID,
		`{"nack":[{}]}`: message.CodeBadID, `{"nack":[{"id":"k3f9w2xq-1","delay_ms":-1}]}`: message.CodeBadRequest,
		`{"nack":[{"id":"k3f9w2xq-1","delay_ms":1.5}]}`:                                    message.CodeBadJSON,
		`{"nack":[{"id":"k3f9w2xq-1","delay_ms":999999999999999}]}`:                        message.CodeBadRequest,
		`{"nack":[{"id":"k3f9w2xq-1","reason":"` + strings.Repeat("x", 257) + `"}]}`:       message.CodeBadRequest,
		`{"ids":[` + strings.TrimSuffix(strings.Repeat(`"k3f9w2xq-7",`, 1001), ",") + `]}`: message.CodeTooLarge,
		`{"upto":7}`: message.CodeBadJSON, `{"seqs":[1]}`: message.CodeBadJSON, `{"nack":[{"id":"k3f9w2xq-1","delay":1}]}`: message.CodeBadJSON,
	} {
		problem(t, s.send("POST", "/v1/devices/lamp1/acks", body), code)
	}
}

func TestStrictJSON(t *testing.T) {
	s := start(t)
	for body, want := range map[string]string{
		``:                    "empty",
		`  `:                  "empty",
		`{`:                   "not JSON",
		`{"id":"a"`:           "not JSON",
		`{"id":"a"} {}`:       "goes on",
		`{"id":"a"}x`:         "not JSON",
		`{"id":"a","id":"b"}`: `"id" is there twice`,
		`{"id":"a","ID":"b"}`: `"ID" is there twice`,
		`{"id":"a","rules":{"publish":[],"publish":[]}}`: `"publish" is there twice`,
		`{"id":"a","lable":"x"}`:                         `"lable"`,
		`{"id":"a","rules":{"pub":[]}}`:                  `"pub"`,
		`{"id":7}`:                                       `"id" has a number where a string belongs`,
		`{"id":"a","groups":"hall"}`:                     `"groups" has a string where an array belongs`,
		`{"id":"a","rules":[]}`:                          `"rules" has a array where an object belongs`,
		`[]`:                                             "the body has a array where an object belongs",
		strings.Repeat("[", 100):                         "deeper",
		`{"id":"a","rules":` + strings.Repeat(`{"x":`, 30) + `1` + strings.Repeat(`}`, 31): "deeper",
	} {
		if p := problem(t, s.send("POST", "/v1/devices", body), message.CodeBadJSON); !strings.Contains(p.Detail, want) {
			t.Errorf("%.60s: %q, want it to say %q", body, p.Detail, want)
		}
	}
	problem(t, s.send("POST", "/v1/devices", "{\"id\":\"\xff\"}"), message.CodeBadUTF8)
	problem(t, s.send("POST", "/v1/devices", "<id/>", "Content-Type: application/xml"), message.CodeBadMediaType)
	for _, ct := range []string{"application/json; charset=utf-8", "application/x-www-form-urlencoded", "application/merge-patch+json"} {
		if w := s.send("POST", "/v1/devices", ` {"id":"a","groups":["a","a"],"rules":{"publish":["x","x"]}} `, "Content-Type: "+ct); w.Code != 201 {
			t.Errorf("%s: %d %s", ct, w.Code, w.Body)
		}
	}
	problem(t, s.send("PUT", "/v1/devices/lamp1", `{"id":"lamp2"}`), message.CodeBadRequest)
}

func TestPutSubscription(t *testing.T) {
	s := start(t)
	s.created = true
	w := s.send("PUT", "/v1/subscriptions/jobs", `{"filters":["a/#","b/+"],"after":"k3f9w2xq-7","ttl":"1h","max_attempts":3,"window":10}`)
	want := courier.NamedSpec{Filters: []message.Filter{"a/#", "b/+"}, After: mid(7), TTL: time.Hour, MaxAttempts: 3, Window: 10}
	if w.Code != 201 || w.Header().Get("Location") != "/v1/subscriptions/jobs" || !reflect.DeepEqual(s.spec, want) {
		t.Errorf("%d %v, asked %+v", w.Code, w.Header(), s.spec)
	}
	s.send("PUT", "/v1/subscriptions/jobs", `{"filters":["a"],"ttl":90}`)
	if s.spec.TTL != 90*time.Second || s.spec.Window != 0 || !s.spec.After.IsZero() {
		t.Errorf("asked %+v", s.spec)
	}
	for body, code := range map[string]string{
		`{"filters":[]}`: message.CodeBadFilter, `{}`: message.CodeBadFilter, `{"filters":["a#"]}`: message.CodeBadFilter, `{"filters":["a\u0000"]}`: message.CodeBadFilter,
		`{"filters":["a"],"ttl":0}`: message.CodeBadRequest, `{"filters":["a"],"ttl":-5}`: message.CodeBadRequest, `{"filters":["a"],"ttl":1.5}`: message.CodeBadRequest,
		`{"filters":["a"],"ttl":true}`: message.CodeBadRequest, `{"filters":["a"],"ttl":"x"}`: message.CodeBadRequest,
		`{"filters":["a"],"window":0}`: message.CodeBadRequest, `{"filters":["a"],"window":1001}`: message.CodeBadRequest, `{"filters":["a"],"max_attempts":-1}`: message.CodeBadRequest,
		`{"filters":["a"],"window":1e99}`: message.CodeBadJSON, `{"filters":["a"],"after":"x"}`: message.CodeBadID,
		`{"filters":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 65), ",") + `]}`: message.CodeBadFilter,
	} {
		problem(t, s.send("PUT", "/v1/subscriptions/jobs", body), code)
	}
	problem(t, s.send("PUT", "/v1/subscriptions/a%2Fb", `{"filters":["a"]}`), message.CodeBadName)
}

func TestRewind(t *testing.T) {
	s := start(t)
	if s.send("POST", "/v1/subscriptions/jobs/rewind", `{"after":"oldest"}`); s.last() != "Rewind jobs -0" {
		t.Errorf("asked %q", s.last())
	}
	for _, body := range []string{`{}`, `{"after":""}`, `{"after":"newest"}`} {
		problem(t, s.send("POST", "/v1/subscriptions/jobs/rewind", body), message.CodeBadID)
	}
}

// slowConn serves one connection of a real server over a pipe.
func slowConn(t *testing.T, s *harness) net.Conn {
	t.Helper()
	l := &oneListener{c: make(chan net.Conn, 1), done: make(chan struct{})}
	srv := &http.Server{Handler: s.h}
	finished := make(chan struct{})
	go func() { defer close(finished); _ = srv.Serve(l) }()
	client, server := net.Pipe()
	l.c <- server
	t.Cleanup(func() { client.Close(); srv.Close(); <-finished })
	return client
}

type oneListener struct {
	c    chan net.Conn
	done chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.c:
		return c, nil
	case <-l.done:
		return nil, os.ErrClosed
	}
}
func (l *oneListener) Close() error   { close(l.done); return nil }
func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a body that never comes
		s := start(t)
		c := slowConn(t, s)
		began := time.Now()
		fmt.Fprintf(c, "POST /v1/publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 408 ") || time.Since(began) != defaultBodyTimeout {
			t.Errorf("after %v: %v %.100s", time.Since(began), err, b[:n])
		}
	})
	synctest.Test(t, func(t *testing.T) { // the same where nobody wants the body
		for _, target := range []string{"POST /v1/nothing", "POST /v1/publish/a", "GET /v1/messages?topic=a", "DELETE /v1/tickets"} {
			s := start(t)
			s.authErr = message.Problemf(message.CodeUnauthorized, "no")
			c := slowConn(t, s)
			began := time.Now()
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", target)
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 40") || time.Since(began) > defaultBodyTimeout {
				t.Errorf("%s: after %v: %v %.100s", target, time.Since(began), err, b[:n])
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // an answer that is never read
		s := start(t)
		s.page.Messages[0].Payload = []byte(`"` + strings.Repeat("x", 200_000) + `"`)
		c := slowConn(t, s)
		began := time.Now()
		fmt.Fprintf(c, "GET /v1/messages?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(2 * defaultWriteTimeout)
		b := make([]byte, 1<<20)
		total := 0
		for {
			n, err := c.Read(b)
			if total += n; err != nil {
				break
			}
		}
		if total >= 200_000 {
			t.Errorf("the whole answer still arrived after %v", time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) { // a deadline of one answer must not hit the next request
		s := start(t)
		c := slowConn(t, s)
		b := make([]byte, 4096)
		for range 3 {
			fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200 ") {
				t.Fatalf("%v %.100s", err, b[:n])
			}
			time.Sleep(10 * time.Minute)
		}
		fmt.Fprintf(c, "POST /v1/publish/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
		if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 100 ") {
			t.Fatalf("%v %.100s", err, b[:n])
		}
	})
}
