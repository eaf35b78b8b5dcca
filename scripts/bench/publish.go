package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// payloadBytes is the size of a message in every row on publishes.
const payloadBytes = 256

// publishDevices are the inboxes that the publishers fill, one behind the other.
const publishDevices = 64

// published is what one number of publishers came to.
type published struct {
	Publishers int      `json:"publishers"`
	API        measured `json:"edgepost_go_api"`
	HTTP       measured `json:"edgepost_http"`
	WebSocket  measured `json:"edgepost_websocket_64_in_flight"`
	Always     measured `json:"nats_always"`
	Lazy       measured `json:"nats_lazy"`
	LazyMany   measured `json:"nats_lazy_64_in_flight"`
}

func publishSection(ctx context.Context, b *bench) ([]table, error) {
	var limit measured
	file := filepath.Join(b.disk.path, "fsync")
	if err := b.child(ctx, &limit, "fsync", file, b.span, b.disk.loop); err != nil {
		return nil, err
	}
	_ = os.Remove(file) // its directory goes anyway
	var all []published
	for _, n := range b.publishers {
		p := published{Publishers: n}
		if err := b.publishAs(ctx, &p); err != nil {
			return nil, fmt.Errorf("%d publishers: %w", n, err)
		}
		all = append(all, p)
	}
	return []table{publishTable(all, limit), deviceTable(all)}, nil
}

// publishAs measures all ways with one number of publishers, ours and the peer's one behind the other.
func (b *bench) publishAs(ctx context.Context, p *published) (err error) {
	err = b.inChild(ctx, &p.API, "edgepost-publish", p.Publishers)
	for _, c := range []struct {
		into   *measured
		sync   string
		flight int
	}{
		{&p.Always, syncAlways, 1}, {&p.Lazy, syncLazy, 1}, {&p.LazyMany, syncLazy, pubsInFlight},
	} {
		if err == nil {
			err = b.inChild(ctx, c.into, "nats-publish", p.Publishers, c.sync, c.flight)
		}
	}
	if err != nil {
		return err
	}
	g, err := newGateway(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return err
	}
	if _, err := g.addDevices(ctx, 0, publishDevices, nil); err != nil {
		return err
	}
	if p.HTTP, err = g.publishHTTP(ctx, b, p.Publishers); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	if p.WebSocket, err = g.publishWS(ctx, b, p.Publishers); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	g.end(syscall.SIGTERM)
	return nil
}

func (b *bench) inChild(ctx context.Context, into *measured, name string, publishers int, more ...any) error {
	dir, err := b.dir()
	if err != nil {
		return err
	}
	args := append([]any{dir, publishers, payloadBytes, b.span, b.disk.loop}, more...)
	return errors.Join(b.child(ctx, into, name, args...), os.RemoveAll(dir))
}

// publishHTTP has one kept connection a publisher.
func (g *gateway) publishHTTP(ctx context.Context, b *bench, n int) (measured, error) {
	var open []*httpConn
	defer func() {
		for _, h := range open {
			h.close()
		}
	}()
	return onDevice(b.disk.loop, b.disk.path, payloadBytes, func() (measured, error) {
		return drive(ctx, n, b.span, g.cpu, func(i int) (worker, error) {
			request := post(g.addr, "/v1/publish/"+inboxTopic(i%publishDevices), "Content-Type: application/octet-stream\r\n", make([]byte, payloadBytes))
			h, err := dialHTTP(g.addr, warmUp+b.span+grace)
			if err != nil {
				return nil, err
			}
			open = append(open, h)
			return one(func() error {
				_, err := h.call(request, "201")
				return err
			}), nil
		})
	})
}

// publishWS has one connection a publisher, with 64 publishes in flight.
func (g *gateway) publishWS(ctx context.Context, b *bench, n int) (measured, error) {
	var open []*wsConn
	defer func() {
		for _, w := range open {
			w.close()
		}
	}()
	return onDevice(b.disk.loop, b.disk.path, payloadBytes, func() (measured, error) {
		return drive(ctx, n, b.span, g.cpu, func(i int) (worker, error) {
			tail := pubTo(inboxTopic(i%publishDevices), payloadBytes)
			w, err := dialWS(g.addr, "", warmUp+b.span+grace)
			if err != nil {
				return nil, err
			}
			open = append(open, w)
			return pipeline(w, func(int) string { return tail }), nil
		})
	})
}

// pubTo is a pub object behind its id, with a text of that many bytes.
func pubTo(topic string, payload int) string {
	return fmt.Sprintf(`"pub":{"topic":%q,"text":%q}}`, topic, strings.Repeat("x", payload))
}

func publishTable(all []published, limit measured) table {
	t := table{
		Title: "Durable publishes of 256 bytes: acknowledged after the fsync",
		Notes: []string{
			fmt.Sprintf("Messages a second (p50 / p99 of one publish). \"lazy\" has as many in flight as we have, \"always\" one a publisher, since more only wait: it fsyncs each alone. NATS JetStream is embedded with its in-process client, R1 on files, on the same file system. "+
				"The bare limit for one publisher, fdatasync of 4 KiB in place: %s/s, p50 %s.", round(limit.Rate), millis(limit.P50)),
		},
		Figures: map[string]any{"publishers": all, "fdatasync_limit": limit},
	}
	for i := range all {
		p := &all[i]
		reach := map[int]string{1: "≥ 1.5× always", 64: "≥ 10× always; aim 1× lazy"}[p.Publishers]
		who := plural(p.Publishers, "publisher")
		for _, c := range []struct {
			how          string
			m            *measured
			always, lazy *measured
			reach        string
		}{
			{"Go API", &p.API, &p.Always, &p.Lazy, reach}, {"HTTP keep-alive", &p.HTTP, &p.Always, &p.Lazy, reach},
			{"WebSocket, 64 in flight each", &p.WebSocket, &p.Always, &p.LazyMany, ""},
		} {
			ours := rateOf(c.m)
			t.Rows = append(t.Rows, faster(who+", "+c.how, ours, rateOf(c.always), "NATS always", c.reach),
				faster("  the same", ours, rateOf(c.lazy), "NATS lazy", ""))
		}
	}
	return t
}

func rateOf(m *measured) figure {
	return figure{m.Rate, "/s", fmt.Sprintf("%s / %s", millis(m.P50), millis(m.P99))}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func deviceTable(all []published) table {
	t := table{Title: "Device bytes written per payload byte, all-in"}
	reach := map[int]string{1: "≤ 20", 64: "≤ 3.0", 256: "≤ 2.0"}
	for i := range all {
		p := &all[i]
		if p.API.PerByte == 0 {
			t.Notes = []string{"Not measured: no loop device here."}
			return t
		}
		who := plural(p.Publishers, "publisher")
		t.Rows = append(t.Rows,
			cheaper(who+", Go API", figure{Value: p.API.PerByte}, figure{Value: p.Always.PerByte}, "NATS always", reach[p.Publishers]),
			cheaper(who+", HTTP keep-alive", figure{Value: p.HTTP.PerByte}, figure{Value: p.Always.PerByte}, "NATS always", reach[p.Publishers]),
			cheaper(who+", WebSocket, 64 in flight each", figure{Value: p.WebSocket.PerByte}, figure{Value: p.Always.PerByte}, "NATS always", ""))
	}
	t.Notes = []string{"Until everything is synced. The lazy peer has written next to nothing by then; what it acknowledged is not on the disk."}
	return t
}
