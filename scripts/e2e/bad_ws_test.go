package e2e

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// wantError asks and expects an error with the code.
func (l *link) wantError(t *testing.T, id int64, code string, v map[string]any) {
	t.Helper()
	f := l.ask(t, id, v)
	if f.Error == nil || f.Error.Code != code || f.Error.Detail == "" {
		t.Errorf("%.200v was answered by %s, want the error %q with a detail", v, show(f), code)
	}
}

// wantEnd reads until the connection ends, and expects the close code; 0 means any end.
func (l *link) wantEnd(t *testing.T, code int) {
	t.Helper()
	for range 1000 {
		_, err := l.read(20 * time.Second)
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		if errors.Is(err, errQuiet) || code != 0 && (!errors.As(err, &ce) || ce.Code != code) {
			t.Errorf("the connection ended with %v, want close code %d", err, code)
		}
		return
	}
	t.Error("the connection did not end")
}

func TestBadPublishWS(t *testing.T) {
	b := startBad(t)
	app, narrow, lamp1 := b.g.mustDial("", b.tokens["app"]), b.g.mustDial("", b.tokens["narrow"]), b.g.mustDial("lamp1", b.tokens["lamp1"])
	long := strings.Repeat("t", 65_536)
	for i, c := range []struct {
		what  string
		who   *link
		code  string
		topic string
		data  any
	}{
		{"oversize payload", app, "too-large", "a", strings.Repeat("x", 64<<10+1)},
		{"wildcard +", app, "bad-topic", "a/+/b", 1},
		{"wildcard #", app, "bad-topic", "a/#", 1},
		{"NUL", app, "bad-topic", "a\x00b", 1},
		{"topic of 65,536 bytes", app, "bad-topic", long, 1},
		{"empty topic", app, "bad-topic", "", 1},
		{"unknown device", app, "unknown-device", "device/nobody/in/set", 1},
		{"unknown group", app, "unknown-group", "group/nobody/in/set", 1},
		{"forbidden topic of a key", narrow, "forbidden", "other", 1},
		{"forbidden topic of a device", lamp1, "forbidden", "device/lamp2/in/set", 1},
		{"the appliance's own topic", app, "forbidden", "$edge/alarm/x", 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.who.wantError(t, int64(i+10), c.code, map[string]any{"pub": map[string]any{"topic": c.topic, "data": c.data}})
		})
	}
	pub := func(topic, text string) map[string]any {
		return map[string]any{"pub": map[string]any{"topic": topic, "text": text, "key": "k-1"}}
	}
	first := app.ask(t, 50, pub("a", "one"))
	again := app.ask(t, 51, pub("a", "one"))
	if first.OK == nil || again.OK == nil || first.OK.ID != again.OK.ID {
		t.Errorf("the same key twice was answered %s and %s", show(first), show(again))
	}
	app.wantError(t, 52, "key-reused", pub("a", "two"))
	app.wantError(t, 53, "bad-filter", map[string]any{"sub": map[string]any{"topic": "a/#/b"}})
	app.wantError(t, 54, "bad-id", map[string]any{"sub": map[string]any{"topic": "a", "after": "x"}})
	narrow.wantError(t, 55, "forbidden", map[string]any{"sub": map[string]any{"topic": "#"}})
	lamp1.wantError(t, 56, "forbidden", map[string]any{"sub": map[string]any{"topic": "device/lamp2/in/#"}})
}

