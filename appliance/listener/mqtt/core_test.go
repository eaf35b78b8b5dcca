package mqtt

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

const testEpoch = message.Epoch("k3f9w2xq")

// fakeCore is the appliance behind the listener: it notes every call as a line, keeps durable sessions,
// and does what the scenario says.
type fakeCore struct {
	mu       sync.Mutex
	events   []string
	links    map[string]*fakeAttachment // newest by "session CLIENT", "inbox DEVICE", "share GROUP FILTER"
	sessions map[string]*fakeSession
	wills    map[string]courier.KeptWill // by client
	retained []*message.Message
	seq      uint64
	hold     bool
	held     []func()
	refuse   string // code of the problem that everything durable ends in; "" none
	delay    time.Duration
}

type fakeSession struct {
	spec  courier.SessionSpec
	notes map[uint32][]byte
}

func newFakeCore() *fakeCore {
	return &fakeCore{links: make(map[string]*fakeAttachment), sessions: make(map[string]*fakeSession), wills: make(map[string]courier.KeptWill), seq: 100}
}

func (c *fakeCore) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteLocked(format, args...)
}

func (c *fakeCore) noteLocked(format string, args ...any) {
	c.events = append(c.events, fmt.Sprintf(format, args...))
}

func (c *fakeCore) Authenticate(_ context.Context, cr auth.Credentials) (*auth.Grant, error) {
	all := message.Rules{Publish: []message.Filter{"#"}, Subscribe: []message.Filter{"#"}}
	switch {
	case cr.Name == "" && cr.Token == "":
		return auth.NewGrant(auth.Anonymous, "", false, all), nil
	case cr.Token == "ep_app", cr.Token == "ep_app_later":
		return auth.NewGrant(auth.Key, "app", false, all), nil
	case cr.Token == "ep_lamp1" && cr.Name == "lamp1":
		return auth.NewGrant(auth.Device, "lamp1", false, all), nil
	case cr.Token == "slow":
		time.Sleep(time.Minute)
	case cr.Token == "many":
		return nil, message.Problemf(message.CodeTooMany, "too many failed attempts")
	case cr.Token == "broken":
		return nil, fmt.Errorf("read registry: input/output error")
	}
	return nil, message.Problemf(message.CodeUnauthorized, "unknown name or wrong token")
}

func (c *fakeCore) publish(how string, m *message.Message, notes []courier.Note, client string, g *auth.Grant, done func(message.StoredAs, error)) {
	var l []string
	add := func(on bool, format string, args ...any) {
		if on {
			l = append(l, fmt.Sprintf(format, args...))
		}
	}
	add(m.Volatile, "volatile")
	add(m.Retain, "retain")
	add(m.TTL != 0, "ttl=%v", m.TTL)
	add(m.Text, "text")
	add(m.ContentType != "", "ct=%s", m.ContentType)
	add(m.Response != "", "rt=%s", m.Response)
	add(len(m.Correlation) > 0, "cd=%s", m.Correlation)
	add(m.Receipt != 0, "receipt=%d", m.Receipt)
	for _, p := range m.Properties {
		add(true, "u.%s=%s", p.Key, p.Value)
	}
	if e := &m.Event; e.ID != "" {
		add(true, "event=%s,%s,%s,%s,%s,%s", e.ID, e.Source, e.Type, e.Subject, e.Time, e.DataSchema)
		add(m.Priority != message.DefaultPriority, "priority=%d", m.Priority)
		for _, x := range e.Extensions {
			add(true, "x.%s=%s", x.Key, x.Value)
		}
	}
	for _, n := range notes {
		add(true, "note=%x", n.Key)
	}
	payload := string(m.Payload)
	if len(payload) > 64 {
		payload = fmt.Sprintf("%d_bytes", len(payload))
	}
	c.note("%s", strings.TrimSpace(fmt.Sprintf("%s %s t=%s q=%d p=%s client=%s %s", how, g.Principal(), m.Topic, m.QoS, payload, m.Client, strings.Join(l, " "))))
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := func() {
		as, err := c.store(how, m)
		if s := c.sessions[g.Principal()+" "+client]; err == nil && s != nil {
			s.apply(notes)
		}
		c.mu.Unlock()
		done(as, err)
		c.mu.Lock()
	}
	if c.hold {
		c.held = append(c.held, answer)
		return
	}
	answer()
}

func (s *fakeSession) apply(notes []courier.Note) {
	for _, n := range notes {
		if len(n.Value) == 0 {
			delete(s.notes, n.Key)
		} else {
			s.notes[n.Key] = n.Value
		}
	}
}

