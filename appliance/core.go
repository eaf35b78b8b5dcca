package appliance

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/account"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/guard/door"
	"edgepost/appliance/guard/keyring"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/message"
	"edgepost/appliance/outbox"
	"edgepost/appliance/registry"
	"edgepost/appliance/system/job"
	"edgepost/appliance/system/logring"
	"edgepost/appliance/system/pulse"
)

// core is what listeners talk to, whatever they speak: it checks what the grant allows, and calls
// the outbox, the courier or the registry. Errors that a client can act on are a [message.Problem].
// Safe for concurrent use.
type core struct {
	*auth.Authenticator
	ob   *outbox.Outbox
	c    *courier.Courier
	reg  *registry.Registry
	ring *keyring.Ring // nil: nothing is encrypted
	following
	auditor
	desk    *account.Desk // lets people in
	door    *door.Door    // unknown devices wait there
	seen    replays       // of what devices sealed
	log     *slog.Logger
	wall    func() time.Time // zero while the clock is not trusted
	bridges *bridges

	acks        pulse.Histogram // how long publishes take
	pulse       *pulse.Recorder
	connections func() int    // open now, all protocols
	issuer      *oauth.Server // nil: no access tokens are issued
	wrongCodes  atomic.Int64  // user codes that no device had
	recheck     chan struct{} // holds one signal: look at once whose token has ended
	jobs        job.Runner
	settings    func() []httpapi.Setting
	describe    func(t *pulse.Tick)
	data        string        // the data directory
	configText  string        // of the configuration's file
	kept        *logring.Ring // the last lines of the log
	issuers     []httpapi.Issuer
	fixedName   bool // by the configuration

	certs  *cert.Keeper           // nil: TLS is not served
	kick   func(principal string) // ends the principal's connections
	status func(st *courier.Status)
	extra  func(w io.Writer) // further metrics
	policy courier.Spec      // of inboxes: TTL and attempts
	batch  int64             // most payload bytes of one message
}

// ownerName is who a message is from that came through the control socket.
const ownerName = "owner"

// MayReceive is asked for every delivery: what may the principal receive at the moment?
func (k *core) MayReceive(principal string, t message.Topic) bool {
	if principal == sharedOwner || strings.HasPrefix(principal, bridgePrefix) { // an administrator chose the filters
		return true
	}
	g, ok := k.Current(principal)
	return ok && g.MayReceive(t)
}

// admit checks a message against the grant and the register, and says who it is from.
func (k *core) admit(g *auth.Grant, m *message.Message) error {
	if err := k.mayPublish(g, m); err != nil {
		return err
	}
	return k.addressee(m)
}

// mayPublish checks a message against the grant alone, and says who it is from.
func (k *core) mayPublish(g *auth.Grant, m *message.Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	if int64(len(m.Payload)) > k.batch {
		return message.Problemf(message.CodeTooLarge, "the payload has %d bytes; [limits] max_message is %d", len(m.Payload), k.batch)
	}
	g, err := k.Now(g)
	if err != nil {
		return err
	}
	if !g.MayPublish(m.Topic) {
		return message.Problemf(message.CodeForbidden, "%s may not publish to %.200q", g.Principal(), string(m.Topic))
	}
	if err := k.unseal(g, m); err != nil {
		return err
	}
	if m.Retain && k.reserved(m.Topic) {
		return message.Problemf(message.CodeBadRequest, "a message to a device's inbox cannot be retained; it waits there anyway")
	}
	m.From = g.Name
	if g.Kind == auth.Owner {
		m.From = ownerName
	}
	return nil
}

// addressee checks that whoever the topic names is there and has room.
func (k *core) addressee(m *message.Message) error {
	if k.behind.Load() && k.reserved(m.Topic) {
		if err := k.Health(); err != nil {
			return err
		}
		return message.Problemf(message.CodeUnavailable, "devices or groups were changed while the storage took no writes; what is addressed to them is taken again when their subscriptions have followed, in a moment")
	}
	if device, ok := m.Topic.Device(); ok {
		if !k.reg.HasDevice(device) {
			return message.Problemf(message.CodeUnknownDevice, "there is no device %.64q; add it with: edgepost device add %.64s", device, device)
		}
		if k.c.Over(courier.DeviceInbox(device)) {
			return message.Problemf(message.CodeQuota, "the inbox of device %q holds its whole share of the log; it must take messages first, or they must be cancelled", device)
		}
	}
	if group, ok := m.Topic.Group(); ok && !k.reg.HasGroup(group) {
		return message.Problemf(message.CodeUnknownGroup, "there is no group %.64q; add it with: edgepost group add %.64s", group, group)
	}
	return nil
}

func (k *core) reserved(t message.Topic) bool {
	_, device := t.Device()
	_, group := t.Group()
	return device || group
}

