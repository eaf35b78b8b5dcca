package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/delivery"
	"edgepost/appliance/guard/account"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/door"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
	"edgepost/appliance/registry"
	"edgepost/appliance/system"
	"edgepost/appliance/system/logring"
	"edgepost/appliance/system/pulse"
	"edgepost/appliance/tune"
	"edgepost/wal"
)

// Options are what an [Appliance] is given beside its configuration.
type Options struct {
	Version string
	Built   time.Time    // no clock may show an earlier time; zero: unknown
	Log     *slog.Logger // nil: discard

	// Where the configuration comes from, to show it: the text of the file, if it was one, and the keys that flags set.
	ConfigText string
	Flags      []string
}

// Appliance is one running edgepost: New, Start, Stop. It can be embedded in another program.
type Appliance struct {
	cfg     Config
	o       Options
	limits  tune.Limits
	started time.Time

	clock *system.Clock
	core  core
	addr  string // of HTTP, once it listens
	https string // of HTTPS; "" like mqtt
	mqtt  string // of MQTT, once it listens; "" when its default port was busy
	mqtts string // of MQTT over TLS; "" like mqtt

	asked     struct{ https, mqtt, mqtts bool } // somebody chose the address, so it must be free
	lines     map[string]int                    // of the keys in the configuration file
	tlsOff    string                            // why TLS is not served; "" it is
	tokensOff string                            // why no access tokens are issued; "" they are
	secured   *room                             // of HTTPS; nil when it is not served

	steps []step // what Stop undoes, newest first
}

// step is one thing that was started.
type step struct {
	name string
	stop func(ctx context.Context) error
}

// New checks the configuration; it touches nothing.
func New(cfg Config, o Options) (*Appliance, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Appliance{cfg: cfg.WithDefaults(), o: o}
	a.core.kept = logring.New(0)
	a.o.Log = slog.New(a.core.kept.Handler(o.Log.Handler()))
	a.lines = keyLines(o.ConfigText)
	a.asked.https, a.asked.mqtt, a.asked.mqtts = cfg.HTTPS.Addr != "", cfg.MQTT.Addr != "", cfg.MQTTS.Addr != ""
	return a, nil
}

// Start opens the data directory, replays the log and listens. On an error everything that was
// started is stopped again.
func (a *Appliance) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
		}
	}()
	a.started = time.Now()
	if err := prepareData(a.cfg.Data); err != nil {
		return err
	}
	if err := putRestored(a.cfg.Data); err != nil {
		return err
	}
	a.limits = tune.Decide(tune.Read("/", a.cfg.Data))
	a.core.kept.Resize(int(a.limits.LogRing))
	a.tuneRuntime()
	if err := a.openStores(); err != nil {
		return err
	}
	if err := a.startCore(ctx); err != nil {
		return err
	}
	if err := a.openCertificates(); err != nil {
		return err
	}
	if err := a.startBridges(ctx); err != nil {
		return err
	}
	return a.listen()
}

// Stop undoes Start, newest first, within ctx. The log is closed last and complete. It may be called
// more than once.
func (a *Appliance) Stop(ctx context.Context) error {
	var failed error
	for len(a.steps) > 0 {
		s := a.steps[len(a.steps)-1]
		a.steps = a.steps[:len(a.steps)-1]
		if err := s.stop(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	return failed
}

func (a *Appliance) onStop(name string, stop func(ctx context.Context) error) {
	a.steps = append(a.steps, step{name, stop})
}

// background runs fn until Stop.
func (a *Appliance) background(name string, fn func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); fn(ctx) }()
	a.onStop(name, func(context.Context) error { cancel(); <-done; return nil })
}

// Addr is where HTTP listens: host and port. Valid after Start.
func (a *Appliance) Addr() string { return a.addr }

// MQTTAddr is where MQTT listens: host and port; "" when nobody chose an address and the default port
// is another program's. Valid after Start.
func (a *Appliance) MQTTAddr() string { return a.mqtt }

// HTTPSAddr is where HTTPS listens: host and port; "" when it does not. Valid after Start.
func (a *Appliance) HTTPSAddr() string { return a.https }

// MQTTSAddr is where MQTT over TLS listens: host and port; "" when it does not. Valid after Start.
func (a *Appliance) MQTTSAddr() string { return a.mqtts }

// Fingerprint is of the key that the gateway shows over TLS, see [cert.Fingerprint]; "" when TLS is not served.
// Valid after Start.
func (a *Appliance) Fingerprint() string {
	if a.core.certs == nil {
		return ""
	}
	return a.core.certs.Served().Fingerprint
}

// prepareData makes the data directory, and says clearly what is wrong with one that cannot be used.
func prepareData(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make data directory %s: %w; choose another with -data", dir, err)
		}
	case err != nil:
		return fmt.Errorf("open data directory: %w; choose another with -data", err)
	case !info.IsDir():
		return fmt.Errorf("data directory %s is a file; choose another with -data", dir)
	default:
		if err := ours(dir); err != nil {
			return err
		}
	}
	probe := filepath.Join(dir, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("data directory %s is not writable: %w; mount it writable, or choose another with -data", dir, err)
	}
	return os.Remove(probe)
}

