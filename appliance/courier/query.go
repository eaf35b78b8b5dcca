package courier

import (
	"context"
	"fmt"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// pageBytes is the payload after which a page of the log ends, whatever its limit: a page is held in
// memory.
const pageBytes = 2 << 20

// History returns a page of the log, oldest first: kept messages behind q.After that the filter
// selects and that may pass. With q.Wait it waits for a first one.
func (c *Courier) History(ctx context.Context, q Query, may func(message.Topic) bool) (Page, error) {
	page := Page{Next: q.After}
	from := q.After.Seq + 1
	if !q.After.IsZero() {
		page.Gap = c.gapBefore(q.After)
		if q.After.Epoch != c.ob.Epoch() {
			from = 1
		}
	}
	timer := time.NewTimer(q.Wait)
	defer timer.Stop()
	for {
		news := c.news.channel()
		last, err := c.fill(ctx, &page, q, from, may)
		if err != nil {
			return Page{}, err
		}
		if last >= from {
			page.Next = message.ID{Epoch: c.ob.Epoch(), Seq: last}
		}
		if len(page.Messages) > 0 || q.Wait == 0 {
			return page, nil
		}
		from = last + 1
		select {
		case <-news:
		case <-timer.C:
			return page, nil
		case <-ctx.Done():
			return page, ctx.Err()
		case <-c.ctx.Done():
			return page, errStopping()
		}
	}
}

// Kept lists the places in the log of what a history holds, oldest first. What was published a moment ago may be missing still.
func (c *Courier) Kept(ctx context.Context, name string) ([]uint64, error) {
	s, id, err := c.find(name)
	if err != nil {
		return nil, err
	}
	var seqs []uint64
	err = s.do(ctx, func() {
		sub := s.subs[id]
		if sub == nil {
			return
		}
		sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
			for seq := first; seq <= last; seq++ {
				seqs = append(seqs, seq)
			}
			return true
		})
	})
	return seqs, err
}

