package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	fanAckEach = 32 // messages that one acknowledgment covers
	fanTopic   = "bench/fan"
)

// fanned is what deliveries of one topic to many subscribers cost the server.
type fanned struct {
	Server      string  `json:"server"`
	Subscribers int     `json:"subscribers"`
	Flight      int     `json:"publishes_in_flight,omitempty"` // that not every subscriber has received
	Deliveries  int64   `json:"deliveries"`
	Rate        float64 `json:"deliveries_per_second"`
	PerMillion  float64 `json:"cpu_seconds_per_million"`
	PerFrame    float64 `json:"deliveries_per_frame,omitempty"` // 0: not seen
	FrameBytes  float64 `json:"bytes_per_frame,omitempty"`
}

func fanoutSection(ctx context.Context, b *bench) ([]table, error) {
	n := 1000
	if b.quick {
		n = 100
	}
	flights := []int{16, 64, 256}
	if b.quick {
		flights = flights[:1]
	}
	who := round(float64(n)) + " WebSocket subscribers"
	t := table{Title: "Server CPU seconds for a million deliveries of one topic, saturated"}
	limits := "The limit: a program that does nothing but write blocks to as many TCP connections, and read 40 bytes for every 32 deliveries, needs"
	var first fanned // the peer's
	var all []fanned
	for _, flight := range flights {
		live, err := b.fanGateway(ctx, n, flight, false)
		if err != nil {
			return nil, fmt.Errorf("edgepost: %w", err)
		}
		theirs, err := b.fanPeer(ctx, n, flight)
		if err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		limit, err := b.fanLimit(ctx, live)
		if err != nil {
			return nil, fmt.Errorf("limit: %w", err)
		}
		t.Rows = append(t.Rows, cheaper(fmt.Sprintf("%s, one topic, acknowledged, %d publishes in flight", who, flight), fanFigure(live), fanFigure(theirs), "NATS core", "≤ 1.0 s"))
		limits += fmt.Sprintf(" %s s a million with blocks of %s bytes for %s deliveries;", round(limit.PerMillion), round(limit.FrameBytes), round(limit.PerFrame))
		all = append(all, live, theirs, limit)
		if first.Server == "" {
			first = theirs
		}
	}
	inbox, err := b.fanGateway(ctx, n, flights[0], true)
	if err != nil {
		return nil, fmt.Errorf("edgepost, inboxes: %w", err)
	}
	t.Rows = append(t.Rows, cheaper(fmt.Sprintf("%s, their durable inboxes by group, each delivery settled on disk, %d in flight", who, flights[0]), fanFigure(inbox), fanFigure(first), "NATS core", ""))
	t.Notes = []string{"JSON of 128 bytes. A publish is in flight until every subscriber has received it. Each edgepost publish is durable and each delivery acknowledged, 32 with one object; the peer stores nothing and knows of no acknowledgment. " +
		"Rates are bounded by the receivers, who share the cores.", strings.TrimSuffix(limits, ";") + "."}
	t.Figures = append(all, inbox)
	return []table{t}, nil
}

func fanFigure(f fanned) figure {
	more := round(f.Rate) + " deliveries/s"
	if f.PerFrame > 0 {
		more += ", " + round(f.PerFrame) + " a frame"
	}
	return figure{f.PerMillion, "s", more}
}

// fan counts deliveries and lets the publisher go on.
type fan struct {
	subscribers int64
	flight      int64 // publishes
	received    atomic.Int64
	frames      atomic.Int64
	bytes       atomic.Int64
	room        chan struct{} // one place: something was received
}

