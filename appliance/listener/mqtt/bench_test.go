package mqtt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/mqtt/packet"
	"edgepost/appliance/listener/trial"
	"edgepost/appliance/message"
)

// stub is a core that costs nothing.
type stub struct {
	*fakeCore
	mu    sync.Mutex
	links []*stubLink
}

func (*stub) Authenticate(context.Context, auth.Credentials) (*auth.Grant, error) {
	all := message.Rules{Publish: []message.Filter{"#"}, Subscribe: []message.Filter{"#"}}
	return auth.NewGrant(auth.Anonymous, "", false, all), nil
}

func (*stub) PublishAsync(_ *auth.Grant, _ *message.Message, done func(message.StoredAs, error)) {
	done(message.StoredAs{}, nil)
}

func (c *stub) OpenSession(_ context.Context, _ *auth.Grant, _ courier.SessionSpec, l courier.Link, _ courier.AttachOptions) (courier.Attachment, error) {
	a := &stubLink{link: l, ready: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links = append(c.links, a)
	return a, nil
}

func (*stub) ChangeSession(context.Context, *auth.Grant, courier.SessionSpec, []message.Filter) error {
	return nil
}

func (*stub) Retained(context.Context, *auth.Grant, message.Filter) ([]*message.Message, error) {
	return nil, nil
}

type stubLink struct {
	link  courier.Link
	ready chan struct{}
}

func (*stubLink) Ack([]uint64)                             {}
func (*stubLink) Sent([]uint64)                            {}
func (*stubLink) Nack(uint64, time.Duration, string, bool) {}
func (*stubLink) Close(string)                             {}
func (l *stubLink) Ready() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

func stubServer(b *testing.B, o Options) (*stub, *Server, string) {
	core := &stub{fakeCore: newFakeCore()}
	o.Authenticator, o.Publisher, o.Sessions, o.Subscriber, o.Wills, o.Log = core, core, core, core, core, slog.New(slog.DiscardHandler)
	s := New(o)
	return core, s, serveOn(b, s)
}

// BenchmarkPublish: one client, N publishes of QoS 1 and 256 bytes in windows of 100 over loopback; the
// client's own reading and writing are in the figures.
func BenchmarkPublish(b *testing.B) {
	_, _, addr := stubServer(b, Options{})
	p := dialTCP(b, addr, packet.V311, "id=a clean")
	one, err := build("publish t=bench/topic q=1 id=1 p=REPEAT(x,256)", packet.V311)
	if err != nil {
		b.Fatal(err)
	}
	var batch []byte
	for range 100 {
		batch = append(batch, one...)
	}
	_ = p.conn.(net.Conn).SetDeadline(time.Time{})
	acks := make([]byte, 400)
	b.ReportAllocs()
	cpu := trial.CPUTime()
	b.ResetTimer()
	for range b.N/100 + 1 {
		if _, err := p.conn.Write(batch); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(p.conn, acks); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(trial.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkFanOut delivers every message to 1,000 sessions whose clients live in another process; the CPU
// is the server's alone.
func BenchmarkFanOut(b *testing.B) {
	for _, qos := range []int{0, 1} {
		b.Run("qos="+strconv.Itoa(qos), func(b *testing.B) { benchmarkFanOut(b, qos) })
	}
}

func benchmarkFanOut(b *testing.B, qos int) {
	const clients = 1000
	core, _, addr := stubServer(b, Options{MaxBytes: 1 << 20})
	stop := trial.Crowd(b, "MQTT_ADDR="+addr, "MQTT_WHAT=drain"+strconv.Itoa(qos), "MQTT_CLIENTS="+strconv.Itoa(clients))
	defer stop()
	payload := []byte(strings.Repeat("x", 128))
	cpu := trial.CPUTime()
	b.ResetTimer()
	for i := range b.N {
		m := message.New("alarm/all", payload)
		item := courier.NewItem(m)
		d := courier.Delivery{Item: item, Attempt: 1}
		if qos > 0 {
			d.Seq = uint64(i + 1)
		}
		for _, w := range core.links {
			for !hand(w.link, d) {
				if qos == 0 {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				<-w.ready
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(trial.CPUTime()-cpu)/float64(b.N)/clients, "cpu-ns/delivery")
}

// BenchmarkIdle is what 2,000 connections cost that do nothing, each with one filter.
func BenchmarkIdle(b *testing.B) {
	const clients = 2000
	_, s, addr := stubServer(b, Options{})
	warm := dialTCP(b, addr, packet.V311, "id=warm clean") // pools, first goroutines
	warm.send("pingreq")
	warm.want("pingresp")
	before := trial.Weigh()
	stop := trial.Crowd(b, "MQTT_ADDR="+addr, "MQTT_WHAT=idle", "MQTT_CLIENTS="+strconv.Itoa(clients))
	defer stop()
	if n := s.Stats().Clients; n != clients+1 {
		b.Fatalf("%d clients", n)
	}
	trial.ReportMemory(b, before, clients)
}

// TestClients is the other process of the benchmarks; on its own it does nothing.
func TestClients(t *testing.T) {
	addr, what := os.Getenv("MQTT_ADDR"), os.Getenv("MQTT_WHAT")
	if addr == "" {
		t.Skip("only as a child of a benchmark")
	}
	trial.ManyFiles()
	n, _ := strconv.Atoi(os.Getenv("MQTT_CLIENTS"))
	for i := range n {
		p := dialTCP(t, addr, packet.V311, fmt.Sprintf("id=c%d clean", i))
		_ = p.conn.(net.Conn).SetDeadline(time.Time{})
		p.send("subscribe id=1 f=alarm/#:" + strings.TrimPrefix(strings.TrimPrefix(what, "drain"), "idle") + ":1")
		if got := p.next(); !strings.HasPrefix(got, "suback") {
			t.Fatal(got)
		}
		if strings.HasPrefix(what, "drain") {
			go drain(p, what == "drain1") // ends with the process
		}
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// drain reads everything; it acknowledges what it can find without decoding, because all packets
// have the same length.
func drain(p *peer, ack bool) {
	const size = 1 + 2 + 2 + 9 + 2 + 128
	b := make([]byte, 0, 64<<10)
	for {
		n, err := p.conn.Read(b[len(b):cap(b)])
		if err != nil {
			return
		}
		if !ack {
			continue
		}
		b = b[:len(b)+n]
		var acks []byte
		for len(b) >= size {
			acks = append(acks, 0x40, 2, b[14], b[15])
			b = b[size:]
		}
		b = append(make([]byte, 0, 64<<10), b...)
		if _, err := p.conn.Write(acks); err != nil {
			return
		}
	}
}

func (l *stubLink) Select([]message.Filter) {}
