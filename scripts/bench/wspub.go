package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// pubsInFlight is how many publishes a connection may have unanswered before it is not read any
// more (package ws: MaxPubsInFlight).
const pubsInFlight = 64

// pipeline keeps pubsInFlight publishes in flight on one connection. tail gives the n-th object
// behind its id: `"pub":{…}}`.
func pipeline(w *wsConn, tail func(n int) string) worker {
	return func(ctx context.Context, r *recorder) error {
		p := &pubs{w: w, r: r, tail: tail, free: make(chan int, pubsInFlight), began: make([]time.Time, pubsInFlight)}
		for i := range pubsInFlight {
			p.free <- i
		}
		answers, stop := context.WithCancelCause(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			stop(p.answers())
		}()
		err := p.send(answers)
		<-done
		if cause := context.Cause(answers); !errors.Is(cause, errAllAnswered) {
			err = errors.Join(err, cause)
		}
		return err
	}
}

var errAllAnswered = errors.New("all answered")

// pubs are the publishes of one connection. A publish's id is its place in began; free holds the
// places that no publish has.
type pubs struct {
	w     *wsConn
	r     *recorder
	tail  func(n int) string
	sent  int
	free  chan int
	began []time.Time
}

// send publishes until it is over, as many objects to a frame as there are free places, then says so
// with a ping.
func (p *pubs) send(ctx context.Context) error {
	var b []byte
	for !p.r.over() {
		select {
		case place := <-p.free:
			b = p.object(b[:0], place)
		case <-ctx.Done():
			return nil // the reader has the reason
		}
		for more := true; more && len(b) < 16<<10; {
			select {
			case place := <-p.free:
				if more = !p.r.over(); more {
					b = p.object(append(b, '\n'), place)
				} else {
					p.free <- place
				}
			default:
				more = false
			}
		}
		if err := p.w.send(b); err != nil {
			return err
		}
	}
	for range pubsInFlight { // every publish is answered
		select {
		case <-p.free:
		case <-ctx.Done():
			return nil
		}
	}
	return p.w.send([]byte(`{"ping":1}`))
}

func (p *pubs) object(b []byte, place int) []byte {
	p.began[place] = time.Now()
	b = append(b, idMark...)
	b = strconv.AppendInt(b, int64(place), 10)
	b = append(b, ',')
	b = append(b, p.tail(p.sent)...)
	p.sent++
	return b
}

// answers reads until the pong.
func (p *pubs) answers() error {
	for {
		frame, err := p.w.read()
		if err != nil {
			return err
		}
		if err := trouble(frame); err != nil {
			return err
		}
		for line := range bytes.SplitSeq(frame, []byte("\n")) {
			if bytes.HasPrefix(line, []byte(`{"pong":`)) {
				return errAllAnswered
			}
			place, ok := number(line, idMark)
			if !ok || place >= pubsInFlight {
				return fmt.Errorf("unexpected answer %.200s", line)
			}
			p.r.done(p.began[place])
			p.free <- int(place)
		}
	}
}