func (f *fan) got(n int) {
	f.received.Add(int64(n))
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// run publishes with so many in flight for the warm-up and the span, and measures the server between.
func (f *fan) run(ctx context.Context, span time.Duration, used func() float64, publish func() error) (m fanned, err error) {
	m.Subscribers, m.Flight = int(f.subscribers), int(f.flight)
	began := time.Now()
	from, to := began.Add(2*warmUp), began.Add(2*warmUp+span)
	var sent, before int64
	var cpu float64
	var start time.Time
	stalled := time.NewTimer(grace)
	defer stalled.Stop()
	for now := began; now.Before(to); now = time.Now() {
		if start.IsZero() && now.After(from) {
			start, before, cpu = now, f.received.Load(), used()
		}
		if sent*f.subscribers-f.received.Load() < f.flight*f.subscribers {
			sent++
			if err := publish(); err != nil {
				return m, err
			}
			continue
		}
		stalled.Reset(grace)
		select {
		case <-f.room:
		case <-ctx.Done():
			return m, context.Cause(ctx)
		case <-stalled.C:
			return m, fmt.Errorf("nothing is delivered any more: %d of %d", f.received.Load(), sent*f.subscribers)
		}
	}
	m.Deliveries = f.received.Load() - before
	m.Rate = float64(m.Deliveries) / time.Since(start).Seconds()
	frames := float64(f.frames.Load())
	m.PerFrame, m.FrameBytes = ratio(float64(f.received.Load()), frames), ratio(float64(f.bytes.Load()), frames)
	m.PerMillion = (used() - cpu) * 1e6 / float64(max(m.Deliveries, 1))
	return m, nil
}

// fanBody is a JSON payload of 128 bytes.
func fanBody() string { return `{"v":"` + strings.Repeat("x", 120) + `"}` }

func (b *bench) fanGateway(ctx context.Context, n, flight int, inbox bool) (m fanned, err error) {
	g, err := newGateway(b)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return m, err
	}
	if err := g.ask(ctx, "POST", "/v1/groups", map[string]string{"name": "all"}, nil); err != nil {
		return m, err
	}
	tokens, err := g.addDevices(ctx, 0, n, []string{"all"}, fanTopic)
	if err != nil {
		return m, err
	}
	f := &fan{subscribers: int64(n), flight: int64(flight), room: make(chan struct{}, 1)}
	conns := make([]*wsConn, n)
	var readers sync.WaitGroup
	var failed error
	defer func() {
		for _, w := range conns {
			if w != nil {
				w.close()
			}
		}
		readers.Wait()
		err = errors.Join(err, failed)
	}()
	err = each(ctx, n, 8, func(i int) (err error) {
		if conns[i], err = dialWS(g.addr, helloAs(deviceName(i), tokens[i]), time.Minute+b.span+grace); err != nil || inbox {
			return err
		}
		return conns[i].ask(`{"id":1,"sub":{"topic":"`+fanTopic+`"}}`, `"ok":`)
	})
	if err != nil {
		return m, err
	}
	topic, sub := fanTopic, 1
	if inbox {
		topic, sub = "group/all/in/x", 0
	}
	var over atomic.Bool
	var once sync.Once
	for _, w := range conns {
		readers.Go(func() {
			if err := f.read(w, sub); err != nil && !over.Load() {
				once.Do(func() { failed = err })
			}
		})
	}
	m, err = f.publishTo(ctx, b, g, topic)
	over.Store(true) // from here on a connection may end
	m.Server = "edgepost"
	if inbox {
		m.Server = "edgepost, inboxes"
	}
	g.end(syscall.SIGKILL)
	return m, err
}

// publishTo publishes over one WebSocket; what it is answered is read and not waited for.
func (f *fan) publishTo(ctx context.Context, b *bench, g *gateway, topic string) (fanned, error) {
	w, err := dialWS(g.addr, "", time.Minute+b.span+grace)
	if err != nil {
		return fanned{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			frame, err := w.read()
			if err == nil {
				err = trouble(frame)
			}
			if err != nil {
				stop(err)
				return
			}
		}
	}()
	defer func() { w.close(); <-done }()
	object := fmt.Appendf(nil, `{"pub":{"topic":%q,"data":%s}}`, topic, fanBody())
	return f.run(ctx, b.span, g.cpu, func() error { return w.send(object) })
}

// read takes messages and acknowledges every 32.
func (f *fan) read(w *wsConn, sub int) error {
	unacked := 0
	var ack []byte
	for {
		frame, err := w.read()
		if err != nil {
			return err
		}
		n := bytes.Count(frame, []byte(messageMark))
		if n == 0 {
			if err := trouble(frame); err != nil {
				return err
			}
			continue
		}
		if unacked += n; unacked >= fanAckEach {
			last := frame[bytes.LastIndex(frame, []byte(messageMark)):]
			seq, ok := number(last, seqMark)
			if !ok {
				return fmt.Errorf("no seq in %.200s", last)
			}
			ack = fmt.Appendf(ack[:0], `{"ack":{"sub":%d,"upto":%d}}`, sub, seq)
			if err := w.send(ack); err != nil {
				return err
			}
			unacked = 0
		}
		f.frames.Add(1)
		f.bytes.Add(int64(len(frame)))
		f.got(n)
	}
}

func (b *bench) fanPeer(ctx context.Context, n, flight int) (m fanned, err error) {
	dir, err := b.dir()
	if err != nil {
		return m, err
	}
	p, err := b.natsServer(dir, syncLazy)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	f := &fan{subscribers: int64(n), flight: int64(flight), room: make(chan struct{}, 1)}
	conns := make([]*nats.Conn, n+1)
	defer func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	}()
	err = each(ctx, n+1, 8, func(i int) (err error) {
		if conns[i], err = natsConnect(p.WebSocket); err != nil || i == n {
			return err
		}
		if _, err := conns[i].Subscribe("bench.fan", func(*nats.Msg) { f.got(1) }); err != nil {
			return err
		}
		return conns[i].Flush()
	})
	if err != nil {
		return m, err
	}
	body := []byte(fanBody())
	m, err = f.run(ctx, b.span, p.cpu, func() error { return conns[n].Publish("bench.fan", body) })
	m.Server = "NATS core"
	return m, err
}
