package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// pace is how many messages a second the latency rows publish.
const pace = 1000

// timed are the latencies of one server, each from when the message was due to be published.
type timed struct {
	Server    string   `json:"server"`
	Messages  int      `json:"messages"`
	Stored    quantile `json:"stored"`
	Received  quantile `json:"received"`
	Delivered quantile `json:"delivered"`
	CPU       float64  `json:"cpu_us_per_message"`
}

type quantile struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
	N    int64         `json:"n"`
}

func latencySection(ctx context.Context, b *bench) ([]table, error) {
	span := max(b.span, 5*time.Second)
	if b.quick {
		span = time.Second
	}
	ours, err := b.latencyGateway(ctx, span)
	if err != nil {
		return nil, fmt.Errorf("edgepost: %w", err)
	}
	theirs, err := b.latencyPeer(ctx, span)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	t := table{
		Title: fmt.Sprintf("Latency at %s durable messages a second, from publish on", round(pace)),
		Notes: []string{"Each from the moment the message was due, so a stall counts for all that waited in it. edgepost: published over HTTP, received and acknowledged over a WebSocket, " +
			"\"delivered\" is the receipt on the publisher's WebSocket. NATS: JetStream, sync always, over TCP; \"delivered\" is the server's answer to the consumer's acknowledgment."},
		Figures: []timed{ours, theirs},
	}
	for _, c := range []struct {
		what        string
		ours, peers quantile
	}{
		{"stored: the publisher's answer", ours.Stored, theirs.Stored}, {"received by the device", ours.Received, theirs.Received},
		{"delivered: the device's acknowledgment is known", ours.Delivered, theirs.Delivered},
	} {
		for _, q := range []struct {
			name        string
			ours, peers time.Duration
		}{{"p50", c.ours.P50, c.peers.P50}, {"p99", c.ours.P99, c.peers.P99}, {"p99.9", c.ours.P999, c.peers.P999}} {
			t.Rows = append(t.Rows, cheaper(c.what+", "+q.name, inMillis(q.ours), inMillis(q.peers), "NATS always", ""))
		}
	}
	t.Rows = append(t.Rows, cheaper("server CPU a message", figure{ours.CPU, "µs", ""}, figure{theirs.CPU, "µs", ""}, "NATS always", ""))
	return []table{t}, nil
}

func inMillis(d time.Duration) figure { return figure{float64(d) / 1e6, "ms", ""} }

// clocked holds when each message was due and what became of it. Index by message.
type clocked struct {
	began time.Time
	pace  int        // messages a second
	mu    sync.Mutex // guards the rest
	h     [3]histogram
	left  [3]int
	all   chan struct{} // closed when nothing is left
}

const (
	stored = iota
	received
	delivered
)

func newClocked(n int) *clocked {
	return &clocked{pace: pace, left: [3]int{n, n, n}, all: make(chan struct{})}
}

func (c *clocked) due(i int) time.Time {
	return c.began.Add(time.Duration(i) * time.Second / time.Duration(c.pace))
}

// reached notes that message i came so far at that time.
func (c *clocked) reached(stage, i int, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.h[stage].add(at.Sub(c.due(i)))
	c.left[stage]--
	if c.left == [3]int{} {
		close(c.all)
	}
}

// wait waits until every message reached every stage.
func (c *clocked) wait(ctx context.Context) error {
	select {
	case <-c.all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(grace):
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("after %v there are %v messages not stored, received, delivered", grace, c.left)
	}
}

func (c *clocked) result(server string, cpu float64) timed {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := func(h *histogram) quantile {
		return quantile{h.quantile(.5), h.quantile(.99), h.quantile(.999), h.most, h.n}
	}
	n := int(c.h[stored].n)
	return timed{server, n, q(&c.h[stored]), q(&c.h[received]), q(&c.h[delivered]), cpu * 1e6 / float64(max(n, 1))}
}

