package ws

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

const testEpoch = message.Epoch("k3f9w2xq")

// fakeCore is the appliance behind the listener: it notes every call as a line and does what the
// scenario says.
type fakeCore struct {
	mu     sync.Mutex
	events []string
	links  map[int]*fakeAttachment // by the order of attaching; 0 is the newest inbox
	count  int
	seq    uint64
	hold   bool     // publishes wait for release
	held   []func() // in order
	early  *message.Message
	delay  time.Duration // of OpenInbox and Subscribe
}

func newFakeCore() *fakeCore {
	return &fakeCore{links: make(map[int]*fakeAttachment), seq: 4712}
}

func (c *fakeCore) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf(format, args...))
}

func (c *fakeCore) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.events
	c.events = nil
	return e
}

func (c *fakeCore) Authenticate(ctx context.Context, cr auth.Credentials) (*auth.Grant, error) {
	g, ok := auth.GrantFrom(ctx)
	switch {
	case cr.Ticket == "tick" || cr.Token == "ep_app" || cr.Token == "ep_app2":
		return auth.NewGrant(auth.Key, "app", false, message.Rules{}), nil
	case cr.Token == "ep_lamp1" && (cr.Name == "" || cr.Name == "lamp1"):
		return auth.NewGrant(auth.Device, "lamp1", false, message.Rules{}), nil
	case cr.Token == "broken":
		return nil, fmt.Errorf("read registry: input/output error")
	case cr.Token == "" && cr.Name == "" && cr.Ticket == "" && ok:
		return g, nil
	}
	return nil, message.Problemf(message.CodeUnauthorized, "unknown name or wrong token")
}

func (c *fakeCore) PublishAsync(g *auth.Grant, m *message.Message, done func(message.StoredAs, error)) {
	c.note("publish %s %s %q ct=%q key=%q ttl=%v delay=%v prio=%d retain=%v volatile=%v receipt=%d props=%v",
		g.Principal(), m.Topic, m.Payload, m.ContentType, m.Key, m.TTL, m.Delay, m.Priority, m.Retain, m.Volatile, m.Receipt, m.Properties)
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := func() { done(c.store(m)) }
	if c.hold {
		c.held = append(c.held, answer)
		return
	}
	answer()
}

// store needs c.mu.
func (c *fakeCore) store(m *message.Message) (message.StoredAs, error) {
	if strings.HasPrefix(string(m.Topic), "private/") {
		return message.StoredAs{}, message.Problemf(message.CodeForbidden, "publishing to %s is not allowed", m.Topic)
	}
	if m.Topic == "broken" {
		return message.StoredAs{}, fmt.Errorf("nil pointer somewhere")
	}
	if err := m.Check(); err != nil {
		return message.StoredAs{}, err
	}
	if m.Volatile {
		return message.StoredAs{Volatile: true}, nil
	}
	c.seq++
	return message.StoredAs{ID: message.ID{Epoch: testEpoch, Seq: c.seq}, Seq: c.seq, Replayed: m.Key == "again"}, nil
}

func (c *fakeCore) release(reverse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reverse {
		for _, v := range slices.Backward(c.held) {
			v()
		}
	} else {
		for _, f := range c.held {
			f()
		}
	}
	c.held, c.hold = nil, false
}

func (c *fakeCore) OpenInbox(_ context.Context, g *auth.Grant, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	c.note("open %s window=%d", g.Name, o.Window)
	time.Sleep(c.delay)
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.links[0]; old != nil && !old.closed {
		old.link.Lost(courier.TakenOver)
	}
	a := &fakeAttachment{c: c, n: 0, link: link}
	c.links[0] = a
	if c.early != nil {
		a.refusedEarly = !hand(link, courier.Delivery{Item: courier.NewItem(c.early), Seq: c.early.Seq, Attempt: 1})
	}
	return a, nil
}

