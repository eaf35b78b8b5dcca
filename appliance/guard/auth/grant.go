package auth

import "edgepost/appliance/message"

// Kind is what sort of principal a [Grant] is for.
type Kind uint8

// The kinds of principals.
const (
	Anonymous Kind = iota + 1
	Device
	Key
	Owner // who can open the control socket
	User  // a person who signed in with a password
)

func (k Kind) String() string {
	switch k {
	case Anonymous:
		return "anonymous"
	case Device:
		return "device"
	case Key:
		return "key"
	case Owner:
		return "owner"
	case User:
		return "user"
	default:
		return "unknown"
	}
}

// Grant is one authenticated principal and what it may do now. It is immutable and safe for
// concurrent use; a change of rules makes a new Grant. Make one with [NewGrant].
type Grant struct {
	Kind  Kind
	Name  string // device id, key or user name; "" for anonymous and owner
	Admin bool   // may administer; the owner always may

	rules     message.Rules
	principal string
}

// NewGrant makes a grant; rules are not copied and must not change afterwards.
func NewGrant(kind Kind, name string, admin bool, rules message.Rules) *Grant {
	g := &Grant{Kind: kind, Name: name, Admin: admin || kind == Owner, rules: rules, principal: kind.String()}
	if name != "" {
		g.principal += "/" + name
	}
	return g
}

// Principal names the grant in logs, subscriptions and audit: "device/lamp1", "key/app", "user/ann",
// "anonymous", "owner". Two principals never share it.
func (g *Grant) Principal() string { return g.principal }

// OwnsInbox reports whether the grant may bind, drain and acknowledge the device's inbox: only the
// device itself. Rules never give it, so neither does an anonymous client's "#".
func (g *Grant) OwnsInbox(device string) bool {
	return g.Kind == Device && device != "" && g.Name == device
}

// MayPublish reports whether the grant allows a publish to the topic. "$edge/" and "$SYS/" are the
// appliance's own: nobody may.
func (g *Grant) MayPublish(t message.Topic) bool {
	if t.Reserved() {
		return false
	}
	return g.Kind == Owner || g.rules.MayPublish(t)
}

// MayReceive reports whether a message on the topic may be delivered to the principal; checked at
// every delivery, so that a changed rule holds for what is already queued.
func (g *Grant) MayReceive(t message.Topic) bool {
	if g.Kind == Owner || g.Name != "" && t.Reserved() && message.ReceiptsOf(g.Name).Match(t) {
		return true
	}
	if t.Reserved() && message.AuditTopics.Match(t) { // for administrators only, whatever their rules say
		return g.Admin
	}
	return g.rules.MayReceive(t)
}

// MaySubscribe reports whether the grant allows the filter: an allowing filter covers all of it and no denying filter covers
// all of it. A deny that only overlaps is enforced at delivery.
func (g *Grant) MaySubscribe(f message.Filter) bool {
	if g.Kind == Owner || g.Name != "" && message.ReceiptsOf(g.Name).Covers(f) {
		return true
	}
	if message.AuditTopics.Covers(f) {
		return g.Admin
	}
	return g.rules.MaySubscribe(f)
}