// atPace has width callers publish n messages, each when it is due.
func (c *clocked) atPace(ctx context.Context, n, width int, publish func(caller, i int) error) error {
	c.began = time.Now().Add(50 * time.Millisecond)
	return each(ctx, width, width, func(k int) error {
		for i := k; i < n; i += width {
			if err := pause(ctx, time.Until(c.due(i))); err != nil {
				return err
			}
			if err := publish(k, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// latencyWidth is how many connections publish: enough that one that waits for its fsync does not
// hold up the next message.
const latencyWidth = 32

func (b *bench) latencyGateway(ctx context.Context, span time.Duration) (m timed, err error) {
	g, err := newGateway(b)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return m, err
	}
	tokens, err := g.addDevices(ctx, 0, 1, nil)
	if err != nil {
		return m, err
	}
	var key struct{ Token string }
	rules := map[string][]string{"publish": {"#"}, "subscribe": {"$edge/#"}}
	if err := g.ask(ctx, "POST", "/v1/keys", map[string]any{"name": "app", "rules": rules}, &key); err != nil {
		return m, err
	}
	life := span + 3*grace
	device, err := dialWS(g.addr, helloAs(deviceName(0), tokens[0]), life)
	if err != nil {
		return m, err
	}
	defer device.close()
	receipts, err := dialWS(g.addr, fmt.Sprintf(`{"hello":{"token":%q}}`, key.Token), life)
	if err != nil {
		return m, err
	}
	defer receipts.close()
	if err := receipts.ask(`{"id":1,"sub":{"topic":"$edge/receipt/app/#"}}`, `"ok":`); err != nil {
		return m, err
	}
	n := int(span.Seconds() * pace)
	c := newClocked(n)
	ids := &identities{c: c, known: make(map[string]int), early: make(map[string]time.Time)}
	ctx, stop := context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	readers.Go(func() { stop(c.takeMessages(device)) })
	readers.Go(func() { stop(ids.takeReceipts(receipts)) })
	defer func() { device.close(); receipts.close(); readers.Wait() }()
	before := g.cpu()
	headers := "Message-Receipt: each\r\nAuthorization: Bearer " + key.Token + "\r\n"
	if err := g.publishAtPace(ctx, c, ids, n, headers, life, func(int) string { return inboxTopic(0) }); err != nil {
		return m, err
	}
	if err := c.wait(ctx); err != nil {
		return m, err
	}
	m = c.result("edgepost", g.cpu()-before)
	g.end(syscall.SIGKILL)
	return m, nil
}

// publishAtPace publishes to the topics that topic gives, over HTTP. ids may be nil.
func (g *gateway) publishAtPace(ctx context.Context, c *clocked, ids *identities, n int, headers string, life time.Duration, topic func(i int) string) error {
	conns := make([]*httpConn, latencyWidth)
	for k := range conns {
		var err error
		if conns[k], err = dialHTTP(g.addr, life); err != nil {
			return err
		}
		defer conns[k].close()
	}
	headers += "Content-Type: application/json\r\n"
	return c.atPace(ctx, n, len(conns), func(k, i int) error {
		body := fmt.Sprintf(`{"index":%07d,"pad":%q}`, 1_000_000+i, strings.Repeat("x", payloadBytes-26))
		answer, err := conns[k].call(post(g.addr, "/v1/publish/"+topic(i), headers, []byte(body)), "201")
		if err != nil {
			return err
		}
		now := time.Now()
		id, ok := between(answer, `{"id":"`, '"')
		if !ok {
			return fmt.Errorf("no id in %s", answer)
		}
		c.reached(stored, i, now)
		if ids != nil {
			ids.know(id, i)
		}
		return nil
	})
}

// takeMessages reads as the device and acknowledges each message.
func (c *clocked) takeMessages(w *wsConn) error {
	var ack []byte
	for {
		frame, err := w.read()
		if err != nil {
			return err
		}
		now := time.Now()
		ack = ack[:0]
		for line := range bytes.SplitSeq(frame, []byte("\n")) {
			i, ok := number(line, `"index":`)
			seq, has := number(line, seqMark)
			if !ok || !has {
				return fmt.Errorf("unexpected %.200s", line)
			}
			c.reached(received, int(i)-1_000_000, now)
			ack = strconv.AppendUint(append(ack[:0], `{"ack":{"sub":0,"upto":`...), seq, 10)
			ack = append(ack, "}}"...)
		}
		if err := w.send(ack); err != nil {
			return err
		}
	}
}

// identities bring receipts, which name the message's id, and messages together. Either may come first.
type identities struct {
	c     *clocked
	mu    sync.Mutex // guards the maps
	known map[string]int
	early map[string]time.Time
}

func (d *identities) know(id string, i int) {
	d.mu.Lock()
	at, came := d.early[id]
	d.known[id] = i
	d.mu.Unlock()
	if came {
		d.c.reached(delivered, i, at)
	}
}

func (d *identities) takeReceipts(w *wsConn) error {
	for {
		frame, err := w.read()
		if err != nil {
			return err
		}
		now := time.Now()
		for line := range bytes.SplitSeq(frame, []byte("\n")) {
			id, ok := between(line, `"topic":"$edge/receipt/app/`, '"')
			if !ok {
				return fmt.Errorf("unexpected %.300s", line)
			}
			d.mu.Lock()
			i, known := d.known[id]
			if !known {
				d.early[id] = now
			}
			d.mu.Unlock()
			if known {
				d.c.reached(delivered, i, now)
			}
		}
	}
}

// between is what stands behind the mark until the end.
func between(line []byte, mark string, end byte) (string, bool) {
	_, rest, ok := bytes.Cut(line, []byte(mark))
	if !ok {
		return "", false
	}
	i := bytes.IndexByte(rest, end)
	if i < 0 {
		return "", false
	}
	return string(rest[:i]), true
}

func (b *bench) latencyPeer(ctx context.Context, span time.Duration) (m timed, err error) {
	dir, err := b.dir()
	if err != nil {
		return m, err
	}
	p, err := b.natsServer(dir, syncAlways)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	nc, err := natsConnect(p.Client)
	if err != nil {
		return m, err
	}
	defer nc.Close()
	js, st, err := natsStream(ctx, nc)
	if err != nil {
		return m, err
	}
	receiver, err := natsConnect(p.Client)
	if err != nil {
		return m, err
	}
	defer receiver.Close()
	js2, err := jetstream.New(receiver)
	if err != nil {
		return m, err
	}
	if _, err = st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "one", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1000}); err != nil {
		return m, err
	}
	consumer, err := js2.Consumer(ctx, stream, "one")
	if err != nil {
		return m, err
	}
	n := int(span.Seconds() * pace)
	c := newClocked(n)
	ctx, cancel := context.WithTimeout(ctx, span+3*grace) // the client's own limit is 5 s a call
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	var acks sync.WaitGroup
	consuming, err := consumer.Consume(func(msg jetstream.Msg) {
		i, _ := strconv.Atoi(string(msg.Data()[:7]))
		c.reached(received, i, time.Now())
		acks.Go(func() { // the answer is waited for beside the next message
			if err := msg.DoubleAck(ctx); err != nil {
				stop(err)
				return
			}
			c.reached(delivered, i, time.Now())
		})
	})
	if err != nil {
		return m, err
	}
	defer func() { consuming.Stop(); stop(nil); acks.Wait() }()
	before := p.cpu()
	err = c.atPace(ctx, n, latencyWidth, func(_, i int) error {
		body := fmt.Appendf(make([]byte, 0, payloadBytes), "%07d%s", i, strings.Repeat("x", payloadBytes-7))
		if _, err := js.Publish(ctx, "bench.x", body); err != nil {
			return err
		}
		c.reached(stored, i, time.Now())
		return nil
	})
	if err == nil {
		err = c.wait(ctx)
	}
	return c.result("NATS always", p.cpu()-before), err
}
