package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/courier"
	"edgepost/appliance/delivery"
	"edgepost/appliance/message"
)

// memHome is a gateway in memory: one subscription on package delivery's state machine, as a courier's shard runs it.
type memHome struct {
	mu     sync.Mutex
	now    func() time.Time
	state  *delivery.State
	msgs   map[uint64]*message.Message
	next   uint64
	link   courier.Link
	stuck  bool
	quota  int // of the backlog
	turns  int // generation of the attachment
	acked  map[uint64]bool
	dead   map[uint64]string
	down   []*message.Message // stored
	notes  map[uint32][]byte
	full   bool // the storage takes nothing
	most   int  // in flight, ever
	unfair func(seq uint64) error
	errs   []error // broken invariants
}

func newHome() *memHome {
	return &memHome{
		now: time.Now, state: delivery.New(delivery.Policy{Window: 1 << 20, MaxAttempts: -1}), msgs: make(map[uint64]*message.Message),
		acked: make(map[uint64]bool), dead: make(map[uint64]string), notes: make(map[uint32][]byte),
	}
}

// publish owes one more message.
func (h *memHome) publish(payload string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	m := message.New(message.Topic("device/d1/out/t"), []byte(payload))
	m.Seq, m.ID = h.next, message.ID{Epoch: "aaaaaaaa", Seq: h.next}
	h.msgs[h.next] = m
	h.state.Owe(h.next, false)
	h.pumpLocked()
	return h.next
}

// pumpLocked transmits what the link takes.
func (h *memHome) pumpLocked() {
	if h.link != nil {
		defer h.link.Flush()
	}
	for h.link != nil && !h.stuck {
		c, ok := h.state.Next(h.now())
		if !ok {
			return
		}
		if !h.link.Deliver(courier.Delivery{Item: courier.NewItem(h.msgs[c.Seq]), Seq: c.Seq, Attempt: c.Attempt, Backlog: h.state.Backlog(c.Seq)}) {
			h.stuck = true
			return
		}
		h.state.Sent(c.Seq, h.now(), time.Time{})
		if c.Backlog {
			if h.quota--; h.quota <= 0 {
				h.state.Hold(true)
			}
		}
		h.most = max(h.most, h.state.InFlight())
	}
}

func (h *memHome) Attach(_ context.Context, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.link, h.stuck = link, false
	h.turns++
	h.state.Open(o.Window)
	if o.FreshFirst {
		h.state.FreshFirst(true)
	}
	h.pumpLocked()
	return &memAttachment{h, h.turns}, nil
}

type memAttachment struct {
	h    *memHome
	turn int
}

func (a *memAttachment) do(fn func()) {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	if a.turn == a.h.turns && a.h.link != nil {
		fn()
	}
}

// later runs as the shard would: after the caller has left its locks.
func (a *memAttachment) later(fn func()) {
	go a.do(func() { fn(); a.h.pumpLocked() })
}

func (a *memAttachment) Ack(seqs []uint64) {
	a.do(func() {
		for _, seq := range seqs {
			if a.h.unfair != nil {
				if err := a.h.unfair(seq); err != nil {
					a.h.errs = append(a.h.errs, err)
				}
			}
			if a.h.state.Ack(seq) > 0 {
				a.h.acked[seq] = true
			}
		}
	})
	a.later(func() {})
}

func (a *memAttachment) Nack(seq uint64, delay time.Duration, reason string, reject bool) {
	a.do(func() {
		if reject {
			if a.h.state.Flying(seq) {
				a.h.state.Drop(seq)
				a.h.dead[seq] = reason
			}
			return
		}
		a.h.state.Nack(seq, a.h.now(), delay)
		time.AfterFunc(delay+time.Millisecond, func() { a.do(a.h.pumpLocked) })
	})
	a.later(func() {})
}

func (a *memAttachment) Sent([]uint64) {}
func (a *memAttachment) Backlog(n int) {
	a.later(func() {
		a.h.quota = n
		a.h.state.Hold(n <= 0)
	})
}

func (a *memAttachment) Ready()                  { a.later(func() { a.h.stuck = false }) }
func (a *memAttachment) Select([]message.Filter) {}
func (a *memAttachment) Close(string) {
	a.do(func() {
		a.h.state.Close()
		a.h.link = nil
	})
}

func (h *memHome) Admit(m *message.Message) error {
	if m.Topic == "device/nobody/in/x" {
		return message.Problemf(message.CodeUnknownDevice, "there is no device nobody")
	}
	m.From = "bridge/b"
	return nil
}

