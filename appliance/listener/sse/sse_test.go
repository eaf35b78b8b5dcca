package sse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

const epoch = message.Epoch("k3f9w2xq")

// fakeCore hands the link out to the test, which plays the shard.
type fakeCore struct {
	authErr, subErr error
	gap             bool
	left            atomic.Int64 // of the grant; 0 for ever, negative none

	mu    sync.Mutex
	req   courier.Request
	creds auth.Credentials
	opts  courier.AttachOptions
	link  chan courier.Link
	att   *fakeAttachment
}

func newFake() *fakeCore {
	return &fakeCore{link: make(chan courier.Link, 1), att: &fakeAttachment{ready: make(chan struct{}, 100), closed: make(chan struct{})}}
}

func (f *fakeCore) Authenticate(_ context.Context, c auth.Credentials) (*auth.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.creds = c
	if f.authErr != nil {
		return nil, f.authErr
	}
	return auth.NewGrant(auth.Key, "app", false, message.Rules{}), nil
}

func (f *fakeCore) Left(*auth.Grant) time.Duration {
	if n := f.left.Load(); n != 0 {
		return time.Duration(max(n, 0))
	}
	return auth.Forever
}

func (f *fakeCore) Subscribe(_ context.Context, _ *auth.Grant, r courier.Request, l courier.Link, o courier.AttachOptions) (courier.Attachment, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.req, f.opts = r, o
	if f.subErr != nil {
		return nil, false, f.subErr
	}
	f.link <- l
	return f.att, f.gap, nil
}

type fakeAttachment struct {
	ready  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (a *fakeAttachment) Ack([]uint64)                             {}
func (a *fakeAttachment) Sent([]uint64)                            {}
func (a *fakeAttachment) Nack(uint64, time.Duration, string, bool) {}
func (a *fakeAttachment) Ready()                                   { a.ready <- struct{}{} }
func (a *fakeAttachment) Close(string)                             { a.once.Do(func() { close(a.closed) }) }

func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	if p := message.ProblemOf(err); p != nil {
		http.Error(w, p.Code, 499)
		return
	}
	http.Error(w, "internal", 500)
}

func delivery(seq uint64, payload string) courier.Delivery {
	m := message.New("a/b", []byte(payload))
	m.ContentType = "application/json"
	m.Seq, m.ID = seq, message.ID{Epoch: epoch, Seq: seq}
	return courier.Delivery{Item: courier.NewItem(m), Seq: seq, Attempt: 1}
}

// pipeListener lets a real net/http server run over net.Pipe inside a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// open starts a server and sends one request; what the server sends is read from the connection.
func open(t *testing.T, s *Server, target, header string) (client net.Conn) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	srv := &http.Server{Handler: s}
	finished := make(chan struct{})
	go func() { defer close(finished); _ = srv.Serve(l) }()
	client, server := net.Pipe()
	l.conns <- server
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		<-finished
	})
	fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target, header)
	return client
}

// head reads the response's head and returns a reader of its body's raw chunks.
func head(t *testing.T, c net.Conn) (*http.Response, *bufio.Reader) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	return res, bufio.NewReader(res.Body)
}

// event reads up to the next blank line.
func event(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("read event: %v (have %q)", err, b.String())
		}
		if line == "\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

func TestStreamShowsMessagesAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.gap = true
		c := open(t, New(Options{Core: f, Refuse: refuse}), "/v1/stream?topic=a/%23&after=k3f9w2xq-1",
			"Last-Event-ID: k3f9w2xq-40\r\nAuthorization: Bearer ep_secret\r\n")
		res, body := head(t, c)
		if got := res.Header.Get("Content-Type"); res.StatusCode != 200 || got != "text/event-stream" {
			t.Fatalf("status %d, content type %q", res.StatusCode, got)
		}
		if got := event(t, body); got != "retry: 2000\n" {
			t.Errorf("first event %q", got)
		}
		if got, want := event(t, body), "event: gap\ndata: {\"after\":\"k3f9w2xq-40\"}\n"; got != want {
			t.Errorf("gap event %q, want %q", got, want)
		}
		link := <-f.link
		if f.req.Filter != "a/#" || f.req.After != (message.ID{Epoch: epoch, Seq: 40}) || f.req.Name != "" || !f.opts.AutoSettle {
			t.Errorf("request %+v, options %+v: Last-Event-ID goes before after, and there are no acks", f.req, f.opts)
		}
		if f.creds.Token != "ep_secret" {
			t.Errorf("credentials %+v", f.creds)
		}
		d := delivery(41, "{\n \"on\": true\n}")
		d.ExpiresIn, d.Attempt = 1500*time.Millisecond, 2
		if !hand(link, d) {
			t.Fatal("an empty queue refused a message")
		}
		want := "id: k3f9w2xq-41\ndata: {\"seq\":41,\"id\":\"k3f9w2xq-41\",\"topic\":\"a/b\",\"ct\":\"application/json\",\"priority\":4,\"data\":{\"on\":true},\"attempt\":2,\"expires_in\":2}\n"
		if got := event(t, body); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		v := message.New("a/v", []byte("now"))
		hand(link, courier.Delivery{Item: courier.NewItem(v), Attempt: 1})
		if got := event(t, body); strings.Contains(got, "id:") || !strings.Contains(got, `"text":"now"`) {
			t.Errorf("a volatile message must not move Last-Event-ID: %q", got)
		}
	})
}

func TestHeartbeatOnlyInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := open(t, New(Options{Core: f, Refuse: refuse}), "/v1/stream?topic=a", "")
		_, body := head(t, c)
		event(t, body)
		link := <-f.link
		start := time.Now()
		time.Sleep(20 * time.Second)
		hand(link, delivery(1, "1"))
		if got := event(t, body); !strings.HasPrefix(got, "id: ") {
			t.Fatalf("got %q", got)
		}
		if got := event(t, body); got != ":\n" || time.Since(start) != 45*time.Second {
			t.Errorf("got %q after %v; a heartbeat is due 25 s after the last write", got, time.Since(start))
		}
	})
}

func TestManyEventsInOneWrite(t *testing.T) {
	f := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	w := &countingWriter{header: http.Header{}, flushed: make(chan struct{}, 100), gate: make(chan struct{})}
	s := New(Options{Core: f, Refuse: refuse})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/stream?topic=a", nil))
	}()
	link := <-f.link
	for i := range 50 { // while the writer is still held in its first write
		if !hand(link, delivery(uint64(i+1), `"x"`)) {
			t.Fatalf("message %d of 50 refused by a queue of 64", i)
		}
	}
	close(w.gate)
	<-w.flushed
	<-w.flushed
	if w.writes != 2 {
		t.Errorf("%d writes for 50 waiting events, want 1 and the greeting", w.writes)
	}
	if n := strings.Count(w.text.String(), "data: "); n != 50 {
		t.Errorf("%d events of 50 arrived", n)
	}
	cancel()
	<-finished
	select {
	case <-f.att.closed:
	default:
		t.Error("the attachment was not closed with the stream")
	}
	if s.Streams() != 0 {
		t.Errorf("%d streams still counted", s.Streams())
	}
}

type countingWriter struct {
	header  http.Header
	gate    chan struct{}
	flushed chan struct{}
	writes  int
	text    strings.Builder
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Flush()              { w.flushed <- struct{}{} }
func (w *countingWriter) Write(b []byte) (int, error) {
	<-w.gate
	w.writes++
	return w.text.Write(b)
}

func TestStalledReaderIsCutAndQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := open(t, New(Options{Core: f, Refuse: refuse, Queue: 4}), "/v1/stream?topic=a", "")
		_, body := head(t, c)
		event(t, body)
		link := <-f.link
		start := time.Now()
		taken := 0
		hand(link, delivery(1, `"`+strings.Repeat("x", 100_000)+`"`)) // a pipe takes nothing until it is read
		synctest.Wait()
		for i := range 10 {
			if hand(link, delivery(uint64(i+2), "1")) {
				taken++
			}
		}
		if taken != 4 {
			t.Errorf("the queue of 4 took %d", taken)
		}
		<-f.att.closed
		if got := time.Since(start); got != defaultWriteTimeout {
			t.Errorf("cut after %v, want %v", got, defaultWriteTimeout)
		}
	})
}

func TestBehindGoesOnAfterReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := open(t, New(Options{Core: f, Refuse: refuse, Queue: 2}), "/v1/stream?topic=a", "")
		_, body := head(t, c)
		event(t, body)
		link := <-f.link
		const total = 200
		go func() { // the shard: what is refused waits for Ready
			for seq := uint64(1); seq <= total; {
				if hand(link, delivery(seq, "1")) {
					seq++
					continue
				}
				<-f.att.ready
			}
		}()
		for seq := 1; seq <= total; seq++ {
			if got, want := event(t, body), fmt.Sprintf("id: %s-%d\n", epoch, seq); !strings.HasPrefix(got, want) {
				t.Fatalf("got %q, want it to start with %q", got, want)
			}
		}
	})
}

func TestByteLimitOfQueueLetsOneLargeThrough(t *testing.T) {
	s := newStream(64, 1000)
	if !hand(s, delivery(1, strings.Repeat("1", 5000))) {
		t.Error("an empty queue must take any message, or it would never be delivered")
	}
	if hand(s, delivery(2, "1")) {
		t.Error("a queue over its bytes took another one")
	}
	if ds, _ := s.take(nil); len(ds) != 1 || !s.caughtUp() || s.caughtUp() {
		t.Error("the shard must be told exactly once that there is room")
	}
	if !hand(s, delivery(2, "1")) {
		t.Error("the emptied queue refused")
	}
}

