package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/message"
	"edgepost/appliance/system/pulse"
)

// bridgeOf reads a configuration that came as JSON: the keys of [[bridge]]. What is wrong is a Problem that names
// the keys.
func bridgeOf(name string, table map[string]any) (bridge.Config, error) {
	var cfg bridge.Config
	table = maps.Clone(table)
	if n, ok := table["name"]; ok && n != name {
		return cfg, message.Problemf(message.CodeBadRequest, "the body is about bridge %.70q, the path about %q; a name does not change", n, name)
	}
	table["name"] = name
	var l loader
	integers(table)
	l.section("", table, reflect.ValueOf(&cfg).Elem())
	var k checker
	cfg.Check(connectors(), k.mistake)
	if l.addNew(k.found); len(l.found) > 0 {
		return cfg, message.Problemf(message.CodeBadRequest, "%s", strings.ReplaceAll(l.found.Error(), "\n", "; "))
	}
	return cfg, nil
}

// integers makes whole numbers of JSON what those of TOML are.
func integers(table map[string]any) {
	for name, v := range table {
		switch v := v.(type) {
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
				table[name] = int64(v)
			}
		case map[string]any:
			integers(v)
		}
	}
}

// tableOf is the inverse: the keys that are set.
func tableOf(v reflect.Value) map[string]any {
	table := make(map[string]any)
	for i, t := 0, v.Type(); i < t.NumField(); i++ {
		f := v.Field(i)
		switch {
		case f.IsZero():
		case f.Kind() == reflect.Struct:
			table[keyOf(t.Field(i))] = tableOf(f)
		default:
			table[keyOf(t.Field(i))] = f.Interface()
			if d, ok := reflect.TypeAssert[time.Duration](f); ok {
				table[keyOf(t.Field(i))] = FormatDuration(d)
			}
		}
	}
	return table
}

// bridgeNow is a bridge and what waits in the log for it.
type bridgeNow struct {
	bridge.Status
	owed, bytes int64
	inFlight    int
	oldest      time.Duration
}

func (k *core) view(ctx context.Context, st bridge.Status) bridgeNow {
	v := bridgeNow{Status: st}
	if info, err := k.c.Info(ctx, bridgePrefix+v.Name); err == nil { // fails while everything stops
		v.owed, v.inFlight, v.oldest = info.Depth, info.InFlight, info.OldestAge
		v.bytes = info.Depth * k.ob.AverageRecord()
	}
	return v
}

// show is what the API shows of it; r is nil when it does not run.
func (v *bridgeNow) show(r *bridgeRun) httpapi.BridgeView {
	out := httpapi.BridgeView{
		Name: v.Name, Kind: v.Kind, State: string(v.State), URL: v.URL, Error: v.Error, Holds: v.Holds, Rate: v.Rate, Owed: v.owed, Bytes: v.bytes,
		InFlight: v.inFlight, Window: v.Window, OldestAge: round(v.oldest), Since: v.Since, ErrorAt: v.ErrorAt, RetryAt: v.RetryAt, Counters: v.Counters,
	}
	if v.Rate > 0 && v.owed > 0 {
		eta := float64(v.owed) / v.Rate
		out.ETA = &eta
	}
	if r != nil {
		out.Source, out.Config = "api", tableOf(reflect.ValueOf(r.Config()))
		if r.file {
			out.Source = "file"
		}
	}
	return out
}

// Bridges lists the bridges, and what those owe that do not run any more.
func (k *core) Bridges(ctx context.Context, g *auth.Grant) ([]httpapi.BridgeView, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	var out []httpapi.BridgeView
	for _, r := range k.bridges.list() {
		v := k.view(ctx, r.Status())
		out = append(out, v.show(r))
	}
	for _, name := range k.bridges.orphans() {
		out = append(out, k.orphan(ctx, name))
	}
	return out, nil
}