func (h *memHome) Store(ms []*message.Message, notes []courier.Note) error {
	time.Sleep(time.Millisecond) // an fsync
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full && len(ms) > 0 {
		return message.Problemf(message.CodeStorageFull, "the disk is full")
	}
	h.down = append(h.down, ms...)
	for _, n := range notes {
		if h.notes[n.Key] = n.Value; len(n.Value) == 0 {
			delete(h.notes, n.Key)
		}
	}
	return nil
}

func (h *memHome) Notes(context.Context) (map[uint32][]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[uint32][]byte)
	for k, v := range h.notes {
		out[k] = slices.Clone(v)
	}
	return out, nil
}

func (h *memHome) Depth(context.Context) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.Depth(), nil
}

// broker is an upstream that fails at random.
type broker struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	got      []string        // payloads it has, in the order they came
	has      map[uint64]bool // by number
	poison   map[string]error
	down     bool
	calm     bool // nothing fails any more
	mute     bool // it takes what comes and answers nothing
	conns    int
	feed     []fed // what it has for the gateway, kept until acknowledged
	positive bool  // it counts: positions instead of acknowledgements
}

type fed struct {
	id   int
	body string
}

func (b *broker) chance(percent int) bool { return !b.calm && b.rnd.IntN(100) < percent }

func (b *broker) Dial(_ context.Context, e *Epoch) (Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down || b.chance(20) {
		return nil, errors.New("connection refused")
	}
	b.conns++
	c := &fakeConn{b: b, e: e, answers: make(chan func(), 1<<16)}
	e.Go(c.confirm)
	if e.Inlet != nil && !e.Probe {
		e.Go(c.feed)
	}
	return c, nil
}

// fakeConn is one connection to it.
type fakeConn struct {
	b       *broker
	e       *Epoch
	answers chan func()
}

func (c *fakeConn) Send(ctx context.Context, batch []*Outgoing) error {
	for _, o := range batch {
		c.b.mu.Lock()
		if c.b.down || c.b.chance(1) {
			c.b.mu.Unlock()
			return errors.New("broken pipe")
		}
		err := c.b.poison[string(o.Body)]
		if err == nil {
			c.b.got = append(c.b.got, string(o.Body))
			c.b.has[o.Msg.Seq] = true
		}
		swallow := c.b.chance(2) // it has it, and its confirmation is lost
		mute := c.b.mute
		wait := time.Duration(c.b.rnd.IntN(20)) * time.Millisecond
		c.b.mu.Unlock()
		if mute {
			continue
		}
		if swallow {
			c.e.Fail(errors.New("connection reset"))
			continue
		}
		go func() {
			time.Sleep(wait)
			select {
			case c.answers <- func() { o.Answer(err); o.Answer(errors.New("a second answer")) }:
			default:
			}
		}()
	}
	return nil
}

func (c *fakeConn) confirm(ctx context.Context) error {
	for {
		select {
		case fn := <-c.answers:
			fn()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// feed hands over what is not acknowledged, from the beginning, as a broker does after a reconnect; or from the
// position on.
func (c *fakeConn) feed(ctx context.Context) error {
	from := 0
	if p := c.e.Inlet.Position(7); p != nil {
		fmt.Sscan(string(p), &from)
	}
	sent := make(map[int]bool)
	for ctx.Err() == nil {
		c.b.mu.Lock()
		list := slices.Clone(c.b.feed)
		positive := c.b.positive
		c.b.mu.Unlock()
		for _, f := range list {
			if sent[f.id] || positive && f.id <= from {
				continue
			}
			sent[f.id] = true
			in := Incoming{Wire: Wire{Address: "a", Body: []byte(f.body)}, Done: func(error) error { c.acked(f.id); return nil }}
			if positive {
				in.Position = Position{Key: 7, Value: []byte(fmt.Sprint(f.id))}
				in.Done = nil
			}
			c.e.Inlet.Take(in)
		}
		c.b.mu.Lock()
		cut := c.b.chance(3)
		c.b.mu.Unlock()
		if cut {
			return errors.New("connection reset")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// acked forgets one, unless the acknowledgement is lost with a crash.
func (c *fakeConn) acked(id int) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.b.chance(10) {
		return
	}
	c.b.feed = slices.DeleteFunc(c.b.feed, func(f fed) bool { return f.id == id })
}

// fakeKind is the connector to it.
func (b *broker) kind() Kind {
	return Kind{Name: "fake", Schemes: []Scheme{{Name: "fake"}}, Up: true, Down: true, Open: func(*Config, mapping.Here) (Dialer, error) { return b, nil }}
}

func newBroker(seed uint64) *broker {
	return &broker{rnd: rand.New(rand.NewPCG(seed, 1)), has: make(map[uint64]bool), poison: make(map[string]error)}
}
