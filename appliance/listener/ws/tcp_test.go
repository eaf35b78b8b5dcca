package ws

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// serve starts a handler on loopback.
func serve(tb testing.TB, o Options) (*Handler, *httptest.Server) {
	tb.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	h := New(o)
	srv := httptest.NewServer(h)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
		srv.Close()
	})
	return h, srv
}

// dial connects with gorilla's client and says hello.
func dial(tb testing.TB, srv *httptest.Server, token string) *websocket.Conn {
	tb.Helper()
	d := websocket.Dialer{Subprotocols: []string{Subprotocol}, EnableCompression: true}
	c, resp, err := d.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/v1/ws", nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		tb.Error("compression was accepted")
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"hello":{"token":"`+token+`"}}`)); err != nil {
		tb.Fatal(err)
	}
	if _, p, err := c.ReadMessage(); err != nil || !strings.HasPrefix(string(p), `{"welcome":`) {
		tb.Fatalf("welcome: %s %v", p, err)
	}
	return c
}

func wantClose(t *testing.T, c *websocket.Conn, code int) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, p, err := c.ReadMessage()
		if err == nil {
			t.Logf("received %.200s", p)
			continue
		}
		if !websocket.IsCloseError(err, code) {
			t.Fatalf("ended with %v, want close %d", err, code)
		}
		return
	}
}

// TestByeSurvivesUnreadInput has the client still sending when the server gives up: without the
// linger the reset would overtake the close frame.
func TestByeSurvivesUnreadInput(t *testing.T) {
	core := newFakeCore()
	_, srv := serve(t, Options{Authenticator: core, Publisher: core, Subscriber: core})
	for range 20 {
		c := dial(t, srv, "ep_app")
		if err := c.WriteMessage(websocket.BinaryMessage, make([]byte, 300<<10)); err != nil {
			t.Fatal(err)
		}
		wantClose(t, c, websocket.CloseUnsupportedData)
	}
}

func TestCloseSaysByeToAllAndWaits(t *testing.T) {
	core := newFakeCore()
	h := New(Options{Authenticator: core, Publisher: core, Subscriber: core, Log: slog.New(slog.DiscardHandler)})
	srv := httptest.NewServer(h)
	defer srv.Close()
	var wg sync.WaitGroup
	for range 20 {
		c := dial(t, srv, "ep_app")
		wg.Go(func() { wantClose(t, c, codeStopping) })
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := h.Stats().Connections; n != 0 {
		t.Errorf("%d connections after Close", n)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestCloseCutsWhoStaysTooLong: a client that neither reads nor answers does not hold the stop up.
func TestCloseCutsWhoStaysTooLong(t *testing.T) {
	core := newFakeCore()
	h := New(Options{Authenticator: core, Publisher: core, Subscriber: core, MaxBytes: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	srv := httptest.NewServer(h)
	defer srv.Close()
	dial(t, srv, "ep_lamp1")
	for i := range 60 { // more than the sockets hold
		core.deliver(0, testMessage(uint64(i+1), "a", strings.Repeat("x", 250<<10), ""), 1, 0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close returned %v", err)
	}
	if n := h.Stats().Connections; n != 0 {
		t.Errorf("%d connections after Close", n)
	}
}

// endlessAppliance delivers numbered messages to every subscription as fast as credit allows, like a
// shard does, and checks that it is told when there is credit again.
type endlessAppliance struct {
	*fakeCore
	total int
}

func (a *endlessAppliance) Subscribe(_ context.Context, _ *auth.Grant, r courier.Request, l courier.Link, _ courier.AttachOptions) (courier.Attachment, bool, error) {
	s := &shard{link: l, total: a.total, topic: message.Topic(r.Filter), mail: make(chan func(*shard), 64), acked: map[uint64]int{}}
	go s.run()
	return s, false, nil
}

// shard is one goroutine that owns one subscription.
type shard struct {
	link   courier.Link
	topic  message.Topic
	total  int
	mail   chan func(*shard)
	next   int // to be delivered
	again  []uint64
	acked  map[uint64]int
	behind bool
}

func (s *shard) run() {
	s.pump()
	for f := range s.mail {
		f(s)
		s.pump()
	}
}

func (s *shard) pump() {
	for !s.behind {
		var seq uint64
		switch {
		case len(s.again) > 0:
			seq = s.again[0]
		case s.next < s.total:
			seq = uint64(s.next + 1)
		default:
			return
		}
		m := testMessage(seq, s.topic, strings.Repeat("x", rand.IntN(2000)), "text/plain")
		if !hand(s.link, courier.Delivery{Item: courier.NewItem(m), Seq: seq, Attempt: 1}) {
			s.behind = true
			return
		}
		if len(s.again) > 0 {
			s.again = s.again[1:]
		} else {
			s.next++
		}
	}
}

func (s *shard) Ready() { s.mail <- func(s *shard) { s.behind = false } }
func (s *shard) Ack(seqs []uint64) {
	s.mail <- func(s *shard) {
		for _, n := range seqs {
			s.acked[n]++
		}
	}
}

func (s *shard) Nack(seq uint64, _ time.Duration, _ string, _ bool) {
	s.mail <- func(s *shard) { s.again = append(s.again, seq) }
}
func (s *shard) Close(string) { close(s.mail) }

// TestEndlessDelivery: three subscriptions in one session, a client that acknowledges in random ways
// and refuses one in ten; every message arrives, no credit is lost, the window holds.
func TestEndlessDelivery(t *testing.T) {
	const subs, total, inflight = 3, 3000, 16
	core := &endlessAppliance{newFakeCore(), total}
	h, srv := serve(t, Options{Authenticator: core, Publisher: core, Subscriber: core, MaxInflight: inflight, MaxBytes: 20_000})
	c := dial(t, srv, "ep_app")
	for i := range subs {
		if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"sub":{"topic":"t%d"}}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	e := &endlessClient{t: t, c: c, open: map[int][]uint64{}, done: map[int]map[uint64]bool{1: {}, 2: {}, 3: {}}}
	for !e.complete(subs, total) {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, p, err := c.ReadMessage()
		if err != nil {
			t.Fatalf("%v; have %d %d %d, open %v", err, len(e.done[1]), len(e.done[2]), len(e.done[3]), e.open)
		}
		for line := range strings.SplitSeq(string(p), "\n") {
			e.object(line)
		}
		if n := len(e.open[1]) + len(e.open[2]) + len(e.open[3]); n > inflight {
			t.Fatalf("%d messages unacknowledged", n)
		}
		e.answer(rand.IntN(3) == 0)
		for e.missing(total) == 0 && !e.complete(subs, total) {
			e.answer(true) // nothing more comes unless we ask for it
		}
	}
	for _, s := range h.all() {
		checkSession(t, s)
	}
}

type endlessClient struct {
	t    *testing.T
	c    *websocket.Conn
	open map[int][]uint64
	done map[int]map[uint64]bool
}

// missing is how many messages have not come yet, or were refused and are to come again.
func (e *endlessClient) missing(total int) int {
	n := 0
	for sub, done := range e.done {
		n += total - len(done) - len(e.open[sub])
	}
	return n
}

func (e *endlessClient) complete(subs, total int) bool {
	for i := 1; i <= subs; i++ {
		if len(e.done[i]) < total {
			return false
		}
	}
	return true
}

func (e *endlessClient) object(line string) {
	var sub, attempt int
	var seq uint64
	if strings.HasPrefix(line, `{"ok"`) {
		return
	}
	if n, err := fmt.Sscanf(line, `{"msg":{"sub":%d,"attempt":%d,"seq":%d`, &sub, &attempt, &seq); n != 3 {
		e.t.Fatalf("received %.200s: %v", line, err)
	}
	if e.done[sub][seq] {
		e.t.Fatalf("sub %d: %d came again after its ack", sub, seq)
	}
	e.open[sub] = append(e.open[sub], seq)
}

// answer acknowledges, all or in part.
func (e *endlessClient) answer(all bool) {
	var out []string
	for sub, seqs := range e.open {
		if len(seqs) == 0 {
			continue
		}
		k := 1 + rand.IntN(len(seqs))
		if all {
			k = len(seqs)
		}
		last := seqs[k-1]
		switch rand.IntN(10) {
		case 0:
			out = append(out, fmt.Sprintf(`{"nack":{"sub":%d,"seq":%d}}`, sub, seqs[0]))
			e.open[sub] = seqs[1:]
			continue
		case 1, 2, 3:
			out = append(out, fmt.Sprintf(`{"ack":{"sub":%d,"seqs":%s}}`, sub, strings.ReplaceAll(fmt.Sprint(seqs[:k]), " ", ",")))
		default:
			out = append(out, fmt.Sprintf(`{"ack":{"sub":%d,"upto":%d}}`, sub, last))
		}
		for _, n := range seqs[:k] {
			e.done[sub][n] = true
		}
		e.open[sub] = seqs[k:]
	}
	if len(out) > 0 {
		if err := e.c.WriteMessage(websocket.TextMessage, []byte(strings.Join(out, "\n"))); err != nil {
			e.t.Fatal(err)
		}
	}
}

// TestPlainRequests: what is no upgrade gets a problem, over HTTP/1.1.
func TestPlainRequests(t *testing.T) {
	core := newFakeCore()
	_, srv := serve(t, Options{Authenticator: core, Publisher: core, Subscriber: core})
	resp, err := http.Get(srv.URL + "/v1/ws")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired || !strings.Contains(string(body), Subprotocol) {
		t.Errorf("%s %s", resp.Status, body)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /v1/ws HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n")
	resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

func (s *shard) Select([]message.Filter) {}
func (s *shard) Sent([]uint64)           {}
