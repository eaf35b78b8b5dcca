package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// grown is what one durable publish costs at one size.
type grown struct {
	Devices int     `json:"devices"`
	Log     int64   `json:"log_bytes_before"`
	CPU     float64 `json:"cpu_us_per_message"`
	Rate    float64 `json:"per_second"`
	Start   string  `json:"start,omitempty"`
}

// growthWidth is how many connections publish, 64 in flight each, so that what grows is not hidden
// behind the requests.
const growthWidth = 4

func growthSection(ctx context.Context, b *bench) ([]table, error) {
	counts, unit := []int{10, 100, 1000, 10_000}, int64(6<<20)
	if b.quick {
		counts, unit = []int{10, 100}, 64<<10
	}
	devices, err := b.growDevices(ctx, counts)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	logs, err := b.growLog(ctx, unit)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	t := table{
		Title:   "Growth: server CPU of one durable publish to one device's inbox",
		Notes:   []string{"Nobody is connected but the publishers; messages go to all devices in turn and stay owed. The ratio is against the first row of its kind: 1.0 is no growth."},
		Figures: map[string]any{"devices": devices, "log": logs},
	}
	for i, d := range devices {
		t.Rows = append(t.Rows, growthRow(round(float64(d.Devices))+" devices", i, d, devices[0]))
	}
	for i, d := range logs {
		what := fmt.Sprintf("100 devices, %s of settled messages in the log", mebi(d.Log))
		t.Rows = append(t.Rows, growthRow(what, i, d, logs[0]))
	}
	return []table{t}, nil
}

func growthRow(what string, i int, d, first grown) row {
	f := figure{d.CPU, "µs", round(d.Rate) + "/s"}
	if d.Start != "" {
		f.More += ", starts in " + d.Start
	}
	if i == 0 {
		return alone(what, f, "")
	}
	return cheaper(what, f, figure{first.CPU, "µs", ""}, "first row", "no growth")
}

func (b *bench) growDevices(ctx context.Context, counts []int) (all []grown, err error) {
	g, err := newGateway(b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return nil, err
	}
	have := 0
	for _, n := range counts {
		if _, err := g.addDevices(ctx, have, n, nil); err != nil {
			return nil, err
		}
		have = n
		m, err := g.growth(ctx, b, n)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// growLog fills the log with messages that nobody owes, to 1, 10 and 100 times the unit, and measures
// after each, and how long a start takes.
func (b *bench) growLog(ctx context.Context, unit int64) (all []grown, err error) {
	g, err := newGateway(b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	if _, err := g.start(ctx); err != nil {
		return nil, err
	}
	const devices, size = 100, 4 << 10
	if _, err := g.addDevices(ctx, 0, devices, nil); err != nil {
		return nil, err
	}
	have := int64(0)
	settled := pubTo("settled/x", size)
	for _, times := range []int64{1, 10, 100} {
		if err := g.fillWith(ctx, int((unit*times-have)/size), func(int) string { return settled }); err != nil {
			return nil, err
		}
		have = unit * times
		m, err := g.growth(ctx, b, devices)
		if err != nil {
			return nil, err
		}
		g.end(syscall.SIGKILL)
		ready, err := g.start(ctx)
		if err != nil {
			return nil, err
		}
		m.Start = millis(ready)
		all = append(all, m)
	}
	return all, nil
}

// growth measures publishes that go to n devices in turn.
func (g *gateway) growth(ctx context.Context, b *bench, n int) (m grown, err error) {
	var status struct {
		LogBytes int64 `json:"log_bytes"`
	}
	if err := g.ask(ctx, "GET", "/v1/status", nil, &status); err != nil {
		return m, err
	}
	var open []*wsConn
	defer func() {
		for _, w := range open {
			w.close()
		}
	}()
	objects := make([]string, n)
	for i := range objects {
		objects[i] = pubTo(inboxTopic(i), payloadBytes)
	}
	run, err := drive(ctx, growthWidth, b.span, g.cpu, func(k int) (worker, error) {
		w, err := dialWS(g.addr, "", warmUp+b.span+grace)
		if err != nil {
			return nil, err
		}
		open = append(open, w)
		return pipeline(w, func(i int) string { return objects[(i*growthWidth+k)%n] }), nil
	})
	return grown{Devices: n, Log: status.LogBytes, CPU: run.CPU, Rate: run.Rate}, err
}
