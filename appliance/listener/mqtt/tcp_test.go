package mqtt

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/message"
)

// serveTCP starts a server with the fake core on loopback.
func serveTCP(tb testing.TB, o Options) (core *fakeCore, s *Server, addr string) {
	tb.Helper()
	core = newFakeCore()
	o.Authenticator, o.Publisher, o.Sessions, o.Subscriber, o.Wills, o.Log = core, core, core, core, core, slog.New(slog.DiscardHandler)
	s = New(o)
	return core, s, serveOn(tb, s)
}

// serveOn has the server listen on loopback until the test ends.
func serveOn(tb testing.TB, s *Server) (addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			tb.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// peer is a client over a real connection that waits for what it reads.
type peer struct {
	tb   testing.TB
	conn io.ReadWriteCloser
	v    packet.Version
	buf  []byte
}

func dialTCP(tb testing.TB, addr string, v packet.Version, words string) *peer {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	tb.Cleanup(func() { _ = conn.Close() })
	p := &peer{tb: tb, conn: conn, v: v}
	p.send("connect " + words)
	if got := p.next(); !strings.HasPrefix(got, "connack") || !strings.Contains(got, "code=00") {
		tb.Fatalf("CONNACK: %s", got)
	}
	return p
}

func (p *peer) send(words string) {
	p.tb.Helper()
	b, err := build(words, p.v)
	if err == nil {
		_, err = p.conn.Write(b)
	}
	if err != nil {
		p.tb.Fatal(words, err)
	}
}

// next is the next packet as text, or why there is none.
func (p *peer) next() string {
	chunk := make([]byte, 64<<10)
	for {
		t, flags, body, head, err := packet.ReadHeader(p.buf)
		if err == nil && len(p.buf) >= head+body {
			var q packet.Packet
			if err := q.Decode(p.v, t, flags, p.buf[head:head+body]); err != nil {
				p.tb.Fatalf("server sent % x: %v", p.buf, err)
			}
			line := show(&q, p.v)
			p.buf = p.buf[head+body:]
			return line
		}
		n, err := p.conn.Read(chunk)
		p.buf = append(p.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return err.Error()
		}
	}
}

func (p *peer) want(lines ...string) {
	p.tb.Helper()
	for _, l := range lines {
		if got := p.next(); !matchLine(l, got) {
			p.tb.Fatalf("have %s, want %s", got, l)
		}
	}
}

// TestTCP runs the ways of reading and writing that a pipe does not have: no buffer while idle, packets
// in pieces and many at once, large ones both ways.
func TestTCP(t *testing.T) {
	core, s, addr := serveTCP(t, Options{})
	p := dialTCP(t, addr, packet.V5, "id=a clean")
	for _, c := range s.all() {
		if c.in.Blind() {
			t.Error("a TCP connection waits with a buffer")
		}
	}
	ping, err := build("pingreq", p.v)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, b := range ping { // byte by byte
			if _, err := p.conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		p.want("pingresp")
	}
	if _, err := p.conn.Write(bytes.Repeat(ping, 20_000)); err != nil { // more than a buffer at once
		t.Fatal(err)
	}
	for range 20_000 {
		p.want("pingresp")
	}
	p.send("publish t=big q=1 id=9 p=REPEAT(x,200000)")
	p.want("puback id=9")
	p.send("subscribe id=1 f=t:1")
	p.want("suback id=1 codes=01")
	link := core.attachment("session a").link
	m := message.New("t", bytes.Repeat([]byte("y"), 200_000))
	m.Seq = 7
	if !hand(link, courier.Delivery{Item: courier.NewItem(m), Seq: 7, Attempt: 1}) {
		t.Fatal("not taken")
	}
	p.want("publish t=t q=1 id=1 p=200000_bytes")
	p.send("disconnect")
	if got := p.next(); got != io.EOF.Error() {
		t.Errorf("after DISCONNECT: %s", got)
	}
}

// TestFarewellSurvivesUnreadInput has the client still sending when the server gives up: without
// care the kernel resets the connection and takes the DISCONNECT with it.
func TestFarewellSurvivesUnreadInput(t *testing.T) {
	_, _, addr := serveTCP(t, Options{})
	p := dialTCP(t, addr, packet.V5, "id=a clean")
	junk := append([]byte{0xF0, 0x00}, bytes.Repeat([]byte{0xC0, 0x00}, 100_000)...)
	go func() { _, _ = p.conn.Write(junk) }() // ends when the server closes
	time.Sleep(50 * time.Millisecond)
	p.want("disconnect code=82")
}

// TestSlowClientDelaysNobody has one client that reads nothing; another gets everything.
func TestSlowClientDelaysNobody(t *testing.T) {
	core, s, addr := serveTCP(t, Options{WriteTimeout: 2 * time.Second})
	slow, fast := dialTCP(t, addr, packet.V311, "id=slow clean"), dialTCP(t, addr, packet.V311, "id=fast clean")
	for _, p := range []*peer{slow, fast} {
		p.send("subscribe id=1 f=t:0")
		p.want("suback id=1 codes=00")
	}
	item := courier.NewItem(message.New("t", bytes.Repeat([]byte("y"), 100_000)))
	for i := range 200 {
		hand(core.attachment("session slow").link, courier.Delivery{Item: item})
		for !hand(core.attachment("session fast").link, courier.Delivery{Item: item}) {
			t.Fatal("the fast one was dropped at", i)
		}
		fast.want("publish t=t q=0 p=100000_bytes")
	}
	deadline := time.Now().Add(time.Minute)
	for s.Stats().Slow == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if st := s.Stats(); st.Slow != 1 || st.Dropped == 0 {
		t.Errorf("stats: %+v", st)
	}
}

func dialWeb(t *testing.T, url string, h http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: protocols}
	c, resp, err := d.Dial("ws"+strings.TrimPrefix(url, "http")+"/mqtt", h)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	}
	return c, resp, err
}

