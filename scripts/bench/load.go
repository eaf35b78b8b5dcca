package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// warmUp runs before every measurement and is not in its rate.
const warmUp = 300 * time.Millisecond

// grace is how long an answer may take behind the end of a measurement.
const grace = 20 * time.Second

// worker calls until r says that it is over.
type worker func(ctx context.Context, r *recorder) error

// recorder takes what one worker measured.
type recorder struct {
	from, to time.Time // what ends in between is measured
	left     int       // calls that may still begin; without a time, they are all
	total    int64     // all calls that ended
	h        histogram
}

// over is asked before each call.
func (r *recorder) over() bool {
	if r.to.IsZero() {
		r.left--
		return r.left < 0
	}
	return time.Now().After(r.to)
}

// done records one call and returns the time.
func (r *recorder) done(began time.Time) time.Time {
	now := time.Now()
	r.total++
	if now.After(r.from) && now.Before(r.to) {
		r.h.add(now.Sub(began))
	}
	return now
}

// measured is what a run of workers came to.
type measured struct {
	Rate    float64       `json:"per_second"`
	Total   int64         `json:"calls"` // those of the warm-up included
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	CPU     float64       `json:"cpu_us_per_call,omitempty"` // of the server process; where it has the load inside, of both
	Device  int64         `json:"device_bytes,omitempty"`
	PerByte float64       `json:"device_bytes_per_payload_byte,omitempty"`
}

// drive runs n workers at the same time for the warm-up and span. All are opened before the first
// one begins. used tells the CPU seconds that the measured process has used.
func drive(ctx context.Context, n int, span time.Duration, used func() float64, open func(i int) (worker, error)) (measured, error) {
	workers := make([]worker, n)
	for i := range workers {
		var err error
		if workers[i], err = open(i); err != nil {
			return measured{}, fmt.Errorf("open publisher %d: %w", i, err)
		}
	}
	before := used()
	began := time.Now()
	records := make([]recorder, n)
	failures := make([]error, n)
	var wg sync.WaitGroup
	for i, w := range workers {
		r := &records[i]
		r.from, r.to = began.Add(warmUp), began.Add(warmUp+span)
		wg.Go(func() { failures[i] = w(ctx, r) })
	}
	wg.Wait()
	after := used()
	if err := errors.Join(failures...); err != nil {
		return measured{}, fmt.Errorf("%d of %d publishers failed; the first: %w", count(failures), n, firstOf(failures))
	}
	var all recorder
	for i := range records {
		all.total += records[i].total
		all.h.merge(&records[i].h)
	}
	m := measured{
		Rate: float64(all.h.n) / span.Seconds(), Total: all.total, P50: all.h.quantile(.5), P99: all.h.quantile(.99),
	}
	if all.total > 0 {
		m.CPU = (after - before) * 1e6 / float64(all.total)
	}
	return m, ctx.Err()
}

func count(list []error) (n int) {
	for _, err := range list {
		if err != nil {
			n++
		}
	}
	return n
}

func firstOf(list []error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// onDevice measures what run wrote to the device, all-in: until everything is synced.
func onDevice(loop, path string, payload int64, run func() (measured, error)) (measured, error) {
	before, ok := written(loop, path)
	m, err := run()
	if err != nil || !ok {
		return m, err
	}
	after, _ := written(loop, path)
	m.Device = after - before
	m.PerByte = ratio(float64(m.Device), float64(m.Total*payload))
	return m, nil
}

// one calls again and again.
func one(call func() error) worker {
	return func(ctx context.Context, r *recorder) error {
		for began := time.Now(); !r.over() && ctx.Err() == nil; {
			if err := call(); err != nil {
				return err
			}
			began = r.done(began)
		}
		return nil
	}
}

// each runs fn for 0 to n-1, width at a time, and stops at the first error.
func each(ctx context.Context, n, width int, fn func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(width, n) {
		wg.Go(func() {
			for i := range next {
				if err := fn(i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