// Publish stores the message, or hands it to whoever is connected if it is volatile. It returns
// after the fsync.
func (k *core) Publish(ctx context.Context, g *auth.Grant, m *message.Message) (message.StoredAs, error) {
	type answer struct {
		as  message.StoredAs
		err error
	}
	topic := m.Topic
	done := make(chan answer, 1)
	k.PublishAsync(g, m, func(as message.StoredAs, err error) { done <- answer{as, err} })
	select {
	case a := <-done:
		if a.err == nil && !a.as.Volatile {
			a.as.Subscriptions = k.c.Matches(topic)
		}
		return a.as, a.err
	case <-ctx.Done():
		return message.StoredAs{}, message.Problemf(message.CodeTimeout, "the message was not stored in time; it may still be: repeat it with the same Idempotency-Key")
	}
}

// PublishAsync is Publish without waiting: done runs once, on the log's committer or before
// PublishAsync returns, and must not block.
func (k *core) PublishAsync(g *auth.Grant, m *message.Message, done func(message.StoredAs, error)) {
	if err := k.admit(g, m); err != nil {
		done(message.StoredAs{}, err)
		return
	}
	if as, again := k.seen.find(m); again {
		done(as, nil)
		return
	}
	done = k.seen.note(m, done)
	if !m.Volatile {
		k.ob.Publish(m, done)
		return
	}
	n, err := k.c.Volatile(context.Background(), m)
	done(message.StoredAs{Volatile: true, Subscriptions: n}, err)
}

// PublishAll stores all messages in one frame, or none; a refused one is named by a
// [courier.BatchError].
func (k *core) PublishAll(ctx context.Context, g *auth.Grant, ms []*message.Message) ([]message.StoredAs, error) {
	for i, m := range ms {
		err := k.admit(g, m)
		if err == nil && m.Volatile {
			err = message.Problemf(message.CodeBadRequest, "a batch is stored as a whole; publish volatile messages one by one")
		}
		if _, again := k.seen.find(m); again && err == nil {
			err = errReplayed()
		}
		if err != nil {
			return nil, &courier.BatchError{Index: i, Err: err}
		}
	}
	as, err := k.ob.PublishAll(ctx, ms)
	for i := range as {
		k.seen.note(ms[i], func(message.StoredAs, error) {})(as[i], err)
		as[i].Subscriptions = k.c.Matches(ms[i].Topic)
	}
	return as, err
}

// readable reports whether the grant may know about the message: its publisher, who may receive it,
// and administrators.
func readable(g *auth.Grant, m *message.Message) error {
	if g.Admin || g.Name != "" && m.From == g.Name || g.MayReceive(m.Topic) {
		return nil
	}
	return message.Problemf(message.CodeForbidden, "%s may not see messages on %.200q", g.Principal(), string(m.Topic))
}

// Trace tells where a message is.
func (k *core) Trace(ctx context.Context, g *auth.Grant, id message.ID) (*message.Trace, error) {
	t, err := k.c.Trace(ctx, id)
	if err != nil {
		return nil, err
	}
	if s := k.sealerOf(g); s != nil {
		t.Message = s.message(t.Message)
	}
	return t, readable(g, t.Message)
}

// Await returns the states reached once all are final or ctx is done.
func (k *core) Await(ctx context.Context, g *auth.Grant, id message.ID) ([]message.Receipt, error) {
	if _, err := k.Trace(ctx, g, id); err != nil {
		return nil, err
	}
	return k.c.Await(ctx, id)
}

// Cancel withdraws a message; its publisher and administrators may.
func (k *core) Cancel(ctx context.Context, g *auth.Grant, id message.ID) (int, error) {
	t, err := k.c.Trace(ctx, id)
	if err != nil {
		return 0, err
	}
	if t.Message.Topic == message.AuditTopic {
		return 0, message.Problemf(message.CodeForbidden, "the audit history cannot be changed")
	}
	if !g.Admin && (g.Name == "" || t.Message.From != g.Name) {
		return 0, message.Problemf(message.CodeForbidden, "only its publisher or an administrator may cancel message %s", id)
	}
	return k.c.Cancel(ctx, id)
}

// History reads kept messages; what the grant may not receive is left out.
func (k *core) History(ctx context.Context, g *auth.Grant, q courier.Query) (courier.Page, error) {
	if err := k.maySubscribe(g, q.Filter); err != nil {
		return courier.Page{}, err
	}
	page, err := k.c.History(ctx, q, g.MayReceive)
	k.sealerOf(g).messages(page.Messages)
	return page, err
}

func (k *core) maySubscribe(g *auth.Grant, f message.Filter) error {
	if _, err := message.ParseFilter(string(f)); err != nil {
		return err
	}
	g, err := k.Now(g)
	if err != nil {
		return err
	}
	if !g.MaySubscribe(f) {
		return message.Problemf(message.CodeForbidden, "%s may not subscribe %.200q", g.Principal(), string(f))
	}
	return nil
}

// OpenInbox gives the link the device's inbox.
func (k *core) OpenInbox(ctx context.Context, g *auth.Grant, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	if g.Kind != auth.Device {
		return nil, message.Problemf(message.CodeForbidden, "only a device has an inbox; %s is none", g.Principal())
	}
	return k.c.Attach(ctx, courier.DeviceInbox(g.Name), k.sealerOf(g).link(link), o)
}

