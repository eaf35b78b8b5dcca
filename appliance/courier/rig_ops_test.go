package courier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"edgepost/appliance/message"
)

var rigTopics = []message.Topic{"device/d1/in/a", "device/d1/in/b", "device/d2/in/a", "job/x", "job/y", "alarm/1/door", "alarm/2/door"}

var rigFilters = []message.Filter{"job/#", "job/x", "alarm/+/door", "alarm/1/#", "#", "device/d1/in/a"}

func pick[T any](r *rig, list []T) T { return list[r.rnd.IntN(len(list))] }

func (r *rig) payload() string {
	r.next++
	n := r.rnd.IntN(60)
	if r.rnd.IntN(8) == 0 {
		n = r.rnd.IntN(1500)
	}
	return fmt.Sprintf("%d-%s", r.next, strings.Repeat("x", n))
}

func (r *rig) message() *message.Message {
	m := message.New(pick(r, rigTopics), []byte(r.payload()))
	m.From = "app"
	switch r.rnd.IntN(12) {
	case 0:
		m.TTL = r.half(time.Duration(1+r.rnd.IntN(20)) * time.Second)
	case 1:
		m.Delay = r.half(time.Duration(1+r.rnd.IntN(10)) * time.Second)
	case 2:
		m.Priority = uint8(7 + r.rnd.IntN(3))
	case 3, 7:
		m.Retain = true
	case 4:
		m.Receipt = message.FinalReceipt
	case 5:
		m.Receipt = message.EachReceipt
	case 6:
		m.Key = fmt.Sprint("k", r.next)
	}
	return m
}

func (r *rig) store(m *message.Message) (message.StoredAs, error) {
	type answer struct {
		as  message.StoredAs
		err error
	}
	done := make(chan answer, 1)
	r.ob.Publish(m, func(as message.StoredAs, err error) { done <- answer{as, err} })
	a := <-done
	return a.as, a.err
}

func (r *rig) publish() {
	r.t.Helper()
	m := r.message()
	payload, delay := string(m.Payload), m.Delay
	as, err := r.store(m)
	if err != nil {
		if p := message.ProblemOf(err); p == nil || p.Code != message.CodeStorageFull {
			r.fail("publish: %v", err)
		}
		r.say("publish refused: full")
		return
	}
	r.published(m, payload, as, delay)
}

func (r *rig) published(m *message.Message, payload string, as message.StoredAs, delay time.Duration) *mMessage {
	if r.byID[as.ID.Seq] != nil {
		r.fail("id %v was given twice", as.ID)
	}
	mm := &mMessage{id: as.ID, topic: m.Topic, payload: payload, urgent: m.Urgent(), retain: m.Retain, key: m.Key, at: time.Now()}
	r.say("published %v on %s ttl %v delay %v prio %d", as.ID, m.Topic, m.TTL, delay, m.Priority)
	r.msgs = append(r.msgs, mm)
	r.byID[as.ID.Seq] = mm
	if m.Key != "" {
		r.keys[m.Key] = mm
	}
	if delay > 0 {
		mm.waits, mm.due = true, time.Now().Add(delay)
		return mm
	}
	r.fanOut(mm, as.Seq)
	return mm
}

// again repeats a publish with an idempotency key, with the same and with another body.
func (r *rig) again() {
	names := slices.Sorted(maps.Keys(r.keys))
	if len(names) == 0 {
		return
	}
	old := r.keys[pick(r, names)]
	if time.Since(old.at) > 9*time.Minute {
		return
	}
	m := message.New(old.topic, []byte(old.payload))
	m.From, m.Key = "app", old.key
	as, err := r.store(m)
	if err != nil && message.ProblemOf(err) != nil && message.ProblemOf(err).Code == message.CodeStorageFull {
		return
	}
	if err != nil || as.ID != old.id || !as.Replayed {
		r.fail("repeated publish of %v: %+v, %v", old.id, as, err)
	}
	m = message.New(old.topic, []byte("another"))
	m.From, m.Key = "app", old.key
	if _, err = r.store(m); message.ProblemOf(err) == nil || message.ProblemOf(err).Code != message.CodeKeyReused {
		r.fail("key of %v with another body: %v", old.id, err)
	}
}