// ours refuses a directory that holds something else: a mistyped -data must not scatter files into
// somebody's home.
func ours(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	for _, e := range list {
		switch e.Name() {
		case "outbox", "registry", "clock", "clock.tmp":
			return nil
		case "lost+found", "keys", ".probe", "blobs", "tls", "jwks", "oauth", "control.sock":
		default:
			return fmt.Errorf("data directory %s holds other things (%s) and nothing of edgepost; choose an empty one with -data", dir, e.Name())
		}
	}
	return nil
}

// tuneRuntime fits collector and processors to the machine, unless the environment already says.
func (a *Appliance) tuneRuntime() {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set && a.limits.MaxProcs > 0 {
		runtime.GOMAXPROCS(a.limits.MaxProcs)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set && a.limits.MemoryLimit > 0 {
		debug.SetMemoryLimit(a.limits.MemoryLimit)
	}
	if _, set := os.LookupEnv("GOGC"); !set && a.limits.GOGC > 0 {
		debug.SetGCPercent(a.limits.GOGC)
	}
}

// openStores opens the clock, the registry and the outbox.
func (a *Appliance) openStores() error {
	a.clock = system.OpenClock(system.ClockOptions{Path: filepath.Join(a.cfg.Data, "clock"), Built: a.o.Built, Log: a.o.Log})
	machine, _ := os.ReadFile("/etc/machine-id") // not every system has one
	err := a.openKeys()
	if err != nil {
		return fmt.Errorf("open data directory %s: %w", a.cfg.Data, err)
	}
	a.core.reg, err = registry.Open(filepath.Join(a.cfg.Data, "registry"), registry.Options{
		Now: a.clock.Time, Log: a.o.Log, MachineID: string(machine), Wal: wal.Options{Now: a.clock.Now, Generation: 64 << 10, Reserve: 64 << 10, Cache: 64 << 10, Encryption: a.encryption("registry")},
	})
	if err != nil {
		return inUse(a.cfg.Data, err)
	}
	a.onStop("registry", func(context.Context) error { return a.core.reg.Close() })
	s := a.cfg.Storage
	a.core.ob, err = outbox.Open(filepath.Join(a.cfg.Data, "outbox"), outbox.Options{
		Epoch: a.core.reg.Epoch(), Clock: a.clock, Log: a.o.Log, MaxBytes: or0(s.MaxBytes, a.limits.LogBudget), RetainBytes: s.RetainBytes,
		RetainAge: s.RetainAge, Generation: or0(s.Generation, a.limits.Generation), Cache: a.limits.FrameCache, Linger: s.Linger, Encryption: a.encryption("outbox"),
		Took: a.core.acks.Observe,
	})
	if err != nil {
		return inUse(a.cfg.Data, err)
	}
	a.onStop("outbox", func(context.Context) error { return a.core.ob.Close() })
	a.forgetKeys()
	last, _ := a.core.ob.Last()
	a.clock.Resume(last)
	return nil
}

func or0(v, def int64) int64 {
	if v > 0 {
		return v
	}
	return def
}

func inUse(dir string, err error) error {
	if errors.Is(err, wal.ErrLocked) {
		return fmt.Errorf("data directory %s is used by another edgepost; stop it first, or choose another directory with -data", dir)
	}
	if errors.Is(err, wal.ErrKey) || errors.Is(err, wal.ErrForged) {
		return fmt.Errorf("open data directory %s: %w; nothing was changed: bring back keys/ as it was with this log (log verify -data DIR says more), or begin anew with factory-reset", dir, err)
	}
	return fmt.Errorf("open data directory %s: %w", dir, err)
}

// startCore replays the log and starts to deliver.
func (a *Appliance) startCore(ctx context.Context) error {
	k := &a.core
	var anonymous *message.Rules
	if a.cfg.AnonymousOpen() {
		anonymous = &a.cfg.Access.Anonymous
	}
	k.recheck = make(chan struct{}, 1)
	a.openIssuer()
	tokens, err := a.trustIssuers()
	if err != nil {
		return err
	}
	k.desk, k.door, k.log, k.wall = account.New(k.reg, nil), door.New(nil), a.o.Log, a.clock.Time
	k.Authenticator = auth.New(auth.Options{
		Directory: k.reg, Anonymous: anonymous, Session: k.desk.Sessions().User, Stranger: k.door.Knock, Tokens: tokens, Roles: a.roles(),
	})
	k.batch, k.status = a.cfg.Limits.MaxMessage, a.fillStatus
	k.kick = func(string) {}
	k.describe, k.data, k.configText = gauge{a}.Describe, a.cfg.Data, a.o.ConfigText
	k.settings, k.issuers, k.fixedName = a.settings, issuerList(a.cfg.Issuers), a.cfg.Name != ""
	k.pulse = pulse.NewRecorder(gauge{a}, &k.acks, runtime.GOMAXPROCS(0))
	d := a.cfg.Delivery
	k.policy = courier.Spec{TTL: d.TTL}
	k.c = courier.New(k.ob, courier.Options{
		Policy: delivery.Policy{Window: d.Window, MaxAttempts: d.MaxAttempts, Backoff: delivery.Backoff{Base: d.BackoffBase, Max: d.BackoffMax}},
		TTL:    d.TTL, Rights: k, Log: a.o.Log, MayAnswer: k.mayAnswer,
	})
	if err := k.ob.Replay(k.c); err != nil {
		return inUse(a.cfg.Data, fmt.Errorf("replay the log: %w", err))
	}
	if err := k.ob.Start(); err != nil {
		return err
	}
	a.onStop("courier", func(context.Context) error { k.c.Stop(); return nil })
	if err := k.c.Start(ctx); err != nil {
		return err
	}
	if a.cfg.Name != "" && a.cfg.Name != k.reg.Name() {
		if err := k.reg.SetName(ctx, a.cfg.Name); storageRefuses(err) {
			a.o.Log.Warn("the gateway keeps its old name, the storage takes no writes", "name", k.reg.Name(), "error", err)
		} else if err != nil {
			return fmt.Errorf("name the gateway: %w", err)
		}
	}
	history := []courier.Spec{auditSpec()}
	for _, h := range a.cfg.History {
		history = append(history, courier.Spec{
			Name: "history/" + h.Name, Owner: "$history", Kind: courier.History, Filters: []message.Filter{h.Filter}, Keep: h.Last,
		})
	}
	if err := a.beginFollowing(ctx, history); err != nil {
		return fmt.Errorf("compare subscriptions with the register: %w", err)
	}
	if err := k.resumeAudit(ctx, a.o.Log); err != nil {
		a.o.Log.Error("the audit history begins anew", "error", err)
	}
	a.background("people", a.watchPeople)
	a.background("clock", func(ctx context.Context) { a.clock.Run(ctx, k.ob.Last) })
	return nil
}

// fillStatus adds what only the appliance knows.
func (a *Appliance) fillStatus(st *courier.Status) {
	st.Gateway, st.Version, st.Uptime = a.core.reg.Name(), a.o.Version, time.Since(a.started)
	st.ClockTrusted, st.Anonymous = a.clock.Trusted(), a.cfg.AnonymousOpen()
	if !a.core.IsSetUp() {
		st.Warnings = append(st.Warnings, "nobody has set the gateway up: there is no administrator; run edgepost admin passwd, or POST /v1/setup with the code on the console")
	}
	if st.Anonymous {
		st.Warnings = append(st.Warnings, "anonymous access is open: anybody on the network may publish or subscribe what [access.anonymous] says")
	}
	if !st.ClockTrusted {
		st.Warnings = append(st.Warnings, "the clock is not trusted: it shows a time before this program was built, or before the last message")
	}
	for _, off := range []string{a.tlsOff, a.tokensOff} {
		if off != "" {
			st.Warnings = append(st.Warnings, off)
		}
	}
	if a.core.certs != nil {
		st.Warnings = append(st.Warnings, a.core.certs.Warnings()...)
	}
	a.encryptionStatus(st)
	for _, d := range a.core.reg.Damage() {
		st.Warnings = append(st.Warnings, "the disk damaged the register of devices: "+d)
	}
	if to := a.core.ob.Forgotten(); to > 0 {
		st.Warnings = append(st.Warnings, fmt.Sprintf("the disk damaged every snapshot of the log: what was still owed of messages up to number %d, and subscriptions that were made before, are forgotten", to))
	}
	if n := len(a.core.ob.Losses()); n > 0 {
		st.Warnings = append(st.Warnings, fmt.Sprintf("the disk damaged %d ranges of the log; see: edgepost log verify", n))
	}
}

// Publish stores a message in the name of the owner: for a program that embeds the appliance. It
// returns after the fsync.
func (a *Appliance) Publish(ctx context.Context, m *message.Message) (message.StoredAs, error) {
	return a.core.Publish(ctx, a.core.Owner(), m)
}

// Subscribe makes a durable subscription of the owner: for a program that embeds the appliance, which
// reads it with [Appliance.Fetch].
func (a *Appliance) Subscribe(ctx context.Context, name string, filters ...message.Filter) error {
	_, _, err := a.core.PutSubscription(ctx, a.core.Owner(), name, courier.NamedSpec{Filters: filters})
	return err
}

// Fetch leases up to most messages of such a subscription, see [courier.Courier.Fetch].
func (a *Appliance) Fetch(ctx context.Context, name string, most int, wait time.Duration) ([]courier.Delivery, error) {
	return a.core.Fetch(ctx, a.core.Owner(), courier.Ref{Name: name}, most, wait)
}

// AddDevice registers a device and returns its token: for a program that embeds the appliance.
func (a *Appliance) AddDevice(ctx context.Context, id string) (token string, err error) {
	return a.core.AddDevice(ctx, a.core.Owner(), registry.Device{ID: id})
}

// Status shows the appliance at one glance.
func (a *Appliance) Status() courier.Status { return a.core.glance() }