// Subscribe gives the link a subscription. A device that asks for a part of its own inbox gets the
// inbox (DESIGN §6): the newest link wins, and there is no second copy.
func (k *core) Subscribe(ctx context.Context, g *auth.Grant, r courier.Request, link courier.Link, o courier.AttachOptions) (courier.Attachment, bool, error) {
	if err := k.maySubscribe(g, r.Filter); err != nil {
		return nil, false, err
	}
	link = k.sealerOf(g).link(link)
	if r.Name != "" {
		if err := message.CheckName("subscription name", r.Name); err != nil {
			return nil, false, err
		}
	} else if k.inInbox(g, r.Filter) {
		a, err := k.c.Attach(ctx, courier.DeviceInbox(g.Name), link, o)
		return a, false, err
	}
	return k.c.Subscribe(ctx, g.Principal(), r, link, o)
}

// Unsubscribe ends the principal's durable subscription.
func (k *core) Unsubscribe(ctx context.Context, g *auth.Grant, name string) error {
	return k.c.Remove(ctx, courier.NamedAs(g.Principal(), name))
}

// PutSubscription makes or changes the principal's durable subscription.
func (k *core) PutSubscription(ctx context.Context, g *auth.Grant, name string, spec courier.NamedSpec) (courier.Info, bool, error) {
	if err := message.CheckName("subscription name", name); err != nil {
		return courier.Info{}, false, err
	}
	if len(spec.Filters) == 0 {
		return courier.Info{}, false, message.Problemf(message.CodeBadFilter, "the subscription needs at least one filter")
	}
	for _, f := range spec.Filters {
		if err := k.maySubscribe(g, f); err != nil {
			return courier.Info{}, false, err
		}
	}
	info, created, err := k.c.PutNamed(ctx, g.Principal(), name, spec)
	return own(g, info), created, err
}

// own shows a principal its subscription under the name it gave it.
func own(g *auth.Grant, info courier.Info) courier.Info {
	info.Name = strings.TrimPrefix(info.Name, g.Principal()+"/")
	return info
}

// Subscriptions lists the principal's durable subscriptions.
func (k *core) Subscriptions(_ context.Context, g *auth.Grant) ([]courier.Info, error) {
	list := k.c.List(g.Principal() + "/")
	out := list[:0]
	for _, info := range list {
		if info.Durable {
			out = append(out, own(g, info))
		}
	}
	return out, nil
}

// Subscription describes one of them.
func (k *core) Subscription(ctx context.Context, g *auth.Grant, name string) (courier.Info, error) {
	info, err := k.c.Info(ctx, courier.NamedAs(g.Principal(), name))
	return own(g, info), err
}

// DeleteSubscription ends one of them with all it owes.
func (k *core) DeleteSubscription(ctx context.Context, g *auth.Grant, name string) error {
	return k.Unsubscribe(ctx, g, name)
}

// Rewind has one of them owe again what is kept behind after.
func (k *core) Rewind(ctx context.Context, g *auth.Grant, name string, after message.ID) (bool, error) {
	return k.c.Rewind(ctx, courier.NamedAs(g.Principal(), name), after)
}

// read resolves what a reader over HTTP means, and checks that it is the reader's own.
func (k *core) read(g *auth.Grant, ref courier.Ref) (string, error) {
	switch {
	case ref.Device == "":
		return courier.NamedAs(g.Principal(), ref.Name), nil
	case g.OwnsInbox(ref.Device) || g.Kind == auth.Owner:
		if !k.reg.HasDevice(ref.Device) {
			return "", message.Problemf(message.CodeUnknownDevice, "there is no device %.64q", ref.Device)
		}
		return courier.DeviceInbox(ref.Device), nil
	default:
		return "", message.Problemf(message.CodeForbidden, "the inbox of device %.64q is read with that device's token", ref.Device)
	}
}

// Fetch leases messages of an inbox or a named subscription.
func (k *core) Fetch(ctx context.Context, g *auth.Grant, ref courier.Ref, most int, wait time.Duration) ([]courier.Delivery, error) {
	name, err := k.read(g, ref)
	if err != nil {
		return nil, err
	}
	list, err := k.c.Fetch(ctx, name, most, min(wait, k.Left(g)))
	s := k.sealerOf(g)
	if ref.Device != "" {
		s = k.sealer(ref.Device) // whoever reads it
	}
	for i := range list {
		if s != nil {
			list[i].Item = courier.NewItem(s.message(list[i].Msg))
		}
	}
	return list, err
}

// Acknowledge settles what was fetched.
func (k *core) Acknowledge(ctx context.Context, g *auth.Grant, ref courier.Ref, a courier.Acks) (courier.AckResult, error) {
	name, err := k.read(g, ref)
	if err != nil {
		return courier.AckResult{}, err
	}
	return k.c.Acknowledge(ctx, name, a)
}