func (c *fakeCore) PublishAsync(g *auth.Grant, m *message.Message, done func(message.StoredAs, error)) {
	c.publish("publish", m, nil, "", g, done)
}

func (c *fakeCore) PublishNoted(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error)) {
	c.publish("noted", m, notes, client, g, done)
}

func (c *fakeCore) Bury(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error)) {
	c.publish("bury", m, notes, client, g, done)
}

// store needs c.mu.
func (c *fakeCore) store(how string, m *message.Message) (message.StoredAs, error) {
	if c.refuse != "" && !m.Volatile {
		return message.StoredAs{}, message.Problemf(c.refuse, "refused by the scenario")
	}
	if strings.HasPrefix(string(m.Topic), "private/") {
		return message.StoredAs{}, message.Problemf(message.CodeForbidden, "publishing to %s is not allowed", m.Topic)
	}
	if m.Topic == "device/nobody/in/x" && how != "bury" {
		return message.StoredAs{}, message.Problemf(message.CodeUnknownDevice, "there is no device nobody")
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
	return message.StoredAs{ID: message.ID{Epoch: testEpoch, Seq: c.seq}, Seq: c.seq}, nil
}

func (c *fakeCore) Note(g *auth.Grant, client string, notes []courier.Note, done func(error)) {
	var l []string
	for _, n := range notes {
		l = append(l, fmt.Sprintf("%x=%x", n.Key, n.Value))
	}
	c.note("note %s %s", client, strings.Join(l, ","))
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := func() {
		var err error
		if c.refuse != "" {
			err = message.Problemf(c.refuse, "refused by the scenario")
		} else if s := c.sessions[g.Principal()+" "+client]; s != nil {
			s.apply(notes)
		}
		c.mu.Unlock()
		done(err)
		c.mu.Lock()
	}
	if c.hold {
		c.held = append(c.held, answer)
		return
	}
	answer()
}

// release answers what was held, the newest first if reverse.
func (c *fakeCore) release(reverse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held
	c.held, c.hold = nil, false
	for i := range held {
		if reverse {
			i = len(held) - 1 - i
		}
		held[i]()
	}
}

func (c *fakeCore) SessionState(_ context.Context, g *auth.Grant, client string) (courier.SessionState, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[g.Principal()+" "+client]
	if s == nil {
		return courier.SessionState{}, false, nil
	}
	return courier.SessionState{Meta: s.spec.Meta, Notes: maps.Clone(s.notes)}, true, nil
}

func (c *fakeCore) OpenSession(_ context.Context, g *auth.Grant, spec courier.SessionSpec, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	c.note("open %s %s durable=%v expiry=%v window=%d", g.Principal(), describe(spec), spec.Durable, spec.Expiry, o.Window)
	if c.refuse != "" {
		return nil, message.Problemf(c.refuse, "refused by the scenario")
	}
	time.Sleep(c.delay)
	if spec.Durable {
		c.keep(g, spec)
	}
	return c.attach("session "+spec.Client, link), nil
}

func describe(spec courier.SessionSpec) string {
	return fmt.Sprintf("%s owed=%v passing=%v", spec.Client, spec.Filters, spec.Passing)
}

func (c *fakeCore) keep(g *auth.Grant, spec courier.SessionSpec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := g.Principal() + " " + spec.Client
	if s := c.sessions[key]; s != nil {
		s.spec = spec
	} else {
		c.sessions[key] = &fakeSession{spec: spec, notes: make(map[uint32][]byte)}
	}
}

func (c *fakeCore) attach(name string, link courier.Link) *fakeAttachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.links[name]; old != nil && !old.closed && !strings.HasPrefix(name, "share") {
		old.link.Lost(courier.TakenOver)
		old.closed = true
	}
	a := &fakeAttachment{c: c, name: name, link: link}
	c.links[name] = a
	return a
}

func (c *fakeCore) ChangeSession(_ context.Context, g *auth.Grant, spec courier.SessionSpec, show []message.Filter) error {
	c.note("change %s expiry=%v show=%v", describe(spec), spec.Expiry, show)
	if c.refuse != "" {
		return message.Problemf(c.refuse, "refused by the scenario")
	}
	if spec.Durable {
		c.keep(g, spec)
	}
	return nil
}

func (c *fakeCore) EndSession(_ context.Context, g *auth.Grant, client string) error {
	c.note("end %s %s", g.Principal(), client)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, g.Principal()+" "+client)
	return nil
}

