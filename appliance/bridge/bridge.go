package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/courier"
	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
)

// Home is the gateway's side of one bridge. All methods are safe for concurrent use.
type Home interface {
	// Attach gives the link the bridge's subscription.
	Attach(ctx context.Context, link courier.Link, o courier.AttachOptions) (courier.Attachment, error)
	// Admit says whether the bridge may publish the message, and fills in who it is from. It blocks for nothing.
	Admit(m *message.Message) error
	// Store makes messages and notes of the bridge's subscription durable, all in one frame or none; it returns
	// after the fsync, and owns the messages from the call on.
	Store(ms []*message.Message, notes []courier.Note) error
	// Notes returns the notes kept with the subscription.
	Notes(ctx context.Context) (map[uint32][]byte, error)
	// Depth is how many messages the subscription owes.
	Depth(ctx context.Context) (int64, error)
}

// Options are what a bridge is given beside its configuration.
type Options struct {
	Home Home
	Here mapping.Here
	Log  *slog.Logger
}

// Waits of the engine. Variables of a Bridge would let tests shorten them; they run in a synctest bubble instead.
const (
	dialTimeout  = 30 * time.Second
	silence      = 2 * time.Minute // nothing answered for so long while something is on its way: the connection is dead
	settled      = time.Minute     // a connection that lasted so long was a good one
	drainEvery   = time.Second     // how often a draining bridge looks whether it is done
	configLimit  = 5 * time.Minute // longest wait when somebody has to change something
	doubtfulMost = 3               // doubtful failures in a row, nothing confirmed between, that blame the upstream
)

func upstreamBackoff(limit time.Duration) delivery.Backoff {
	return delivery.Backoff{Base: 500 * time.Millisecond, Max: limit, Jitter: rand.Int64N}
}

// Bridge is one running bridge. Methods are safe for concurrent use.
type Bridge struct {
	cfg    Config // with defaults
	kind   Kind
	o      Options
	dialer Dialer
	shows  *credentials
	up     *mapping.Up
	down   *mapping.Down // nil: nothing comes in
	urls   []*url.URL

	seen *memory // the intake's; nil before the first connection, and when the log may know less

	mu        sync.Mutex // guards what follows
	positions map[uint32][]byte
	counters  Counters
	mood      mood
	tries     map[uint64]*try // messages that the upstream refused, by place
	speed     speed
	window    int // of the way out
	budget    budget
	booked    int64 // what of the budget's use is in the log
	bookedAt  time.Time
	doubtful  int           // in a row
	changed   chan struct{} // closed and renewed when the wish changes
}

// mood is what a bridge is doing, and what it is meant to do.
type mood struct {
	state    State
	since    time.Time
	url      string
	err      string
	errAt    time.Time
	retryAt  time.Time
	holds    string // why a connected bridge sends nothing
	paused   bool
	draining bool
}

// try counts how often a message was refused.
type try struct {
	count    int
	confirms int64  // of the bridge, when it was refused last
	deaths   int    // connections that ended at it
	last     string // what the last of them ended with
}

// New makes a bridge of a configuration that [Config.Check] found nothing wrong with.
func New(cfg Config, kind Kind, o Options) (*Bridge, error) {
	if kind.Open == nil {
		return nil, fmt.Errorf("the connector %s is not compiled into this program", cfg.Kind)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cfg = cfg.WithDefaults()
	o.Here.Bridge = cfg.Name
	o.Log = o.Log.With("bridge", cfg.Name)
	b := &Bridge{cfg: cfg, kind: kind, o: o, tries: make(map[uint64]*try), changed: make(chan struct{})}
	b.mood.state, b.budget, b.shows = Waiting, newBudget(&cfg.Up), &credentials{c: &b.cfg}
	var err error
	if b.dialer, err = kind.Dialer(cfg, o.Here); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	for _, s := range cfg.URLs {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
		}
		b.urls = append(b.urls, u)
	}
	return b, b.templates()
}

func (b *Bridge) templates() error {
	to, err := mapping.ParseTemplate(b.cfg.Up.To, upVars...)
	key, err2 := mapping.ParseTemplate(b.cfg.Up.Key, keyVars...)
	back, err3 := mapping.ParseTemplate(b.cfg.Down.To, downVars...)
	if err := errors.Join(err, err2, err3); err != nil {
		return fmt.Errorf("bridge %s: %w", b.cfg.Name, err)
	}
	b.up = &mapping.Up{Here: b.o.Here, Format: mapping.Format(b.cfg.Up.Format), Headers: b.kind.Headers, To: to, Key: key}
	if len(b.cfg.Down.From) > 0 {
		b.down = &mapping.Down{Here: b.o.Here, Format: mapping.Format(b.cfg.Down.Format), To: back}
	}
	return nil
}

