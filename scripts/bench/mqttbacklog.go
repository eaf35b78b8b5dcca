package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// mqttIdle measures the memory of sessions that do nothing.
func mqttIdle(ctx context.Context, b *bench, ours mqttPeer, peers []mqttPeer) (table, error) {
	sizes := []int{1000, 5000}
	if b.quick {
		sizes = []int{100, 500}
	}
	t := table{
		Title: "Resident memory of one idle MQTT session with one filter of QoS 1",
		Notes: []string{"Growth of the server's anonymous memory (RssAnon); VmRSS stands in brackets. The kernel's socket buffers are not in it, on any side."},
	}
	var all []idled
	for _, n := range sizes {
		mine, err := b.mqttIdleOf(ctx, ours, n)
		if err != nil {
			return t, err
		}
		all = append(all, mine)
		for _, p := range peers {
			if p.short == "nats_always" || p.short == "nats_lazy" && n == sizes[1] { // each of its sessions is a consumer with files
				continue
			}
			theirs, err := b.mqttIdleOf(ctx, p, n)
			if err != nil {
				return t, err
			}
			all = append(all, theirs)
			t.Rows = append(t.Rows, cheaper(round(float64(n))+" sessions", perConnection(mine), perConnection(theirs), strings.TrimSuffix(p.name, " lazy"), "≤ 5 KiB"))
		}
	}
	t.Figures = all
	return t, nil
}

func (b *bench) mqttIdleOf(ctx context.Context, p mqttPeer, n int) (m idled, err error) {
	s, err := p.start(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return idle(ctx, p.short, s.pid, n, true, settle, func(i int) (func(), error) {
		c, err := dialMQTT(s.addr, fmt.Sprintf("s%d", i), true, 2*time.Minute)
		if err != nil {
			return nil, err
		}
		return c.close, c.subscribe(fmt.Sprintf("bench/%d", i), 1)
	})
}

// drained is how a backlog reached devices that came back.
type drained struct {
	Server   string        `json:"server"`
	Devices  int           `json:"devices"`
	Messages int           `json:"messages"`
	Took     time.Duration `json:"took_ns"` // from the first connect to the last acknowledgment
	Rate     float64       `json:"per_second"`
	CPU      float64       `json:"cpu_us_per_message"`
}

// mqttDrain measures how quickly a backlog reaches one device, and a thousand that come back at once.
func mqttDrain(ctx context.Context, b *bench, ours mqttPeer, peers []mqttPeer) (table, error) {
	messages, many := 100_000, 1000
	if b.quick {
		messages, many = 5000, 100
	}
	t := table{
		Title: fmt.Sprintf("A backlog of %s MQTT messages of QoS 1, 256 bytes, drained", round(float64(messages))),
		Notes: []string{"Messages a second from the first connect to the last acknowledgment. edgepost's backlog is on disk, synced; the lazy NATS' is on its way there; Mosquitto's is in memory, with max_queued_messages 0 (its default drops all but 1,000 a device)."},
	}
	var all []drained
	for _, devices := range []int{1, many} {
		mine, err := b.mqttDrainOf(ctx, ours, devices, messages)
		if err != nil {
			return t, fmt.Errorf("drain edgepost: %w", err)
		}
		all = append(all, mine)
		for _, p := range peers {
			if p.short == "nats_always" { // the backlog would take minutes; to read it is the same
				continue
			}
			theirs, err := b.mqttDrainOf(ctx, p, devices, messages)
			if err != nil {
				return t, fmt.Errorf("drain %s: %w", p.name, err)
			}
			all = append(all, theirs)
			what := "to " + plural(devices, "device")
			if devices > 1 {
				what += " that come back at once"
			}
			t.Rows = append(t.Rows, faster(what, mine.figure(), theirs.figure(), p.name, ""))
		}
	}
	t.Figures = all
	return t, nil
}

func (d *drained) figure() figure {
	return figure{d.Rate, "/s", fmt.Sprintf("%s s, CPU %s µs each", round(d.Took.Seconds()), round(d.CPU))}
}

func (b *bench) mqttDrainOf(ctx context.Context, p mqttPeer, devices, messages int) (m drained, err error) {
	m = drained{Server: p.short, Devices: devices, Messages: messages}
	s, err := p.start(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := each(ctx, devices, 16, func(i int) error { return b.owed(s, deviceName(i), "bench/"+deviceName(i)) }); err != nil {
		return m, err
	}
	if err := publishMQTT(ctx, s.addr, "filler", 0, messages, 0, func(i int) string { return "bench/" + deviceName(i%devices) }); err != nil {
		return m, fmt.Errorf("fill: %w", err)
	}
	if err := pause(ctx, settle); err != nil {
		return m, err
	}
	var received atomic.Int64
	conns := make([]*mqttConn, devices)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.close()
			}
		}
	}()
	cpu, began := s.cpu(), time.Now()
	err = each(ctx, devices, devices, func(i int) (err error) {
		if conns[i], err = dialMQTT(s.addr, deviceName(i), false, 5*time.Minute); err != nil {
			return err
		}
		left := messages / devices
		return conns[i].receive(func(n int) bool { received.Add(int64(n)); left -= n; return left <= 0 })
	})
	if err != nil {
		return m, fmt.Errorf("%d of %d received: %w", received.Load(), messages, err)
	}
	m.Took = time.Since(began)
	m.Rate = float64(messages) / m.Took.Seconds()
	m.CPU = (s.cpu() - cpu) * 1e6 / float64(messages)
	return m, nil
}

// publishMQTT publishes the messages from to to-1 with QoS 1 and 100 in flight: pace a second, 0 as fast as they are answered.
func publishMQTT(ctx context.Context, addr, client string, from, to, pace int, topic func(i int) string) error {
	const window, life = 100, 30 * time.Minute
	m, err := dialMQTT(addr, client, true, life)
	if err != nil {
		return err
	}
	defer m.close()
	body, began := benchBody(), time.Now()
	for sent, answered := from, from; answered < to && ctx.Err() == nil; {
		due := to
		if pace > 0 {
			due = min(to, from+int(time.Since(began).Seconds()*float64(pace)))
		}
		m.out = m.out[:0]
		for ; sent < due && sent-answered < window; sent++ {
			m.out = appendPublish(m.out, topic(sent), 1, uint16(sent%window+1), body)
		}
		if len(m.out) > 0 {
			if _, err := m.c.Write(m.out); err != nil {
				return err
			}
		}
		if sent == answered {
			time.Sleep(time.Millisecond) // until the next is due
			continue
		}
		for first := true; first || m.more(); first = false {
			kind, _, err := m.packet()
			if err != nil {
				return err
			}
			if kind>>4 != mqttPuback {
				return fmt.Errorf("packet %#x instead of a PUBACK", kind)
			}
			answered++
		}
	}
	return context.Cause(ctx)
}
