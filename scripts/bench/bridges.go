package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"edgepost/scripts/brokers"
)

// bridgeWindows are how many messages may be on their way unconfirmed.
var bridgeWindows = []int{1, 16, 256}

const (
	ownWindow = 0 // the bridge finds it, as without a configured one; the library has the largest beside it
	wayDown   = -1
)

// bridgeCell is a bridge beside its library.
type bridgeCell struct {
	Connector string  `json:"connector"`
	Window    int     `json:"window"` // or ownWindow, wayDown
	Ours      bridged `json:"edgepost"`
	Library   bridged `json:"library"`
}

func (c *bridgeCell) what(u *upstream) string {
	switch n := u.width(c.Window); {
	case c.Window == wayDown:
		return "  down"
	case c.Window == ownWindow:
		return fmt.Sprintf("  up, its own window (library %d)", bridgeWindows[len(bridgeWindows)-1])
	case c.Window == bridgeWindows[0]:
		return fmt.Sprintf("%s: up, window %d", u.name, c.Window)
	case n < c.Window:
		return fmt.Sprintf("  up, window %d, %d requests at a time", c.Window, n)
	default:
		return fmt.Sprintf("  up, window %d", c.Window)
	}
}

// bridgesSection measures each connector with a broker of its own, beside the library that it uses.
func bridgesSection(ctx context.Context, b *bench) (_ []table, err error) {
	t := table{
		Title: "Bridges beside their client libraries alone",
		Notes: []string{"Messages of 256 bytes a second, as CloudEvents, each acknowledged by the broker, and the CPU of the gateway or of the library's program for one. The peer is a program that has the same messages in " +
			"memory and gives them to the same library, as many unacknowledged. Up: a backlog in the log, confirmations kept in the log. Down: stored in the log without what is known already, acknowledged " +
			"to the broker after the fsync; the library acknowledges at once and keeps nothing. Mosquitto acknowledges from memory, Kafka from the page cache; RabbitMQ, Artemis and ActiveMQ sync."},
	}
	r, err := newBridgeRun(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	var all []bridgeCell
	for _, u := range b.upstreams() {
		cells, err := r.measure(ctx, &u)
		var skipped errSkipped
		if errors.As(err, &skipped) {
			t.Notes, err = append(t.Notes, fmt.Sprintf("SKIP %s: %s", u.name, skipped)), nil
		}
		for _, c := range cells {
			t.Rows = append(t.Rows, faster(c.what(&u), c.Ours.figure(), c.Library.figure(), u.library, ""))
		}
		all = append(all, cells...)
		if t.Figures = all; err != nil {
			return []table{t}, fmt.Errorf("%s: %w", u.name, err)
		}
	}
	return []table{t}, nil
}

// bridgeRun is one gateway with the bridges of all upstreams.
type bridgeRun struct {
	*gateway
	span    time.Duration
	backlog int
	secret  string // file with the brokers' password
}

func upName(kind string, window int) string { return fmt.Sprintf("%s-%d", kind, window) }

// newBridgeRun starts a gateway with a paused bridge for each measurement up. All owe the same messages, which are
// stored once.
func newBridgeRun(ctx context.Context, b *bench) (_ *bridgeRun, err error) {
	r := &bridgeRun{span: b.span / 2, backlog: 200_000} // there are over fifty measurements
	if b.quick {
		r.backlog = 20_000
	}
	nobody, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if r.gateway, err = newGateway(b); err != nil {
		return nil, err
	}
	r.secret = r.data + ".password"
	defer func() {
		if err != nil {
			err = errors.Join(err, r.remove())
		}
	}()
	if err := os.WriteFile(r.secret, []byte(brokers.Password), 0o600); err != nil {
		return nil, err
	}
	if _, err := r.start(ctx); err != nil {
		return nil, err
	}
	for _, u := range b.upstreams() {
		for _, window := range append(bridgeWindows, ownWindow) {
			if err := r.put(ctx, upName(u.kind, window), u.bridge(nobody, window, r.secret)); err != nil {
				return nil, err
			}
		}
	}
	return r, publishMQTT(ctx, r.mqtt, "filler", 0, r.backlog, 0, func(int) string { return benchTopic })
}

// put makes a bridge, or changes it, and pauses it. What it owes stays.
func (r *bridgeRun) put(ctx context.Context, name string, config map[string]any) error {
	if err := r.ask(ctx, "PUT", "/v1/bridges/"+name, config, nil); err != nil {
		return err
	}
	return r.order(ctx, name, "pause")
}

func (r *bridgeRun) order(ctx context.Context, name, what string) error {
	return r.ask(ctx, "POST", "/v1/bridges/"+name+"/"+what, map[string]any{}, nil)
}

// measure starts a broker and takes its rows.
func (r *bridgeRun) measure(ctx context.Context, u *upstream) (cells []bridgeCell, err error) {
	addr, stop, err := u.start(ctx, r.b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c, err := u.open(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.prepare(ctx, u.prefix+oursQueue); err != nil {
		return nil, err
	}
	if u.prefix != "" {
		if err := r.subscribe(ctx, u.kind+"-down", u.bridge(addr, wayDown, r.secret)); err != nil {
			return nil, err
		}
	}
	messages, err := u.wires()
	if err != nil {
		return nil, err
	}
	// A broker on a Java machine is slow at first.
	if _, err := sendAlone(ctx, c, messages, u.width(64), r.span); err != nil {
		return nil, fmt.Errorf("%s: %w", u.library, err)
	}
	for _, window := range append(bridgeWindows, ownWindow) {
		cell := bridgeCell{Connector: u.kind, Window: window}
		switch {
		case window != ownWindow:
			if cell.Library, err = sendAlone(ctx, c, messages, u.width(window), r.span); err != nil {
				return cells, fmt.Errorf("%s, window %d: %w", u.library, window, err)
			}
		case u.prefix == "":
			return cells, nil // the webhook has neither a window but its requests, nor a way down
		default:
			cell.Library = cells[len(cells)-1].Library
		}
		name := upName(u.kind, window)
		if err := r.put(ctx, name, u.bridge(addr, window, r.secret)); err != nil {
			return cells, err
		}
		if cell.Ours, err = r.pass(ctx, name, "confirmed", int64(r.backlog)); err != nil {
			return cells, fmt.Errorf("up, window %d: %w", window, err)
		}
		cells = append(cells, cell)
	}
	cell, err := r.down(ctx, u, c, cells, messages.sent())
	return append(cells, cell), err
}

// down has each side read what the other one sent.
func (r *bridgeRun) down(ctx context.Context, u *upstream, c client, up []bridgeCell, sent int64) (bridgeCell, error) {
	cell, ours := bridgeCell{Connector: u.kind, Window: wayDown}, int64(0)
	for i := range up {
		ours += up[i].Ours.Messages
	}
	var err error
	if cell.Library, err = readAlone(ctx, c, u.prefix+oursQueue, ours, r.span); err != nil {
		return cell, fmt.Errorf("%s, down: %w", u.library, err)
	}
	if cell.Ours, err = r.pass(ctx, u.kind+"-down", "stored", sent); err != nil {
		return cell, fmt.Errorf("down: %w", err)
	}
	return cell, nil
}

// subscribe connects the way in once, so that the broker keeps for it what comes from now on.
func (r *bridgeRun) subscribe(ctx context.Context, name string, config map[string]any) error {
	if err := r.ask(ctx, "PUT", "/v1/bridges/"+name, config, nil); err != nil {
		return err
	}
	if _, err := r.until(ctx, name, func(s *bridgeNow) bool { return s.State == "connected" }); err != nil {
		return err
	}
	return r.pause(ctx, name)
}

// pause returns when the bridge has ended its connection.
func (r *bridgeRun) pause(ctx context.Context, name string) error {
	if err := r.order(ctx, name, "pause"); err != nil {
		return err
	}
	_, err := r.until(ctx, name, func(s *bridgeNow) bool { return s.State == "paused" })
	return err
}

// bridgeNow is what the API says of a bridge.
type bridgeNow struct {
	State    string
	Error    string
	Owed     int64
	Counters map[string]int64
}

// until waits for a bridge to be so.
func (r *bridgeRun) until(ctx context.Context, name string, so func(s *bridgeNow) bool) (s bridgeNow, err error) {
	for began := time.Now(); ; {
		if err := r.ask(ctx, "GET", "/v1/bridges/"+name, nil, &s); err != nil || so(&s) {
			return s, err
		}
		if time.Since(began) > grace {
			return s, fmt.Errorf("bridge %s is %s for %v: %s", name, s.State, grace, s.Error)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return s, err
		}
	}
}

// pass lets a paused bridge run for the warm-up and the span, or until its counter has risen to most, and measures how
// quickly that rises.
func (r *bridgeRun) pass(ctx context.Context, name, counter string, most int64) (bridged, error) {
	if err := r.order(ctx, name, "resume"); err != nil {
		return bridged{}, err
	}
	s, err := r.until(ctx, name, func(s *bridgeNow) bool { return s.Counters[counter] > 0 })
	m := passage{span: r.span, most: most}
	for err == nil && m.look(s.Counters[counter], r.cpu()) {
		if err = pause(ctx, 10*time.Millisecond); err == nil {
			err = r.ask(ctx, "GET", "/v1/bridges/"+name, nil, &s)
		}
	}
	if err != nil {
		return bridged{}, err
	}
	return m.result(), r.pause(ctx, name)
}
