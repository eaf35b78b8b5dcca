package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// bridged is how quickly messages were passed on.
type bridged struct {
	Messages int64   `json:"messages"` // all, those of the warm-up included
	Rate     float64 `json:"per_second"`
	CPU      float64 `json:"cpu_us_per_message"` // of the gateway, or of the program that uses the library
}

func (m *bridged) figure() figure {
	return figure{m.Rate, "/s", fmt.Sprintf("%s µs", round(m.CPU))}
}

// passage measures how a count rises. It begins to measure after the warm-up, unless half of the messages have passed by then.
type passage struct {
	span  time.Duration
	most  int64 // it does not rise further
	first moment
	from  moment // the measurement begins
	last  moment
}

// moment is a look at the count.
type moment struct {
	at    time.Time
	count int64
	cpu   float64
}

// look notes the count; false when the measurement is over.
func (p *passage) look(count int64, cpu float64) bool {
	now := moment{time.Now(), count, cpu}
	switch {
	case p.first.at.IsZero():
		p.first, p.from = now, now
	case now.at.Sub(p.first.at) < warmUp && count < p.most/2:
		p.from = now
	}
	if count != p.last.count {
		p.last = now
	}
	return count < p.most && now.at.Sub(p.first.at) < warmUp+p.span
}

func (p *passage) result() bridged {
	n := float64(p.last.count - p.from.count)
	m := bridged{Messages: p.last.count}
	if n > 0 {
		m.Rate, m.CPU = n/p.last.at.Sub(p.from.at).Seconds(), (p.last.cpu-p.from.cpu)*1e6/n
	}
	return m
}

// sendAlone gives messages to a library, window of them unacknowledged, for the warm-up and the span.
func sendAlone(ctx context.Context, c client, messages *wires, window int, span time.Duration) (bridged, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, warmUp+span+grace, errors.New("the broker acknowledges nothing"))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var count atomic.Int64
	room := make(chan struct{}, window)
	answered := func(err error) {
		if err != nil {
			fail(err)
		}
		count.Add(1)
		<-room
	}
	m := passage{span: span, most: 1 << 60}
	for looked := time.Now(); ; {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return bridged{}, context.Cause(ctx)
		}
		if now := time.Now(); now.Sub(looked) > 5*time.Millisecond {
			if looked = now; !m.look(count.Load(), ownCPU()) {
				break
			}
		}
		if err := c.send(messages.next(), answered); err != nil {
			return bridged{}, err
		}
	}
	<-room                // it was not sent
	for range cap(room) { // what is on its way is no part of the next measurement
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return bridged{}, context.Cause(ctx)
		}
	}
	return m.result(), nil
}

// readAlone lets a library read what waits at the broker, at most for the warm-up and the span.
func readAlone(ctx context.Context, c client, from string, most int64, span time.Duration) (bridged, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var count atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- c.receive(ctx, from, func() { count.Add(1) }) }()
	m := passage{span: span, most: most}
	for until := time.Now().Add(grace); ; {
		if n := count.Load(); n > 0 && !m.look(n, ownCPU()) {
			cancel()
			return m.result(), <-ended
		} else if n == 0 && time.Now().After(until) {
			return bridged{}, errors.New("nothing came")
		}
		select {
		case err := <-ended:
			return bridged{}, errors.Join(err, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