// webPeer speaks over binary frames, each packet cut in two.
type webPeer struct {
	*websocket.Conn
	rest []byte
}

func (w *webPeer) Write(b []byte) (int, error) {
	for _, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		if err := w.WriteMessage(websocket.BinaryMessage, part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (w *webPeer) Read(b []byte) (int, error) {
	for len(w.rest) == 0 {
		kind, p, err := w.ReadMessage()
		if err != nil {
			return 0, err
		}
		if kind != websocket.BinaryMessage {
			return 0, errors.New("a frame that is not binary")
		}
		w.rest = p
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

// TestWebSocket is MQTT over WebSocket: the subprotocol, packets across frames and several in one,
// credentials of the request, and frames that are not binary.
func TestWebSocket(t *testing.T) {
	core := newFakeCore()
	s := New(Options{Authenticator: core, Publisher: core, Sessions: core, Subscriber: core, Wills: core, Log: slog.New(slog.DiscardHandler)})
	srv := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		srv.Close()
	})
	for _, refused := range []struct {
		protocols []string
		header    http.Header
		status    int
	}{
		{nil, nil, http.StatusBadRequest},
		{[]string{"chat"}, nil, http.StatusBadRequest},
		{[]string{"mqtt"}, http.Header{"Authorization": {"Bearer wrong"}}, http.StatusUnauthorized},
		{[]string{"mqtt"}, http.Header{"Authorization": {"Bearer broken"}}, http.StatusInternalServerError},
	} {
		if _, resp, err := dialWeb(t, srv.URL, refused.header, refused.protocols...); err == nil || resp == nil || resp.StatusCode != refused.status {
			t.Errorf("%v %v: %v %v", refused.protocols, refused.header, resp, err)
		}
	}
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain request: %s", resp.Status)
	}

	c, resp, err := dialWeb(t, srv.URL, http.Header{"Authorization": {"Bearer ep_app"}}, "chat", "mqtt")
	if err != nil || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		t.Fatal(resp, err)
	}
	p := &peer{tb: t, conn: &webPeer{Conn: c}, v: packet.V5}
	p.send("connect id=a clean")
	p.want("connack code=00 std")
	p.send("publish t=x q=1 id=5 p=REPEAT(x,100000)")
	p.want("puback id=5")
	p.send("subscribe id=1 f=t:1")
	p.want("suback id=1 codes=01")
	m := message.New("t", bytes.Repeat([]byte("y"), 100_000))
	hand(core.attachment("session a").link, courier.Delivery{Item: courier.NewItem(m), Seq: 7, Attempt: 1})
	p.want("publish t=t q=1 id=1 p=100000_bytes")
	if e := strings.Join(core.events, "\n"); !strings.Contains(e, "publish key/app t=x") {
		t.Errorf("the core saw %s", e)
	}
	p.send("connect id=a clean")
	p.want("disconnect code=82")
	if got := p.next(); !strings.Contains(got, "close 1000") {
		t.Errorf("the end: %s", got)
	}

	c, _, err = dialWeb(t, srv.URL, nil, "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("a text frame: %v", err)
	}
}

// endless is a core whose subscriptions always have a next message.
type endless struct {
	*fakeCore
	mu    sync.Mutex
	links []*endlessLink
}

func (e *endless) OpenSession(_ context.Context, _ *auth.Grant, _ courier.SessionSpec, l courier.Link, _ courier.AttachOptions) (courier.Attachment, error) {
	a := &endlessLink{link: l, more: make(chan struct{}, 1), done: make(chan struct{})}
	e.mu.Lock()
	e.links = append(e.links, a)
	e.mu.Unlock()
	return a, nil
}

