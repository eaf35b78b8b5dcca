package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// restarted is what a start with a backlog came to.
type restarted struct {
	Case      string          `json:"case"`
	Devices   int             `json:"devices"`
	Messages  int             `json:"messages"`
	Pending   int             `json:"pending"`
	Ready     []time.Duration `json:"ready_ns"` // each after a kill -9
	Idle      heap            `json:"heap_idle"`
	Full      heap            `json:"heap_full"`
	HeapAbove int64           `json:"heap_above_idle"`
}

// backlog is one shape of a million debts.
type backlog struct {
	what              string
	devices, messages int
	shared            bool // every message is for every device, by their group
}

func restartSection(ctx context.Context, b *bench) ([]table, error) {
	million, many := 1_000_000, 10_000
	if b.quick {
		million, many = 20_000, 100
	}
	cases := []backlog{
		{"1 device with all", 1, million, false},
		{"every device the same 100, by group", many, 100, true},
		{"every device 100 of its own", many, many * 100, false},
	}
	t := table{Title: "Restart after kill -9 with everything pending"}
	var all []restarted
	for _, c := range cases {
		r, err := b.restart(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.what, err)
		}
		all = append(all, r)
	}
	theirs, err := b.restartPeer(ctx, million)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	for i, r := range all {
		what := fmt.Sprintf("%s × %s (%s)", round(float64(r.Devices)), round(float64(r.Pending/r.Devices)), r.Case)
		ready := figure{seconds(r.Ready), "s", "embedded: " + millis(r.Full.Start)}
		above := figure{float64(r.HeapAbove) / (1 << 20), "MiB", fmt.Sprintf("%s live", mebi(r.Full.Alloc))}
		if i == 0 {
			name := "NATS lazy, 1 consumer"
			t.Rows = append(t.Rows, cheaper(what+": ready", ready, figure{seconds(theirs.Ready), "s", ""}, name, "≤ 1 s"),
				cheaper(what+": heap above idle", above, figure{float64(theirs.HeapAbove) / (1 << 20), "MiB", ""}, name, "≤ 4 MiB"))
			continue
		}
		t.Rows = append(t.Rows, alone(what+": ready", ready, "≤ 1 s"), alone(what+": heap above idle", above, "≤ 4 MiB"))
	}
	t.Notes = []string{"From the start of the process until /healthz answers, the middle of three. Heap: live objects after a collection in a program that embeds the appliance, " +
		"less the same with the same devices and nothing pending. 256 bytes a message."}
	t.Figures = append(all, theirs)
	return []table{t}, nil
}

func mebi(n int64) string { return round(float64(n)/(1<<20)) + " MiB" }

// seconds is the middle one.
func seconds(list []time.Duration) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2].Seconds()
}

func (b *bench) restart(ctx context.Context, c backlog) (r restarted, err error) {
	r = restarted{Case: c.what, Devices: c.devices, Messages: c.messages, Pending: c.messages}
	if c.shared {
		r.Pending *= c.devices
	}
	g, err := newGateway(b)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return r, err
	}
	if err := g.populate(ctx, c.devices); err != nil {
		return r, err
	}
	g.end(syscall.SIGTERM)
	if err := b.child(ctx, &r.Idle, "edgepost-heap", g.data); err != nil {
		return r, err
	}
	if _, err := g.start(ctx); err != nil {
		return r, err
	}
	if err := g.fill(ctx, c.messages, func(i int) string {
		if c.shared {
			return "group/all/in/x"
		}
		return inboxTopic(i % c.devices)
	}); err != nil {
		return r, err
	}
	for range 3 {
		g.end(syscall.SIGKILL)
		ready, err := g.start(ctx)
		if err != nil {
			return r, err
		}
		r.Ready = append(r.Ready, ready)
	}
	if err := g.owes(ctx, r.Pending); err != nil {
		return r, err
	}
	g.end(syscall.SIGKILL)
	err = b.child(ctx, &r.Full, "edgepost-heap", g.data)
	r.HeapAbove = r.Full.Alloc - r.Idle.Alloc
	return r, err
}