func (c *fakeCore) Subscribe(_ context.Context, g *auth.Grant, r courier.Request, link courier.Link, _ courier.AttachOptions) (courier.Attachment, bool, error) {
	after := "start"
	if !r.After.IsZero() {
		after = r.After.String()
	}
	c.note("subscribe %s %s after=%s name=%q", g.Principal(), r.Filter, after, r.Name)
	if strings.HasPrefix(string(r.Filter), "private/") {
		return nil, false, message.Problemf(message.CodeForbidden, "subscribing to %s is not allowed", r.Filter)
	}
	time.Sleep(c.delay)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	a := &fakeAttachment{c: c, n: c.count, link: link}
	c.links[c.count] = a
	return a, r.After.Seq == 1, nil
}

func (c *fakeCore) Unsubscribe(_ context.Context, g *auth.Grant, name string) error {
	c.note("unsubscribe %s %s", g.Principal(), name)
	if name == "nobody" {
		return message.Problemf(message.CodeNotFound, "there is no subscription %s", name)
	}
	return nil
}

func (c *fakeCore) deliver(sub int, m *message.Message, attempt int, expires time.Duration) bool {
	c.mu.Lock()
	a := c.links[sub]
	c.mu.Unlock()
	return hand(a.link, courier.Delivery{Item: courier.NewItem(m), Seq: m.Seq, Attempt: attempt, ExpiresIn: expires})
}

func (c *fakeCore) attachment(sub int) *fakeAttachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[sub]
}

type fakeAttachment struct {
	c            *fakeCore
	n            int
	link         courier.Link
	closed       bool
	refusedEarly bool
}

func (a *fakeAttachment) Ack(seqs []uint64) { a.c.note("ack %d %v", a.n, seqs) }

func (a *fakeAttachment) Nack(seq uint64, delay time.Duration, reason string, reject bool) {
	a.c.note("nack %d %d delay=%v reason=%q reject=%v", a.n, seq, delay, reason, reject)
}

func (a *fakeAttachment) Ready() {
	a.c.note("ready %d", a.n)
	a.c.mu.Lock()
	m := a.c.early
	again := a.refusedEarly && m != nil
	a.refusedEarly = false
	a.c.mu.Unlock()
	if again {
		hand(a.link, courier.Delivery{Item: courier.NewItem(m), Seq: m.Seq, Attempt: 1})
	}
}

func (a *fakeAttachment) Close(string) {
	a.c.note("close %d", a.n)
	a.c.mu.Lock()
	a.closed = true
	a.c.mu.Unlock()
}

// checkSession fails unless the session's invariants hold.
func checkSession(t *testing.T, s *session) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	unacked, refused := 0, 0
	for _, l := range s.links {
		unacked += l.window.Len()
		if l.refused {
			refused++
		}
	}
	if unacked != s.unacked || refused != s.refused {
		t.Errorf("counted %d unacknowledged and %d refused links, have %d and %d", s.unacked, s.refused, unacked, refused)
	}
	if !s.writing && !s.closing && (s.queued != 0 || s.replies != 0 || s.out != nil) {
		t.Errorf("no writer, but %d bytes of messages and %d of answers are queued", s.queued, s.replies)
	}
	if s.unacked > s.h.o.MaxInflight {
		t.Errorf("%d unacknowledged, the limit is %d", s.unacked, s.h.o.MaxInflight)
	}
}

func testMessage(seq uint64, topic message.Topic, payload, ct string) *message.Message {
	m := message.New(topic, []byte(payload))
	m.ContentType = ct
	m.Seq = seq
	if seq != 0 {
		m.ID = message.ID{Epoch: testEpoch, Seq: seq}
	}
	m.From = "app"
	return m
}

func (a *fakeAttachment) Select([]message.Filter) {}

func (a *fakeAttachment) Sent([]uint64) {}

// hand delivers one message, as a turn of the shard with nothing more does.
func hand(l courier.Link, d courier.Delivery) bool {
	taken := l.Deliver(d)
	l.Flush()
	return taken
}