func TestBadAcksWS(t *testing.T) {
	b := startBad(t)
	s := b.app.publish(t, "device/lamp1/in/set", "x")
	lamp2 := b.g.mustDial("lamp2", b.tokens["lamp2"])
	ack := func(sub int, seq uint64) map[string]any {
		return map[string]any{"ack": map[string]any{"sub": sub, "seqs": []uint64{seq}}}
	}
	lamp2.wantError(t, 10, "not-delivered", ack(0, 999_999_999))
	lamp2.wantError(t, 11, "not-delivered", ack(0, s.Seq)) // another's
	lamp2.wantError(t, 12, "not-delivered", map[string]any{"ack": map[string]any{"sub": 0, "upto": s.Seq}})
	lamp2.wantError(t, 13, "not-delivered", map[string]any{"nack": map[string]any{"sub": 0, "seq": s.Seq}})
	if f := lamp2.ask(t, 14, ack(77, s.Seq)); f.Error == nil {
		t.Errorf("an ack for a sub that is not there was answered %s", show(f))
	}
	lamp1 := b.g.mustDial("lamp1", b.tokens["lamp1"])
	m := lamp1.msg(t)
	if m.ID != s.ID {
		t.Fatalf("lamp1 received %+v, want %s", m, s.ID)
	}
	lamp2.wantError(t, 15, "not-delivered", ack(0, m.Seq)) // while it is on its way to another
	if p := b.app.trace(t, s.ID)["device/lamp1"]; p.State != "sent" {
		t.Errorf("before its ack the trace says %+v", p)
	}
	lamp1.ack(t, m.Seq)
	lamp1.wantError(t, 16, "not-delivered", ack(0, m.Seq)) // a second time
	within(t, 5*time.Second, "the trace does not say delivered", func() bool {
		return b.app.trace(t, s.ID)["device/lamp1"].State == "delivered"
	})
}

