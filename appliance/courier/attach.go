package courier

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// attachment is a link's hold on a subscription. It implements [Attachment].
type attachment struct {
	s    *shard
	sub  *subscription
	link Link
	o    AttachOptions
	lost atomic.Bool // so that late calls cost nothing; the shard's word is sub.links

	loaded  bool    // it was handed something since its last Flush. The shard's
	stuck   bool    // the link had no room; until Ready. The shard's
	quota   int     // how much of the backlog may still come. The shard's
	verdict verdict // the shard's
}

// Attach gives the link the named durable subscription. The newest link wins: an older one is told
// [TakenOver]. A Problem with CodeNotFound when there is no such subscription.
func (c *Courier) Attach(ctx context.Context, name string, link Link, o AttachOptions) (Attachment, error) {
	a, err := c.hold(ctx, name, link, o)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (c *Courier) hold(ctx context.Context, name string, link Link, o AttachOptions) (*attachment, error) {
	s, id, err := c.find(name)
	if err != nil {
		return nil, err
	}
	if err := c.announceLink(ctx, s, id, &o); err != nil {
		return nil, err
	}
	a := &attachment{s: s, link: link, o: o}
	err = s.do(ctx, func() {
		if a.sub = s.subs[id]; a.sub != nil {
			s.attach(a)
		}
	})
	if err == nil && a.sub == nil {
		err = noSubscription(name)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// retryRoom is how many messages may wait for their retries at least before nothing new is sent: see
// delivery.Policy.
const retryRoom = 1024

// looseRoom is how many settlements of one subscription may be on their way to the log before nothing
// more is sent: a crash undoes them, so what they ended is among the first that is owed again, and is
// flagged as far as the log knows that it may have been sent.
const looseRoom = 2048

// announceLink has the log know that transmissions may be on their way, before the first one: after
// a crash they are flagged as possible repetitions. While the storage takes no writes delivery goes
// on without.
func (c *Courier) announceLink(ctx context.Context, s *shard, id uint64, o *AttachOptions) error {
	name, reach, err := s.reaches(ctx, id, o)
	if err != nil || reach == 0 {
		return err
	}
	defer c.lockName(name)()
	if _, reach, err = s.reaches(ctx, id, o); err != nil || reach == 0 {
		return err
	}
	if _, err := c.ob.Change(ctx, &outbox.Change{Op: outbox.OpLink, Sub: id, Reach: reach}); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

// reaches returns how many of the first owed a link with the window may have on its way; 0 when the log
// says so already.
func (s *shard) reaches(ctx context.Context, id uint64, o *AttachOptions) (name string, reach int, err error) {
	err = s.do(ctx, func() {
		sub := s.subs[id]
		if sub == nil {
			return
		}
		name, reach = sub.spec.Name, s.room(sub, o.Window)
		if len(o.Select) > 0 {
			reach += parkRoom
		}
		if o.FreshFirst { // what is on its way lies behind the backlog
			reach = math.MaxInt32
		}
		if sub.reach >= reach {
			reach = 0
		}
		sub.used = s.c.ob.Age()
	})
	return name, reach, err
}

// room is how many of the first owed may be on their way over a link with the window, if it takes all;
// window 0: the policy's.
func (s *shard) room(sub *subscription, window int) int {
	w := max(window, s.c.policy(&sub.spec).Window)
	if sub.spec.Kind == Shared {
		w = sharedWindow
	}
	return w + max(retryRoom, 4*w) + looseRoom
}

func (s *shard) attach(a *attachment) {
	sub := a.sub
	if sub.connected() && (sub.spec.Kind != Shared || sub.pull != nil) {
		s.lose(sub, TakenOver)
	}
	sub.links = append(sub.links, a)
	sub.stamp(s.c.ob.Wall())
	sub.used = s.c.ob.Age()
	if len(sub.links) == 1 {
		window := a.o.Window
		if sub.spec.Kind == Shared {
			window = sharedWindow // each link has its own
		}
		sub.state.Open(window)
		if a.o.FreshFirst {
			sub.state.FreshFirst(true)
		}
	}
	s.count.connected.Add(1)
	s.c.presence(sub, true, "")
	s.touch(sub)
}

func (a *attachment) post(fn func()) {
	if a.lost.Load() {
		return
	}
	_ = a.s.post(a.s.c.ctx, func() { // fails only when everything stops
		if a.holds() {
			fn()
			a.s.touch(a.sub)
		}
	})
}

// holds reports whether the link still has the subscription. The shard's.
func (a *attachment) holds() bool { return slices.Contains(a.sub.links, a) }

// has reports whether the message went to this link of a Shared, and was not given. The shard's.
func (a *attachment) has(seq uint64) bool {
	return a.sub.spec.Kind != Shared || a.sub.held[seq] == a && !a.sub.moving[seq]
}

func (a *attachment) Ack(seqs []uint64) { a.over(seqs, message.Delivered) }

func (a *attachment) Sent(seqs []uint64) { a.over(seqs, message.Sent) }

func (a *attachment) over(seqs []uint64, as message.State) {
	a.post(func() {
		for _, seq := range seqs {
			if a.has(seq) {
				a.s.over(a.sub, seq, as)
			}
		}
	})
}

// ack ends one debt as delivered; false when it was not on its way.
func (s *shard) ack(sub *subscription, seq uint64) bool { return s.over(sub, seq, message.Delivered) }

func (s *shard) over(sub *subscription, seq uint64, as message.State) bool {
	sends := sub.state.Ack(seq)
	if sends == 0 {
		return false
	}
	if !s.oweAgain(sub, seq) {
		s.settle(sub, seq, as, sends, "")
	}
	return true
}

func (a *attachment) Nack(seq uint64, delay time.Duration, reason string, reject bool) {
	a.post(func() {
		if a.has(seq) {
			a.s.nack(a.sub, seq, delay, reason, reject)
		}
	})
}

// nack handles a refusal by the device; false when seq was not on its way.
func (s *shard) nack(sub *subscription, seq uint64, delay time.Duration, reason string, reject bool) bool {
	if reason == "" {
		reason = "refused by the device"
	}
	sends, fails := sub.state.Attempts(seq)
	if reject {
		if !sub.state.Flying(seq) {
			return false
		}
		sub.state.Drop(seq)
		s.settle(sub, seq, message.Dead, sends, "rejected: "+reason)
		return true
	}
	switch sub.state.Nack(seq, time.Now(), delay) {
	case delivery.Ignored:
		return false
	case delivery.Exhausted:
		s.settle(sub, seq, message.Dead, fails+1, reason)
	case delivery.Retry:
		sub.pull.took(seq)
	case delivery.Withdrawn: // settled below
	}
	s.withdrawn(sub)
	return true
}

func (a *attachment) Backlog(n int) {
	a.post(func() {
		a.quota = n
		a.sub.state.Hold(n <= 0)
	})
}

// filled counts a message of the backlog.
func (a *attachment) filled() {
	if a.quota--; a.quota <= 0 {
		a.sub.state.Hold(true)
	}
}

func (a *attachment) Ready() {
	a.post(func() { a.stuck = false })
}

func (a *attachment) Close(why string) {
	if a.lost.Swap(true) {
		return
	}
	_ = a.s.post(a.s.c.ctx, func() {
		if a.holds() {
			a.s.detach(a, why)
		}
	})
}

// detach gives up one link.
func (s *shard) detach(a *attachment, why string) {
	sub := a.sub
	s.count.connected.Add(-1)
	s.c.presence(sub, false, why)
	sub.left = why
	sub.links = slices.DeleteFunc(sub.links, func(b *attachment) bool { return a == b })
	switch {
	case len(sub.links) > 0: // a Shared: what this link had goes to the others
		now := time.Now()
		for seq, holder := range sub.held {
			if holder == a && !sub.moving[seq] {
				delete(sub.held, seq)
				sub.state.Return(seq, now)
			}
		}
		s.withdrawn(sub)
		s.touch(sub)
	case sub.durable():
		s.lose(sub, Removed)
	default:
		s.remove(sub)
	}
}

// fetch is a reader that waits for messages of a subscription.
type fetch struct {
	max    int
	answer chan fetched // room for one
}

type fetched struct {
	list []Delivery
	err  error
}

func lostProblem(why Cause) error {
	switch why {
	case TakenOver:
		return message.Problemf(message.CodeTakenOver, "a newer connection took this inbox over; the newest one wins")
	case Removed:
		return message.Problemf(message.CodeNotFound, "the subscription was removed")
	case Stopping:
	}
	return errStopping()
}

// LeaseTime is how long a fetched message stays with its reader before it counts as a failed attempt
// and may go to another.
const LeaseTime = 30 * time.Second

// Fetch leases up to max messages of the named durable subscription to the caller, waiting up to
// wait for the first. They are settled by [Courier.Acknowledge]; what is not within [LeaseTime] comes
// again. Several readers may fetch from one subscription: each message goes to one of them. A link
// that pushes loses the subscription to the first fetch.
func (c *Courier) Fetch(ctx context.Context, name string, most int, wait time.Duration) ([]Delivery, error) {
	s, id, err := c.find(name)
	if err != nil {
		return nil, err
	}
	if err := c.announceLink(ctx, s, id, &AttachOptions{}); err != nil {
		return nil, err
	}
	f := &fetch{max: min(max(most, 1), 1000), answer: make(chan fetched, 1)}
	if err := s.do(ctx, func() { s.fetch(s.subs[id], f, name) }); err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case got := <-f.answer:
		return got.list, got.err
	case <-timer.C:
	case <-ctx.Done():
	case <-c.ctx.Done():
		return nil, errStopping()
	}
	// Too late, unless the shard was faster.
	if err := s.do(context.WithoutCancel(ctx), func() { s.forget(s.subs[id], f) }); err != nil {
		return nil, err
	}
	select {
	case got := <-f.answer:
		return got.list, got.err
	default:
		return nil, ctx.Err()
	}
}

func (s *shard) fetch(sub *subscription, f *fetch, name string) {
	if sub == nil {
		f.answer <- fetched{err: noSubscription(name)}
		return
	}
	if sub.pull == nil {
		if sub.connected() {
			s.lose(sub, TakenOver)
		}
		sub.pull = new(puller)
		sub.stamp(s.c.ob.Wall())
		sub.state.Open(0)
	}
	sub.used = s.c.ob.Age()
	sub.pull.waits = append(sub.pull.waits, f)
	s.serve(sub, time.Now())
	s.schedule(sub)
}

func (s *shard) forget(sub *subscription, f *fetch) {
	if sub == nil || sub.pull == nil {
		return
	}
	p := sub.pull
	for i, w := range p.waits {
		if w == f {
			p.waits = append(p.waits[:i:i], p.waits[i+1:]...)
			return
		}
	}
}

// serve answers the readers that wait, first come first served.
func (s *shard) serve(sub *subscription, now time.Time) {
	p, age := sub.pull, s.c.ob.Age()
	for p != nil && len(p.waits) > 0 {
		f := p.waits[0]
		var list []Delivery
		for len(list) < f.max {
			d, ok := s.next(sub, now, age)
			if !ok {
				break
			}
			s.count.sent.Add(1)
			s.sent(sub, d, now, now.Add(LeaseTime))
			p.order.Sent(d.Seq)
			list = append(list, d)
		}
		if len(list) == 0 {
			return
		}
		p.waits = p.waits[1:]
		f.answer <- fetched{list: list}
	}
}

// Acknowledge settles what a [Courier.Fetch] leased, by message id.
func (c *Courier) Acknowledge(ctx context.Context, name string, a Acks) (AckResult, error) {
	var out AckResult
	s, id, err := c.find(name)
	if err != nil {
		return out, err
	}
	err = s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			out = s.acknowledge(sub, a)
		}
	})
	return out, err
}

func (s *shard) acknowledge(sub *subscription, a Acks) (out AckResult) {
	place := func(id message.ID) uint64 {
		if id.Epoch != s.c.ob.Epoch() {
			return 0
		}
		if p, ok := sub.alias[id.Seq]; ok {
			return p
		}
		return id.Seq
	}
	count := func(id message.ID, ok bool) {
		if ok {
			out.Settled++
		} else {
			out.Unknown = append(out.Unknown, id)
		}
	}
	for _, n := range a.Nacks {
		count(n.ID, s.nack(sub, place(n.ID), n.Delay, n.Reason, n.Reject))
	}
	for _, id := range a.IDs {
		count(id, s.ack(sub, place(id)))
	}
	if !a.UpTo.IsZero() {
		var seqs []uint64
		if sub.pull != nil {
			seqs = sub.pull.order.TakeUpTo(place(a.UpTo))
		}
		if seqs == nil {
			count(a.UpTo, false)
		}
		for _, seq := range seqs {
			if s.ack(sub, seq) {
				out.Settled++
			}
		}
	}
	s.touch(sub)
	return out
}
