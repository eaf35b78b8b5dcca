package courier

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Ensure makes the durable subscription, or brings an existing one of that name to the spec; created
// says which. When it returns without error the change is on stable storage and in effect: every
// message stored from now on that matches is owed.
func (c *Courier) Ensure(ctx context.Context, spec Spec) (created bool, err error) {
	return c.ensure(ctx, spec, message.ID{})
}

// Recover is [Courier.Ensure] after the disk lost records: a subscription that is made by it was there
// before, so it owes everything that matches, is kept and has not expired. That may be more than it had
// owed, so all of it is flagged as possibly sent.
func (c *Courier) Recover(ctx context.Context, spec Spec) error {
	created, err := c.ensure(ctx, spec, message.ID{Seq: 1}) // of no epoch, so from the beginning
	if err != nil || !created {
		return err
	}
	s, id, err := c.find(spec.Name)
	if err != nil {
		return err
	}
	if _, err := c.ob.Change(ctx, &outbox.Change{Op: outbox.OpLink, Sub: id, Reach: math.MaxInt32}); err != nil {
		return err
	}
	return s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			sub.state.MaybeSent(math.MaxInt32)
			c.o.Log.Warn("subscription was lost and is made anew; it owes what is kept", "subscription", spec.Name, "owed", sub.state.Depth())
		}
	})
}

func (c *Courier) ensure(ctx context.Context, spec Spec, after message.ID) (created bool, err error) {
	defer c.lockName(spec.Name)()
	ch := &outbox.Change{Op: outbox.OpPut}
	s, id, err := c.find(spec.Name)
	if err == nil {
		same := false
		if err := s.do(ctx, func() { same = s.subs[id] != nil && s.subs[id].spec.equal(&spec) }); err != nil || same {
			return false, err
		}
		ch.Sub = id
	}
	if ch.Spec, err = json.Marshal(&spec); err != nil {
		return false, fmt.Errorf("encode subscription %s: %w", spec.Name, err)
	}
	if ch.Sub == 0 && spec.Kind != Shared { // that begins without what is retained (MQTT 5.0 §4.8.2)
		defer c.ob.Hold()()
		if _, err = c.debts(ctx, ch, &spec, after); err != nil {
			return false, err
		}
	}
	if _, err := c.ob.Change(context.WithoutCancel(ctx), ch); err != nil {
		return false, err
	}
	return ch.Sub == 0, c.shardOf(spec.Owner).do(ctx, func() {})
}

func (s *Spec) equal(t *Spec) bool {
	return s.Owner == t.Owner && s.Kind == t.Kind && s.TTL == t.TTL && s.MaxAttempts == t.MaxAttempts &&
		s.Window == t.Window && s.Keep == t.Keep && s.NotFrom == t.NotFrom && bytes.Equal(s.Meta, t.Meta) && slices.Equal(s.Filters, t.Filters)
}

// lockName serializes what is done to one name.
func (c *Courier) lockName(name string) (unlock func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	mu := &c.puts[h.Sum32()%uint32(len(c.puts))]
	mu.Lock()
	return mu.Unlock
}

// Remove ends a durable subscription with all it owes, durable on return: one record for all but what [Member.Give] brought. A
// Problem with CodeNotFound when there is none. Once begun it does not heed ctx.
func (c *Courier) Remove(ctx context.Context, name string) error {
	defer c.lockName(name)()
	s, id, err := c.find(name)
	if err != nil {
		return err
	}
	return c.conclude(context.WithoutCancel(ctx), s, id)
}

// debts fills in what a new subscription owes from before its own beginning: everything kept behind
// after; without after, what is retained. gap says that messages behind after are no longer kept.
func (c *Courier) debts(ctx context.Context, ch *outbox.Change, spec *Spec, after message.ID) (gap bool, err error) {
	if !after.IsZero() {
		return c.debtsFrom(ctx, ch, spec, after)
	}
	return false, c.show(ctx, ch, spec.Filters)
}

// debtsFrom reads the log for what the filters select behind after and what has not expired. What is
// stored meanwhile the shard finds when the change takes effect.
func (c *Courier) debtsFrom(ctx context.Context, ch *outbox.Change, spec *Spec, after message.ID) (gap bool, err error) {
	head, first := c.ob.Head(), after.Seq+1
	if after.Epoch != c.ob.Epoch() {
		first = 1
	}
	gap = c.gapBefore(after)
	var all, urgent delivery.Set
	age := c.ob.Age()
	for _, f := range spec.Filters {
		if err := c.ob.Scan(f, first, head, func(m *message.Message) bool {
			if at := c.expiry(spec, m); (at == 0 || at > age) && !spec.excludes(m) {
				note(&all, &urgent, m)
			}
			return ctx.Err() == nil
		}); err != nil {
			return false, err
		}
	}
	oblige(ch, &all, &urgent)
	ch.From = max(head+1, first)
	if len(ch.Debts) > maxDebts { // then the shard reads the log itself, here and when it is replayed
		ch.Debts, ch.Urgent, ch.From = nil, nil, first
	}
	return gap, ctx.Err()
}