func (c *fakeCore) KeepWill(_ context.Context, g *auth.Grant, w courier.KeptWill) error {
	c.note("keep-will %s %s", g.Principal(), w.Client)
	if c.refuse != "" {
		return message.Problemf(c.refuse, "refused by the scenario")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wills[w.Client] = w
	return nil
}

func (c *fakeCore) endWill(client, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wills[client].Token == token {
		delete(c.wills, client)
	}
}

func (c *fakeCore) EndWill(g *auth.Grant, client, token string, done func(error)) {
	c.note("end-will %s %s", g.Principal(), client)
	c.endWill(client, token)
	done(nil)
}

func (c *fakeCore) PublishWill(g *auth.Grant, m *message.Message, token string, done func(message.StoredAs, error)) {
	c.publish("publish", m, nil, "", g, func(as message.StoredAs, err error) {
		if err == nil {
			c.endWill(m.Client, token)
		}
		done(as, err)
	})
}

func (c *fakeCore) EachWill(fn func(g *auth.Grant, w courier.KeptWill)) {
	all := message.Rules{Publish: []message.Filter{"#"}}
	for _, w := range c.wills {
		fn(auth.NewGrant(auth.Anonymous, "", false, all), w)
	}
}

func (c *fakeCore) MaySubscribe(_ *auth.Grant, f message.Filter) error {
	if strings.HasPrefix(string(f), "private/") {
		return message.Problemf(message.CodeForbidden, "subscribing to %s is not allowed", f)
	}
	return nil
}

func (c *fakeCore) Retained(_ context.Context, _ *auth.Grant, f message.Filter) ([]*message.Message, error) {
	c.note("retained %s", f)
	time.Sleep(c.delay)
	var out []*message.Message
	for _, m := range c.retained {
		if f.Match(m.Topic) {
			out = append(out, m)
		}
	}
	return out, nil
}

func (c *fakeCore) OpenInbox(_ context.Context, g *auth.Grant, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	c.note("inbox %s takes %v", g.Name, o.Select)
	return c.attach("inbox "+g.Name, link), nil
}

func (c *fakeCore) Shared(_ context.Context, _ *auth.Grant, group string, f message.Filter, link courier.Link, _ courier.AttachOptions) (courier.Member, error) {
	c.note("shared %s %s", group, f)
	if group == "closed" {
		return nil, message.Problemf(message.CodeForbidden, "not in this group")
	}
	return c.attach("share "+group+" "+string(f), link), nil
}

func (c *fakeCore) attachment(name string) *fakeAttachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[name]
}

type fakeAttachment struct {
	c      *fakeCore
	name   string
	link   courier.Link
	closed bool
}

func (a *fakeAttachment) Ack(seqs []uint64) { a.c.note("ack %s %v", a.name, seqs) }

func (a *fakeAttachment) Sent(seqs []uint64) { a.c.note("sent %s %v", a.name, seqs) }

func (a *fakeAttachment) Give(seqs []uint64, name string) {
	a.c.note("give %s %v %s", a.name, seqs, name)
}

func (a *fakeAttachment) Nack(seq uint64, delay time.Duration, reason string, reject bool) {
	a.c.note("nack %s %d delay=%v reason=%q reject=%v", a.name, seq, delay, reason, reject)
}

func (a *fakeAttachment) Select(filters []message.Filter) { a.c.note("select %s %v", a.name, filters) }

func (a *fakeAttachment) Ready() { a.c.note("ready %s", a.name) }

func (a *fakeAttachment) Close(string) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.closed = true
	a.c.noteLocked("close %s", a.name)
}

// checkSession fails unless the session's invariants hold.
func checkSession(t *testing.T, s *session) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := 0
	for _, l := range s.links {
		if l.refused {
			refused++
		}
	}
	if refused != s.refused {
		t.Errorf("counted %d refused links, have %d", s.refused, refused)
	}
	ids := map[uint16]bool{}
	for _, f := range s.flights {
		if ids[f.id] || f.id == 0 {
			t.Errorf("packet id %d is twice in flight, or 0", f.id)
		}
		ids[f.id] = true
	}
	queued := 0
	if s.out != nil {
		for _, e := range s.out.entries {
			if e.seq != 0 && e.id == 0 {
				queued++
			}
		}
	}
	if !s.writing && !s.closing && s.inflight != len(s.flights)+queued {
		t.Errorf("counted %d in flight, have %d and %d queued", s.inflight, len(s.flights), queued)
	}
	if !s.writing && !s.closing && !s.held && (s.queued != 0 || len(s.ctrl) != 0 || s.out != nil && len(s.out.entries) > 0) {
		t.Errorf("no writer, but %d bytes of messages and %d of answers are queued", s.queued, len(s.ctrl))
	}
	if s.closing && s.out != nil && len(s.out.entries) > 0 {
		t.Errorf("closing, but %d messages are queued", len(s.out.entries))
	}
}