func (r *rig) sub(kinds ...Kind) *mSub {
	var names []string
	for n, s := range r.subs {
		if len(kinds) == 0 || slices.Contains(kinds, s.kind) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return r.subs[pick(r, names)]
}

func (r *rig) newSub(name, owner string, kind Kind, filters []message.Filter) *mSub {
	s := &mSub{
		name: name, owner: owner, kind: kind, filters: filters, first: map[mLane]uint64{}, used: time.Now(), expect: map[string]bool{}, notes: map[uint32][]byte{}, got: map[uint32]bool{},
		owed: map[uint64]*mDebt{}, ended: map[uint64]message.State{}, dead: map[uint64]bool{},
	}
	r.subs[name] = s
	return s
}

// inbox makes a device's inbox or changes its filters.
func (r *rig) inbox() {
	device := pick(r, []string{"d1", "d2"})
	spec := Spec{Name: DeviceInbox(device), Owner: "device/" + device, Kind: Inbox, Filters: []message.Filter{message.InboxOf(device)}, TTL: time.Hour}
	if r.rnd.IntN(2) == 0 {
		spec.Filters = append(spec.Filters, pick(r, rigFilters))
	}
	if !r.stored(func() error { _, err := r.c.Ensure(context.Background(), spec); return err }) {
		return
	}
	r.say("inbox %s %v", spec.Name, spec.Filters)
	s := r.subs[spec.Name]
	if s == nil {
		s = r.newSub(spec.Name, spec.Owner, Inbox, nil)
		s.ttl = spec.TTL
		r.adopt(s, spec.Filters, 0, false)
	}
	s.filters = spec.Filters
}

// stored runs a change; false when the log took it not, which must be for want of room.
func (r *rig) stored(change func() error) bool {
	r.t.Helper()
	err := change()
	if p := message.ProblemOf(err); p != nil && p.Code == message.CodeStorageFull {
		return false
	}
	if err != nil {
		r.fail("change: %v", err)
	}
	synctest.Wait()
	return true
}

// adopt takes over what a new subscription owes from before its beginning, and checks that it is
// what is kept.
func (r *rig) adopt(s *mSub, filters []message.Filter, after uint64, gap bool) {
	r.t.Helper()
	owed, _ := r.owedBy(s)
	for place := range owed {
		m := r.place[place]
		if s.owed[place] != nil {
			continue // it did before
		}
		if m == nil || !slices.ContainsFunc(filters, func(f message.Filter) bool { return f.Match(m.topic) }) {
			r.fail("%s begins with %d, which it did not ask for", s.name, place)
		}
		if after == 0 && !m.retain {
			r.fail("%s begins with %d, which is not retained", s.name, place)
		}
	}
	for place, m := range r.place {
		if place <= after || !slices.ContainsFunc(filters, func(f message.Filter) bool { return f.Match(m.topic) }) || m.fanned {
			continue
		}
		if after == 0 {
			continue
		}
		e, err := r.ob.Read(place)
		if err == nil && e.Msg.Expires != 0 && e.Msg.Expires <= r.ob.Age() {
			continue
		}
		if !owed[place] && (err == nil || !gap) && s.owed[place] == nil {
			r.fail("%s asked for what is behind %d and does not owe %d (%v, gap %t)", s.name, after, place, err, gap)
		}
	}
	for place := range owed {
		if s.owed[place] == nil {
			s.owed[place] = &mDebt{born: time.Now()} // an older end is another debt's
			delete(s.ended, place)
			clear(s.first) // the order begins anew with what was put back
		}
	}
	s.unordered = true
}

func (r *rig) attach() {
	s := r.sub(Inbox, Named, Session)
	if s == nil {
		return
	}
	l := newLink()
	l.auto = r.rnd.IntN(8) == 0
	if r.rnd.IntN(3) == 0 {
		l.room = r.rnd.IntN(4)
	}
	o := AttachOptions{AutoSettle: l.auto}
	switch r.rnd.IntN(3) {
	case 0:
		o.Window = 1 + r.rnd.IntN(10)
	case 1:
		o.AckTimeout = r.half(3 * time.Second)
	}
	if s.kind != Named && r.rnd.IntN(3) == 0 {
		l.sel = r.selection()
		o.Select = l.sel
	}
	r.attachTo(s, l, o)
}

func (r *rig) attachTo(s *mSub, l *mLink, o AttachOptions) {
	r.t.Helper()
	r.collect()
	old := s.link
	a, err := r.c.Attach(context.Background(), s.name, l, o)
	if err != nil {
		r.fail("attach %s: %v", s.name, err)
	}
	s.use()
	r.say("attach %s window %d auto %t select %v", s.name, o.Window, l.auto, l.sel)
	if old != nil {
		if _, lost := old.take(); !slices.Equal(lost, []Cause{TakenOver}) {
			r.fail("%s: the older link was told %v", s.name, lost)
		}
	}
	l.att = a
	s.link, s.pull, s.linked = l, false, true
}

func (r *rig) detach() {
	s := r.sub()
	if s == nil || len(s.links()) == 0 {
		return
	}
	if s.kind == Shared {
		r.part(s, pick(r, s.members))
		return
	}
	s.use()
	r.say("detach %s", s.name)
	r.collect()
	s.link.att.Close(Goodbye)
	s.link = nil
	if s.kind == Live {
		delete(r.subs, s.name)
	}
	synctest.Wait()
}

// answer acknowledges or refuses some of what a link has.
func (r *rig) answer() {
	s := r.sub()
	if s == nil || len(s.links()) == 0 {
		return
	}
	r.collect()
	l := pick(r, s.links())
	flying := slices.Sorted(maps.Keys(l.flying))
	if len(flying) == 0 {
		if l.free() <= 0 {
			l.setRoom(1 + r.rnd.IntN(10))
			l.att.Ready()
		}
		return
	}
	switch r.rnd.IntN(6) {
	case 0:
		seq := pick(r, flying)
		reject := r.rnd.IntN(3) == 0
		r.say("%s nacks %d reject %t", s.name, seq, reject)
		l.att.Nack(seq, r.half(2*time.Second), "no", reject)
		r.nacked(s, seq, reject)
	case 1: // what is another's, or over, must change nothing
		r.meddle(s, l)
	default:
		n := 1 + r.rnd.IntN(len(flying))
		acks := flying[:n]
		r.say("%s acks %v", s.name, acks)
		l.att.Ack(acks)
		for _, seq := range acks {
			s.settled(seq, message.Delivered)
		}
	}
	synctest.Wait()
}

// meddle answers for what the link was not sent.
func (r *rig) meddle(s *mSub, l *mLink) {
	for _, place := range slices.Sorted(maps.Keys(r.place)) {
		if r.rnd.IntN(len(r.place)) == 0 && (s.owed[place] == nil || len(s.members) > 1 && !l.flying[place]) {
			l.att.Ack([]uint64{place})
			l.att.Nack(place, 0, "never sent", true)
			r.say("%s acks and rejects %d, which it was not sent", s.name, place)
		}
	}
}

func (r *rig) nacked(s *mSub, seq uint64, reject bool) {
	debt := s.owed[seq]
	for _, l := range s.links() {
		delete(l.flying, seq)
	}
	debt.fails++
	switch {
	case reject:
		s.settled(seq, message.Dead)
	case debt.withdraw:
		s.settled(seq, message.Cancelled)
	}
}

// named makes, changes or removes a named subscription.
func (r *rig) named() {
	name := pick(r, []string{"jobs", "all"})
	full := NamedAs("key/app", name)
	s := r.subs[full]
	if s != nil && r.rnd.IntN(3) == 0 {
		r.collect()
		if !r.stored(func() error { return r.c.Remove(context.Background(), full) }) {
			return
		}
		r.say("removed %s", full)
		delete(r.subs, full)
		return
	}
	spec := NamedSpec{Filters: []message.Filter{pick(r, rigFilters)}}
	var after uint64
	if len(r.msgs) > 0 && r.rnd.IntN(2) == 0 {
		spec.After = pick(r, r.msgs).id
		after = spec.After.Seq
	}
	gap := after != 0 && r.c.gapBefore(spec.After)
	if !r.stored(func() error {
		_, created, err := r.c.PutNamed(context.Background(), "key/app", name, spec)
		if err == nil && created != (s == nil) {
			r.fail("put %s: created %t", full, created)
		}
		return err
	}) {
		return
	}
	r.say("named %s %v after %d", full, spec.Filters, after)
	if s == nil {
		s = r.newSub(full, "key/app", Named, nil)
		s.ttl, s.life = DefaultTTL, rigUnused
		r.adopt(s, spec.Filters, after, gap)
	}
	s.filters = spec.Filters
}

func (r *rig) fetch() {
	s := r.sub(Named)
	if s == nil {
		return
	}
	r.collect()
	old := s.link
	got, err := r.c.Fetch(context.Background(), s.name, 1+r.rnd.IntN(5), 0)
	if err != nil {
		r.fail("fetch %s: %v", s.name, err)
	}
	r.say("fetch %s: %d", s.name, len(got))
	if old != nil {
		rest, _ := old.take()
		for _, d := range rest {
			r.received(s, old, d)
		}
	}
	s.use()
	s.link, s.pull, s.linked = nil, true, true
	var acks Acks
	for _, d := range got {
		r.received(s, nil, d)
		if r.copies(s, d.Seq) > 1 {
			continue // an id names one of them
		}
		switch r.rnd.IntN(4) {
		case 0:
			acks.Nacks = append(acks.Nacks, NackByID{ID: d.Msg.ID, Reason: "later", Reject: r.rnd.IntN(4) == 0})
		case 1, 2:
			acks.IDs = append(acks.IDs, d.Msg.ID)
		}
	}
	if len(acks.IDs)+len(acks.Nacks) == 0 {
		return
	}
	res, err := r.c.Acknowledge(context.Background(), s.name, acks)
	if err != nil {
		r.fail("acknowledge: %v", err)
	}
	for _, d := range got {
		for _, n := range acks.Nacks {
			if n.ID == d.Msg.ID && s.owed[d.Seq] != nil {
				r.nacked(s, d.Seq, n.Reject)
			}
		}
		if slices.Contains(acks.IDs, d.Msg.ID) {
			s.settled(d.Seq, message.Delivered)
		}
	}
	if len(res.Unknown) > 0 {
		r.fail("acknowledge %+v: %+v", acks, res)
	}
}

// copies counts how many copies of the message at place the subscription owes.
func (r *rig) copies(s *mSub, place uint64) (n int) {
	for p := range s.owed {
		if r.place[p] == r.place[place] {
			n++
		}
	}
	return n
}

func (r *rig) rewind() {
	s := r.sub(Named)
	if s == nil || len(r.msgs) == 0 || s.link != nil && s.link.auto {
		return // with AutoSettle it is over before one can look
	}
	r.collect()
	after := pick(r, r.msgs).id
	gap := false
	if !r.stored(func() (err error) { gap, err = r.c.Rewind(context.Background(), s.name, after); return err }) {
		return
	}
	s.recent = nil // they are in the log before a rewind
	r.say("rewound %s to %v gap %t", s.name, after, gap)
	r.adopt(s, s.filters, after.Seq, gap)
	r.collect()
}

// live subscribes without a name.
func (r *rig) live() {
	f := pick(r, rigFilters)
	req := Request{Filter: f}
	if len(r.msgs) > 0 && r.rnd.IntN(2) == 0 {
		req.After = pick(r, r.msgs).id
	}
	l := newLink()
	l.room = 0
	a, gap, err := r.c.Subscribe(context.Background(), "key/web", req, l, AttachOptions{})
	if err != nil {
		r.fail("subscribe: %v", err)
	}
	synctest.Wait()
	l.att = a
	s := r.newSub(fmt.Sprintf("key/web/live-%d", r.c.lives.Load()), "key/web", Live, []message.Filter{f})
	r.say("live %s %s after %v", s.name, f, req.After)
	r.adopt(s, s.filters, req.After.Seq, gap)
	s.link = l
	l.setRoom(1 << 30)
	a.Ready()
}
