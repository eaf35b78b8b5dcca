package courier

import (
	"context"
	"math"
	"sync"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

const (
	hintBytes = 1 << 20 // batches a shard may have waiting before it must read the log instead
	turnSize  = 64      // transmissions of one subscription before the next has its turn

	sharedWindow = 4096 // in flight on all links of a Shared together; each link has its own limit
	tickEvery    = 10 * time.Second
	unlinkWait   = 60 * time.Second // a link that comes back within this costs no record
)

// shard runs the subscriptions of some principals. Its goroutine owns everything below the line.
type shard struct {
	c     *Courier
	mail  chan func()
	wake  chan struct{}
	count counts // the goroutine adds; others read

	hint struct {
		sync.Mutex
		batches [][]outbox.Entry
		bytes   int
		missed  bool
	}

	treeMu sync.RWMutex // the goroutine writes; others count matches
	tree   message.Tree[*subscription]

	passing message.Tree[*subscription] // of filters that owe nothing

	// ----
	applied uint64
	live    bool // replay is over: settlements in the log are our own

	late      *subscription // whose debt had ended before the copy came that takes its place; the copy is the next record
	giver     uint64        // whose debt it was, or the group's that had given it
	cancelled map[debt]bool // during replay: withdrawn, and no settlement in the log yet
	volatiles uint64        // how many were handed over
	subs      map[uint64]*subscription
	dirty     []*subscription
	spare     []*subscription // the next dirty's room
	timers    timers
	items     itemCache
	recent    [512]ended // how live subscriptions, which the log does not know, ended their debts lately
	ended     int        // of recent: how many ever
}

// ended is the end of a live subscription's debt.
type ended struct {
	seq      uint64
	name     string
	state    message.State
	attempts int
	reason   string
}

func newShard(c *Courier) *shard {
	return &shard{c: c, mail: make(chan func(), 256), wake: make(chan struct{}, 1), subs: make(map[uint64]*subscription), cancelled: make(map[debt]bool)}
}

// offer hands over a batch; the committer calls it and never waits.
func (s *shard) offer(batch []outbox.Entry) {
	size := 0
	for i := range batch {
		if m := batch[i].Msg; m != nil {
			size += len(m.Payload) + len(m.Topic) + 128
		} else {
			size += 64
		}
	}
	s.hint.Lock()
	if s.hint.missed || s.hint.bytes+size > s.c.hintBytes && s.hint.bytes > 0 {
		s.hint.batches, s.hint.bytes, s.hint.missed = nil, 0, true
	} else {
		s.hint.batches = append(s.hint.batches, batch)
		s.hint.bytes += size
	}
	s.hint.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the shard's goroutine.
func (s *shard) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		if len(s.dirty) == 0 {
			timer.Reset(s.timers.wait(time.Now()))
			select {
			case <-ctx.Done():
				s.dismiss()
				return
			case fn := <-s.mail:
				s.open(fn)
			case <-s.wake:
			case <-timer.C:
			case <-tick.C:
				s.tick()
			}
		} else {
			select {
			case <-ctx.Done():
				s.dismiss()
				return
			case fn := <-s.mail:
				s.open(fn)
			default:
			}
		}
		s.drain()
		s.timeouts()
		s.pump()
	}
}

// mailTurn is how many functions are run before the subscriptions have their turns: acks come in bursts,
// and a turn each would cost more than they do.
const mailTurn = 64

// open runs fn and what else is in the mailbox, each after everything that was committed before it.
func (s *shard) open(fn func()) {
	for range mailTurn {
		s.drain()
		fn()
		select {
		case fn = <-s.mail:
		default:
			return
		}
	}
	s.drain()
	fn()
}

// do runs fn on the shard, after everything that was committed before the call, and waits for it.
// Before Start it runs at once.
func (s *shard) do(ctx context.Context, fn func()) error {
	if !s.c.running.Load() {
		fn()
		return nil
	}
	done := make(chan struct{})
	if err := s.post(ctx, func() { defer close(done); fn() }); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-s.c.ctx.Done():
		return errStopping()
	}
}

// post puts fn into the mailbox; it waits for room only.
func (s *shard) post(ctx context.Context, fn func()) error {
	select {
	case s.mail <- fn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.c.ctx.Done():
		return errStopping()
	}
}

func errStopping() error {
	return message.Problemf(message.CodeUnavailable, "the appliance is stopping")
}

// drain applies everything that was committed so far.
func (s *shard) drain() {
	for {
		s.hint.Lock()
		batches, missed := s.hint.batches, s.hint.missed
		s.hint.batches, s.hint.bytes, s.hint.missed = nil, 0, false
		s.hint.Unlock()
		if missed {
			if !s.catchUp() {
				return
			}
			continue
		}
		if len(batches) == 0 {
			return
		}
		for _, b := range batches {
			for i := range b {
				s.apply(&b[i])
			}
		}
	}
}