// show fills in the retained messages that the filters select. What is stored meanwhile the shard finds
// when the change takes effect: otherwise the subscriber would hold an old value until the next one.
func (c *Courier) show(ctx context.Context, ch *outbox.Change, filters []message.Filter) error {
	var all, urgent delivery.Set
	ch.From = c.ob.Head() + 1
	set, failed := c.retained(ctx, filters)
	set.Each(0, math.MaxUint64, func(first, last uint64) bool {
		for seq := first; seq <= last && failed == nil; seq++ {
			switch e, err := c.ob.Read(seq); {
			case err == nil && e.Kind == outbox.KindMessage:
				note(&all, &urgent, e.Msg)
			case err != nil && !outbox.Gone(err):
				failed = err
			}
		}
		return failed == nil
	})
	oblige(ch, &all, &urgent)
	return failed
}

func note(all, urgent *delivery.Set, m *message.Message) {
	all.Add(m.Seq)
	if m.Urgent() {
		urgent.Add(m.Seq)
	}
}

// oblige writes the sets into the change.
func oblige(ch *outbox.Change, all, urgent *delivery.Set) {
	if all.Len() > 0 {
		ch.Debts = all.AppendBinary(nil)
	}
	if urgent.Len() > 0 {
		ch.Urgent = urgent.AppendBinary(nil)
	}
}

// maxDebts bounds the explicit debts of one record, in bytes; in the log they take a third more.
const maxDebts = 256 << 10

// gapBefore reports whether messages behind after may be gone: another log's id, one from before
// what is kept, or from before what the disk has lost.
func (c *Courier) gapBefore(after message.ID) bool {
	return after.Epoch != c.ob.Epoch() || after.Seq < c.ob.CleanedTo() || c.ob.LostBehind(after.Seq)
}

// retained collects the retained messages that the filters select, of everything that anybody was told
// is stored, or was handed.
func (c *Courier) retained(ctx context.Context, filters []message.Filter) (set delivery.Set, err error) {
	s, id, err := c.find(retainedName)
	if err != nil {
		return set, nil //nolint:nilerr // before the first start nothing is retained
	}
	head := c.ob.Head()
	behind := false
	err = s.do(ctx, func() {
		sub := s.subs[id]
		if sub == nil {
			return
		}
		// The committer hands a batch to one shard after the other: another one's subscriber may have it
		// before this shard.
		if behind = s.applied < head && !s.catchUp(); behind {
			return
		}
		for t, seqs := range sub.topics {
			for _, f := range filters {
				if f.Match(t) {
					for _, seq := range seqs {
						set.Add(seq)
					}
				}
			}
		}
	})
	if behind {
		err = message.Problemf(message.CodeStorageFailed, "the log cannot be read at the moment, so what is retained is not known; try again")
	}
	return set, err
}

// NamedAs is the public and unique name of a principal's durable subscription.
func NamedAs(owner, name string) string { return owner + "/" + name }

// DeviceInbox is the public and unique name of a device's inbox.
func DeviceInbox(device string) string { return "device/" + device }

// Subscribe gives the link a subscription of its own. Without a name it ends with the link; with one
// it is durable, and the principal's next Subscribe with that name goes on where this one ended: then
// After counts only the first time, and a changed filter takes the place of the old one. gap: messages
// behind After are no longer kept.
func (c *Courier) Subscribe(ctx context.Context, owner string, r Request, link Link, o AttachOptions) (a Attachment, gap bool, err error) {
	if r.Name != "" {
		spec := Spec{Name: NamedAs(owner, r.Name), Owner: owner, Kind: Named, Filters: []message.Filter{r.Filter}, TTL: c.o.TTL}
		if _, _, err := c.find(spec.Name); err == nil {
			r.After = message.ID{}
		}
		gap = !r.After.IsZero() && c.gapBefore(r.After)
		if _, err := c.ensure(ctx, spec, r.After); err != nil {
			return nil, false, err
		}
		a, err = c.Attach(ctx, spec.Name, link, o)
		return a, gap, err
	}
	release := c.ob.Hold()
	defer release()
	n := c.lives.Add(1)
	spec := Spec{Name: fmt.Sprintf("%s/live-%d", owner, n), Owner: owner, Kind: Live, Filters: []message.Filter{r.Filter}}
	ch := &outbox.Change{}
	if gap, err = c.debts(ctx, ch, &spec, r.After); err != nil {
		return nil, false, err
	}
	s := c.shardOf(owner)
	at := &attachment{s: s, link: link, o: o}
	err = s.do(ctx, func() {
		s.put(liveID|n, spec, ch, s.applied+1)
		at.sub = s.subs[liveID|n]
		s.attach(at)
	})
	if err != nil {
		return nil, false, err
	}
	return at, gap, nil
}