// populate makes the group "all" and devices in it.
func (g *gateway) populate(ctx context.Context, devices int) error {
	if err := g.ask(ctx, "POST", "/v1/groups", map[string]string{"name": "all"}, nil); err != nil {
		return err
	}
	_, err := g.addDevices(ctx, 0, devices, []string{"all"})
	return err
}

// owes checks that nothing of the backlog was lost or is owed twice: else the figure means nothing.
func (g *gateway) owes(ctx context.Context, want int) error {
	var status struct{ Owed int }
	if err := g.ask(ctx, "GET", "/v1/status", nil, &status); err != nil {
		return err
	}
	if status.Owed != want {
		return fmt.Errorf("edgepost owes %d messages after the restart, not %d", status.Owed, want)
	}
	return nil
}

// fill publishes n messages of 256 bytes.
func (g *gateway) fill(ctx context.Context, n int, topic func(i int) string) error {
	return g.fillWith(ctx, n, func(i int) string { return pubTo(topic(i), payloadBytes) })
}

// fillWith publishes n objects as fast as it can, over WebSockets.
func (g *gateway) fillWith(ctx context.Context, n int, object func(i int) string) error {
	const width = 8
	return each(ctx, width, width, func(k int) error {
		w, err := dialWS(g.addr, "", 10*time.Minute)
		if err != nil {
			return err
		}
		defer w.close()
		stop := context.AfterFunc(ctx, w.close)
		defer stop()
		mine := (n - k + width - 1) / width
		r := &recorder{left: mine}
		if mine == 0 {
			return nil
		}
		return pipeline(w, func(i int) string { return object(i*width + k) })(ctx, r)
	})
}

// restartPeer does the same with a JetStream stream that a durable consumer has not read.
func (b *bench) restartPeer(ctx context.Context, n int) (r restarted, err error) {
	r = restarted{Case: "NATS lazy, 1 durable consumer", Devices: 1, Messages: n, Pending: n}
	dir, err := b.dir()
	if err != nil {
		return r, err
	}
	p, err := b.natsServer(dir, syncLazy)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	if err := p.fill(ctx, 0); err != nil { // the stream and its consumer
		return r, err
	}
	if err := p.ask("heap", &r.Idle); err != nil {
		return r, err
	}
	if err := p.fill(ctx, n); err != nil {
		return r, err
	}
	for range 3 {
		p.end(syscall.SIGKILL)
		began := time.Now()
		if p, err = b.natsServer(dir, syncLazy); err != nil {
			return r, err
		}
		if err := p.holds(ctx, n); err != nil {
			return r, err
		}
		r.Ready = append(r.Ready, time.Since(began))
	}
	err = p.ask("heap", &r.Full)
	r.HeapAbove = r.Full.Alloc - r.Idle.Alloc
	return r, err
}

func (p *peer) fill(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // the client's own limit is 5 s a call
	defer cancel()
	nc, err := natsConnect(p.Client)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, st, err := natsStream(ctx, nc)
	if err != nil {
		return err
	}
	if _, err := st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "one", AckPolicy: jetstream.AckExplicitPolicy}); err != nil || n == 0 {
		return err
	}
	body := make([]byte, payloadBytes)
	return each(ctx, n, 256, func(int) error {
		_, err := js.Publish(ctx, "bench.x", body)
		return err
	})
}

// holds waits for the stream and checks what it holds.
func (p *peer) holds(ctx context.Context, n int) error {
	nc, err := natsConnect(p.Client)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	st, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if held := st.CachedInfo().State.Msgs; held != uint64(n) {
		return fmt.Errorf("the stream holds %d messages after the restart, not %d", held, n)
	}
	return nil
}