// catchUp reads from the log what did not fit into the hints; false when the log could not be read,
// which is tried again with the next hint or tick.
func (s *shard) catchUp() bool {
	err := s.c.ob.Each(s.applied+1, math.MaxUint64, func(e outbox.Entry) bool {
		s.apply(&e)
		return true
	})
	if err == nil {
		return true
	}
	s.c.o.Log.Error("reading the log failed; will read again", "from", s.applied+1, "error", err)
	s.hint.Lock()
	s.hint.missed = true
	s.hint.Unlock()
	return false
}

// apply brings the shard forward by one record.
func (s *shard) apply(e *outbox.Entry) {
	if e.Seq <= s.applied || e.Cold {
		return
	}
	switch e.Kind {
	case outbox.KindMessage:
		s.message(e)
	case outbox.KindSettlement:
		for _, t := range e.Settled {
			s.settled(&t, e.Seq)
		}
	case outbox.KindChange:
		s.change(e)
	case outbox.KindCancel:
		s.cancel(e.Cancel, e.Seq)
	case outbox.KindNote:
		if sub := s.subs[e.Notes.Sub]; sub != nil && e.Seq > sub.applied {
			sub.remember(e.Notes.List)
			if !s.live && len(sub.gifts) > 0 { // what is promised to one receiver is sent after a note, whatever became of OpLink
				sub.state.MaybeSent(math.MaxInt32)
			}
			if sub.spec.Kind == Will {
				sub.used = s.c.ob.Age()
			}
		}
	case outbox.KindMove:
		s.moved(e)
	case outbox.KindRelease, outbox.KindCleaned: // the outbox's
	}
	s.applied = e.Seq
}

// settled applies a settlement from the log. One of our own has been applied before it was written; but
// where a rewind came between, replay could not tell, so it counts for what is owed since, too.
func (s *shard) settled(t *outbox.Settlement, at uint64) {
	sub := s.subs[t.Sub]
	if sub != nil && s.live {
		s.tied(sub)
	}
	if sub == nil || at <= sub.applied || s.live && !sub.rewound {
		return
	}
	sub.state.Drop(t.Seq)
	sub.forget(t.Seq)
	delete(s.cancelled, debt{t.Sub, t.Seq})
}

// message adds the message to what the matching subscriptions owe.
func (s *shard) message(e *outbox.Entry) {
	if e.Held {
		return
	}
	if e.Target != 0 {
		s.target(e)
		return
	}
	soon := false
	s.tree.Match(e.Msg.Topic, func(sub *subscription) { soon = s.owe(sub, e) || soon })
	if soon {
		s.items.put(e.Seq, e.Msg)
	}
	if s.live && s.passing.Len() > 0 {
		s.pass(e)
	}
}

// pass hands the message to those who asked for it without wanting to be owed it (MQTT: a filter of
// QoS 0). Who is owed it through another filter gets it that way.
func (s *shard) pass(e *outbox.Entry) {
	it := s.items.put(e.Seq, e.Msg)
	s.passing.Match(e.Msg.Topic, func(sub *subscription) {
		if sub.seen == e.Seq {
			return
		}
		sub.seen = e.Seq
		s.hand(sub, it)
	})
}

// hand gives a link a message that nobody owes.
func (s *shard) hand(sub *subscription, it *Item) {
	a := sub.free()
	if len(sub.links) == 0 || !s.allowed(sub, it.Msg.Topic) || a != nil && !a.takes(it.Msg.Topic) {
		return
	}
	if a != nil && a.link.Deliver(Delivery{Item: it, Attempt: 1}) {
		a.link.Flush()
		s.count.sent.Add(1)
	} else {
		sub.drops++
		s.count.dropped.Add(1)
	}
}

// owe adds a debt; true when somebody is connected who takes it.
func (s *shard) owe(sub *subscription, e *outbox.Entry) (soon bool) {
	if sub.seen == e.Seq || e.Seq <= sub.applied {
		return false
	}
	sub.seen = e.Seq
	switch sub.spec.Kind {
	case History, Retained:
		s.remember(sub, e.Seq, e.Msg)
		return false
	case Final:
		if e.Msg.Receipt == message.FinalReceipt {
			sub.state.Owe(e.Seq, false)
			if s.live { // during replay its summary may still come; the start looks at what is left
				s.c.finals.check(e.Seq)
			}
		}
		return false
	case Refused:
		sub.state.Owe(e.Seq, false)
		if s.live {
			s.refuse(sub, e.Seq)
		}
		return false
	case Inbox, Named, Live, Session, Shared, Will, Bridge:
	}
	if sub.spec.excludes(e.Msg) {
		return false
	}
	sub.state.Owe(e.Seq, e.Msg.Urgent())
	sub.outdate(e.Msg)
	if s.live && sub.state.Depth()%limitEvery == 0 {
		s.limit(sub)
	}
	if !sub.connected() {
		return false
	}
	s.touch(sub)
	return true
}
