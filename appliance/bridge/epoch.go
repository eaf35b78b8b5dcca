package bridge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/courier"
)

// epoch is one connection with all that belongs to it. It implements [courier.Link].
type epoch struct {
	b      *Bridge
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	ready chan struct{} // room for one: there is something in queue
	work  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	att    courier.Attachment
	queue  []queued
	bytes  int // of queue
	flight flight
	heard  time.Time // when the upstream answered last, or something was first on its way
	stuck  bool      // a Deliver was refused, and Ready not called since
	over   bool      // nothing is answered or taken any more
}

// queued is a delivery that waits for its batch.
type queued struct {
	courier.Delivery
	at time.Time
}

// errPaused ends a connection because somebody wished it.
var errPaused = errors.New("paused")

func newEpoch(ctx context.Context, b *Bridge) *epoch {
	e := &epoch{b: b, ready: make(chan struct{}, 1)}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	return e
}

// run serves the connection until it ends, and returns when nothing of it runs any more. nil: it was paused.
func (e *epoch) run(conn Conn) error {
	e.work.Go(func() {
		err := conn.Serve(e.ctx)
		if err == nil {
			err = errors.New("the upstream closed the connection")
		}
		e.end(err)
	})
	if len(e.b.cfg.Up.Filters) > 0 {
		if err := e.attach(); err != nil {
			e.end(err)
		} else {
			e.work.Go(func() { e.pump(conn) })
		}
	}
	if e.ctx.Err() == nil {
		e.b.become(Connected, "")
	}
	e.watch()
	e.close()
	e.work.Wait()
	if err := context.Cause(e.ctx); !errors.Is(err, errPaused) {
		return err
	}
	return nil
}

// attach takes the subscription. Its messages may come before it returns.
func (e *epoch) attach() error {
	fresh := e.b.cfg.Up.Order == freshFirst
	att, err := e.b.o.Home.Attach(e.ctx, e, courier.AttachOptions{Window: e.b.cfg.Up.Window, FreshFirst: fresh})
	e.mu.Lock()
	e.att = att
	e.mu.Unlock()
	if filler, ok := att.(courier.Filler); ok && fresh {
		if e.b.cfg.Up.BackfillRate == 0 {
			filler.Backlog(math.MaxInt32)
		} else {
			e.work.Go(func() { e.backfill(filler) })
		}
	}
	return err
}

// fillEvery is how often more of the backlog is allowed.
const fillEvery = 100 * time.Millisecond

// backfill allows so much of the backlog a second.
func (e *epoch) backfill(f courier.Filler) {
	tick := time.NewTicker(fillEvery)
	defer tick.Stop()
	owing := 0.0
	for {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return
		}
		owing += float64(e.b.cfg.Up.BackfillRate) * fillEvery.Seconds()
		if n := int(owing); n > 0 {
			owing -= float64(n)
			f.Backlog(n)
		}
	}
}

// watch waits for the end, and brings it when the bridge is paused or drained.
func (e *epoch) watch() {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		e.b.mu.Lock()
		paused, draining, changed := e.b.mood.paused, e.b.mood.draining, e.b.changed
		e.b.mu.Unlock()
		if paused {
			e.end(errPaused)
		}
		select {
		case <-e.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			e.b.sample()
			e.b.book(false)
			e.listen()
			if draining {
				e.b.drained(e.ctx)
			}
		}
	}
}

// listen gives up a connection that stands and answers nothing: the upstream is stuck, or blocks its publishers.
func (e *epoch) listen() {
	e.mu.Lock()
	waits := len(e.flight.list)
	silent := time.Since(e.heard)
	e.mu.Unlock()
	if waits > 0 && silent >= silence {
		e.end(Errorf(Temporary, "the upstream has answered nothing for %v, %d messages wait for it; is it short of memory or disk, or without a leader?", silent.Round(time.Second), waits))
	}
}

// end gives the connection up; the first reason stays.
func (e *epoch) end(err error) { e.cancel(err) }

// close gives the subscription back. What is not settled is owed again.
func (e *epoch) close() {
	e.mu.Lock()
	e.over = true
	att := e.att
	if len(e.flight.list) > 0 && !errors.Is(context.Cause(e.ctx), errPaused) {
		e.b.blame(e.flight.list[0].seq)
	}
	e.queue = nil
	e.mu.Unlock()
	e.b.book(true)
	if att != nil {
		att.Close("the upstream is not connected")
	}
}

// Deliver implements [courier.Link].
func (e *epoch) Deliver(d courier.Delivery) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	size := sizeOf(d)
	if e.over {
		return false
	}
	if held := e.bytes + e.flight.bytes; held > 0 && int64(held+size) > e.b.cfg.Up.WindowBytes {
		e.stuck = true
		return false
	}
	e.queue = append(e.queue, queued{d, time.Now()})
	e.bytes += size
	select {
	case e.ready <- struct{}{}:
	default:
	}
	return true
}

// Lost implements [courier.Link].
func (e *epoch) Lost(why courier.Cause) {
	if why == courier.Stopping {
		e.end(context.Canceled)
		return
	}
	e.end(fmt.Errorf("the bridge's subscription was lost: %s", why))
}

func sizeOf(d courier.Delivery) int { return len(d.Msg.Payload) + len(d.Msg.Topic) + 128 }