// endlessLink delivers as a shard does, and counts acks.
type endlessLink struct {
	link courier.Link
	more chan struct{}
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	acked map[uint64]int
}

func (a *endlessLink) Ack(seqs []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.acked == nil {
		a.acked = map[uint64]int{}
	}
	for _, s := range seqs {
		a.acked[s]++
	}
}
func (a *endlessLink) Nack(uint64, time.Duration, string, bool) {}
func (a *endlessLink) Ready() {
	select {
	case a.more <- struct{}{}:
	default:
	}
}
func (a *endlessLink) Close(string) { a.once.Do(func() { close(a.done) }) }

// TestNothingIsLostBetweenReadyAndDeliver pushes 5,000 messages of QoS 1 and 2 through a window of 8;
// each must come once, in order, and be acknowledged once.
func TestNothingIsLostBetweenReadyAndDeliver(t *testing.T) {
	core := &endless{fakeCore: newFakeCore()}
	s := New(Options{Authenticator: core, Publisher: core, Sessions: core, Subscriber: core, Wills: core, Log: slog.New(slog.DiscardHandler), MaxInflight: 8})
	p := dialTCP(t, serveOn(t, s), packet.V311, "id=a clean")
	p.send("subscribe id=1 f=t:2")
	p.want("suback id=1 codes=02")
	const total = 5_000
	a := core.links[0]
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range uint64(total) {
			m := message.New("t", []byte("x"))
			m.QoS = message.QoS(1 + i%2)
			for !hand(a.link, courier.Delivery{Item: courier.NewItem(m), Seq: i + 1, Attempt: 1}) {
				select {
				case <-a.more:
				case <-a.done:
					return
				}
			}
		}
	})
	completed := 0
	for completed < total {
		l := p.next()
		words := strings.Fields(l)
		id := ""
		for _, w := range words {
			if n, ok := strings.CutPrefix(w, "id="); ok {
				id = n
			}
		}
		switch {
		case strings.HasPrefix(l, "publish t=t q=1"):
			p.send("puback id=" + id)
			completed++
		case strings.HasPrefix(l, "publish t=t q=2"):
			p.send("pubrec id=" + id)
		case words[0] == "pubrel":
			p.send("pubcomp id=" + id)
			completed++
		default:
			t.Fatal(l)
		}
	}
	wg.Wait()
	p.send("pingreq")
	p.want("pingresp")
	deadline := time.Now().Add(time.Minute)
	for {
		a.mu.Lock()
		n := len(a.acked)
		a.mu.Unlock()
		if n == total {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d acknowledged", n, total)
		}
		time.Sleep(time.Millisecond)
	}
	for seq, n := range a.acked {
		if n != 1 {
			t.Fatalf("%d was acknowledged %d times", seq, n)
		}
	}
}

// TestTLS runs a session over a connection that is not read by its descriptor.
func TestTLS(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	core := newFakeCore()
	s := New(Options{Authenticator: core, Publisher: core, Sessions: core, Subscriber: core, Wills: core, Log: slog.New(slog.DiscardHandler)})
	l, err := tls.Listen("tcp", "127.0.0.1:0", certified.TLS)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test certificate
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{tb: t, conn: conn, v: packet.V5}
	p.send("connect id=a clean")
	p.want("connack code=00 std")
	for i := range 50 {
		p.send(fmt.Sprintf("publish t=t q=1 id=%d p=REPEAT(x,%d)", i+1, 100*i))
	}
	for i := range 50 {
		p.want(fmt.Sprintf("puback id=%d", i+1))
	}
	go func() { _ = s.Close(context.Background()) }() // waited for below
	p.want("disconnect code=8b")
	_ = conn.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHalfAPacket: what is kept of a connection that sent half a packet is that half.
func TestHalfAPacket(t *testing.T) {
	_, s, addr := serveTCP(t, Options{})
	p := dialTCP(t, addr, packet.V311, "id=a clean")
	for n := range 100 {
		one, err := build(fmt.Sprintf("publish t=t q=1 id=%d p=REPEAT(x,%d)", n+1, 37*n), p.v)
		if err != nil {
			t.Fatal(err)
		}
		cut := len(one) * n / 100
		if _, err := p.conn.Write(one[:cut]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if _, err := p.conn.Write(append(one[cut:], 0xC0, 0)); err != nil {
			t.Fatal(err)
		}
		p.want("puback id=*")
		p.want("pingresp")
	}
	if st := s.Stats(); st.PublishesIn != 100 {
		t.Errorf("%+v", st)
	}
}

func (a *endlessLink) Select([]message.Filter) {}
func (a *endlessLink) Sent([]uint64)           {}
