package courier

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
)

// Options configure a courier; zero values take the defaults.
type Options struct {
	Policy  delivery.Policy // of subscriptions that do not ask otherwise
	TTL     time.Duration   // of named subscriptions that do not ask otherwise; 0: 7 days
	Unused  time.Duration   // a named subscription ends when nobody linked for so long; 0: 7 days
	Shards  int             // 0: GOMAXPROCS
	Rights  Rights
	Log     *slog.Logger
	Gateway func() string // the appliance's name, in receipts

	// MayAnswer says whether the publisher of a message, as in Message.From, might itself publish on
	// the topic and receive it: then receipts go to the message's response topic too. nil: none may.
	MayAnswer func(from string, t message.Topic) bool
}

// Courier delivers. All methods are safe for concurrent use.
type Courier struct {
	o       Options
	ob      *outbox.Outbox
	rights  Rights
	shards  []*shard
	ctx     context.Context // ends when the courier stops
	cancel  context.CancelFunc
	done    sync.WaitGroup
	running atomic.Bool // the shards' goroutines run

	dirMu sync.RWMutex // guards names, byID and over
	names map[string]place
	byID  map[uint64]string

	over  map[string]bool // subscriptions that hold their whole share
	overs atomic.Int64    // how many, to spare the lookup

	puts      [64]sync.Mutex // serialize changes of one name
	hintBytes int            // see the constant; smaller in tests
	lives     atomic.Uint64
	count     counts
	watch     watchers
	finals    finals
	comings   comings
	chores    chan func() // what shards have done elsewhere because it waits for the log
	news      news
}

// place is where a subscription lives.
type place struct {
	s  *shard
	id uint64
}

// counts are what the metrics tell. Each shard has its own: adding to what another core has just changed costs more than
// the rest of a delivery.
type counts struct {
	connected, sent, delivered, expired, dead, cancelled, lost, dropped, volatile atomic.Int64
}

// add adds what n has counted.
func (c *counts) add(n *counts) {
	to := [...]*atomic.Int64{&c.connected, &c.sent, &c.delivered, &c.expired, &c.dead, &c.cancelled, &c.lost, &c.dropped, &c.volatile}
	for i, v := range [...]*atomic.Int64{&n.connected, &n.sent, &n.delivered, &n.expired, &n.dead, &n.cancelled, &n.lost, &n.dropped, &n.volatile} {
		to[i].Add(v.Load())
	}
}

// counted is the sum of all shards and of what belongs to none.
func (c *Courier) counted() *counts {
	sum := new(counts)
	sum.add(&c.count)
	for _, s := range c.shards {
		sum.add(&s.count)
	}
	return sum
}

func (c *counts) ended(s message.State) {
	switch s {
	case message.Delivered:
		c.delivered.Add(1)
	case message.Expired:
		c.expired.Add(1)
	case message.Dead:
		c.dead.Add(1)
	case message.Cancelled:
		c.cancelled.Add(1)
	case message.Lost:
		c.lost.Add(1)
	case message.Stored, message.Waiting, message.Sent: // counted at the transmission
	}
}

// Defaults of a delivery policy: DESIGN §6.
const (
	DefaultWindow      = 64
	DefaultMaxAttempts = 8
	DefaultTTL         = 7 * 24 * time.Hour
)

// New makes a courier over the outbox; follow with outbox.Replay(courier) and [Courier.Start].
func New(ob *outbox.Outbox, o Options) *Courier {
	if o.Policy.Window == 0 {
		o.Policy.Window = DefaultWindow
	}
	if o.Policy.MaxAttempts == 0 {
		o.Policy.MaxAttempts = DefaultMaxAttempts
	}
	if o.Policy.Backoff.Base == 0 {
		o.Policy.Backoff.Base, o.Policy.Backoff.Max = time.Second, 5*time.Minute
	}
	if o.Policy.Backoff.Jitter == nil {
		o.Policy.Backoff.Jitter = rand.Int64N
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Unused == 0 {
		o.Unused = DefaultTTL
	}
	if o.Shards == 0 {
		o.Shards = runtime.GOMAXPROCS(0)
	}
	c := &Courier{o: o, ob: ob, rights: o.Rights, names: make(map[string]place), byID: make(map[uint64]string), over: make(map[string]bool)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.watch.by = make(map[uint64][]chan struct{})
	c.finals.init(c)
	c.news.ready = make(chan struct{})
	c.hintBytes = hintBytes
	c.chores = make(chan func(), choreRoom)
	for range o.Shards {
		c.shards = append(c.shards, newShard(c))
	}
	return c
}

// Start begins to deliver. The subscriptions that the courier itself needs are made if missing.
func (c *Courier) Start(ctx context.Context) error {
	for _, s := range c.shards {
		s.ready()
		c.done.Go(func() { s.run(c.ctx) })
	}
	c.running.Store(true)
	c.done.Go(c.finals.run)
	c.done.Go(c.work)
	for _, spec := range []Spec{
		{Name: retainedName, Owner: "$retained", Kind: Retained, Filters: []message.Filter{"#"}},
		{Name: receiptsName, Owner: "$receipts", Kind: Final, Filters: []message.Filter{"#"}},
		{Name: Unaddressed, Owner: "$" + Unaddressed, Kind: Refused},
	} {
		if _, err := c.Ensure(ctx, spec); err != nil {
			return fmt.Errorf("make subscription %s: %w", spec.Name, err)
		}
	}
	c.ob.Keep()
	return nil
}

// ready ends the replay on a shard.
func (s *shard) ready() {
	s.live = true
	s.applied = max(s.applied, s.c.ob.Head())
	for _, sub := range s.subs {
		sub.applied = 0
		sub.state.MaybeSent(sub.reach)
		if sub.reach > 0 { // linked until this start, as far as the log knows; its state may be much older
			sub.used = s.c.ob.Age()
		}
		switch sub.spec.Kind {
		case Final:
			s.recall(sub)
		case Refused:
			s.refuseAll(sub)
		default:
		}
	}
	for d := range s.cancelled {
		if sub := s.subs[d.sub]; sub != nil {
			s.settle(sub, d.seq, message.Cancelled, 0, withdrawnReason)
		}
	}
	s.cancelled = nil
}

// recall rebuilds what an internal subscription knows beside its debts.
func (s *shard) recall(sub *subscription) {
	if sub.spec.Kind == Final {
		sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
			for seq := first; seq <= last; seq++ {
				s.c.finals.check(seq)
			}
			return true
		})
		return
	}
	sub.topics = make(map[message.Topic][]uint64)
	var gone []uint64
	sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
		for seq := first; seq <= last; seq++ {
			e, err := s.c.ob.Read(seq)
			switch {
			case err == nil && e.Kind == outbox.KindMessage:
				sub.topics[e.Msg.Topic] = append(sub.topics[e.Msg.Topic], seq)
			case err == nil || outbox.Gone(err):
				gone = append(gone, seq)
			default:
				s.c.o.Log.Error("reading a kept message failed", "subscription", sub.spec.Name, "seq", seq, "error", err)
			}
		}
		return true
	})
	for _, seq := range gone {
		sub.state.Drop(seq)
	}
}

