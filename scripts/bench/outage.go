package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	outageRate  = 1000        // messages a second that the outage is about
	outageTotal = 3_600_000   // an hour of them
	outageLog   = 7 << 30     // room for them in the quarter of the budget that one subscription may hold
	smallLog    = 64 << 20    // a budget that is full soon
	paceFrom    = time.Minute // with -time so long or longer, it is a true outage
)

// outage is a gateway's memory while the upstream of its only bridge is down.
type outage struct {
	What    string   `json:"what"`
	Pace    int      `json:"messages_per_second,omitempty"` // 0: as fast as the gateway takes them
	Took    float64  `json:"seconds"`
	Samples []waited `json:"samples"` // the first before the first message

	budget int64 // of the log
	total  int   // messages
	looks  int
	topic  func(i int) string
}

// waited is one look at it.
type waited struct {
	Messages  int     `json:"messages"` // acknowledged so far
	Owed      int64   `json:"owed"`     // of these to the upstream
	Dead      int64   `json:"dead"`     // given up because the log's budget was used up
	Own       float64 `json:"rss_anon"` // bytes; the process's alone
	RSS       float64 `json:"rss"`
	Heap      int     `json:"heap_mib"` // live after a collection of garbage, in whole MiB as the runtime prints it
	LogBytes  int64   `json:"log_bytes"`
	State     string  `json:"bridge"`
	PerSecond float64 `json:"per_second"` // since the look before
}

// everyOne is the topic of the i-th message when all are for the upstream.
func everyOne(int) string { return benchTopic }

// mostlyUp is it when of four messages the last is for somebody else, so that what the upstream is owed has holes.
func mostlyUp(i int) string {
	if i%4 == 3 {
		return "device/d1/out/else"
	}
	return benchTopic
}

// outageSection measures what an outage of an upstream costs the gateway in memory: an hour's messages as fast as they
// go in, or, with -time 1h, for so long at 1,000 a second; and what happens when the log's budget is used up.
func outageSection(ctx context.Context, b *bench) ([]table, error) {
	total := outageTotal
	if b.quick {
		total /= 100
	}
	runs := []outage{
		{What: "all for the upstream", budget: outageLog, total: total, looks: 10, topic: everyOne},
		{What: "three of four for the upstream", budget: outageLog, total: total / 4, looks: 5, topic: mostlyUp},
		{What: "the same with a log of " + mebi(smallLog), budget: smallLog, total: 200_000, looks: 5, topic: mostlyUp},
	}
	if b.span >= paceFrom {
		total = int(b.span.Seconds() * outageRate)
		runs = []outage{{What: "three of four for the upstream, 1,000 a second", Pace: outageRate, budget: outageLog, total: total, looks: 10, topic: mostlyUp}}
	}
	t := table{
		Title: "A bridge whose upstream is down: memory of the gateway",
		Notes: []string{"Messages of 256 bytes over MQTT, QoS 1, each answered after its fsync, for an upstream where nothing listens. The figure is RssAnon, in brackets the live heap at the last " +
			"collection, in whole MiB as the runtime prints it; the rest of VmRSS are pages of files. What is owed is kept as runs of numbers: it takes memory only where other messages lie between. " +
			"A subscription may hold a quarter of the log's budget; then its oldest messages become dead letters, publishers are answered as before, and each of those is read once more, " +
			"through the cache of frames, which has up to 16 MiB on a machine as large as this one."},
		Figures: runs,
	}
	for i := range runs {
		m := &runs[i]
		if err := b.outage(ctx, m); err != nil {
			return []table{t}, fmt.Errorf("%s: %w", m.What, err)
		}
		for k := range m.Samples {
			t.Rows = append(t.Rows, m.row(k))
		}
	}
	return []table{t}, nil
}

