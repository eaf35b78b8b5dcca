package bridge

import (
	"context"
	"errors"
	"maps"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/delivery"
)

// State is what a bridge is doing.
type State string

// The states.
const (
	Connecting    State = "connecting"
	Connected     State = "connected"
	Waiting       State = "waiting"       // for its next try to connect
	Misconfigured State = "misconfigured" // somebody has to change something; it tries again seldom
	Paused        State = "paused"
	Draining      State = "draining" // connected, and paused as soon as nothing is owed
	Orphaned      State = "orphaned" // it does not run, and what it owed is still there
)

// Counters run since the bridge was started.
type Counters struct {
	Sent      int64 `json:"sent"` // handed to the upstream, repetitions included
	SentBytes int64 `json:"sent_bytes"`
	Confirmed int64 `json:"confirmed"` // by the upstream
	Refused   int64 `json:"refused"`   // by the upstream, each try
	Dead      int64 `json:"dead"`      // given up, to the dead letters
	Received  int64 `json:"received"`  // from the upstream
	RecvBytes int64 `json:"received_bytes"`
	Stored    int64 `json:"stored"`    // and acknowledged
	Repeated  int64 `json:"repeated"`  // known already, so not stored again
	Looped    int64 `json:"looped"`    // came through this gateway before
	NotTaken  int64 `json:"not_taken"` // refused by this gateway: kept on $edge/bridge/<name>/refused
}

// Status is a bridge at one glance.
type Status struct {
	Name    string
	Kind    string
	State   State
	Since   time.Time
	URL     string    // host of the address it is connected or connecting to
	Error   string    // the last one in words, "" none yet
	ErrorAt time.Time // when that was
	Holds   string    // why it sends nothing although it is connected; "" it does
	RetryAt time.Time // when it is tried again; zero: not waiting
	Rate    float64   // messages a second confirmed lately
	Window  int       // messages that may be on their way, unconfirmed; 0: it sends none
	Counters
}

// Status shows the bridge.
func (b *Bridge) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{
		Name: b.cfg.Name, Kind: b.cfg.Kind, State: b.mood.state, Since: b.mood.since, URL: b.mood.url, Error: b.mood.err, ErrorAt: b.mood.errAt,
		RetryAt: b.mood.retryAt, Holds: b.mood.holds, Rate: b.speed.rate, Window: b.window, Counters: b.counters,
	}
	if s.State == Connected && b.mood.draining {
		s.State = Draining
	}
	return s
}

// Counters returns the counters.
func (b *Bridge) Counters() Counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counters
}

// Config returns the configuration with its defaults.
func (b *Bridge) Config() Config { return b.cfg }

// speed is how many messages a second were confirmed lately.
type speed struct {
	rate   float64
	before int64
	at     time.Time
}

// sample measures the speed: an average over about ten seconds.
func (b *Bridge) sample() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if span := now.Sub(b.speed.at).Seconds(); !b.speed.at.IsZero() && span > 0 {
		b.speed.rate += (float64(b.counters.Confirmed-b.speed.before)/span - b.speed.rate) * min(span/10, 1)
	}
	b.speed.at, b.speed.before = now, b.counters.Confirmed
}

func (b *Bridge) become(s State, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if host != "" {
		b.mood.url = host
	}
	if s == Connecting || s == Connected || s == Paused {
		b.mood.retryAt = time.Time{}
	}
	if b.mood.state != s {
		b.mood.state, b.mood.since, b.mood.holds = s, time.Now(), ""
		b.speed = speed{}
		if s == Connected {
			b.o.Log.Info("bridge connected", "upstream", b.mood.url)
		}
	}
}

// note remembers an error in words, and logs one that differs from the last.
func (b *Bridge) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := words(err)
	if b.mood.err != text {
		b.o.Log.Warn("bridge", "upstream", b.mood.url, "error", text)
	}
	b.mood.err, b.mood.errAt = text, time.Now()
}

// maySend says how long to wait before anything goes out.
func (b *Bridge) maySend() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var wait time.Duration
	wait, b.mood.holds = b.budget.wait(time.Now())
	return wait
}

// bookEvery is how often the day's use is written down: a crash forgets so much of it.
const bookEvery = time.Minute

