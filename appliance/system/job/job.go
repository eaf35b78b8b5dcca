// Package job runs long work that somebody started over the API: it can be watched and stopped. Jobs live in memory; a
// restart ends them.
//
//   - At most [MaxRunning] run at once; the last [MaxKept] that ended can still be looked at.
//   - Stop and Close wait until the work has returned.
package job

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"edgepost/appliance/message"
)

// Bounds of the list.
const (
	MaxRunning = 4
	MaxKept    = 32
)

// State is how a job is.
type State string

// The states.
const (
	Running State = "running"
	Done    State = "done"
	Stopped State = "stopped"
	Failed  State = "failed"
)

// Job is one piece of work, as JSON shows it.
type Job struct {
	ID     string    `json:"id"`
	What   string    `json:"what"`
	State  State     `json:"state"`
	Total  int64     `json:"total"`  // steps that were to be done when it began
	Done   int64     `json:"done"`   // steps that succeeded
	Failed int64     `json:"failed"` // steps that did not
	Error  string    `json:"error"`  // the last failure
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"`
}

// Runner runs jobs. The zero value is ready. Its methods are safe for concurrent use.
type Runner struct {
	mu     sync.Mutex // guards list and closed
	list   []*running // oldest first
	closed bool
}

type running struct {
	Job
	stop  context.CancelFunc
	ended chan struct{}
}

// Progress is how work tells what it has done.
type Progress struct {
	r *Runner
	j *running
}

// Step counts one step; a failure does not end the job.
func (p Progress) Step(err error) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if err == nil {
		p.j.Done++
		return
	}
	p.j.Failed++
	p.j.Error = err.Error()
}

// Start begins work of so many steps. An error of work fails the job, its context's end stops it.
func (r *Runner) Start(what string, total int64, work func(ctx context.Context, p Progress) error) (Job, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	busy := 0
	for _, j := range r.list {
		if j.State == Running {
			busy++
		}
	}
	switch {
	case r.closed:
		return Job{}, message.Problemf(message.CodeUnavailable, "the gateway is stopping")
	case busy >= MaxRunning:
		return Job{}, message.Problemf(message.CodeTooMany, "%d jobs are running, the limit; wait for one, or stop it", busy)
	}
	if over := len(r.list) - MaxKept; over >= 0 {
		i := slices.IndexFunc(r.list, func(j *running) bool { return j.State != Running })
		r.list = slices.Delete(r.list, i, i+1) // there is one: MaxKept is more than MaxRunning
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &running{Job: Job{ID: strings.ToLower(rand.Text()[:8]), What: what, State: Running, Total: total, Began: time.Now().UTC()}, stop: cancel, ended: make(chan struct{})}
	r.list = append(r.list, j)
	go func() {
		defer close(j.ended)
		r.end(j, work(ctx, Progress{r, j}))
		cancel()
	}()
	return j.Job, nil
}

func (r *Runner) end(j *running, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.Ended = time.Now().UTC()
	switch {
	case err == nil:
		j.State = Done
	case errors.Is(err, context.Canceled):
		j.State = Stopped
	default:
		j.State, j.Error = Failed, err.Error()
	}
}

// List shows all jobs, oldest first.
func (r *Runner) List() []Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Job, 0, len(r.list))
	for _, j := range r.list {
		out = append(out, j.Job)
	}
	return out
}

// Get shows one; a Problem with CodeNotFound when there is none.
func (r *Runner) Get(id string) (Job, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j, err := r.findLocked(id)
	if err != nil {
		return Job{}, err
	}
	return j.Job, nil
}

func (r *Runner) findLocked(id string) (*running, error) {
	for _, j := range r.list {
		if j.ID == id {
			return j, nil
		}
	}
	return nil, message.Problemf(message.CodeNotFound, "there is no job %.20q; jobs end with a restart", id)
}

// Stop ends one and waits for it; what it has done stays done. Of one that has ended it changes nothing.
func (r *Runner) Stop(id string) (Job, error) {
	r.mu.Lock()
	j, err := r.findLocked(id)
	r.mu.Unlock()
	if err != nil {
		return Job{}, err
	}
	j.stop()
	<-j.ended
	return r.Get(id)
}

// Close stops all and takes no more.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	list := slices.Clone(r.list)
	r.mu.Unlock()
	for _, j := range list {
		j.stop()
		<-j.ended
	}
}
