package appliance

import (
	"context"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// What MQTT sessions need of the core beside what every listener needs.

// PublishNoted stores a message and notes of the client's durable session in one frame: both or
// neither. done runs once, on the log's committer or before PublishNoted returns.
func (k *core) PublishNoted(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error)) {
	if err := k.admit(g, m); err != nil {
		done(message.StoredAs{}, err)
		return
	}
	if _, again := k.seen.find(m); again {
		done(message.StoredAs{}, errReplayed())
		return
	}
	k.c.PublishNoted(m, courier.SessionName(g.Principal(), client), notes, k.seen.note(m, done))
}

// Bury stores a message to a device or group that does not exist as a dead letter, and notes of the client's
// durable session, if any, with it; done as in PublishNoted.
func (k *core) Bury(g *auth.Grant, m *message.Message, client string, notes []courier.Note, done func(message.StoredAs, error)) {
	if err := k.mayPublish(g, m); err != nil {
		done(message.StoredAs{}, err)
		return
	}
	k.c.Bury(m, courier.SessionName(g.Principal(), client), notes, done)
}

// Note makes notes of the client's durable session durable; done as in PublishNoted.
func (k *core) Note(g *auth.Grant, client string, notes []courier.Note, done func(error)) {
	k.c.Note(courier.SessionName(g.Principal(), client), notes, done)
}

// SessionState returns what is kept of the client's session.
func (k *core) SessionState(ctx context.Context, g *auth.Grant, client string) (courier.SessionState, bool, error) {
	return k.c.Session(ctx, courier.SessionName(g.Principal(), client))
}

// OpenSession attaches the link to the client's session, which it makes if it is missing. An older
// link loses it.
func (k *core) OpenSession(ctx context.Context, g *auth.Grant, spec courier.SessionSpec, link courier.Link, o courier.AttachOptions) (courier.Attachment, error) {
	full := sessionSpec(g, &spec)
	link = k.sealerOf(g).link(link)
	if !spec.Durable {
		return k.c.OpenLive(ctx, full, link, o)
	}
	if err := k.c.EnsureSession(ctx, full, nil); err != nil {
		return nil, err
	}
	return k.c.Attach(ctx, full.Name, link, o)
}

func sessionSpec(g *auth.Grant, spec *courier.SessionSpec) courier.Spec {
	full := courier.Spec{
		Name: courier.SessionName(g.Principal(), spec.Client), Owner: g.Principal(), Kind: courier.Session,
		Filters: spec.Filters, Passing: spec.Passing, Expiry: spec.Expiry, Meta: spec.Meta,
	}
	if !spec.Durable {
		full.Kind = courier.Live
	}
	return full
}

// ChangeSession changes what the session subscribes; retained messages that show selects are owed
// besides. Durable on return for a durable session.
func (k *core) ChangeSession(ctx context.Context, g *auth.Grant, spec courier.SessionSpec, show []message.Filter) error {
	for _, list := range [...][]message.Filter{spec.Filters, spec.Passing} {
		for _, f := range list {
			if _, err := message.ParseFilter(string(f)); err != nil {
				return err
			}
		}
	}
	return k.c.EnsureSession(ctx, sessionSpec(g, &spec), show)
}

// KeepWill stores what the client leaves for its own end.
func (k *core) KeepWill(ctx context.Context, _ *auth.Grant, w courier.KeptWill) error {
	return k.c.KeepWill(ctx, w)
}

// EndWill stores that the will is not to be published any more.
func (k *core) EndWill(g *auth.Grant, client, token string, done func(error)) {
	k.c.EndWill(g.Principal(), client, token, done)
}

// PublishWill stores the will's message and its end in one frame, if the grant's rules still allow it.
func (k *core) PublishWill(g *auth.Grant, m *message.Message, token string, done func(message.StoredAs, error)) {
	if err := k.admit(g, m); err != nil {
		done(message.StoredAs{}, err)
		return
	}
	if _, again := k.seen.find(m); again {
		done(message.StoredAs{}, errReplayed())
		return
	}
	done = k.seen.note(m, done)
	k.c.PublishWill(m, g.Principal(), m.Client, token, done)
}

// EachWill calls fn for every kept will, with its principal as it is now. Those of principals that are
// gone end.
func (k *core) EachWill(fn func(g *auth.Grant, w courier.KeptWill)) {
	list, err := k.c.Wills()
	if err != nil { // the appliance is stopping already; the next start lists them
		return
	}
	for _, w := range list {
		if g, ok := k.Current(w.Principal); ok {
			fn(g, w)
		} else {
			k.c.EndWill(w.Principal, w.Client, w.Token, func(error) {}) // if that fails, the next start ends it
		}
	}
}

// mayAnswer reports whether the publisher of that name may publish on the topic and receive it. Devices and
// keys have their names from one space.
func (k *core) mayAnswer(from string, t message.Topic) bool {
	principals := []string{"device/" + from, "key/" + from}
	switch from {
	case "":
		principals = []string{"anonymous"}
	case ownerName:
		principals = append(principals, "owner")
	}
	for _, p := range principals {
		if g, ok := k.Current(p); ok {
			return g.MayPublish(t) && g.MayReceive(t)
		}
	}
	return false
}

// MaySubscribe checks one filter of a SUBSCRIBE.
func (k *core) MaySubscribe(g *auth.Grant, f message.Filter) error { return k.maySubscribe(g, f) }

// EndSession ends the client's session with all it owes; that there is none is not an error.
func (k *core) EndSession(ctx context.Context, g *auth.Grant, client string) error {
	err := k.c.Remove(ctx, courier.SessionName(g.Principal(), client))
	if p := message.ProblemOf(err); p != nil && p.Code == message.CodeNotFound {
		return nil
	}
	return err
}

// Retained returns the retained messages that the filter selects and the grant may receive.
func (k *core) Retained(ctx context.Context, g *auth.Grant, f message.Filter) ([]*message.Message, error) {
	if err := k.maySubscribe(g, f); err != nil {
		return nil, err
	}
	all, err := k.c.Retained(ctx, f)
	out := all[:0]
	for _, m := range all {
		if g.MayReceive(m.Topic) {
			out = append(out, m)
		}
	}
	k.sealerOf(g).messages(out)
	return out, err
}

// Shared makes the link one of those among which the group's messages are divided. Members are
// allowed the filter when they join; revoking one ends its connection.
func (k *core) Shared(ctx context.Context, g *auth.Grant, group string, f message.Filter, link courier.Link, o courier.AttachOptions) (courier.Member, error) {
	if err := k.maySubscribe(g, f); err != nil {
		return nil, err
	}
	spec := courier.Spec{
		Name: courier.SharedName(group, f), Owner: sharedOwner, Kind: courier.Shared, Filters: []message.Filter{f}, Expiry: k.policy.TTL,
	}
	return k.c.AttachShared(ctx, spec, k.sealerOf(g).link(link), o)
}

// sharedOwner owns the groups of MQTT's shared subscriptions. Its members were allowed the filter
// when they joined.
const sharedOwner = "$share"