// book keeps the day's use in the log.
func (b *Bridge) book(now bool) {
	b.mu.Lock()
	due := b.budget.daily > 0 && b.budget.used != b.booked && (now || time.Since(b.bookedAt) > bookEvery)
	note := b.budget.note()
	if due {
		b.booked, b.bookedAt = b.budget.used, time.Now()
	}
	b.mu.Unlock()
	if due {
		_ = b.o.Home.Store(nil, []courier.Note{{Key: budgetNote, Value: note}}) // told again with the next
	}
}

func (b *Bridge) sent(n, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.Sent += int64(n)
	b.counters.SentBytes += int64(bytes)
	b.budget.spend(time.Now(), int64(bytes))
}

// width notes how wide the window is, for the status and the next connection.
func (b *Bridge) width(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.window = size
}

func (b *Bridge) confirmed(o *Outgoing, window int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.Confirmed++
	b.window = window
	b.doubtful = 0
	delete(b.tries, o.seq)
}

// doubt notes a failure that may be the message's or the upstream's; false: it counts as the upstream's, and the
// connection ends. The second time in which the same message fails it is set aside instead, to see whether others
// pass.
func (b *Bridge) doubt(o *Outgoing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubtful++
	known := b.tries[o.seq] != nil
	b.tryLocked(o.seq)
	return known && b.doubtful <= doubtfulMost
}

// deathsMost is how many connections in a row may end at the same message before it is suspected.
const deathsMost = 3

// blame notes at which message a connection ended, and with which error: upstreams answer in order, so the first that
// is unanswered may be what it cannot bear.
func (b *Bridge) blame(seq uint64, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tryLocked(seq)
	t.deaths++
	t.last = words(why)
}

// suspected says why the message is suspected, when connections keep ending at it; "" they do not. It is set aside then,
// to see whether others pass, and tried once more later.
func (b *Bridge) suspected(seq uint64) (why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tries[seq]
	if t == nil || t.deaths < deathsMost {
		return ""
	}
	t.deaths = deathsMost - 1
	return t.last
}

// maxTries bounds the messages whose tries are remembered: more than the courier lets wait for retries.
const maxTries = 1 << 14

// refused counts a try and says when the next one is, or that it was the last.
func (b *Bridge) refused(o *Outgoing, err *Error) (delay time.Duration, final bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.Refused++
	t := b.tryLocked(o.seq)
	if err.Class != Doubtful || t.confirms < b.counters.Confirmed {
		t.count++
	}
	t.confirms = b.counters.Confirmed
	if final = err.Class == Rejected || t.count >= b.cfg.Up.MaxAttempts; final {
		delete(b.tries, o.seq)
		b.counters.Dead++
		return 0, true
	}
	back := delivery.Backoff{Base: time.Second, Max: 5 * time.Minute}
	return max(back.Delay(t.count+1), min(err.After, time.Hour)), false
}

// tryLocked returns what is known of a message that was refused.
func (b *Bridge) tryLocked(seq uint64) *try {
	t := b.tries[seq]
	if t == nil {
		if len(b.tries) >= maxTries {
			clear(b.tries)
		}
		t = &try{confirms: b.counters.Confirmed}
		b.tries[seq] = t
	}
	return t
}

func (b *Bridge) received(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.Received++
	b.counters.RecvBytes += int64(bytes)
}

// stored counts a frame that is durable.
func (b *Bridge) stored(f *frame) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.Stored += int64(len(f.ms)) - f.refused
	b.counters.Repeated += f.repeated
	b.counters.Looped += f.looped
	b.counters.NotTaken += f.refused
	maps.Copy(b.positions, f.positions)
}

// Pause ends the connection and keeps the bridge from making another. What matches waits in the log. The wish
// outlives restarts. An error says that the log did not take it; the bridge is paused all the same.
func (b *Bridge) Pause() error { return b.wish(true, false, []byte{1}) }

// Resume ends a pause, and a wait before the next connection.
func (b *Bridge) Resume() error { return b.wish(false, false, nil) }

// Drain has the bridge forward what it owes, and pause then.
func (b *Bridge) Drain() error { return b.wish(false, true, nil) }

func (b *Bridge) wish(paused, draining bool, note []byte) error {
	b.mu.Lock()
	b.mood.paused, b.mood.draining = paused, draining
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
	return b.o.Home.Store(nil, []courier.Note{{Key: pausedNote, Value: note}})
}

// drained pauses a bridge that owes nothing more.
func (b *Bridge) drained(ctx context.Context) {
	if n, err := b.o.Home.Depth(ctx); err != nil || n > 0 {
		return
	}
	if err := b.Pause(); err != nil && !errors.Is(err, context.Canceled) {
		b.note(err)
	}
}
