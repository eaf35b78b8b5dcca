package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bad is a gateway with people who may do little, for bad input. Its payload limit is 64 KiB.
type bad struct {
	g            *gateway
	app, narrow  *api // may do all; may publish and read alarm/# only
	lamp1, lamp2 *api
	tokens       map[string]string
}

func startBad(t *testing.T) *bad {
	t.Helper()
	g := startGateway(t, "[limits]\nmax_message = \"64KiB\"\n")
	tok := map[string]string{
		"app":    g.addFreeKey(),
		"narrow": g.addKey("narrow", "-publish", "alarm/#", "-subscribe", "alarm/#"),
		"lamp1":  g.addDevice("lamp1", "-group", "hall"),
		"lamp2":  g.addDevice("lamp2", "-group", "hall"),
	}
	return &bad{g: g, tokens: tok, app: g.api(tok["app"]), narrow: g.api(tok["narrow"]), lamp1: g.api(tok["lamp1"]), lamp2: g.api(tok["lamp2"])}
}

func TestBadPublishHTTP(t *testing.T) {
	b := startBad(t)
	anybody, wrong := b.g.api(""), b.g.api("ep_wrongwrongwrongwrongwrongwrongwr")
	long := strings.Repeat("t", 65_536)
	for _, c := range []struct {
		what   string
		who    *api
		path   string
		body   string
		status int
		code   string
	}{
		{"oversize body", b.app, "/v1/publish/a", strings.Repeat("x", 64<<10+1), 413, "too-large"},
		{"wildcard + in the path", b.app, "/v1/publish/a/%2B/b", "x", 400, "bad-topic"},
		{"wildcard # in the path", b.app, "/v1/publish/a/%23", "x", 400, "bad-topic"},
		{"wildcard # in the query", b.app, "/v1/publish?topic=a%2F%23", "x", 400, "bad-topic"},
		{"NUL in the path", b.app, "/v1/publish/a%00b", "x", 400, "bad-topic"},
		{"NUL in the query", b.app, "/v1/publish?topic=a%00b", "x", 400, "bad-topic"},
		{"topic of 65,536 bytes in the query", b.app, "/v1/publish?topic=" + long, "x", 400, "bad-topic"},
		{"topic of 65,536 bytes in the path", b.app, "/v1/publish/" + long, "x", 400, "bad-topic"},
		{"topic that is not UTF-8", b.app, "/v1/publish/a%ff", "x", 400, "bad-topic"},
		{"empty topic in the path", b.app, "/v1/publish/", "x", 400, "bad-topic"},
		{"empty topic in the query", b.app, "/v1/publish?topic=", "x", 400, "bad-topic"},
		{"unknown device", b.app, "/v1/publish/device/nobody/in/set", "x", 404, "unknown-device"},
		{"unknown group", b.app, "/v1/publish/group/nobody/in/set", "x", 404, "unknown-group"},
		{"no token", anybody, "/v1/publish/a", "x", 401, "unauthorized"},
		{"wrong token", wrong, "/v1/publish/a", "x", 401, "unauthorized"},
		{"forbidden topic of a key", b.narrow, "/v1/publish/other", "x", 403, "forbidden"},
		{"forbidden topic of a device", b.lamp1, "/v1/publish/device/lamp2/in/set", "x", 403, "forbidden"},
		{"the appliance's own topic", b.app, "/v1/publish/$edge/alarm/x", "x", 403, "forbidden"},
		{"unknown parameter", b.app, "/v1/publish/a?prioritty=9", "x", 400, "bad-request"},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.who.refused(t, c.status, c.code, http.MethodPost, c.path, []byte(c.body))
		})
	}
	for _, h := range [][2]string{
		{"Message-Priority", "10"},
		{"Message-Priority", "high"},
		{"Message-TTL", "-1"},
		{"Message-TTL", "soon"},
		{"Message-Delay", "1h1"},
		{"Message-At", "tomorrow"},
		{"Message-Durability", "very"},
		{"Message-Property", "novalue"},
		{"Message-Receipt", "please"},
		{"Message-Retain", "maybe"},
		{"Message-Tll", "5"},
	} {
		t.Run(h[0]+" "+h[1], func(t *testing.T) {
			b.app.refused(t, 400, "bad-request", http.MethodPost, "/v1/publish/a", []byte("x"), h[0], h[1])
		})
	}
	b.app.publish(t, "still/alive", "x")
}