// orphan describes a bridge that is gone, and whose subscription is still there.
func (k *core) orphan(ctx context.Context, name string) httpapi.BridgeView {
	why := "no configuration has it any more"
	if err := k.bridges.lame[name]; err != nil {
		why = "it cannot be started: " + err.Error()
	}
	v := k.view(ctx, bridge.Status{Name: name, State: bridge.Orphaned, Error: why + "; it owes what it owed until it is removed"})
	return v.show(nil)
}

// Bridge describes one.
func (k *core) Bridge(ctx context.Context, g *auth.Grant, name string) (httpapi.BridgeView, error) {
	if err := admin(g); err != nil {
		return httpapi.BridgeView{}, err
	}
	r, err := k.bridges.find(name)
	if err != nil && slices.Contains(k.bridges.orphans(), name) {
		return k.orphan(ctx, name), nil
	}
	if err != nil {
		return httpapi.BridgeView{}, err
	}
	v := k.view(ctx, r.Status())
	return v.show(r), nil
}

// PutBridge makes a bridge or changes one; no other is touched. With merge the keys of the body change the present
// configuration, and null takes one away.
func (k *core) PutBridge(ctx context.Context, g *auth.Grant, name string, table map[string]any, merge bool) (v httpapi.BridgeView, created bool, err error) {
	defer func() { k.audited(ctx, g, "bridge.put", name, err) }()
	if err := admin(g); err != nil {
		return v, false, err
	}
	bs := k.bridges
	bs.change.Lock()
	defer bs.change.Unlock()
	r, err := bs.find(name)
	switch {
	case err != nil && merge:
		return v, false, err
	case merge:
		table = merged(tableOf(reflect.ValueOf(r.Config())), table)
	}
	if err := bs.put(ctx, name, table); err != nil {
		return v, false, err
	}
	v, err = k.Bridge(ctx, g, name)
	return v, r == nil, err
}

// put makes a bridge or changes it; change is held.
func (bs *bridges) put(ctx context.Context, name string, table map[string]any) error {
	if r, err := bs.find(name); err == nil && r.file {
		return message.Problemf(message.CodeForbidden, "bridge %q stands in the configuration file, which wins; change it there", name)
	}
	cfg, err := bridgeOf(name, table)
	if err != nil {
		return err
	}
	meta, err := json.Marshal(tableOf(reflect.ValueOf(cfg)))
	if err != nil {
		return fmt.Errorf("encode bridge %s: %w", name, err)
	}
	if err := bs.k.Health(); err != nil {
		return err // what runs goes on
	}
	bs.halt(name)
	return bs.start(ctx, cfg, meta)
}

// merged is a JSON merge patch (RFC 7396).
func merged(table, patch map[string]any) map[string]any {
	for name, v := range patch {
		sub, isTable := v.(map[string]any)
		old, wasTable := table[name].(map[string]any)
		switch {
		case v == nil:
			delete(table, name)
		case isTable && wasTable:
			table[name] = merged(old, sub)
		default:
			table[name] = v
		}
	}
	return table
}

