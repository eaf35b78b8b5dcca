package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"edgepost/appliance/bridge"
	"edgepost/appliance/bridge/amqp"
	"edgepost/appliance/bridge/kafka"
	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/bridge/mqtt"
	"edgepost/appliance/bridge/rabbitmq"
	"edgepost/appliance/bridge/stomp"
	"edgepost/appliance/bridge/webhook"
	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// bridgePrefix begins the principals of bridges, and the names of their subscriptions.
const bridgePrefix = "bridge/"

// connectors are the kinds of upstreams, compiled in or not.
func connectors() []bridge.Kind {
	return []bridge.Kind{mqtt.Kind(), kafka.Kind(), amqp.Kind(), rabbitmq.Kind(), stomp.Kind(), webhook.Kind()}
}

func (k *checker) bridges(list []bridge.Config) {
	names := make(map[string]bool, len(list))
	kinds := connectors()
	for i := range list {
		key := at("bridge", i)
		list[i].Check(kinds, func(sub, format string, args ...any) { k.mistake(key+"."+sub, format, args...) })
		if names[list[i].Name] {
			k.mistake(key+".name", "%q is taken by an earlier [[bridge]]; each needs its own name", list[i].Name)
		}
		names[list[i].Name] = true
	}
}

// home is the gateway's side of one bridge: it implements [bridge.Home].
type home struct {
	k     *core
	name  string // of the subscription and principal
	grant *auth.Grant
}

func newHome(k *core, cfg *bridge.Config) *home {
	return &home{k: k, name: bridgePrefix + cfg.Name, grant: auth.NewGrant(auth.Bridge, cfg.Name, false, message.Rules{Publish: cfg.Down.Publish})}
}

func (h *home) Attach(ctx context.Context, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	return h.k.c.Attach(ctx, h.name, link, o)
}

func (h *home) Admit(m *message.Message) error {
	if err := h.k.admit(h.grant, m); err != nil {
		return err
	}
	m.From = h.name
	return nil
}

func (h *home) Store(ms []*message.Message, notes []courier.Note) error {
	return h.k.c.PublishAllNoted(ms, h.name, notes)
}

func (h *home) Notes(ctx context.Context) (map[uint32][]byte, error) {
	st, _, err := h.k.c.Session(ctx, h.name)
	return st.Notes, err
}

func (h *home) Depth(ctx context.Context) (int64, error) {
	info, err := h.k.c.Info(ctx, h.name)
	return info.Depth, err
}

// bridgeSpec is a bridge's subscription. The engine counts tries itself.
func bridgeSpec(c *bridge.Config) courier.Spec {
	name := bridgePrefix + c.Name
	return courier.Spec{
		Name: name, Owner: name, Kind: courier.Bridge, Filters: c.Up.Filters, TTL: c.Up.TTL, Window: c.Reach(), MaxAttempts: bridge.NoAttempts, NotFrom: name,
	}
}

// bridges are all that run. Safe for concurrent use.
type bridges struct {
	k    *core
	here func() mapping.Here

	change sync.Mutex // held while one is made, changed or removed
	mu     sync.Mutex // guards runs
	runs   map[string]*bridgeRun
	lame   map[string]error // why one that was made over the API could not be started again; never written after the start
}

// bridgeRun is one that runs.
type bridgeRun struct {
	*bridge.Bridge
	file bool   // it stands in the configuration file, which wins
	stop func() // returns when it does not run any more
}

// startBridges makes the subscriptions and runs the bridges of the configuration file, and those made over the API,
// whose configuration is kept with their subscription.
func (a *Appliance) startBridges(ctx context.Context) error {
	bs := &bridges{k: &a.core, runs: make(map[string]*bridgeRun), lame: make(map[string]error), here: func() mapping.Here {
		return mapping.Here{Gateway: a.core.reg.Name(), Epoch: a.core.reg.Epoch()}
	}}
	a.core.bridges = bs
	a.onStop("bridges", func(context.Context) error { bs.stop(); return nil })
	for i := range a.cfg.Bridges {
		if err := bs.start(ctx, a.cfg.Bridges[i], nil); err != nil {
			return err
		}
	}
	for _, name := range bs.orphans() {
		if err := bs.revive(ctx, name); err != nil {
			bs.lame[name] = err
			a.o.Log.Warn("a bridge does not run; what it owes is kept until somebody removes it", "bridge", name, "why", err)
		}
	}
	return nil
}

// revive runs a bridge that was made over the API.
func (bs *bridges) revive(ctx context.Context, name string) error {
	meta, err := bs.k.c.Meta(ctx, bridgePrefix+name)
	if err != nil {
		return err
	}
	if len(meta) == 0 {
		return errors.New("it is not in the configuration file any more")
	}
	var table map[string]any
	if err := json.Unmarshal(meta, &table); err != nil {
		return err
	}
	cfg, err := bridgeOf(name, table)
	if err != nil {
		return err
	}
	return bs.start(ctx, cfg, meta)
}

// orphans are the names of bridges that are gone, whose subscriptions still owe what was not forwarded: a slip in a
// configuration file must not cost a backlog.
func (bs *bridges) orphans() []string {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	var names []string
	for _, n := range bs.k.c.Names(courier.Bridge) {
		if n = strings.TrimPrefix(n, bridgePrefix); bs.runs[n] == nil {
			names = append(names, n)
		}
	}
	return names
}

// start runs a bridge; meta is its configuration as kept with the subscription, nil when it stands in the file. A
// storage that takes no writes is no reason not to start: the subscription may be there.
func (bs *bridges) start(ctx context.Context, cfg bridge.Config, meta json.RawMessage) error {
	cfg = cfg.WithDefaults()
	kind, _ := bridge.KindOf(connectors(), cfg.Kind)
	b, err := bridge.New(cfg, kind, bridge.Options{Home: newHome(bs.k, &cfg), Here: bs.here(), Log: bs.k.log})
	if err != nil {
		return err
	}
	spec := bridgeSpec(&cfg)
	spec.Meta = meta
	if _, err := bs.k.c.Ensure(ctx, spec); err != nil && (meta != nil || !storageRefuses(err)) {
		return fmt.Errorf("make the subscription of bridge %s: %w", cfg.Name, err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(run) }()
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.runs[cfg.Name] = &bridgeRun{b, meta == nil, func() { cancel(); <-done }}
	return nil
}

// find returns the bridge of that name.
func (bs *bridges) find(name string) (*bridgeRun, error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if r := bs.runs[name]; r != nil {
		return r, nil
	}
	return nil, message.Problemf(message.CodeNotFound, "there is no bridge %.64q", name)
}

// halt stops a bridge, if it runs.
func (bs *bridges) halt(name string) {
	bs.mu.Lock()
	r := bs.runs[name]
	delete(bs.runs, name)
	bs.mu.Unlock()
	if r != nil {
		r.stop()
	}
}

// list returns the bridges that run, by name.
func (bs *bridges) list() []*bridgeRun {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	out := slices.Collect(maps.Values(bs.runs))
	slices.SortFunc(out, func(a, b *bridgeRun) int { return strings.Compare(a.Config().Name, b.Config().Name) })
	return out
}

// stop ends all of them.
func (bs *bridges) stop() {
	bs.mu.Lock()
	runs := bs.runs
	bs.runs = nil
	bs.mu.Unlock()
	var all sync.WaitGroup
	for _, r := range runs {
		all.Go(r.stop)
	}
	all.Wait()
}
