package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// idled is the resident memory of a server with connections that do nothing.
type idled struct {
	Server      string  `json:"server"`
	Connections int     `json:"connections"`
	Subscribed  bool    `json:"subscribed"`
	Before      float64 `json:"rss_anon_before"`
	After       float64 `json:"rss_anon_after"`
	All         float64 `json:"rss_after"` // with the pages of files
	Each        float64 `json:"bytes_each"`
}

// settle is how long a server may take to put down what a wave of upgrades needed.
const settle = 3 * time.Second

func connectionsSection(ctx context.Context, b *bench) ([]table, error) {
	few, many := 1000, 5000
	if b.quick {
		few, many = 100, 500
	}
	t := table{Title: "Resident memory of one idle WebSocket"}
	var all []idled
	for _, c := range []struct {
		n          int
		subscribed bool
		peer       bool
	}{{few, false, true}, {few, true, true}, {many, false, false}} {
		ours, err := b.idleGateway(ctx, c.n, c.subscribed)
		if err != nil {
			return nil, err
		}
		all = append(all, ours)
		what := round(float64(c.n)) + " connections, "
		if c.subscribed {
			what += "one subscription each"
		} else {
			what += "greeted"
		}
		if !c.peer {
			t.Rows = append(t.Rows, alone(what, perConnection(ours), "≤ 6 KiB"))
			continue
		}
		theirs, err := b.idlePeer(ctx, c.n, c.subscribed)
		if err != nil {
			return nil, err
		}
		all = append(all, theirs)
		t.Rows = append(t.Rows, cheaper(what, perConnection(ours), perConnection(theirs), "NATS", "≤ 6 KiB"))
	}
	t.Notes = []string{"Growth of the server's anonymous memory (RssAnon: heap and stacks); VmRSS, which has the mapped pages of the program too, stands in brackets. The kernel's socket buffers are not in it, on either side."}
	limit, err := b.idleLimit(ctx, many)
	if err != nil {
		return nil, err
	}
	all = append(all, limit)
	t.Notes = append(t.Notes, fmt.Sprintf("The limit: a Go program that accepts %s TCP connections, waits for each in a goroutine without a buffer, and knows nothing about them, needs %s KiB each.",
		round(float64(many)), round(limit.Each/1024)))
	still, err := b.stillness(ctx)
	if err != nil {
		return nil, err
	}
	t.Rows = append(t.Rows, still)
	t.Figures = all
	secure, err := idleSecure(ctx, b, few)
	return []table{t, secure}, err
}

// stillFor is how long the servers are left alone before their memory is looked at.
const stillFor = 30 * time.Second

// stillness is the resident memory of servers that nobody talks to.
func (b *bench) stillness(ctx context.Context) (r row, err error) {
	g, err := newGateway(b)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return r, err
	}
	dir, err := b.dir()
	if err != nil {
		return r, err
	}
	p, err := b.natsServer(dir, syncLazy)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	err = pause(ctx, stillFor)
	ours, theirs := figure{resident(g.pid()) / 1e6, "MB", ""}, figure{resident(p.pid()) / 1e6, "MB", ""}
	return cheaper("the process without connections, 30 s after its start", ours, theirs, "NATS", "≤ 10 MB"), err
}

func perConnection(i idled) figure {
	return figure{i.Each / 1024, "KiB", "RSS " + mebi(int64(i.All))}
}

// idleGateway opens connections to an edgepost of its own. A few that are closed again first let the
// server have met everything once.
func (b *bench) idleGateway(ctx context.Context, n int, subscribed bool) (m idled, err error) {
	g, err := newGateway(b)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return m, err
	}
	open := func(i int) (func(), error) {
		w, err := dialWS(g.addr, "", time.Minute)
		if err != nil {
			return nil, err
		}
		if subscribed {
			err = w.ask(fmt.Sprintf(`{"id":1,"sub":{"topic":"bench/%d"}}`, i), `"ok":`)
		}
		return w.close, err
	}
	return idle(ctx, "edgepost", g.pid(), n, subscribed, settle, open)
}

func (b *bench) idlePeer(ctx context.Context, n int, subscribed bool) (m idled, err error) {
	dir, err := b.dir()
	if err != nil {
		return m, err
	}
	p, err := b.natsServer(dir, syncLazy)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	open := func(i int) (func(), error) {
		nc, err := natsConnect(p.WebSocket)
		if err != nil {
			return nil, err
		}
		if subscribed {
			if _, err = nc.Subscribe(fmt.Sprintf("bench.%d", i), func(*nats.Msg) {}); err == nil {
				err = nc.Flush()
			}
		}
		return nc.Close, err
	}
	return idle(ctx, "NATS", p.pid(), n, subscribed, settle, open)
}

func idle(ctx context.Context, server string, pid, n int, subscribed bool, settle time.Duration, open func(i int) (func(), error)) (idled, error) {
	m := idled{Server: server, Connections: n, Subscribed: subscribed}
	closers := make([]func(), n)
	closeAll := func() {
		for i, c := range closers {
			if c != nil {
				c()
				closers[i] = nil
			}
		}
	}
	defer closeAll()
	connect := func(i int) (err error) {
		closers[i], err = open(i)
		return err
	}
	if err := each(ctx, min(n, 50), 8, connect); err != nil {
		return m, err
	}
	closeAll()
	if err := pause(ctx, settle); err != nil {
		return m, err
	}
	m.Before = own(pid)
	if err := each(ctx, n, 8, connect); err != nil {
		return m, fmt.Errorf("%s: open %d connections: %w", server, n, err)
	}
	err := pause(ctx, settle)
	m.After, m.All = own(pid), resident(pid)
	m.Each = (m.After - m.Before) / float64(n)
	return m, err
}

// pause waits; a measurement's own time, not for something to happen.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