func TestBadFiltersHTTP(t *testing.T) {
	b := startBad(t)
	for what, filter := range map[string]string{
		"# in the middle": "a/%23/b", "+ beside text": "a%2B", "NUL": "a%00", "not UTF-8": "a%ff", "empty": "", "65,536 bytes": strings.Repeat("t", 65_536),
	} {
		t.Run(what, func(t *testing.T) {
			code := "bad-filter"
			b.app.refused(t, 400, code, http.MethodGet, "/v1/stream?topic="+filter, nil)
			if what == "not UTF-8" {
				code = "bad-utf8" // here the query is refused before anybody asks what its parameters are
			}
			b.app.refused(t, 400, code, http.MethodGet, "/v1/messages?topic="+filter, nil)
			name, err := url.PathUnescape(filter)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := json.Marshal(map[string]any{"filters": []string{name}}); err != nil {
				t.Fatal(err)
			} else if what != "not UTF-8" { // JSON cannot carry it
				b.app.refused(t, 400, "bad-filter", http.MethodPut, "/v1/subscriptions/jobs", body, "Content-Type", "application/json")
			}
		})
	}
	b.narrow.refused(t, 403, "forbidden", http.MethodGet, "/v1/messages?topic=%23", nil)
	b.narrow.refused(t, 403, "forbidden", http.MethodPut, "/v1/subscriptions/jobs", []byte(`{"filters":["#"]}`), "Content-Type", "application/json")
	b.app.refused(t, 400, "bad-id", http.MethodGet, "/v1/messages?topic=a&after=4711", nil)
	b.app.refused(t, 404, "not-found", http.MethodGet, "/v1/subscriptions/nobody/messages", nil)
	b.app.refused(t, 404, "not-found", http.MethodGet, "/v1/nowhere", nil)
	b.app.refused(t, 405, "method-not-allowed", http.MethodPatch, "/v1/messages", nil)
}

// TestEmptyLevels: empty levels are topics of their own, on the way in and out.
func TestEmptyLevels(t *testing.T) {
	b := startBad(t)
	link := b.g.mustDial("", b.tokens["app"])
	if f := link.ask(t, 2, map[string]any{"sub": map[string]any{"topic": "#"}}); f.OK == nil {
		t.Fatalf("sub was answered by %s", show(f))
	}
	for _, topic := range []string{"/a", "a/", "a//b", "/", "//", "a/b", "a%2Fc"} {
		s := b.app.publish(t, topic, topic)
		name, err := url.PathUnescape(topic)
		if err != nil {
			t.Fatal(err)
		}
		if m := link.msg(t); m.Topic != name || m.ID != s.ID {
			t.Errorf("published to %q, received on %q", name, m.Topic)
		}
		link.ping(t)
	}
}

func TestBadJSONAndUTF8(t *testing.T) {
	b := startBad(t)
	const events, batch, plain = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
	good := `{"specversion":"1.0","id":"1","source":"/t","type":"t","subject":"a","data":1}`
	post := func(t *testing.T, status int, code, path, ct, body string) problem {
		t.Helper()
		return b.app.refused(t, status, code, http.MethodPost, path, []byte(body), "Content-Type", ct)
	}
	t.Run("event", func(t *testing.T) { post(t, 400, "bad-json", "/v1/messages", events, `{"specversion":`) })
	t.Run("event that is not UTF-8", func(t *testing.T) {
		post(t, 400, "bad-utf8", "/v1/messages", events, strings.Replace(good, `"/t"`, "\"/\xff\"", 1))
	})
	t.Run("batch, and nothing of it is stored", func(t *testing.T) {
		broken := strings.Replace(strings.Replace(good, `"a"`, `"a/#"`, 1), `"1"`, `"2"`, 1)
		post(t, 400, "bad-topic", "/v1/messages", batch, "["+good+","+broken+"]")
		var page struct{ Messages []delivery }
		b.app.want(t, 200, &page, http.MethodGet, "/v1/messages?topic=a", nil)
		if len(page.Messages) != 0 {
			t.Errorf("a refused batch left %+v", page.Messages)
		}
	})
	t.Run("acks", func(t *testing.T) {
		res := b.lamp1.refused(t, 400, "bad-json", http.MethodPost, "/v1/devices/lamp1/acks", []byte(`{"ids":[}`), "Content-Type", plain)
		if !strings.Contains(res.Detail, "byte") && !strings.Contains(res.Detail, "line") {
			t.Logf("the detail does not say where: %s", res.Detail)
		}
	})
	t.Run("acks with an unknown member", func(t *testing.T) {
		b.lamp1.refused(t, 400, "bad-json", http.MethodPost, "/v1/devices/lamp1/acks", []byte(`{"idz":[]}`), "Content-Type", plain)
	})
	t.Run("acks with a bad id", func(t *testing.T) {
		b.lamp1.refused(t, 400, "bad-id", http.MethodPost, "/v1/devices/lamp1/acks", []byte(`{"ids":["x"]}`), "Content-Type", plain)
	})
	t.Run("a payload that only says it is JSON arrives unaltered", func(t *testing.T) {
		link := b.g.mustDial("lamp1", b.tokens["lamp1"])
		for _, body := range []string{`{"a":`, "\"\xff\"", "{}\n{}", "", "nul", "\x00", `{"a" : 12345678901234567890.10, "a":1e400}`} {
			b.app.publish(t, "device/lamp1/in/raw", body, "Content-Type", plain)
			m := link.msg(t)
			if got := m.payload(); got != body {
				t.Errorf("sent %q, received %q", body, got)
			}
			link.ack(t, m.Seq)
		}
	})
}