// Stop tells every link that the appliance is stopping and ends the shards, after what they were told
// before. What is unacknowledged stays owed.
func (c *Courier) Stop() {
	if c.running.Load() {
		for _, s := range c.shards {
			_ = s.do(context.Background(), s.dismiss)
		}
	}
	c.cancel()
	c.done.Wait()
}

// dismiss tells the links that came after Stop had told the others.
func (s *shard) dismiss() {
	for _, sub := range s.subs {
		if sub.connected() {
			s.lose(sub, Stopping)
		}
	}
}

func (c *Courier) shardOf(owner string) *shard {
	h := fnv.New32a()
	_, _ = h.Write([]byte(owner)) // never fails
	return c.shards[int(h.Sum32()%uint32(len(c.shards)))]
}

func (c *Courier) enter(s *shard, sub *subscription) {
	c.dirMu.Lock()
	defer c.dirMu.Unlock()
	c.names[sub.spec.Name] = place{s: s, id: sub.id}
	c.byID[sub.id] = sub.spec.Name
}

func (c *Courier) leave(sub *subscription) {
	c.dirMu.Lock()
	defer c.dirMu.Unlock()
	if c.names[sub.spec.Name].id == sub.id {
		delete(c.names, sub.spec.Name)
	}
	delete(c.byID, sub.id)
	delete(c.over, sub.spec.Name)
}

func (c *Courier) find(name string) (*shard, uint64, error) {
	c.dirMu.RLock()
	defer c.dirMu.RUnlock()
	p, ok := c.names[name]
	if !ok {
		return nil, 0, noSubscription(name)
	}
	return p.s, p.id, nil
}

func noSubscription(name string) error {
	return message.Problemf(message.CodeNotFound, "there is no subscription %q", name)
}

// NameOf is the public name of a subscription's number, as far as it still exists.
func (c *Courier) NameOf(id uint64) string {
	c.dirMu.RLock()
	defer c.dirMu.RUnlock()
	if n, ok := c.byID[id]; ok {
		return n
	}
	return fmt.Sprintf("removed subscription %d", id)
}

// Matches counts the subscriptions that a message on the topic reaches.
func (c *Courier) Matches(t message.Topic) int {
	n := 0
	for _, s := range c.shards {
		n += s.matches(t)
	}
	return n
}

func (s *shard) matches(t message.Topic) int {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	var few [16]*subscription
	seen := few[:0]
	count := func(sub *subscription) {
		if !sub.spec.internal() && !slices.Contains(seen, sub) {
			seen = append(seen, sub)
		}
	}
	s.tree.Match(t, count)
	s.passing.Match(t, count)
	return len(seen)
}

// Reaches reports whether [Courier.Matches] would count any, at less cost.
func (c *Courier) Reaches(t message.Topic) bool {
	for _, s := range c.shards {
		if s.anyMatch(t) {
			return true
		}
	}
	return false
}

func (s *shard) anyMatch(t message.Topic) bool {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	counts := func(sub *subscription) bool { return !sub.spec.internal() }
	return s.tree.Any(t, counts) || s.passing.Any(t, counts)
}

// Volatile hands a message that is not stored to whoever is connected now, and returns how many
// subscriptions it matched. A session without room drops it; drops are counted.
func (c *Courier) Volatile(ctx context.Context, m *message.Message) (int, error) {
	c.count.volatile.Add(1)
	it := NewItem(m)
	n := 0
	for _, s := range c.shards {
		if k := s.matches(m.Topic); k > 0 {
			n += k
			if err := s.post(ctx, func() { s.volatile(it) }); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *shard) volatile(it *Item) {
	s.volatiles++
	hand := func(sub *subscription) {
		if sub.handed != s.volatiles {
			sub.handed = s.volatiles
			s.hand(sub, it)
		}
	}
	s.tree.Match(it.Msg.Topic, hand)
	s.passing.Match(it.Msg.Topic, hand)
}