func (m *outage) row(i int) row {
	s := &m.Samples[i]
	f := figure{s.Own / (1 << 20), "MiB", fmt.Sprintf("heap %d, VmRSS %s", s.Heap, mebi(int64(s.RSS)))}
	if i == 0 {
		return alone(m.What+": before the first message", f, "")
	}
	f.More += fmt.Sprintf("; log %s, %s/s", mebi(s.LogBytes), round(s.PerSecond))
	what := fmt.Sprintf("  after %s, %s owed", round(float64(s.Messages)), round(float64(s.Owed)))
	if s.Dead > 0 {
		what += fmt.Sprintf(", %s dead", round(float64(s.Dead)))
	}
	if i == 1 {
		return alone(what, f, "flat from here")
	}
	first := &m.Samples[1]
	return cheaper(what, f, figure{first.Own / (1 << 20), "MiB", ""}, fmt.Sprintf("after %s", round(float64(first.Messages))), "")
}

// outage publishes the messages to a gateway whose bridge finds nobody, and looks after equal parts of them.
func (b *bench) outage(ctx context.Context, m *outage) (err error) {
	nobody, err := freeAddress()
	if err != nil {
		return err
	}
	g, err := newGateway(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if err := os.WriteFile(g.data+".toml", fmt.Appendf(nil, "[storage]\nmax_bytes = %d\n", m.budget), 0o600); err != nil {
		return err
	}
	g.under = []string{"env", "GODEBUG=gctrace=1"}
	if _, err := g.start(ctx); err != nil {
		return err
	}
	bridge := map[string]any{"kind": "mqtt", "urls": []string{"mqtt://" + nobody}, "up": map[string]any{"filters": []string{benchTopic}}}
	if err := g.ask(ctx, "PUT", "/v1/bridges/up", bridge, nil); err != nil {
		return err
	}
	began := time.Now()
	err = m.look(ctx, g, 0, began)
	for i := 0; i < m.looks && err == nil; i++ {
		from, to, since := m.total*i/m.looks, m.total*(i+1)/m.looks, time.Now()
		if err = m.flood(ctx, g.mqtt, from, to); err != nil {
			break
		}
		if err = m.look(ctx, g, to, since); err == nil {
			r := m.row(i + 1)
			fmt.Fprintf(b.log, "bench: outage:%s: %s\n", r.What, r.Ours)
		}
	}
	m.Took = time.Since(began).Seconds()
	return err
}

// flood publishes the messages: at the pace by one device, as fast as they go in by four.
func (m *outage) flood(ctx context.Context, addr string, from, to int) error {
	n := 4
	if m.Pace > 0 {
		n = 1
	}
	return each(ctx, n, n, func(i int) error {
		return publishMQTT(ctx, addr, deviceName(i), from+(to-from)*i/n, from+(to-from)*(i+1)/n, m.Pace, m.topic)
	})
}

// look takes a sample; messages of it came since then.
func (m *outage) look(ctx context.Context, g *gateway, messages int, since time.Time) error {
	took := time.Since(since).Seconds()
	var bridge struct {
		State string
		Owed  int64
	}
	var status struct {
		LogBytes int64 `json:"log_bytes"`
		Dead     int64
	}
	if err := pause(ctx, time.Second); err != nil { // what was just published is written
		return err
	}
	heap, err := liveHeap(g.data + ".log")
	err = errors.Join(err, g.ask(ctx, "GET", "/v1/bridges/up", nil, &bridge), g.ask(ctx, "GET", "/v1/status", nil, &status))
	s := waited{
		Messages: messages, Owed: bridge.Owed, Dead: status.Dead, Heap: heap, Own: own(g.pid()), RSS: resident(g.pid()), LogBytes: status.LogBytes, State: bridge.State,
	}
	if n := len(m.Samples); n > 0 {
		s.PerSecond = float64(messages-m.Samples[n-1].Messages) / took
	}
	m.Samples = append(m.Samples, s)
	return err
}

// liveHeap reads the last line of GODEBUG=gctrace=1: "gc 7 … 4->4->2 MB, …", of which the third is what lives.
func liveHeap(file string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-64<<10), 64<<10))
	mib := 0
	for line := range bytes.Lines(text) {
		at := bytes.Index(line, []byte("->"))
		if !bytes.HasPrefix(line, []byte("gc ")) || at < 0 {
			continue
		}
		var end, live int
		if _, err := fmt.Sscanf(string(line[at:]), "->%d->%d MB", &end, &live); err == nil {
			mib = live
		}
	}
	return mib, err
}
