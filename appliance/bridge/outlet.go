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

// outlet is what goes out over one connection. It implements [courier.Link].
type outlet struct {
	b     *Bridge
	e     *Epoch
	ready chan struct{} // room for one: there is something in queue

	mu     sync.Mutex // guards what follows
	att    courier.Attachment
	queue  []queued
	bytes  int // of queue
	flight flight
	window window
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

func newOutlet(b *Bridge, e *Epoch) *outlet {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &outlet{b: b, e: e, ready: make(chan struct{}, 1), window: newWindow(b.cfg.Up.Window, b.window)}
	b.window = l.window.size
	return l
}

// run serves the connection until it ends.
func (l *outlet) run(conn Conn) {
	if len(l.b.cfg.Up.Filters) > 0 {
		if err := l.attach(); err != nil {
			l.e.Fail(err)
		} else {
			l.e.Go(func(ctx context.Context) error { return l.pump(ctx, conn) })
		}
	}
	if l.e.ctx.Err() == nil {
		l.b.become(Connected, "")
	}
	l.watch()
	l.close()
}

// attach takes the subscription. Its messages may come before it returns.
func (l *outlet) attach() error {
	fresh := l.b.cfg.Up.Order == freshFirst
	att, err := l.b.o.Home.Attach(l.e.ctx, l, courier.AttachOptions{Window: l.b.cfg.Reach(), FreshFirst: fresh})
	l.mu.Lock()
	l.att = att
	l.mu.Unlock()
	if filler, ok := att.(courier.Filler); ok && fresh {
		if l.b.cfg.Up.BackfillRate == 0 {
			filler.Backlog(math.MaxInt32)
		} else {
			l.e.Go(func(ctx context.Context) error { return l.backfill(ctx, filler) })
		}
	}
	return err
}

// fillEvery is how often more of the backlog is allowed.
const fillEvery = 100 * time.Millisecond

// backfill allows so much of the backlog a second.
func (l *outlet) backfill(ctx context.Context, f courier.Filler) error {
	tick := time.NewTicker(fillEvery)
	defer tick.Stop()
	owing := 0.0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		owing += float64(l.b.cfg.Up.BackfillRate) * fillEvery.Seconds()
		if n := int(owing); n > 0 {
			owing -= float64(n)
			f.Backlog(n)
		}
	}
}

// watch waits for the end, and brings it when the bridge is paused or drained.
func (l *outlet) watch() {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		l.b.mu.Lock()
		paused, draining, changed := l.b.mood.paused, l.b.mood.draining, l.b.changed
		l.b.mu.Unlock()
		if paused {
			l.e.cancel(errPaused)
		}
		select {
		case <-l.e.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			l.b.sample()
			l.b.book(false)
			l.listen()
			if draining {
				l.b.drained(l.e.ctx)
			}
		}
	}
}

// listen gives up a connection that stands and answers nothing: the upstream is stuck, or blocks its publishers.
func (l *outlet) listen() {
	l.mu.Lock()
	waits := len(l.flight.list)
	silent := time.Since(l.heard)
	l.mu.Unlock()
	if waits > 0 && silent >= silence {
		l.e.Fail(Errorf(Temporary, "the upstream has answered nothing for %v, %d messages wait for it; is it short of memory or disk, or without a leader?", silent.Round(time.Second), waits))
	}
}

// close gives the subscription back. What is not settled is owed again.
func (l *outlet) close() {
	l.mu.Lock()
	l.over = true
	att := l.att
	if len(l.flight.list) > 0 && !errors.Is(context.Cause(l.e.ctx), errPaused) {
		l.b.blame(l.flight.list[0].seq, context.Cause(l.e.ctx))
		l.window.shrink(time.Now(), time.Now())
	}
	l.b.width(l.window.size)
	l.queue = nil
	l.mu.Unlock()
	l.b.book(true)
	if att != nil {
		att.Close("the upstream is not connected")
	}
}

// Deliver implements [courier.Link].
func (l *outlet) Deliver(d courier.Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := sizeOf(d)
	if l.over {
		return false
	}
	if !l.window.fixed && l.heldLocked() >= l.window.size {
		l.window.full, l.stuck = true, true
		return false
	}
	if held := l.bytes + l.flight.bytes; held > 0 && int64(held+size) > l.b.cfg.Up.WindowBytes {
		l.stuck = true
		return false
	}
	l.queue = append(l.queue, queued{d, time.Now()})
	l.bytes += size
	return true
}

// Flush implements [courier.Link].
func (l *outlet) Flush() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// heldLocked is how many messages are on their way, or about to be.
func (l *outlet) heldLocked() int { return len(l.queue) + l.flight.open }

// Lost implements [courier.Link].
func (l *outlet) Lost(why courier.Cause) {
	if why == courier.Stopping {
		l.e.Fail(context.Canceled)
		return
	}
	l.e.Fail(fmt.Errorf("the bridge's subscription was lost: %s", why))
}

func sizeOf(d courier.Delivery) int { return len(d.Msg.Payload) + len(d.Msg.Topic) + 128 }

// pump hands messages to the connection until it ends.
func (l *outlet) pump(ctx context.Context, conn Conn) error {
	for {
		select {
		case <-l.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !l.afford() {
			return ctx.Err()
		}
		l.linger()
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			if err := conn.Send(ctx, batch); err != nil {
				return err
			}
			if !l.afford() {
				return ctx.Err()
			}
		}
	}
}