// Run bridges until ctx is done. Whatever fails is tried again.
func (b *Bridge) Run(ctx context.Context) {
	b.recallWish(ctx)
	fails, at := 0, 0
	for {
		if !b.wanted(ctx) {
			return
		}
		began := time.Now()
		progress, err := b.connect(ctx, b.urls[at%len(b.urls)])
		if ctx.Err() != nil {
			b.become(Waiting, "")
			return
		}
		if err == nil { // somebody paused it
			fails = 0
			continue
		}
		at++
		if progress || time.Since(began) > settled {
			fails = 0
		}
		fails++
		b.rest(ctx, Classify(err), fails)
	}
}

// recallWish goes on with what an operator wished before the restart, and with the day's budget.
func (b *Bridge) recallWish(ctx context.Context) {
	notes, err := b.o.Home.Notes(ctx)
	if err != nil {
		return // the connection will say it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mood.paused = len(notes[pausedNote]) > 0
	b.budget.recall(notes[budgetNote])
}

// wanted waits until the bridge is meant to be connected; false when ctx ended first.
func (b *Bridge) wanted(ctx context.Context) bool {
	for {
		b.mu.Lock()
		paused, changed := b.mood.paused, b.changed
		b.mu.Unlock()
		if !paused {
			return ctx.Err() == nil
		}
		b.become(Paused, "")
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// rest waits before the next connection. While other addresses were not tried in this round it does not.
func (b *Bridge) rest(ctx context.Context, err *Error, fails int) {
	b.note(err)
	state, limit := Waiting, time.Minute
	if err.Class == Configuration {
		state, limit = Misconfigured, configLimit
	}
	wait := max(upstreamBackoff(limit).Delay((fails-1)/len(b.urls)+1), min(err.After, time.Hour))
	if fails%len(b.urls) != 0 && err.After == 0 {
		wait = 0
	}
	b.mu.Lock()
	b.mood.retryAt = time.Now().Add(wait)
	changed := b.changed
	b.mu.Unlock()
	b.become(state, "")
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// connect runs one connection. progress says that it did something useful. err is nil when it ended because the
// bridge was paused.
func (b *Bridge) connect(ctx context.Context, u *url.URL) (progress bool, err error) {
	b.become(Connecting, u.Host)
	if err := b.prepare(ctx); err != nil {
		return false, err
	}
	e := NewEpoch(ctx, &b.kind, &b.cfg, u)
	e.credentials = b.shows
	if b.down != nil {
		in := newIntake(e, b)
		e.Inlet = in
		e.Go(in.run) // a broker may send what waits before it has answered the subscription
	}
	before := b.Counters()
	conn, err := e.Dial(b.dialer)
	if err == nil {
		newOutlet(b, e).run(conn)
	}
	if reason := e.End(); err == nil && !errors.Is(reason, errPaused) {
		err = reason
	}
	after := b.Counters()
	return before.Confirmed != after.Confirmed || before.Stored != after.Stored, err
}

// prepare reads what the log holds about the upstream's side.
func (b *Bridge) prepare(ctx context.Context) error {
	if b.down == nil || b.seen != nil {
		return nil
	}
	notes, err := b.o.Home.Notes(ctx)
	if err != nil {
		return err
	}
	b.seen = recall(notes)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.positions = make(map[uint32][]byte)
	for key, value := range notes {
		if key < idNotes {
			b.positions[key] = value
		}
	}
	return nil
}

// Probe looks whether one of the addresses would take a connection now. The error is the last one's, in words.
func (b *Bridge) Probe(ctx context.Context) (string, error) {
	var failed error
	for _, u := range b.urls {
		e := NewEpoch(ctx, &b.kind, &b.cfg, u)
		e.Probe, e.credentials = true, b.shows
		_, err := e.Dial(b.dialer)
		_ = e.End() // there is nothing to say: it was opened, or not
		if err == nil {
			return u.Host, nil
		}
		failed = fmt.Errorf("%s: %w", u.Host, Classify(err))
	}
	return "", failed
}