// RemoveBridge ends a bridge with all that it owes.
func (k *core) RemoveBridge(ctx context.Context, g *auth.Grant, name string) (err error) {
	defer func() { k.audited(ctx, g, "bridge.remove", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.bridges.change.Lock()
	defer k.bridges.change.Unlock()
	if r, err := k.bridges.find(name); err == nil && r.file {
		return message.Problemf(message.CodeForbidden, "bridge %q stands in the configuration file; remove it there, and then here what it owes", name)
	}
	k.bridges.halt(name)
	return k.c.Remove(ctx, bridgePrefix+name)
}

// OrderBridge does what an operator wishes.
func (k *core) OrderBridge(ctx context.Context, g *auth.Grant, name string, o httpapi.BridgeOrder) (res httpapi.BridgeResult, err error) {
	defer func() { k.audited(ctx, g, "bridge."+o.Do, name, err) }()
	if err := admin(g); err != nil {
		return res, err
	}
	r, err := k.bridges.find(name)
	if err != nil {
		return res, err
	}
	switch o.Do {
	case "pause":
		return res, r.Pause()
	case "resume":
		return res, r.Resume()
	case "drain":
		return res, r.Drain()
	case "test":
		host, err := r.Probe(ctx)
		if err != nil {
			res.Error = err.Error()
		}
		res.URL, res.OK = host, err == nil
		return res, nil
	case "skip":
		upto := k.c.Head()
		if !o.Until.IsZero() {
			upto = o.Until
		}
		res.Skipped, err = k.c.Skip(ctx, bridgePrefix+name, upto.Seq, "skipped by an operator")
		return res, err
	default: // rewind
		after := o.After
		if o.Since > 0 {
			if after, err = k.c.Before(ctx, bridgePrefix+name, o.Since); err != nil {
				return res, err
			}
		}
		res.Gap, err = k.c.Rewind(ctx, bridgePrefix+name, after)
		return res, err
	}
}

// bridgeMetrics writes the bridges in Prometheus' text format.
func (k *core) bridgeMetrics(w io.Writer) {
	list := k.bridges.list()
	if len(list) == 0 {
		return
	}
	views := make([]bridgeNow, len(list))
	for i, r := range list {
		views[i] = k.view(context.Background(), r.Status())
	}
	for _, m := range [...]struct {
		name, kind, help string
		value            func(v *bridgeNow) float64
	}{
		{"connected", "gauge", "1 while the bridge is connected.", func(v *bridgeNow) float64 {
			return float64(flag(v.State == bridge.Connected || v.State == bridge.Draining))
		}},
		{"owed", "gauge", "Messages that wait for the upstream.", func(v *bridgeNow) float64 { return float64(v.owed) }},
		{"oldest_age_seconds", "gauge", "Age of the oldest of them.", func(v *bridgeNow) float64 { return v.oldest.Seconds() }},
		{"sent_total", "counter", "Messages handed to the upstream, repetitions included.", func(v *bridgeNow) float64 { return float64(v.Sent) }},
		{"sent_bytes_total", "counter", "Bytes of them.", func(v *bridgeNow) float64 { return float64(v.SentBytes) }},
		{"confirmed_total", "counter", "Messages that the upstream confirmed.", func(v *bridgeNow) float64 { return float64(v.Confirmed) }},
		{"refused_total", "counter", "Tries that the upstream refused.", func(v *bridgeNow) float64 { return float64(v.Refused) }},
		{"dead_total", "counter", "Messages given up.", func(v *bridgeNow) float64 { return float64(v.Dead) }},
		{"received_total", "counter", "Messages that came from the upstream.", func(v *bridgeNow) float64 { return float64(v.Received) }},
		{"stored_total", "counter", "Of these stored and acknowledged.", func(v *bridgeNow) float64 { return float64(v.Stored) }},
		{"repeated_total", "counter", "Of these known already.", func(v *bridgeNow) float64 { return float64(v.Repeated) }},
		{"not_taken_total", "counter", "Of these refused by the gateway.", func(v *bridgeNow) float64 { return float64(v.NotTaken) }},
	} {
		fmt.Fprintf(w, "# HELP edgepost_bridge_%s %s\n# TYPE edgepost_bridge_%s %s\n", m.name, m.help, m.name, m.kind)
		for i := range views {
			fmt.Fprintf(w, "edgepost_bridge_%s{bridge=%q,kind=%q} %g\n", m.name, views[i].Name, views[i].Kind, m.value(&views[i]))
		}
	}
}

// describeBridges is for the live feed.
func (k *core) describeBridges(t *pulse.Tick) {
	for _, r := range k.bridges.list() {
		v := k.view(context.Background(), r.Status())
		t.Bridges = append(t.Bridges, pulse.Bridge{Name: v.Name, Kind: v.Kind, State: string(v.State), Owed: v.owed, OldestAge: round(v.oldest), Error: v.Error})
	}
}
