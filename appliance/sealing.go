package appliance

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// What the gateway does for a device whose payloads it seals: whatever is handed to the device is sealed with the
// device's key on its way out, whatever the device publishes is opened before it is stored. The log has the plain payload.
// What others sealed is carried as it is.

// SetSeal says how the device's payloads are sealed. The zero key keeps the device's, or makes one; fresh makes one
// in any case. show is a key that was made, which is shown this once; connections of the device end, so that
// none goes on in the old way.
func (k *core) SetSeal(ctx context.Context, g *auth.Grant, id string, form seal.Form, key seal.Key, fresh bool) (keyID string, show []byte, err error) {
	defer func() { k.audited(ctx, g, "device.seal", id, err) }()
	if err := admin(g); err != nil {
		return "", nil, err
	}
	if fresh {
		key = seal.NewKey()
	}
	now, made, err := k.reg.SetSeal(ctx, id, form, key)
	if err != nil {
		return "", nil, err
	}
	k.kick("device/" + id)
	if form == seal.None {
		return "", nil, nil
	}
	if made || fresh {
		show = now.JWK()
	}
	return now.ID(), show, nil
}

// sealer seals what goes to one device.
type sealer struct {
	form seal.Form
	box  *seal.Box
}

// sealer is nil for a device whose payloads are not sealed, and for everybody else.
func (k *core) sealer(device string) *sealer {
	form, key := k.reg.Seal(device)
	if form == seal.None {
		return nil
	}
	return &sealer{form, seal.NewBox(key)}
}

// sealerOf is the sealer of whoever has the grant.
func (k *core) sealerOf(g *auth.Grant) *sealer {
	if g.Kind != auth.Device {
		return nil
	}
	return k.sealer(g.Name)
}

// message returns the message as the device gets it; what a publisher sealed with the device's key already, as it is.
func (s *sealer) message(m *message.Message) *message.Message {
	if id, ok := seal.FormOf(m.ContentType).KeyID(m.Payload); ok && id == s.box.KeyID() {
		return m
	}
	out := *m
	out.Payload = s.box.Seal(s.form, string(m.Topic), seal.Content{Payload: m.Payload, Type: m.ContentType})
	out.ContentType, out.Text = s.form.ContentType(), s.form == seal.JWE
	return &out
}

// messages seals all of them in place; a nil sealer does nothing.
func (s *sealer) messages(list []*message.Message) {
	if s == nil {
		return
	}
	for i, m := range list {
		list[i] = s.message(m)
	}
}

// link returns the link as the courier is to see it; a nil sealer adds nothing.
func (s *sealer) link(l courier.Link) courier.Link {
	if s == nil {
		return l
	}
	return &sealedLink{l, s}
}

// sealedLink seals every transmission under a nonce of its own. Its items are shared with nobody.
type sealedLink struct {
	courier.Link
	s *sealer
}

// Deliver implements [courier.Link].
func (l *sealedLink) Deliver(d courier.Delivery) bool {
	d.Item = courier.NewItem(l.s.message(d.Msg))
	return l.Link.Deliver(d)
}

// sealKey begins the idempotency keys of what a device sealed: no publisher can choose such a one, see
// [message.Message.Check].
const sealKey = "\x01seal "

// unseal opens what the device sealed. A device whose payloads are sealed publishes nothing else: its token crosses
// the LAN in the clear, and without its key that is not enough. What it sealed with a key of others is for them. The nonce
// takes the place of an idempotency key, so that what is sent again is stored once.
func (k *core) unseal(g *auth.Grant, m *message.Message) error {
	if g.Kind != auth.Device {
		return nil
	}
	want, key := k.reg.Seal(g.Name)
	if want == seal.None {
		return nil
	}
	form := seal.FormOf(m.ContentType)
	if m.ContentType == "" { // MQTT 3.1.1 has none
		if _, looks := want.KeyID(m.Payload); looks {
			form = want
		}
	}
	id, sealed := form.KeyID(m.Payload)
	switch {
	case form == seal.None:
		return message.Problemf(message.CodeNotSealed, "device %s publishes sealed payloads only, with Content-Type %s; this one is plain", g.Name, want.ContentType())
	case m.ContentType != "" && sealed && id != key.ID():
		return nil
	}
	c, err := seal.NewBox(key).Open(form, string(m.Topic), m.Payload)
	if err != nil {
		return message.Problemf(message.CodeNotOpened, "the sealed payload of device %s does not open: %s", g.Name, err)
	}
	m.Payload, m.ContentType, m.Text = c.Payload, c.Type, false
	if err := m.Check(); err != nil { // of the content type that came out
		return err
	}
	m.Key = sealKey + key.ID() + " " + hex.EncodeToString(c.Nonce[:])
	return nil
}

// maxReplays is how many sealed messages are remembered, in 300 bytes each.
const maxReplays = 2048

// replays are the newest messages that devices sealed, by their key. It is filled only by who has a device's key.
type replays struct {
	mu    sync.Mutex
	by    map[string]message.StoredAs
	order []string // a ring once it is full
	next  int
}

// find returns the answer that the message got when it came first.
func (r *replays) find(m *message.Message) (message.StoredAs, bool) {
	if !strings.HasPrefix(m.Key, sealKey) {
		return message.StoredAs{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	as, ok := r.by[m.From+m.Key]
	as.Replayed = true
	return as, ok
}

// note has the message remembered once it is stored; what was refused may come again.
func (r *replays) note(m *message.Message, done func(message.StoredAs, error)) func(message.StoredAs, error) {
	if !strings.HasPrefix(m.Key, sealKey) {
		return done
	}
	name := m.From + m.Key
	return func(as message.StoredAs, err error) {
		if err == nil {
			r.add(name, as)
		}
		done(as, err)
	}
}

func (r *replays) add(name string, as message.StoredAs) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.by[name]; ok {
		return
	}
	if r.by == nil {
		r.by = make(map[string]message.StoredAs)
	}
	if len(r.order) < maxReplays {
		r.order = append(r.order, name)
	} else {
		delete(r.by, r.order[r.next])
		r.order[r.next] = name
		r.next = (r.next + 1) % maxReplays
	}
	r.by[name] = as
}

// errReplayed answers where the first answer cannot be given again.
func errReplayed() error {
	return message.Problemf(message.CodeReplayed, "this sealed message came before and was taken then; a new one needs a new nonce")
}