// afford waits until the budgets and the hours allow something to go out; false when the connection ended first.
func (l *outlet) afford() bool {
	for {
		wait := l.b.maySend()
		if wait == 0 {
			return l.e.ctx.Err() == nil
		}
		timer := time.NewTimer(min(wait, time.Minute)) // the wall clock may be set meanwhile
		select {
		case <-timer.C:
		case <-l.e.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// linger waits for a batch to fill.
func (l *outlet) linger() {
	if l.b.cfg.Up.Linger == 0 {
		return
	}
	timer := time.NewTimer(l.b.cfg.Up.Linger)
	defer timer.Stop()
	for {
		l.mu.Lock()
		full := len(l.queue) >= l.b.cfg.Up.Batch || int64(l.bytes) >= l.b.cfg.Up.BatchBytes || l.stuck
		l.mu.Unlock()
		if full {
			return
		}
		select {
		case <-l.ready:
		case <-timer.C:
			return
		case <-l.e.ctx.Done():
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
func (l *outlet) tell(v *verdicts) {
	for _, n := range v.nacks {
		l.att.Nack(n.seq, n.delay, n.reason, n.final)
	}
	if len(v.acks) > 0 {
		l.att.Ack(v.acks)
	}
	if v.ready {
		l.att.Ready()
	}
}

// take maps the next batch and counts it as on its way.
func (l *outlet) take() []*Outgoing {
	var v verdicts
	batch, bytes := l.takeSome(&v)
	l.b.sent(len(batch), bytes)
	l.tell(&v)
	return batch
}

func (l *outlet) takeSome(v *verdicts) (batch []*Outgoing, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 && len(batch) < l.b.cfg.Up.Batch {
		d := l.queue[0]
		size := sizeOf(d.Delivery)
		if len(batch) > 0 && int64(bytes+size) > l.b.cfg.Up.BatchBytes {
			break
		}
		l.queue[0] = queued{}
		l.queue = l.queue[1:]
		l.bytes -= size
		o := &Outgoing{Msg: d.Msg, seq: d.Seq, size: size, Answered: l.answer, sent: time.Now(), alone: l.flight.open == 0}
		if len(l.flight.list) == 0 {
			l.heard = time.Now()
		}
		l.flight.add(o)
		if err := l.mapped(o, d); err != nil {
			l.refuseLocked(v, o, err)
			continue
		}
		batch = append(batch, o)
		bytes += size
	}
	return batch, bytes
}

// mapped fills in what goes out. An error keeps it from that.
func (l *outlet) mapped(o *Outgoing, d queued) *Error {
	if d.ExpiresIn > 0 {
		if d.ExpiresIn -= time.Since(d.at); d.ExpiresIn <= 0 {
			return Errorf(Doubtful, "it expired while it waited") // the log ends it when it is to come again
		}
	}
	if why := l.b.suspected(d.Seq); why != "" {
		return Errorf(Doubtful, "the connection ends at this message again and again (%s); is it larger than the upstream takes?", why)
	}
	var err error
	if o.Wire, err = l.b.up.Encode(d.Msg, mapping.Delivery{Attempt: d.Attempt, ExpiresIn: d.ExpiresIn, Backfill: d.Backlog}); err != nil {
		return &Error{Class: Rejected, Err: err}
	}
	return nil
}

// answer is what [Outgoing.Answered] calls.
func (l *outlet) answer(o *Outgoing, err error) {
	var v verdicts
	if err := l.judge(&v, o, err); err != nil {
		l.e.Fail(err)
		return
	}
	l.tell(&v)
}

// judge says what an answer means; an error ends the connection.
func (l *outlet) judge(v *verdicts, o *Outgoing, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	l.heard = time.Now()
	if err == nil {
		l.window.answered(l.heard, o.sent, o.alone)
		l.b.confirmed(o, l.window.size)
		v.acks = l.flight.answer(o, confirmed)
		l.roomLocked(v)
		return nil
	}
	switch c := Classify(err); {
	case c.Class == Refused, c.Class == Rejected, c.Class == Doubtful && l.b.doubt(o):
		if c.Class != Rejected { // it may have been for want of room
			l.window.shrink(l.heard, o.sent)
		}
		l.refuseLocked(v, o, c)
		return nil
	default:
		return c
	}
}

// refuseLocked sets a message aside: for a while, or for good. The log may then be told of what is behind it.
func (l *outlet) refuseLocked(v *verdicts, o *Outgoing, err *Error) {
	delay, final := l.b.refused(o, err)
	v.nacks = append(v.nacks, nack{o.seq, delay, words(err), final})
	v.acks = append(v.acks, l.flight.answer(o, aside)...)
	l.roomLocked(v)
}

// roomLocked notes when what was refused for want of room may come again.
func (l *outlet) roomLocked(v *verdicts) {
	wide := l.window.fixed || l.heldLocked()*4 <= l.window.size*3
	if l.stuck && wide && int64(l.bytes+l.flight.bytes) <= l.b.cfg.Up.WindowBytes/2 {
		l.stuck, v.ready = false, true
	}
}

// NoAttempts is the limit to give the subscription: the engine counts tries itself, because only it knows whether
// the message or the upstream is to blame.
const NoAttempts = math.MaxUint16