// pump hands messages to the connection until it ends.
func (e *epoch) pump(conn Conn) {
	for {
		select {
		case <-e.ready:
		case <-e.ctx.Done():
			return
		}
		if !e.afford() {
			return
		}
		e.linger()
		for batch := e.take(); len(batch) > 0; batch = e.take() {
			if err := conn.Send(e.ctx, batch); err != nil {
				e.end(err)
				return
			}
			if !e.afford() {
				return
			}
		}
	}
}

// afford waits until the budgets and the hours allow something to go out; false when the connection ended first.
func (e *epoch) afford() bool {
	for {
		wait := e.b.maySend()
		if wait == 0 {
			return e.ctx.Err() == nil
		}
		timer := time.NewTimer(min(wait, time.Minute)) // the wall clock may be set meanwhile
		select {
		case <-timer.C:
		case <-e.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// linger waits for a batch to fill.
func (e *epoch) linger() {
	if e.b.cfg.Up.Linger == 0 {
		return
	}
	timer := time.NewTimer(e.b.cfg.Up.Linger)
	defer timer.Stop()
	for {
		e.mu.Lock()
		full := len(e.queue) >= e.b.cfg.Up.Batch || int64(e.bytes) >= e.b.cfg.Up.BatchBytes || e.stuck
		e.mu.Unlock()
		if full {
			return
		}
		select {
		case <-e.ready:
		case <-timer.C:
			return
		case <-e.ctx.Done():
			return
		}
	}
}

// verdicts are what the log has to be told. It is told without the lock: the shard that takes it may be waiting in
// Deliver.
type verdicts struct {
	acks  []uint64
	nacks []nack
	ready bool
}

type nack struct {
	seq    uint64
	delay  time.Duration
	reason string
	final  bool
}

// tell tells the log.
func (e *epoch) tell(v *verdicts) {
	for _, n := range v.nacks {
		e.att.Nack(n.seq, n.delay, n.reason, n.final)
	}
	if len(v.acks) > 0 {
		e.att.Ack(v.acks)
	}
	if v.ready {
		e.att.Ready()
	}
}

// take maps the next batch and counts it as on its way.
func (e *epoch) take() []*Outgoing {
	var v verdicts
	batch, bytes := e.takeSome(&v)
	e.b.sent(len(batch), bytes)
	e.tell(&v)
	return batch
}

func (e *epoch) takeSome(v *verdicts) (batch []*Outgoing, bytes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) > 0 && len(batch) < e.b.cfg.Up.Batch {
		d := e.queue[0]
		size := sizeOf(d.Delivery)
		if len(batch) > 0 && int64(bytes+size) > e.b.cfg.Up.BatchBytes {
			break
		}
		e.queue[0] = queued{}
		e.queue = e.queue[1:]
		e.bytes -= size
		o := &Outgoing{Msg: d.Msg, seq: d.Seq, size: size, answer: e.answer}
		if len(e.flight.list) == 0 {
			e.heard = time.Now()
		}
		e.flight.add(o)
		if err := e.mapped(o, d); err != nil {
			e.refuseLocked(v, o, err)
			continue
		}
		batch = append(batch, o)
		bytes += size
	}
	return batch, bytes
}

// mapped fills in what goes out. An error keeps it from that.
func (e *epoch) mapped(o *Outgoing, d queued) *Error {
	if d.ExpiresIn > 0 {
		if d.ExpiresIn -= time.Since(d.at); d.ExpiresIn <= 0 {
			return Errorf(Doubtful, "it expired while it waited") // the log ends it when it is to come again
		}
	}
	if e.b.suspected(d.Seq) {
		return Errorf(Doubtful, "the connection ended at this message again and again")
	}
	var err error
	if o.Wire, err = e.b.up.Encode(d.Msg, mapping.Delivery{Attempt: d.Attempt, ExpiresIn: d.ExpiresIn, Backfill: d.Backlog}); err != nil {
		return &Error{Class: Rejected, Err: err}
	}
	return nil
}

// answer is what [Outgoing.Answer] calls.
func (e *epoch) answer(o *Outgoing, err error) {
	var v verdicts
	if err := e.judge(&v, o, err); err != nil {
		e.end(err)
		return
	}
	e.tell(&v)
}

// judge says what an answer means; an error ends the connection.
func (e *epoch) judge(v *verdicts, o *Outgoing, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return nil
	}
	e.heard = time.Now()
	if err == nil {
		e.b.confirmed(o)
		v.acks = e.flight.answer(o, confirmed)
		e.roomLocked(v)
		return nil
	}
	switch c := Classify(err); {
	case c.Class == Refused, c.Class == Rejected, c.Class == Doubtful && e.b.doubt(o):
		e.refuseLocked(v, o, c)
		return nil
	default:
		return c
	}
}

// refuseLocked sets a message aside: for a while, or for good. The log may then be told of what is behind it.
func (e *epoch) refuseLocked(v *verdicts, o *Outgoing, err *Error) {
	delay, final := e.b.refused(o, err)
	v.nacks = append(v.nacks, nack{o.seq, delay, words(err), final})
	v.acks = append(v.acks, e.flight.answer(o, aside)...)
	e.roomLocked(v)
}

// roomLocked notes when what was refused for want of room may come again.
func (e *epoch) roomLocked(v *verdicts) {
	if e.stuck && int64(e.bytes+e.flight.bytes) <= e.b.cfg.Up.WindowBytes/2 {
		e.stuck, v.ready = false, true
	}
}

// NoAttempts is the limit to give the subscription: the engine counts tries itself, because only it knows whether
// the message or the upstream is to blame.
const NoAttempts = math.MaxUint16
