package httpapi

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// TestTopicIsTakenAsItWasSent: the path is neither cleaned nor redirected.
func TestTopicIsTakenAsItWasSent(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/publish/a/b":           "a/b",
		"/v1/publish//a":            "/a",
		"/v1/publish/a//b":          "a//b",
		"/v1/publish/a/":            "a/",
		"/v1/publish//":             "/",
		"/v1/publish///":            "//",
		"/v1/publish/a%2Fb":         "a/b",
		"/v1/publish/%2F":           "/",
		"/v1/publish/./a/../b":      "./a/../b",
		"/v1/publish/..":            "..",
		"/v1/publish/a%20b":         "a b",
		"/v1/publish/%E7%81%AF/x":   "灯/x",
		"/v1/publish/a%3Fb":         "a?b",
		"/v1/publish/a%25b":         "a%b",
		"/v1/publish/a%252Fb":       "a%2Fb",
		"/v1/publish/messages":      "messages",
		"/v1/publish/v1/publish/x":  "v1/publish/x",
		"/v1/publish?topic=a//b":    "a//b",
		"/v1/publish?topic=a%2Fb+c": "a/b c", // a query is a form: + is a space
		"/v1/publish?topic=/":       "/",
	} {
		s := start(t)
		w := s.send("POST", path, "x")
		if w.Code != 201 || len(s.messages) != 1 || string(s.messages[0].Topic) != want {
			t.Errorf("%s: status %d, %v, want topic %q", path, w.Code, s.messages, want)
		}
	}
	for _, path := range []string{
		"/v1/publish/", "/v1/publish?topic=", "/v1/publish", "/v1/publish/a%2Bb", "/v1/publish/%23", "/v1/publish/+/x", "/v1/publish/a%00b",
		"/v1/publish/%FF", "/v1/publish?topic=%2B", "/v1/publish?topic=%23", "/v1/publish/" + strings.Repeat("x", message.MaxTopicBytes+1),
	} {
		s := start(t)
		problem(t, s.send("POST", path, "x"), message.CodeBadTopic)
		if len(s.messages) != 0 {
			t.Errorf("%.60s was published", path)
		}
	}
	if w := start(t).send("POST", "/v1/publish/"+strings.Repeat("x", message.MaxTopicBytes), "x"); w.Code != 201 {
		t.Errorf("the longest topic: %d", w.Code)
	}
	problem(t, start(t).send("POST", "/v1/publish/a?topic=b", "x"), message.CodeBadRequest)
}

// TestTopicOverRealHTTP sends the raw request line, because clients clean paths themselves.
func TestTopicOverRealHTTP(t *testing.T) {
	s := start(t)
	srv := httptest.NewServer(s.h)
	defer srv.Close()
	for _, path := range []string{"/v1/publish//a//b/../c/", "/v1/publish/a%2F%2Fb"} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = path
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 201 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if len(s.messages) != 2 || s.messages[0].Topic != "/a//b/../c/" || s.messages[1].Topic != "a//b" {
		t.Errorf("topics %v", s.messages)
	}
}

