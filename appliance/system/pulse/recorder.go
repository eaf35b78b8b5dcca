// Package pulse measures how the appliance lives, for people who watch: a histogram of how long publishes take, the last
// hour in steps of ten seconds, and a feed of one [Tick] a second.
//
//   - Always: one atomic add for a publish, one [Reading] every ten seconds, 30 KiB.
//   - While somebody watches: one reading and one tick a second, however many watch. Nobody watches: nothing.
//   - A watcher that is slow misses ticks; it never holds up the others.
package pulse

import (
	"context"
	"sync"
	"time"

	"edgepost/appliance/message"
)

const (
	// Step is the distance of two points of the history.
	Step = 10 * time.Second
	// beat is the distance of two ticks.
	beat = time.Second
	// maxPoints is an hour.
	maxPoints = 360
	// span is what the quantiles of a tick look back on.
	span = 10 * time.Second
	// maxWatchers bounds the feeds that are open at once.
	maxWatchers = 32
)

// Reading is what is read at every step. The counters run since the process started.
type Reading struct {
	In, Out, Delivered int64
	Owed, Online       int64
	CPU                time.Duration
	RSS                int64
}

// Source is what is measured. Its calls come from one goroutine.
type Source interface {
	// Read is called every ten seconds, and every second while somebody watches.
	Read() Reading
	// Describe fills in the rest of a tick, while somebody watches.
	Describe(t *Tick)
}

// sample is a reading and when it was taken.
type sample struct {
	at time.Time
	Reading
	ack Counts
}

// Recorder keeps the history and serves the feed. Its methods are safe for concurrent use.
type Recorder struct {
	source Source
	ack    *Histogram
	cores  int
	first  chan struct{} // holds one signal: somebody watches now

	// Of Run alone:
	recent  []sample // ascending; of those that are older than span, the newest alone
	stepped sample   // at the last step

	mu       sync.Mutex // guards the fields below
	watchers map[*watcher]struct{}
	points   []point // the last hour, oldest first
}

type watcher struct {
	principal string
	ticks     chan *Tick // holds one
}

// NewRecorder makes a recorder; follow with [Recorder.Run]. cores is how many processors the process may use.
func NewRecorder(source Source, ack *Histogram, cores int) *Recorder {
	return &Recorder{source: source, ack: ack, cores: max(cores, 1), first: make(chan struct{}, 1), watchers: make(map[*watcher]struct{})}
}

// Run measures until ctx is done; then the feeds end.
func (r *Recorder) Run(ctx context.Context) {
	r.stepped = r.take()
	r.recent = []sample{r.stepped}
	step, ticks := time.NewTicker(Step), time.NewTicker(beat)
	defer step.Stop()
	defer ticks.Stop()
	ticks.Stop()
	defer r.Kick("")
	for {
		select {
		case <-ctx.Done():
			return
		case <-step.C:
			s := r.take()
			r.note(&s)
			r.remember(s)
		case <-r.first:
			ticks.Reset(beat)
			r.tick()
		case <-ticks.C:
			if !r.tick() {
				ticks.Stop()
			}
		}
	}
}

func (r *Recorder) take() sample {
	return sample{at: time.Now(), Reading: r.source.Read(), ack: r.ack.Counts()}
}

// remember adds a sample to the recent ones and forgets those that nothing looks back on.
func (r *Recorder) remember(s sample) {
	r.recent = append(r.recent, s)
	for len(r.recent) > 2 && s.at.Sub(r.recent[1].at) >= span {
		r.recent = append(r.recent[:0], r.recent[1:]...)
	}
}

// before is the newest sample that is so much older, or the oldest there is.
func (r *Recorder) before(s *sample, age time.Duration) *sample {
	found := &r.recent[0]
	for i := range r.recent {
		if s.at.Sub(r.recent[i].at) >= age {
			found = &r.recent[i]
		}
	}
	return found
}

// tick tells the watchers how it is now; false when there are none.
func (r *Recorder) tick() bool {
	if !r.watched() {
		return false
	}
	s := r.take()
	p := between(r.before(&s, beat*9/10), &s, r.cores)
	ack := s.ack.Since(&r.before(&s, span).ack)
	t := &Tick{
		Time: s.at, Rates: Rates{In: p.in, Out: p.out, Delivered: p.delivered},
		Ack:  Ack{P50: ack.Quantile(0.5).Seconds(), P99: ack.Quantile(0.99).Seconds()},
		Owed: s.Owed, Devices: Devices{Online: s.Online}, CPU: CPU{Percent: p.cpu, Cores: r.cores}, Memory: Memory{RSS: s.RSS},
		Backlog: []Backlog{}, Bridges: []Bridge{}, Warnings: []string{},
	}
	r.source.Describe(t)
	r.remember(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.watchers {
		select {
		case <-w.ticks: // the last one was not taken, and is old now
		default:
		}
		w.ticks <- t
	}
	return true
}

func (r *Recorder) watched() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.watchers) > 0
}

// Watch opens a feed for a principal: a tick at once, then one a second. Ticks are shared and must not be changed. The
// channel is closed by [Recorder.Kick] and at the end of Run. Call stop when done.
func (r *Recorder) Watch(principal string) (ticks <-chan *Tick, stop func(), err error) {
	w := &watcher{principal: principal, ticks: make(chan *Tick, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.watchers) >= maxWatchers {
		return nil, nil, message.Problemf(message.CodeTooMany, "%d live feeds are open, the limit; close another page of the dashboard", maxWatchers)
	}
	r.watchers[w] = struct{}{}
	select {
	case r.first <- struct{}{}:
	default:
	}
	return w.ticks, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}, nil
}

// Kick ends the feeds of a principal; "" ends all.
func (r *Recorder) Kick(principal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.watchers {
		if principal == "" || w.principal == principal {
			delete(r.watchers, w)
			select {
			case <-w.ticks: // it sees no more
			default:
			}
			close(w.ticks)
		}
	}
}
