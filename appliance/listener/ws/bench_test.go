package ws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/trial"
	"edgepost/appliance/message"
)

// BenchmarkDeliver: one session, N messages of 128 bytes over loopback, acknowledged by "upto" every
// so many. Reader and client are in the process; the allocations are mostly the client's.
func BenchmarkDeliver(b *testing.B) {
	for _, every := range []int{1, 32} {
		b.Run("ack="+strconv.Itoa(every), func(b *testing.B) { benchmarkDeliver(b, every) })
	}
}

func benchmarkDeliver(b *testing.B, every int) {
	core := newFakeCore()
	shard := &waiting{fakeCore: core, ready: make(chan struct{}, 1)}
	_, srv := serve(b, Options{Authenticator: core, Publisher: core, Subscriber: shard})
	c := dial(b, srv, "ep_lamp1")
	link := shard.link
	items := make([]*courier.Item, 64)
	for i := range items {
		items[i] = courier.NewItem(testMessage(uint64(i+1), "device/lamp1/in/set", strings.Repeat("x", 128), "text/plain"))
	}
	var wg sync.WaitGroup
	wg.Go(func() { acknowledge(b, c, b.N, every) })
	b.ReportAllocs()
	cpu := trial.CPUTime()
	b.ResetTimer()
	for i := range b.N {
		d := courier.Delivery{Item: items[i%64], Seq: uint64(i + 1), Attempt: 1}
		for !hand(link, d) {
			<-shard.ready
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(trial.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkFanOut delivers every message to 1,000 sessions whose clients live in another process and
// acknowledge every 32; the CPU is the server's alone (goal: 1,000 ns a delivery).
func BenchmarkFanOut(b *testing.B) {
	const clients = 1000
	core := newFakeCore()
	room := &fanOut{fakeCore: core}
	_, srv := serve(b, Options{Authenticator: idle{core}, Publisher: core, Subscriber: room})
	stop := trial.Crowd(b, "WS_ADDR="+srv.Listener.Addr().String(), "WS_TRAFFIC=drain", "WS_CLIENTS="+strconv.Itoa(clients))
	defer stop()
	payload := strings.Repeat("x", 128)
	cpu := trial.CPUTime()
	b.ResetTimer()
	for i := range b.N {
		item := courier.NewItem(testMessage(uint64(i+1), "alarm/all", payload, "text/plain"))
		for _, w := range room.links {
			for !hand(w.link, courier.Delivery{Item: item, Seq: uint64(i + 1), Attempt: 1}) {
				<-w.ready
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(trial.CPUTime()-cpu)/float64(b.N)/clients, "cpu-ns/delivery")
}

type fanOut struct {
	*fakeCore
	mu    sync.Mutex
	links []*waiting
}

func (f *fanOut) OpenInbox(_ context.Context, _ *auth.Grant, l courier.Link, _ courier.AttachOptions) (courier.Attachment, error) {
	w := &waiting{link: l, ready: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.links = append(f.links, w)
	return w, nil
}

// waiting is a subscription whose one user waits for credit.
type waiting struct {
	*fakeCore
	silent
	link  courier.Link
	ready chan struct{}
}

func (w *waiting) OpenInbox(_ context.Context, _ *auth.Grant, l courier.Link, _ courier.AttachOptions) (courier.Attachment, error) {
	w.link = l
	return w, nil
}

func (w *waiting) Ready() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// acknowledge reads n messages and acknowledges every so many of them.
func acknowledge(b *testing.B, c *websocket.Conn, n, every int) {
	buf := make([]byte, 0, 64<<10)
	for got := 0; got < n; {
		_, r, err := c.NextReader()
		if err != nil {
			b.Error(err)
			return
		}
		w := bytes.NewBuffer(buf[:0])
		if _, err := io.Copy(w, r); err != nil {
			b.Error(err)
			return
		}
		before := got
		got += bytes.Count(w.Bytes(), []byte(`{"msg":`))
		for k := before/every + 1; k <= got/every; k++ {
			if err := c.WriteMessage(websocket.TextMessage, []byte(`{"ack":{"sub":0,"upto":`+strconv.Itoa(k*every)+`}}`)); err != nil {
				b.Error(err)
				return
			}
		}
	}
}

// nowhere is a connection that accepts everything and says nothing.
type nowhere struct {
	net.Conn
	bytes, writes int
}

func (n *nowhere) Write(p []byte) (int, error)      { n.bytes += len(p); n.writes++; return len(p), nil }
func (n *nowhere) SetDeadline(time.Time) error      { return nil }
func (n *nowhere) SetWriteDeadline(time.Time) error { return nil }
func (n *nowhere) SetReadDeadline(time.Time) error  { return nil }
func (n *nowhere) Close() error                     { return nil }

// BenchmarkQueue is the server's part alone: Deliver, queue, batch, frame; 64 messages, then the
// acknowledgement.
func BenchmarkQueue(b *testing.B) {
	core := newFakeCore()
	h := New(Options{Authenticator: core, Publisher: core, Subscriber: core})
	conn := &nowhere{}
	s := newDetached(h, conn)
	l := &link{s: s, open: true, att: silent{}}
	s.links = append(s.links, l)
	items := make([]*courier.Item, 64)
	for i := range items {
		items[i] = courier.NewItem(testMessage(uint64(i+1), "device/lamp1/in/set", strings.Repeat("x", 128), "text/plain"))
	}
	ack := []byte(`{"ack":{"sub":0,"upto":64}}`)
	var r request
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if !hand(l, courier.Delivery{Item: items[i%64], Seq: uint64(i%64 + 1), Attempt: 1}) {
			b.Fatal("refused")
		}
		if i%64 == 63 {
			s.object(ack, &r)
			s.mu.Lock()
			for s.writing {
				s.wake.Wait()
			}
			s.mu.Unlock()
		}
	}
	b.StopTimer()
	if b.N > 64 {
		b.ReportMetric(float64(b.N)/float64(conn.writes), "msgs/write")
	}
}

// silent is an attachment that does nothing.
type silent struct{}

func (silent) Ack([]uint64)                             {}
func (silent) Sent([]uint64)                            {}
func (silent) Nack(uint64, time.Duration, string, bool) {}
func (silent) Ready()                                   {}
func (silent) Close(string)                             {}

// BenchmarkDecodeAck is the cost of the most frequent object.
func BenchmarkDecodeAck(b *testing.B) {
	line := []byte(`{"ack":{"sub":0,"upto":4712}}`)
	var r request
	b.ReportAllocs()
	for b.Loop() {
		r = request{}
		if err := r.decode(line); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodePub is the cost of a small publish.
func BenchmarkDecodePub(b *testing.B) {
	line := []byte(`{"id":3,"pub":{"topic":"device/lamp1/out/state","data":{"on":true,"level":42},"key":"idem-1","ttl":60}}`)
	var r request
	b.ReportAllocs()
	for b.Loop() {
		r = request{}
		if err := r.decode(line); err != nil {
			b.Fatal(err)
		}
	}
}

const idleConnections = 2000

// BenchmarkIdle measures the memory of an idle connection (goal: at most 6 KiB of RSS). The clients live in
// another process, so everything counted is the server's; kernel socket buffers are not in it. Each
// client is a device with an inbox; "after" has received and acknowledged a message.
func BenchmarkIdle(b *testing.B) {
	for _, traffic := range []string{"fresh", "after"} {
		b.Run(traffic, func(b *testing.B) { benchmarkIdle(b, traffic) })
	}
}

func benchmarkIdle(b *testing.B, traffic string) {
	core := newFakeCore()
	h, srv := serve(b, Options{Authenticator: idle{core}, Publisher: core, Subscriber: idle{core}, Epoch: testEpoch})
	warm := dial(b, srv, "ep_app") // pools, first goroutines
	defer warm.Close()
	before := trial.Weigh()
	stop := trial.Crowd(b, "WS_ADDR="+srv.Listener.Addr().String(), "WS_TRAFFIC="+traffic, "WS_CLIENTS="+strconv.Itoa(idleConnections))
	defer stop()
	if n := h.Stats().Connections; n != idleConnections+1 {
		b.Fatalf("%d connections", n)
	}
	trial.ReportMemory(b, before, idleConnections)
}

// idle takes every token for a device of that name, whose inbox stays empty.
type idle struct{ *fakeCore }

func (idle) Authenticate(_ context.Context, c auth.Credentials) (*auth.Grant, error) {
	return auth.NewGrant(auth.Device, c.Token, false, message.Rules{}), nil
}

func (idle) OpenInbox(context.Context, *auth.Grant, courier.Link, courier.AttachOptions) (courier.Attachment, error) {
	return silent{}, nil
}

func (idle) Subscribe(context.Context, *auth.Grant, courier.Request, courier.Link, courier.AttachOptions) (courier.Attachment, bool, error) {
	return silent{}, false, nil
}

// TestClients is the other process of the benchmarks; on its own it does nothing.
func TestClients(t *testing.T) {
	addr := os.Getenv("WS_ADDR")
	if addr == "" {
		t.Skip("only as a child of a benchmark")
	}
	trial.ManyFiles()
	n, _ := strconv.Atoi(os.Getenv("WS_CLIENTS"))
	var count drainCount
	for i := range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		w, err := dialWire(conn)
		if err == nil {
			err = w.text(`{"hello":{"token":"lamp` + strconv.Itoa(i) + `"}}`)
		}
		if err == nil {
			_, err = readWireFrame(w.br)
		}
		if err == nil && os.Getenv("WS_TRAFFIC") == "after" {
			err = exchange(w)
		}
		if err != nil {
			t.Fatal(i, err)
		}
		if os.Getenv("WS_TRAFFIC") == "drain" {
			go count.drain(w) // ends with the process
		}
		defer runtime.KeepAlive(w)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if os.Getenv("WS_TRAFFIC") == "drain" {
		fmt.Fprintf(os.Stderr, "clients: %d messages in %d frames\n", count.messages.Load(), count.frames.Load())
	}
}

// drainCount is what all clients received.
type drainCount struct{ messages, frames atomic.Int64 }

// drain acknowledges every 32 messages.
func (c *drainCount) drain(w *wire) {
	got := 0
	for {
		f, err := readWireFrame(w.br)
		if err != nil {
			return
		}
		before := got / 32
		n := bytes.Count(f.payload, []byte(`{"msg":`))
		got += n
		c.frames.Add(1)
		c.messages.Add(int64(n))
		if got/32 > before && w.text(`{"ack":{"sub":0,"upto":`+strconv.Itoa(got/32*32)+`}}`) != nil {
			return
		}
	}
}

// exchange makes the session work: a subscription, pubs, pings.
func exchange(w *wire) error {
	for _, object := range []string{
		`{"id":1,"sub":{"topic":"a/#"}}`, `{"id":2,"pub":{"topic":"b","data":{"a":[1,2,3]},"ttl":"10m"}}`, `{"id":3,"ping":1}`, `{"id":4,"ack":{"sub":1,"seqs":[1]}}`,
	} {
		if err := w.text(object); err != nil {
			return err
		}
		if _, err := readWireFrame(w.br); err != nil {
			return err
		}
	}
	return nil
}

// newDetached makes a greeted session on conn without a reader.
func newDetached(h *Handler, conn net.Conn) *session {
	s := &session{h: h, conn: conn, name: "detached", nextSub: 1, first: true, hello: true}
	s.wake.L = &s.mu
	s.grant = auth.NewGrant(auth.Key, "app", false, message.Rules{})
	return s
}

func (w *waiting) Select([]message.Filter) {}

func (w *waiting) Sent([]uint64) {}

func (silent) Select([]message.Filter) {}