func TestPublishHeaders(t *testing.T) {
	s := start(t)
	w := s.send("POST", "/v1/publish/a", `{"on":true}`,
		"Content-Type: application/json", "Message-Priority: 8", "Message-TTL: 90", "Message-Delay: 1h30m", "Message-Retain: true",
		"Message-Property: k=v", "Message-Property: k= two=2 ", "Message-Property: 名=值", "Message-Receipt: final", `Idempotency-Key: "a \"b\" \\ c"`)
	if w.Code != 201 || w.Header().Get("Location") != "/v1/messages/k3f9w2xq-42" || w.Header().Get("Idempotent-Replayed") != "" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	want := message.New("a", []byte(`{"on":true}`))
	want.ContentType, want.Priority, want.TTL, want.Delay, want.Retain = "application/json", 8, 90*time.Second, 90*time.Minute, true
	want.Properties = []message.Property{{Key: "k", Value: "v"}, {Key: "k", Value: " two=2 "}, {Key: "名", Value: "值"}}
	want.Receipt, want.Key = message.FinalReceipt, `a "b" \ c`
	if got := s.messages[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	s.send("POST", "/v1/publish/a", "", "Message-At: 1800000060", "Message-Receipt: true", "Message-Retain: 0", "Idempotency-Key: bare-key:1/2")
	if m := s.messages[1]; m.Delay != time.Minute || m.Receipt != message.EachReceipt || m.Retain || m.Key != "bare-key:1/2" || len(m.Payload) != 0 {
		t.Errorf("%+v", m)
	}
	s.send("POST", "/v1/publish/a", "", "Message-At: 2020-01-01T00:00:00+08:00", "Message-Receipt: none", "Message-Durability: durable")
	if m := s.messages[2]; m.Delay != 0 || m.Receipt != message.NoReceipt || m.Volatile {
		t.Errorf("a time that has passed is now: %+v", m)
	}
}

func TestPublishHeadersRefused(t *testing.T) {
	for _, h := range []string{
		"Message-Priority: 10", "Message-Priority: -1", "Message-Priority: ", "Message-Priority: high", "Message-Priority: 4.0", "Message-Priority: 300",
		"Message-TTL: 0", "Message-TTL: -1", "Message-TTL: 0s", "Message-TTL: ten", "Message-TTL: 99999999999999999999", "Message-TTL: 1e3", "Message-TTL: 315360001",
		"Message-Delay: -1s", "Message-Delay: 90000h", "Message-Delay: 5y",
		"Message-At: tomorrow", "Message-At: 2026-11-23", "Message-At: 99999999999",
		"Message-Retain: yes", "Message-Retain: ", "Message-Durability: maybe", "Message-Receipt: all",
		"Message-Property: novalue", "Message-Property: =v", "Message-Property: \tk\x7f=v", "Message-Property: k=\xff",
		"Message-Prority: 3", "Message-Topic: a",
		`Idempotency-Key: "open`, `Idempotency-Key: ""`, `Idempotency-Key: "a" b`, `Idempotency-Key: "a\b"`, "Idempotency-Key: ", "Idempotency-Key: a,b", "Idempotency-Key: ключ", `Idempotency-Key: "\`,
	} {
		s := start(t)
		w := s.send("POST", "/v1/publish/a", "x", h)
		if w.Code != 400 || len(s.messages) != 0 {
			t.Errorf("%q: status %d %s", h, w.Code, w.Body)
			continue
		}
		name, _, _ := strings.Cut(h, ":")
		if d := strings.ToLower(w.Body.String()); !strings.Contains(d, strings.ToLower(name)) && !strings.Contains(d, "property") {
			t.Errorf("%q: the answer does not name the header: %s", h, w.Body)
		}
	}
	s := start(t)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-Delay: 1", "Message-At: 1800000060"), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-TTL: 1", "Message-TTL: 2"), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-Durability: volatile", "Message-Retain: true"), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-Durability: volatile", "Message-Delay: 1"), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Idempotency-Key: "+strings.Repeat("k", 2000)), message.CodeTooLarge)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-Property: k="+strings.Repeat("v", message.MaxPropertyBytes)), message.CodeTooLarge)
	var many []string
	for i := range message.MaxProperties + 1 {
		many = append(many, fmt.Sprintf("Message-Property: k%d=v", i))
	}
	problem(t, s.send("POST", "/v1/publish/a", "x", many...), message.CodeTooLarge)
	if len(s.messages) != 0 {
		t.Errorf("published %v", s.messages)
	}
	s = start(t, func(o *Options) { o.Now = func() (time.Time, bool) { return time.Unix(0, 0), false } })
	problem(t, s.send("POST", "/v1/publish/a", "x", "Message-At: 1800000060"), message.CodeUnavailable)
}

func TestPublishAnswers(t *testing.T) {
	s := start(t)
	s.stored.Replayed = true
	if w := s.send("POST", "/v1/publish/a", "x", "Idempotency-Key: k"); w.Code != 201 || w.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("replay: %d %v", w.Code, w.Header())
	}
	s.stored = message.StoredAs{Volatile: true, Subscriptions: 2}
	w := s.send("POST", "/v1/publish/a", "x", "Message-Durability: volatile")
	if w.Code != 202 || strings.TrimSpace(w.Body.String()) != `{"volatile":true,"subscriptions":2}` || w.Header().Get("Location") != "" || !s.messages[1].Volatile {
		t.Errorf("volatile: %d %v %s", w.Code, w.Header(), w.Body)
	}
	s.grant = auth.NewGrant(auth.Key, "app", false, message.Rules{Publish: []message.Filter{"b/#"}})
	problem(t, s.send("POST", "/v1/publish/a", "x"), message.CodeForbidden)
	problem(t, s.send("POST", "/v1/publish/$edge/x", "x"), message.CodeForbidden)
	if len(s.messages) != 2 {
		t.Error("a forbidden message reached the core")
	}
}

func TestWaitForDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		delivered := []message.Receipt{{Subscription: "device/lamp1", State: message.Delivered, Attempt: 1}}
		s.await = func(ctx context.Context) ([]message.Receipt, error) {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) != 3*time.Second {
				t.Errorf("deadline %v", d)
			}
			return delivered, nil
		}
		w := s.send("POST", "/v1/publish/a?wait=delivered&timeout=3s", "x")
		if want := `"subscriptions":3,"states":[{"subscription":"device/lamp1","state":"delivered","attempt":1}]}`; w.Code != 201 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		began := time.Now()
		s.await = func(ctx context.Context) ([]message.Receipt, error) {
			<-ctx.Done()
			return []message.Receipt{{Subscription: "device/lamp1", State: message.Waiting, Reason: "offline"}}, nil
		}
		w = s.send("POST", "/v1/publish?topic=a&wait=delivered", "x")
		if w.Code != 201 || !strings.Contains(w.Body.String(), `"state":"waiting","reason":"offline"`) || time.Since(began) != defaultDeliveryWait {
			t.Errorf("timeout: %d %s after %v", w.Code, w.Body, time.Since(began))
		}
		s.await = func(context.Context) ([]message.Receipt, error) { return nil, io.ErrUnexpectedEOF }
		if w = s.send("POST", "/v1/publish/a?wait=delivered", "x"); w.Code != 201 || strings.Contains(w.Body.String(), "states") || !json.Valid(w.Body.Bytes()) {
			t.Errorf("a stored message was not answered 201 because the wait failed: %d %s", w.Code, w.Body)
		}
	})
	s := start(t)
	for _, q := range []string{"wait=stored", "wait=", "timeout=3s", "wait=delivered&timeout=61", "wait=delivered&timeout=x"} {
		problem(t, s.send("POST", "/v1/publish/a?"+q, "x"), message.CodeBadRequest)
	}
	problem(t, s.send("POST", "/v1/publish/a?wait=delivered", "x", "Message-Durability: volatile"), message.CodeBadRequest)
	if len(s.messages) != 0 {
		t.Error("published before the request was checked")
	}
}

// compressed returns n zeros in each content coding; gzip in many members, which are one content
// (RFC 1952 §2.2) and faster to pack.
func compressed(t *testing.T, n int) map[string]string {
	t.Helper()
	const members = 16
	pack := func(n int, open func(io.Writer) io.WriteCloser) string {
		var b bytes.Buffer
		w := open(&b)
		if _, err := w.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	return map[string]string{
		"gzip":    strings.Repeat(pack(n/members, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }), members),
		"deflate": pack(n, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }),
	}
}

func TestBodyLimits(t *testing.T) {
	const limit = 64 << 10
	s := start(t, func(o *Options) { o.MaxMessage = limit })
	if w := s.send("POST", "/v1/publish/a", strings.Repeat("x", limit)); w.Code != 201 || len(s.messages[0].Payload) != limit {
		t.Errorf("a body of exactly the limit: %d", w.Code)
	}
	problem(t, s.send("POST", "/v1/publish/a", strings.Repeat("x", limit+1)), message.CodeTooLarge)
	for coding, b := range compressed(t, 16<<20) {
		if len(b) > limit {
			t.Fatalf("the bomb has %d bytes, no test", len(b))
		}
		problem(t, s.send("POST", "/v1/publish/a", b, "Content-Encoding: "+coding), message.CodeTooLarge)
		problem(t, s.send("POST", "/v1/messages?topic=a", b, append(ce, "Content-Encoding: "+coding)...), message.CodeTooLarge)
		problem(t, s.send("POST", "/v1/messages?topic=a", b, "Content-Type: application/cloudevents+json", "Content-Encoding: "+coding), message.CodeTooLarge)
		problem(t, s.send("POST", "/v1/messages?topic=a", b, "Content-Type: application/cloudevents-batch+json", "Content-Encoding: "+coding), message.CodeTooLarge)
		problem(t, s.send("POST", "/v1/devices", b, "Content-Encoding: "+coding), message.CodeTooLarge)
	}
	for coding, b := range compressed(t, limit) {
		if w := s.send("POST", "/v1/publish/a", b, "Content-Encoding: "+coding); w.Code != 201 || len(s.messages[len(s.messages)-1].Payload) != limit {
			t.Errorf("%s: %d %s", coding, w.Code, w.Body)
		}
		problem(t, s.send("POST", "/v1/publish/a", b[:len(b)-9], "Content-Encoding: "+coding), message.CodeBadRequest)
	}
	problem(t, s.send("POST", "/v1/publish/a", "x", "Content-Encoding: br"), message.CodeBadMediaType)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Content-Encoding: gzip, gzip"), message.CodeBadMediaType)
	problem(t, s.send("POST", "/v1/publish/a", "x", "Content-Encoding: gzip", "Content-Encoding: gzip"), message.CodeBadMediaType)
	problem(t, s.send("POST", "/v1/publish/a", "not gzip", "Content-Encoding: gzip"), message.CodeBadRequest)
	if w := s.send("POST", "/v1/publish/a", "x", "Content-Encoding: identity"); w.Code != 201 {
		t.Errorf("identity: %d", w.Code)
	}
	problem(t, s.send("POST", "/v1/devices", `{"id":"`+strings.Repeat("x", maxDocument)+`"}`), message.CodeTooLarge)
}

// TestBodyThatEndsEarly sends bodies that promise more than they hold, and bodies without a promise.
func TestBodyThatEndsEarly(t *testing.T) {
	s := start(t)
	r := httptest.NewRequest("POST", "/v1/publish/a", io.NopCloser(strings.NewReader("abc")))
	r.ContentLength = 200_000
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	if problem(t, w, message.CodeBadRequest); len(s.messages) != 0 {
		t.Error("half a message was published")
	}
	r = httptest.NewRequest("POST", "/v1/publish/a", strings.NewReader(strings.Repeat("y", 100_000)))
	r.ContentLength = -1 // chunked
	w = httptest.NewRecorder()
	if s.h.ServeHTTP(w, r); w.Code != 201 || len(s.messages[0].Payload) != 100_000 {
		t.Errorf("chunked: %d", w.Code)
	}
	r = httptest.NewRequest("POST", "/v1/publish/a", strings.NewReader(strings.Repeat("y", message.MaxPayload+1)))
	r.ContentLength = -1
	w = httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	problem(t, w, message.CodeTooLarge)
	for _, n := range []int{0, 1, 16 << 10, 16<<10 + 1, message.MaxPayload} {
		if w := s.send("POST", "/v1/publish/a", strings.Repeat("z", n)); w.Code != 201 || len(s.messages[len(s.messages)-1].Payload) != n {
			t.Errorf("%d bytes: %d", n, w.Code)
		}
	}
}

func TestEvents(t *testing.T) {
	s := start(t)
	w := s.send("POST", "/v1/messages", `{"t":1}`, append(ce, "ce-subject: room%20a/%E7%81%AF", "ce-traceparent: 00-1", "ce-apple: x", "ce-priority: 7",
		"ce-time: 2026-11-23T06:00:00Z", "Content-Type: application/json", "Message-TTL: 60", "Message-Property: k=v")...)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	m := s.messages[0]
	if m.Topic != "room a/灯" || string(m.Payload) != `{"t":1}` || m.ContentType != "application/json" || m.Priority != 7 || m.TTL != time.Minute ||
		m.Event.ID != "1" || m.Event.Source != "/s" || m.Event.Type != "t" || m.Key != "ce /s 1" || len(m.Properties) != 1 ||
		!reflect.DeepEqual(m.Event.Extensions, []message.Property{{Key: "apple", Value: "x"}, {Key: "traceparent", Value: "00-1"}}) {
		t.Errorf("%+v", m)
	}
	event := `{"specversion":"1.0","id":"9","source":"/s","type":"t","subject":"a/b","data":{"x":1}}`
	w = s.send("POST", "/v1/messages?topic=other", event, "Content-Type: application/cloudevents+json; charset=utf-8", "Idempotency-Key: mine")
	if m := s.messages[1]; w.Code != 201 || m.Topic != "other" || m.Key != "mine" || m.Event.Subject != "a/b" || string(m.Payload) != `{"x":1}` {
		t.Errorf("%d %+v", w.Code, m)
	}
	long := strings.Repeat("x", 1000)
	s.send("POST", "/v1/messages?topic=a", "", "ce-specversion: 1.0", "ce-id: "+long, "ce-source: "+long, "ce-type: t")
	if m := s.messages[2]; len(m.Key) > 100 || !strings.HasPrefix(m.Key, "ce ") {
		t.Errorf("long id and source make the key %q", m.Key)
	}
	for _, c := range []struct {
		code, target, body string
		header             []string
	}{
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", nil},
		{message.CodeBadTopic, "/v1/messages", "x", ce},
		{message.CodeBadTopic, "/v1/messages?topic=", "x", ce},
		{message.CodeBadTopic, "/v1/messages", "x", append([]string{"ce-subject: a/%23"}, ce...)},
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", []string{"ce-specversion: 0.3", "ce-id: 1", "ce-source: s", "ce-type: t"}},
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", []string{"ce-specversion: 1.0", "ce-source: s", "ce-type: t"}},
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", append([]string{"ce-id: 2"}, ce...)},
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", append([]string{"ce-x: %zz"}, ce...)},
		{message.CodeBadName, "/v1/messages?topic=a", "x", append([]string{"ce-bad-name: 1"}, ce...)},
		{message.CodeBadRequest, "/v1/messages?topic=a", "x", append([]string{"Message-Priority: 99"}, ce...)},
		{message.CodeBadJSON, "/v1/messages?topic=a", "{", []string{"Content-Type: application/cloudevents+json"}},
		{message.CodeBadUTF8, "/v1/messages?topic=a", "{\"a\":\"\xff\"}", []string{"Content-Type: application/cloudevents+json"}},
		{message.CodeBadMediaType, "/v1/messages?topic=a", "{}", []string{"Content-Type: application/cloudevents+avro"}},
		{message.CodeBadRequest, "/v1/messages?topic=a&wait=x", "x", ce},
	} {
		problem(t, s.send("POST", c.target, c.body, c.header...), c.code)
	}
	small := start(t, func(o *Options) { o.MaxMessage = 10 })
	problem(t, small.send("POST", "/v1/messages?topic=a", strings.Replace(event, `{"x":1}`, `"01234567890"`, 1), "Content-Type: application/cloudevents+json"), message.CodeTooLarge)
	if len(s.messages) != 3 {
		t.Errorf("%d messages published", len(s.messages))
	}
}

func TestEventBatch(t *testing.T) {
	one := func(id, subject string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t","subject":%q}`, id, subject)
	}
	const batch = "Content-Type: application/cloudevents-batch+json"
	s := start(t)
	w := s.send("POST", "/v1/messages", "["+one("1", "a")+","+one("2", "b")+"]", batch, "Message-Priority: 2")
	if want := `{"messages":[{"id":"k3f9w2xq-1","seq":1,"epoch":"k3f9w2xq","subscriptions":1},{"id":"k3f9w2xq-2",`; w.Code != 201 || !strings.HasPrefix(w.Body.String(), want) || !json.Valid(w.Body.Bytes()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(s.messages) != 2 || s.messages[1].Topic != "b" || s.messages[1].Priority != 2 {
		t.Errorf("%+v", s.messages)
	}
	if w := s.send("POST", "/v1/messages", "[]", batch); w.Code != 201 || strings.TrimSpace(w.Body.String()) != `{"messages":[]}` {
		t.Errorf("an empty batch: %d %s", w.Code, w.Body)
	}
	for body, want := range map[string]int{
		"[" + one("1", "a") + "," + one("2", "a/#") + "]": 1,
		"[" + one("1", "") + "]":                          0,
		"[" + one("1", "a") + `,{"id":"2"}]`:              1,
	} {
		w := s.send("POST", "/v1/messages", body, batch)
		var p problemJSON
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 400 || p.Index == nil || *p.Index != want {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if len(s.messages) != 2 {
		t.Error("part of a refused batch was published")
	}
	s.err = &courier.BatchError{Index: 1, Err: message.Problemf(message.CodeUnknownDevice, "no device x")}
	w = s.send("POST", "/v1/messages", "["+one("1", "a")+","+one("2", "device/x/in")+"]", batch)
	if p := problem(t, w, message.CodeUnknownDevice); p.Index == nil || *p.Index != 1 {
		t.Errorf("%s", w.Body)
	}
	s.err = nil
	problem(t, s.send("POST", "/v1/messages?wait=delivered", "[]", batch), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/messages", "[]", batch, "Idempotency-Key: k"), message.CodeBadRequest)
	problem(t, s.send("POST", "/v1/messages", "[]", batch, "Message-Durability: volatile"), message.CodeBadRequest)
	s = start(t, func(o *Options) { o.MaxBatch = 100 })
	problem(t, s.send("POST", "/v1/messages", "["+one("1", "a")+","+one("2", "b")+"]", batch), message.CodeTooLarge)
}