// fill reads into the page what the log has from a place on, until the page or the log ends, and
// returns the last place read.
func (c *Courier) fill(ctx context.Context, page *Page, q Query, from uint64, may func(message.Topic) bool) (last uint64, err error) {
	limit, bytes, head := min(max(q.Limit, 1), 1000), 0, c.ob.Head()
	full := false
	err = c.ob.Scan(q.Filter, from, head, func(m *message.Message) bool {
		if may(m.Topic) && !c.expired(m) {
			page.Messages = append(page.Messages, m)
			bytes += len(m.Payload)
		}
		last = m.Seq
		full = len(page.Messages) >= limit || bytes >= pageBytes
		return !full && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if !full {
		last = head
	}
	return last, err
}

// Trace tells where a message is: for each subscription that owes or owed it, the state, and the
// reason why it waits or ended so.
func (c *Courier) Trace(ctx context.Context, id message.ID) (*message.Trace, error) {
	// The shards first: what they settle meanwhile is then found in the log or on its way there.
	live, err := c.places(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	o, err := c.ob.Outcome(id)
	if err != nil {
		return nil, err
	}
	if len(o.Copies) > 1 {
		if live, err = c.places(ctx, id, o.Copies); err != nil {
			return nil, err
		}
	}
	t := &message.Trace{Message: o.Message, Partial: o.Incomplete}
	if o.Waits {
		left := time.Duration(o.Due - c.ob.Age()).Round(time.Second)
		t.Places = append(t.Places, message.Receipt{
			ID: id, Topic: o.Message.Topic, State: message.Waiting, Reason: fmt.Sprintf("waits for its delay: goes out in %v", max(left, 0)),
		})
		return t, nil
	}
	for _, s := range o.Settled {
		name := c.NameOf(s.Sub)
		if ownName(name) {
			continue
		}
		r := message.Receipt{
			ID: id, Topic: o.Message.Topic, Subscription: name, State: s.State, Reason: s.Reason, Attempt: s.Attempts,
		}
		if s.Wall != 0 {
			r.At = time.Unix(0, s.Wall)
		}
		t.Places = append(t.Places, r)
	}
	for _, p := range live {
		p.Topic = o.Message.Topic
		t.Places = append(t.Places, p)
	}
	if len(t.Places) == 0 && o.Cancelled {
		t.Places = append(t.Places, message.Receipt{ID: id, Topic: o.Message.Topic, State: message.Cancelled, Reason: "withdrawn before anybody owed it"})
	}
	t.Places = latest(t.Places)
	return t, nil
}

// latest keeps the last word about each subscription: a dead letter that was requeued and then
// delivered is delivered.
func latest(places []message.Receipt) []message.Receipt {
	at := make(map[string]int, len(places))
	out := places[:0]
	for _, p := range places {
		if i, ok := at[p.Subscription]; ok {
			out[i] = p
			continue
		}
		at[p.Subscription] = len(out)
		out = append(out, p)
	}
	return out
}

// places asks the shards who owes the message now.
func (c *Courier) places(ctx context.Context, id message.ID, copies []uint64) ([]message.Receipt, error) {
	if copies == nil {
		copies = []uint64{id.Seq}
	}
	var out []message.Receipt
	for _, s := range c.shards {
		if err := s.do(ctx, func() {
			for i := range s.recent {
				if e := &s.recent[i]; e.seq != 0 && slices.Contains(copies, e.seq) {
					out = append(out, message.Receipt{ID: id, Subscription: e.name, State: e.state, Attempt: e.attempts, Reason: e.reason})
				}
			}
			for _, sub := range s.subs {
				if sub.spec.internal() {
					continue
				}
				for _, seq := range copies {
					if sub.state.Owes(seq) {
						out = append(out, s.standing(sub, id, seq))
					}
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b message.Receipt) int {
		if a.Subscription < b.Subscription {
			return -1
		}
		return 1
	})
	return out, nil
}

// standing says where one debt stands, and why.
func (s *shard) standing(sub *subscription, id message.ID, seq uint64) message.Receipt {
	sends, fails := sub.state.Attempts(seq)
	r := message.Receipt{ID: id, Subscription: sub.spec.Name, State: message.Waiting, Attempt: sends}
	due, retrying := sub.state.RetryDue(seq)
	switch {
	case sub.state.Flying(seq):
		r.State, r.Reason = message.Sent, "not acknowledged yet"
	case !sub.connected() && sub.spec.Kind == Named:
		r.Reason = "nobody reads the subscription" + since(sub.since())
	case !sub.connected():
		r.Reason = "offline" + since(sub.since())
	case s.unselected(sub, seq):
		r.Reason = "not subscribed: the connection takes other topics of this inbox only"
	case retrying:
		r.Reason = fmt.Sprintf("retry %d of %d in %v", fails, s.c.policy(&sub.spec).MaxAttempts, max(time.Until(due), 0).Round(time.Second))
	case sub.pull != nil && len(sub.pull.waits) == 0:
		r.Reason = "waits for the next fetch"
	case sub.state.InFlight() >= s.c.policy(&sub.spec).Window:
		r.Reason = "window full: the device has not acknowledged what it was sent"
	case sub.free() == nil && sub.pull == nil:
		r.Reason = "the connection is behind: it takes no more at the moment"
	default:
		r.Reason = "next to go"
	}
	return r
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format(time.RFC3339)
}

// Await traces the message again and again until every place is final or ctx is done, and returns
// the last trace's places.
func (c *Courier) Await(ctx context.Context, id message.ID) ([]message.Receipt, error) {
	changed := c.watch.add(id.Seq)
	defer c.watch.remove(id.Seq, changed)
	for {
		t, err := c.Trace(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return nil, nil
			}
			return nil, err
		}
		if !slices.ContainsFunc(t.Places, stillOwed) {
			return t.Places, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t.Places, nil
		case <-c.ctx.Done():
			return t.Places, errStopping()
		}
	}
}

// Cancel withdraws a message from every subscription that was not sent it yet, and returns how many
// those were. What is on its way is not called back, but it is not sent again either. Durable on
// return.
func (c *Courier) Cancel(ctx context.Context, id message.ID) (cancelled int, err error) {
	defer c.ob.Still()() // or a delayed message goes out between the look and the record
	o, err := c.ob.Outcome(id)
	if err != nil {
		return 0, err
	}
	live, err := c.places(ctx, id, o.Copies)
	if err != nil {
		return 0, err
	}
	for _, p := range live {
		if p.State == message.Waiting {
			cancelled++
		}
	}
	if o.Waits {
		cancelled++
	}
	if len(live) == 0 && !o.Waits {
		return 0, nil
	}
	if err := c.ob.Cancel(context.WithoutCancel(ctx), o.Copies...); err != nil {
		return 0, err
	}
	_ = c.each(func(*shard) {}) // the record is durable; who stops now, finds it at the start
	return cancelled, nil
}

// DeadLetters lists dead letters with entries above after, oldest first.
func (c *Courier) DeadLetters(after uint64, limit int) []message.DeadLetter {
	list := c.ob.DeadLetters(after, limit)
	out := make([]message.DeadLetter, 0, len(list))
	for _, d := range list {
		out = append(out, c.deadLetter(d))
	}
	return out
}

// DeadLetter returns one dead letter.
func (c *Courier) DeadLetter(entry uint64) (message.DeadLetter, error) {
	d, err := c.ob.DeadLetter(entry)
	if err != nil {
		return message.DeadLetter{}, err
	}
	return c.deadLetter(d), nil
}

// Requeue takes a dead letter back: its subscription owes the message again, with the same id and a new
// place; one that was [Unaddressed] goes to whoever its topic selects by now. A Problem with CodeNotFound when there is no such entry, its message can no longer be read, or
// its subscription was removed.
func (c *Courier) Requeue(ctx context.Context, entry uint64) (message.StoredAs, error) {
	sub, err := c.deadOf(entry)
	if err != nil {
		return message.StoredAs{}, err
	}
	if c.NameOf(sub) == Unaddressed {
		return c.ob.Offer(ctx, entry)
	}
	return c.ob.Requeue(ctx, entry)
}

func (c *Courier) deadLetter(d outbox.DeadLetter) message.DeadLetter {
	d.Subscription = c.NameOf(d.Sub)
	return d.DeadLetter
}

// Status fills in what the courier and its log know.
func (c *Courier) Status() Status {
	st := c.Counters()
	_ = c.each(func(s *shard) { // fails when everything stops
		for _, sub := range s.subs {
			if !sub.spec.internal() {
				st.Subscriptions++
				st.Owed += sub.state.Depth()
			}
		}
	})
	return st
}

// Counters is [Courier.Status] without what a look at every subscription tells: their number and what they owe.
func (c *Courier) Counters() Status {
	used, budget := c.ob.Size()
	stored, _ := c.ob.Counters()
	dead, _ := c.ob.DeadCount()
	n := c.counted()
	st := Status{
		Epoch: c.ob.Epoch(), Head: c.ob.Head(), TailFrom: max(c.ob.CleanedTo()+1, c.ob.Tail()), LogBytes: used, LogLimit: budget, Storage: "ok",
		Connected: n.connected.Load(), DeadLetters: dead,
		Published: stored, Volatile: n.volatile.Load(), Sent: n.sent.Load(), Delivered: n.delivered.Load(),
		Expired: n.expired.Load(), Dead: n.dead.Load(), Cancelled: n.cancelled.Load(), Lost: n.lost.Load(),
		Dropped: n.dropped.Load(), Commits: c.ob.Stats().Commits,
	}
	if err := c.ob.Health(); err != nil {
		st.Storage = err.Error()
	}
	return st
}