// PutNamed makes or changes a principal's durable subscription.
func (c *Courier) PutNamed(ctx context.Context, owner, name string, n NamedSpec) (info Info, created bool, err error) {
	spec := Spec{
		Name: NamedAs(owner, name), Owner: owner, Kind: Named, Filters: n.Filters,
		TTL: n.TTL, MaxAttempts: n.MaxAttempts, Window: n.Window,
	}
	if spec.TTL == 0 {
		spec.TTL = c.o.TTL
	}
	if created, err = c.ensure(ctx, spec, n.After); err != nil {
		return Info{}, false, err
	}
	info, err = c.Info(ctx, spec.Name)
	return info, created, err
}

// Rewind has the subscription owe again everything kept behind after that it selects.
func (c *Courier) Rewind(ctx context.Context, name string, after message.ID) (gap bool, err error) {
	defer c.lockName(name)()
	s, id, err := c.find(name)
	if err != nil {
		return false, err
	}
	var spec Spec
	if err := s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			spec = sub.spec
		}
	}); err != nil {
		return false, err
	}
	defer c.ob.Hold()()
	// What was settled until now must not be settled once more by a record behind the rewind.
	if err := c.ob.SettleNow(); err != nil {
		return false, err
	}
	if after.IsZero() {
		after = message.ID{Epoch: c.ob.Epoch()}
		after.Seq = max(c.ob.Tail(), 1) - 1
	}
	ch := &outbox.Change{Op: outbox.OpRewind, Sub: id}
	if gap, err = c.debtsFrom(ctx, ch, &spec, after); err != nil {
		return false, err
	}
	if _, err := c.ob.Change(context.WithoutCancel(ctx), ch); err != nil {
		return false, err
	}
	return gap, s.do(ctx, func() {})
}

// Info describes a subscription.
func (c *Courier) Info(ctx context.Context, name string) (Info, error) {
	s, id, err := c.find(name)
	if err != nil {
		return Info{}, err
	}
	var info Info
	ok := false
	if err := s.do(ctx, func() {
		if sub := s.subs[id]; sub != nil {
			info, ok = s.info(sub), true
		}
	}); err != nil {
		return Info{}, err
	}
	if !ok {
		return Info{}, noSubscription(name)
	}
	return info, nil
}

// info describes a subscription and reads its oldest message for that.
func (s *shard) info(sub *subscription) Info {
	info := s.glance(sub, func(uint64) (int64, bool) { return 0, false })
	if seq, ok := sub.state.Oldest(); ok {
		if it, err := s.item(seq); err == nil {
			info.Oldest = it.Msg.ID
			info.OldestAge = s.c.ob.Since(it.Msg.Age)
		}
	}
	return info
}

// glance describes one of many subscriptions without reading messages: the oldest is named by its
// place, and is as old as its generation at most.
func (s *shard) glance(sub *subscription, ages func(uint64) (int64, bool)) Info {
	p := s.c.policy(&sub.spec)
	info := Info{
		Name: sub.spec.Name, Filters: sub.spec.Filters, Depth: sub.state.Depth(), InFlight: sub.state.InFlight(),
		Connected: sub.connected(), Since: sub.since(), TTL: sub.spec.TTL, MaxAttempts: p.MaxAttempts, Window: p.Window,
		Durable: sub.durable(),
	}
	if seq, ok := sub.state.Oldest(); ok {
		info.Oldest = message.ID{Epoch: s.c.ob.Epoch(), Seq: seq}
		if age, known := ages(seq); known {
			info.OldestAge = time.Duration(s.c.ob.Age() - age)
		}
	}
	return info
}

// List describes the subscriptions whose names start with the prefix, by name; those that serve the
// courier itself are left out.
func (c *Courier) List(prefix string) []Info {
	var out []Info
	_ = c.each(func(s *shard) { // fails when everything stops
		ages := s.c.ob.Ages()
		for _, sub := range s.subs {
			if !sub.spec.internal() && strings.HasPrefix(sub.spec.Name, prefix) {
				out = append(out, s.glance(sub, ages))
			}
		}
	})
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Names lists the durable subscriptions of a kind: for the registry to compare with at start.
func (c *Courier) Names(kind Kind) []string {
	var out []string
	_ = c.each(func(s *shard) { // fails when everything stops
		for _, sub := range s.subs {
			if sub.spec.Kind == kind {
				out = append(out, sub.spec.Name)
			}
		}
	})
	slices.Sort(out)
	return out
}