func TestIdempotencyHTTP(t *testing.T) {
	b := startBad(t)
	key := []string{"Idempotency-Key", "k-1"}
	first := b.app.publish(t, "a", "one", key...)
	again := b.app.want(t, 201, nil, http.MethodPost, "/v1/publish/a", []byte("one"), key...)
	if !bytes.Contains(again.body, []byte(`"`+first.ID+`"`)) || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same again was answered %s, %v; want id %s", again.body, again.header, first.ID)
	}
	b.app.refused(t, 422, "key-reused", http.MethodPost, "/v1/publish/a", []byte("two"), key...)
	b.app.refused(t, 422, "key-reused", http.MethodPost, "/v1/publish/b", []byte("one"), key...)
	if other := b.narrow.publish(t, "alarm/a", "three", key...); other.ID == first.ID {
		t.Error("another principal's key gave the first one's answer")
	}
	b.g.kill()
	b.g.start()
	if again := b.app.publish(t, "a", "one", key...); again.ID != first.ID {
		t.Errorf("after kill -9 the same key stored %s; the first was %s", again.ID, first.ID)
	}
	b.app.refused(t, 422, "key-reused", http.MethodPost, "/v1/publish/a", []byte("two"), key...)
}

func TestBadAcksHTTP(t *testing.T) {
	b := startBad(t)
	s := b.app.publish(t, "device/lamp1/in/set", "x")
	acks := func(id string) []byte { return []byte(`{"ids":["` + id + `"]}`) }
	post := func(t *testing.T, who *api, status int, code, device, id string) {
		t.Helper()
		who.refused(t, status, code, http.MethodPost, "/v1/devices/"+device+"/acks", acks(id), "Content-Type", "application/json")
	}
	never := s.Epoch + "-999999999"
	t.Run("never sent", func(t *testing.T) { post(t, b.lamp1, 409, "not-delivered", "lamp1", never) })
	t.Run("stored but not yet sent", func(t *testing.T) { post(t, b.lamp1, 409, "not-delivered", "lamp1", s.ID) })
	t.Run("another's inbox", func(t *testing.T) { post(t, b.lamp2, 403, "forbidden", "lamp1", s.ID) })
	t.Run("a key's attempt", func(t *testing.T) { post(t, b.narrow, 403, "forbidden", "lamp1", s.ID) })
	t.Run("another's message in the own inbox", func(t *testing.T) { post(t, b.lamp2, 409, "not-delivered", "lamp2", s.ID) })
	t.Run("another epoch", func(t *testing.T) { post(t, b.lamp1, 409, "not-delivered", "lamp1", "aaaaaaaa-1") })

	var leased struct{ Messages []delivery }
	b.lamp1.want(t, 200, &leased, http.MethodGet, "/v1/devices/lamp1/messages", nil)
	if len(leased.Messages) != 1 || leased.Messages[0].ID != s.ID {
		t.Fatalf("leased %+v, want %s", leased.Messages, s.ID)
	}
	t.Run("another's while it is on its way", func(t *testing.T) { post(t, b.lamp2, 409, "not-delivered", "lamp2", s.ID) })
	b.lamp1.want(t, 200, nil, http.MethodPost, "/v1/devices/lamp1/acks", acks(s.ID), "Content-Type", "application/json")
	t.Run("a second time", func(t *testing.T) { post(t, b.lamp1, 409, "not-delivered", "lamp1", s.ID) })
	if p := b.app.trace(t, s.ID)["device/lamp1"]; p.State != "delivered" {
		t.Errorf("after the ack the trace says %+v", p)
	}
}

// TestCompressedZeros sends 16 MiB of zeros, compressed, into a limit of 64 KiB.
func TestCompressedZeros(t *testing.T) {
	b := startBad(t)
	zeros := make([]byte, 16<<20)
	var gz, zl bytes.Buffer
	for _, w := range []io.WriteCloser{gzip.NewWriter(&gz), zlib.NewWriter(&zl)} {
		w.Write(zeros)
		w.Close()
	}
	before := b.rss(t)
	for enc, body := range map[string][]byte{"gzip": gz.Bytes(), "deflate": zl.Bytes()} {
		for range 20 {
			b.app.refused(t, 413, "too-large", http.MethodPost, "/v1/publish/a", body, "Content-Encoding", enc)
		}
	}
	if grown := b.rss(t) - before; grown > 12<<20 {
		t.Errorf("40 requests grew the process by %d KiB", grown>>10)
	}
	b.app.refused(t, 400, "bad-request", http.MethodPost, "/v1/publish/a", []byte("not gzip"), "Content-Encoding", "gzip")
	b.app.refused(t, 415, "bad-media-type", http.MethodPost, "/v1/publish/a", gz.Bytes(), "Content-Encoding", "br")
}

// rss is the process's resident memory in bytes.
func (b *bad) rss(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(b.g.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseInt(strings.TrimSpace(rest[:strings.Index(rest, "kB")]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestSlowBodies: requests that never end cost nobody else anything.
func TestSlowBodies(t *testing.T) {
	b := startBad(t)
	for range 50 {
		conn, err := net.Dial("tcp", b.g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, "POST /v1/publish/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+b.tokens["app"]+"\r\nContent-Length: 1000\r\n\r\nx")
	}
	began := time.Now()
	b.app.publish(t, "a", "x")
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("with 50 slow requests open, a publish took %v", d)
	}
}
