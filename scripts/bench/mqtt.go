package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mqttShape is one way to publish: so many clients, each with so many unacknowledged publishes.
type mqttShape struct{ publishers, window int }

var mqttShapes = []mqttShape{{1, 1}, {1, 100}, {50, 1}, {50, 100}}

// mqttPublished is what one server came to, by shape.
type mqttPublished struct {
	Server string              `json:"server"`
	Shapes map[string]measured `json:"shapes"`
}

func (s mqttShape) String() string {
	return fmt.Sprintf("%s, window %d", plural(s.publishers, "publisher"), s.window)
}

func mqttSection(ctx context.Context, b *bench) ([]table, error) {
	ours, peers, missing := b.mqttPeers()
	var tables []table
	for _, part := range []func(context.Context, *bench, mqttPeer, []mqttPeer) (table, error){mqttPublishes, mqttFan, mqttIdle, mqttDrain} {
		t, err := part(ctx, b, ours, peers)
		if err != nil {
			return tables, err
		}
		if missing != "" {
			t.Notes = append(t.Notes, missing)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// mqttPublishes measures publishes of QoS 1 while a session that is kept is offline and owed all of them:
// without one Mosquitto would store nothing at all.
func mqttPublishes(ctx context.Context, b *bench, ours mqttPeer, peers []mqttPeer) (table, error) {
	t := table{
		Title: "MQTT publishes of QoS 1, 256 bytes",
		Notes: []string{"Messages a second (p50 / p99 of one publish). The client is the same for all. One kept session is offline and owed every message. " +
			"A PUBACK of edgepost and of NATS always comes after the fsync; **NATS lazy and Mosquitto acknowledge from memory**: what they did not yet write is gone when the power is, and Mosquitto's when its process is."},
	}
	var all []mqttPublished
	for _, p := range append([]mqttPeer{ours}, peers...) {
		m, err := b.mqttPublish(ctx, p)
		if err != nil {
			return t, fmt.Errorf("publish to %s: %w", p.name, err)
		}
		all = append(all, m)
	}
	for _, s := range mqttShapes {
		mine := all[0].Shapes[s.String()]
		for i, p := range peers {
			what, reach := "  the same", ""
			if i == 0 {
				what, reach = s.String(), map[mqttShape]string{{1, 1}: "≥ 1.5× always"}[s]
			}
			theirs := all[i+1].Shapes[s.String()]
			t.Rows = append(t.Rows, faster(what, rateOf(&mine), rateOf(&theirs), p.name, reach))
		}
	}
	t.Figures = all
	return t, nil
}

func (b *bench) mqttPublish(ctx context.Context, p mqttPeer) (all mqttPublished, err error) {
	all = mqttPublished{p.short, make(map[string]measured)}
	s, err := p.start(ctx)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := b.owed(s, "archive", "bench/#"); err != nil {
		return all, err
	}
	for _, shape := range mqttShapes {
		m, err := b.mqttLoad(ctx, s, shape)
		if err != nil {
			return all, fmt.Errorf("%s: %w", shape, err)
		}
		all.Shapes[shape.String()] = m
	}
	return all, nil
}

func (b *bench) mqttLoad(ctx context.Context, s *mqttServer, shape mqttShape) (measured, error) {
	conns := make([]*mqttConn, shape.publishers)
	defer func() {
		for _, m := range conns {
			if m != nil {
				m.close()
			}
		}
	}()
	return drive(ctx, shape.publishers, b.span, s.cpu, func(i int) (_ worker, err error) {
		if conns[i], err = dialMQTT(s.addr, fmt.Sprintf("p%d", i), true, warmUp+b.span+grace); err != nil {
			return nil, err
		}
		return conns[i].publisher(fmt.Sprintf("bench/p%d", i), payloadBytes, shape.window), nil
	})
}

// owed makes a kept session with one subscription of QoS 1, and leaves it.
func (b *bench) owed(s *mqttServer, client, filter string) error {
	m, err := dialMQTT(s.addr, client, false, grace)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.subscribe(filter, 1); err != nil {
		return err
	}
	return m.leave()
}

// mqttFan measures deliveries of QoS 0.
func mqttFan(ctx context.Context, b *bench, ours mqttPeer, peers []mqttPeer) (table, error) {
	n := 1000
	if b.quick {
		n = 100
	}
	t := table{
		Title: "Server CPU seconds for a million MQTT deliveries of QoS 0, saturated",
		Notes: []string{"128 bytes on one topic, 16 publishes in flight; nobody stores anything. Rates are bounded by the receivers, who share the cores."},
	}
	mine, err := b.mqttFanOf(ctx, ours, n)
	if err != nil {
		return t, fmt.Errorf("fan-out of edgepost: %w", err)
	}
	all := []fanned{mine}
	for _, p := range peers {
		if p.short == "nats_always" { // stores nothing here, so it is the same as the lazy one
			continue
		}
		theirs, err := b.mqttFanOf(ctx, p, n)
		if err != nil {
			return t, fmt.Errorf("fan-out of %s: %w", p.name, err)
		}
		all = append(all, theirs)
		t.Rows = append(t.Rows, cheaper(round(float64(n))+" subscribers", fanFigure(mine), fanFigure(theirs), strings.TrimSuffix(p.name, " lazy"), ""))
	}
	t.Figures = all
	return t, nil
}

func (b *bench) mqttFanOf(ctx context.Context, p mqttPeer, n int) (m fanned, err error) {
	s, err := p.start(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	f := &fan{subscribers: int64(n), flight: 16, room: make(chan struct{}, 1)}
	life := time.Minute + b.span + grace
	conns := make([]*mqttConn, n)
	var readers sync.WaitGroup
	var over atomic.Bool
	failed := make([]error, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.close()
			}
		}
		readers.Wait()
		err = errors.Join(err, firstOf(failed))
	}()
	if err := each(ctx, n, 8, func(i int) (err error) {
		if conns[i], err = dialMQTT(s.addr, fmt.Sprintf("s%d", i), true, life); err != nil {
			return err
		}
		return conns[i].subscribe(fanTopic, 0)
	}); err != nil {
		return m, err
	}
	for i, c := range conns {
		readers.Go(func() {
			if err := c.receive(func(n int) bool { f.frames.Add(1); f.got(n); return false }); !over.Load() {
				failed[i] = err
			}
		})
	}
	publisher, err := dialMQTT(s.addr, "publisher", true, life)
	if err != nil {
		return m, err
	}
	defer publisher.close()
	packet := appendPublish(nil, fanTopic, 0, 0, []byte(fanBody()))
	m, err = f.run(ctx, b.span, s.cpu, func() error {
		_, err := publisher.c.Write(packet)
		return err
	})
	over.Store(true) // from here on a connection may end
	m.Server = p.short
	return m, err
}