func TestLostSaysBye(t *testing.T) {
	for cause, want := range map[courier.Cause]string{courier.Stopping: "stopping", courier.Removed: "removed", courier.TakenOver: "taken over", 99: "lost"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			c := open(t, New(Options{Core: f, Refuse: refuse}), "/v1/stream?topic=a", "")
			_, body := head(t, c)
			event(t, body)
			link := <-f.link
			hand(link, delivery(1, "1"))
			link.Lost(cause)
			if hand(link, delivery(2, "1")) {
				t.Error("a lost stream took a message")
			}
			if got := event(t, body); !strings.HasPrefix(got, "id: k3f9w2xq-1\n") {
				t.Errorf("what was queued comes first, got %q", got)
			}
			if got := event(t, body); got != "event: bye\ndata: {\"reason\":\""+want+"\"}\n" {
				t.Errorf("got %q", got)
			}
			if _, err := body.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream goes on after bye: %v", err)
			}
		})
	}
}

func TestEndsWithTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.left.Store(int64(10 * time.Second))
		c := open(t, New(Options{Core: f, Refuse: refuse}), "/v1/stream?topic=a", "")
		_, body := head(t, c)
		event(t, body)
		time.AfterFunc(10*time.Second-1, func() { f.left.Store(-1) })
		start := time.Now()
		if got := event(t, body); got != ":\n" {
			t.Errorf("got %q", got)
		}
		if got := event(t, body); got != "event: bye\ndata: {\"reason\":\"the token has ended\"}\n" || time.Since(start) != 10*time.Second {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		if _, err := body.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream goes on after bye: %v", err)
		}
	})
}

// TestStopWritesWhatIsQueued cancels the request's context, as the server does when it stops.
func TestStopWritesWhatIsQueued(t *testing.T) {
	f := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	w := &countingWriter{header: http.Header{}, flushed: make(chan struct{}, 100), gate: make(chan struct{})}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		New(Options{Core: f, Refuse: refuse}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/stream?topic=a", nil))
	}()
	hand(<-f.link, delivery(1, "1"))
	cancel()
	close(w.gate)
	<-finished
	if got := w.text.String(); !strings.Contains(got, "id: k3f9w2xq-1\n") || !strings.HasSuffix(got, "event: bye\ndata: {\"reason\":\"stopping\"}\n\n") {
		t.Errorf("%q", got)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, target, header string
		set                  func(*fakeCore)
		want                 string
	}{
		{"no filter", "/v1/stream", "", nil, message.CodeBadFilter},
		{"bad filter", "/v1/stream?topic=a%23", "", nil, message.CodeBadFilter},
		{"NUL", "/v1/stream?topic=a%00", "", nil, message.CodeBadFilter},
		{"bad UTF-8", "/v1/stream?topic=%ff", "", nil, message.CodeBadFilter},
		{"two filters", "/v1/stream?topic=a&topic=b", "", nil, message.CodeBadRequest},
		{"unknown parameter", "/v1/stream?topic=a&name=x", "", nil, message.CodeBadRequest},
		{"malformed query", "/v1/stream?topic=%zz", "", nil, message.CodeBadRequest},
		{"bad after", "/v1/stream?topic=a&after=7", "", nil, message.CodeBadID},
		{"bad Last-Event-ID", "/v1/stream?topic=a", "x", nil, message.CodeBadID},
		{"empty ticket", "/v1/stream?topic=a&ticket=", "", nil, message.CodeUnauthorized},
		{"unauthorized", "/v1/stream?topic=a", "", func(f *fakeCore) { f.authErr = message.Problemf(message.CodeUnauthorized, "no") }, message.CodeUnauthorized},
		{"forbidden", "/v1/stream?topic=a", "", func(f *fakeCore) { f.subErr = message.Problemf(message.CodeForbidden, "no") }, message.CodeForbidden},
		{"internal", "/v1/stream?topic=a", "", func(f *fakeCore) { f.subErr = errors.New("disk") }, "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			if c.set != nil {
				c.set(f)
			}
			r := httptest.NewRequest("GET", c.target, nil)
			r.Header.Set("Last-Event-ID", c.header)
			w := httptest.NewRecorder()
			New(Options{Core: f, Refuse: refuse}).ServeHTTP(w, r)
			if got := strings.TrimSpace(w.Body.String()); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestStreamLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(Options{Core: f, Refuse: refuse, MaxStreams: 1})
		c := open(t, s, "/v1/stream?topic=a", "")
		head(t, c)
		<-f.link
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/stream?topic=a", nil))
		if got := strings.TrimSpace(w.Body.String()); got != message.CodeTooMany {
			t.Errorf("the second of one possible streams got %q", got)
		}
		c.Close()
		<-f.att.closed
		synctest.Wait()
		if s.Streams() != 0 {
			t.Errorf("%d streams still counted", s.Streams())
		}
	})
}

// TestOverHTTP2 runs a stream over unencrypted HTTP/2, where deadlines and flushes are per stream.
func TestOverHTTP2(t *testing.T) {
	f := newFake()
	srv := httptest.NewUnstartedServer(New(Options{Core: f, Refuse: refuse}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/stream?topic=a", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	event(t, body)
	link := <-f.link
	hand(link, delivery(1, "1"))
	if got := event(t, body); res.ProtoMajor != 2 || !strings.HasPrefix(got, "id: k3f9w2xq-1\n") {
		t.Errorf("over %s: %q", res.Proto, got)
	}
	cancel()
	<-f.att.closed
}

func (a *fakeAttachment) Select([]message.Filter) {}