func TestBadHelloWS(t *testing.T) {
	b := startBad(t)
	hello := func(v string) []byte { return []byte(`{"id":1,"hello":` + v + `}`) }
	for _, c := range []struct {
		what string
		text []byte
		code int
	}{
		{"wrong token", hello(`{"token":"ep_wrongwrongwrongwrongwrongwrongwr"}`), 4003},
		{"another device's token", hello(`{"device":"lamp2","token":"` + b.tokens["lamp1"] + `"}`), 4003},
		{"no credentials", hello(`{}`), 4003},
		{"no hello", []byte(`{"id":1,"ping":1}`), 4002},
		{"no JSON", []byte(`hello`), 4002},
		{"not UTF-8", []byte("{\"id\":1,\"hello\":{\"token\":\"\xff\"}}"), 1007},
		{"5 KiB", hello(`{"token":"` + strings.Repeat("x", 5<<10) + `"}`), 4009},
	} {
		t.Run(c.what, func(t *testing.T) {
			l, err := b.g.dialRaw(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			if err := l.sendText(c.text); err != nil {
				t.Fatal(err)
			}
			l.wantEnd(t, c.code)
		})
	}
	t.Run("wrong token in the header", func(t *testing.T) {
		_, err := b.g.dialRaw(http.Header{"Authorization": {"Bearer ep_wrong"}})
		if err == nil || !strings.Contains(err.Error(), "status 401") {
			t.Errorf("the handshake said %v, want status 401", err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		l, err := b.g.dialRaw(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		l.wantEnd(t, 4001)
	})
	t.Run("a foreign page", func(t *testing.T) {
		_, err := b.g.dialRaw(http.Header{"Origin": {"http://evil.example"}})
		if err == nil || !strings.Contains(err.Error(), "status 403") {
			t.Errorf("the handshake said %v, want status 403", err)
		}
	})
}

func TestBadFramesWS(t *testing.T) {
	b := startBad(t)
	t.Run("invalid JSON is an error, not the end", func(t *testing.T) {
		l := b.g.mustDial("", b.tokens["app"])
		for _, text := range []string{`{"id":7`, `[]`, `{"id":7,"pub":{"topic":"a","data":}}`, `{"id":7,"pubb":{}}`, `{}`} {
			if err := l.sendText([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if f := l.next(t); f.Error == nil {
				t.Errorf("%s was answered by %s", text, show(f))
			}
		}
		l.ping(t)
	})
	for _, c := range []struct {
		what string
		kind int
		data []byte
		code int
	}{
		{"invalid UTF-8", websocket.TextMessage, []byte("{\"ping\":\"\xff\"}"), 1007},
		{"binary", websocket.BinaryMessage, []byte(`{"ping":1}`), 1003},
		{"16 MiB", websocket.TextMessage, bytes.Repeat([]byte(" "), 16<<20), 4009},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := b.g.mustDial("", b.tokens["app"])
			l.conn.WriteMessage(c.kind, c.data) // the appliance may cut it off in the middle
			code := c.code
			if len(c.data) > 1<<20 {
				code = 0 // what was still being written may reset the connection before the close frame is read
			}
			l.wantEnd(t, code)
		})
	}
	t.Run("16 MiB of compressed zeros", func(t *testing.T) {
		before := b.rss(t)
		l := b.g.mustDial("", b.tokens["app"])
		if err := writeCompressed(l.conn.NetConn(), make([]byte, 16<<20)); err != nil {
			t.Fatal(err)
		}
		l.wantEnd(t, 1002)
		if grown := b.rss(t) - before; grown > 8<<20 {
			t.Errorf("the process grew by %d KiB", grown>>10)
		}
	})
	b.app.publish(t, "still/alive", "x")
}

// writeCompressed writes one text frame with RSV1 set (RFC 7692), although nothing was negotiated.
func writeCompressed(w io.Writer, data []byte) error {
	var z bytes.Buffer
	fw, err := flate.NewWriter(&z, 9)
	if err != nil {
		return err
	}
	fw.Write(data)
	fw.Close()
	head := []byte{0x80 | 0x40 | 1, 0x80 | 126, 0, 0, 0, 0, 0, 0} // FIN, RSV1, text; masked with zeros
	binary.BigEndian.PutUint16(head[2:], uint16(z.Len()))
	_, err = w.Write(append(head, z.Bytes()...))
	return err
}

// TestClientsThatStopReading: three clients of one device's or key's messages stop reading; the
// others get theirs, the appliance does not grow, and what was not read waits.
func TestClientsThatStopReading(t *testing.T) {
	b := startBad(t)
	before := b.rss(t)
	stuck := b.g.mustDial("lamp1", b.tokens["lamp1"])
	shrink(t, stuck.conn.NetConn())
	for _, path := range []string{"/v1/stream?topic=group/%23", "/v1/messages?topic=group/%23&limit=1000"} {
		conn, err := net.Dial("tcp", b.g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		shrink(t, conn)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, b.g.addr, b.tokens["app"])
	}
	reader := b.g.mustDial("lamp2", b.tokens["lamp2"])
	const total, size = 400, 32 << 10
	go func() {
		for i := range total {
			res, err := b.app.do(http.MethodPost, "/v1/publish/group/hall/in/bulk", fmt.Appendf(nil, "%04d%s", i, strings.Repeat("x", size)))
			if err != nil || res.status != http.StatusCreated {
				t.Errorf("publish %d: %v, status %d: %.200s", i, err, res.status, res.body)
				return
			}
		}
	}()
	began := time.Now()
	for i := range total {
		m := reader.msg(t)
		if got := m.payload()[:4]; got != fmt.Sprintf("%04d", i) {
			t.Fatalf("the reading device got %s, want %04d", got, i)
		}
		reader.ack(t, m.Seq)
	}
	t.Logf("the reading device had its %d messages in %v", total, time.Since(began).Round(time.Millisecond))
	if grown := b.rss(t) - before; grown > 24<<20 {
		t.Errorf("the process grew by %d KiB for clients that do not read", grown>>10)
	}
	var dev struct{ Inbox struct{ Depth int } }
	if err := json.Unmarshal([]byte(b.g.must(nil, "device", "show", "lamp1", "-json")), &dev); err != nil || dev.Inbox.Depth != total {
		t.Errorf("the stuck device is owed %d of %d messages (%v)", dev.Inbox.Depth, total, err)
	}
}

// shrink makes the receiving side of a connection small, so that not reading is noticed soon.
func shrink(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
}
