package auth

import (
	"edgepost/appliance/guard/jwt"
	"edgepost/appliance/message"
)

// Kind is what sort of principal a [Grant] is for.
type Kind uint8

// The kinds of principals.
const (
	Anonymous Kind = iota + 1
	Device
	Key
	Owner   // who can open the control socket
	User    // a person who signed in with a password
	Subject // of a configured issuer: who has a JSON Web Token that stands for nobody registered
	Bridge  // to an upstream, configured by an administrator
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
	case Bridge:
		return "bridge"
	case Subject:
		return "jwt"
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
	Name  string // device id, key or user name, <subject>@<issuer>; "" for anonymous and owner
	Admin bool   // may administer; the owner always may

	rules     message.Rules
	principal string

	token *jwt.Identity // what proved it; nil when that has no end
	ended bool          // token need not hold any more, see AfterEnd
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
	ok, _ := g.ExplainPublish(t)
	return ok
}

// ExplainPublish is MayPublish, and says by which rule.
func (g *Grant) ExplainPublish(t message.Topic) (ok bool, by string) {
	if t.Reserved() {
		return false, "topics that begin with $ are the appliance's own"
	}
	if g.Kind == Owner {
		return true, byOwner
	}
	if g.limited() {
		if ok, by := g.token.ACL.MayPublish(t); !ok || g.Kind == Subject {
			return ok, fromToken(by)
		}
	}
	return g.rules.ExplainPublish(t)
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
	if g.limited() {
		if ok := g.token.ACL.MayReceive(t); !ok || g.Kind == Subject {
			return ok
		}
	}
	return g.rules.MayReceive(t)
}

// MaySubscribe reports whether the grant allows the filter: an allowing filter covers all of it and no denying filter covers
// all of it. A deny that only overlaps is enforced at delivery.
func (g *Grant) MaySubscribe(f message.Filter) bool {
	ok, _ := g.ExplainSubscribe(f)
	return ok
}

// ExplainSubscribe is MaySubscribe, and says by which rule.
func (g *Grant) ExplainSubscribe(f message.Filter) (ok bool, by string) {
	if g.Kind == Owner {
		return true, byOwner
	}
	if g.Name != "" && message.ReceiptsOf(g.Name).Covers(f) {
		return true, "everybody may read the receipts of its own messages"
	}
	if message.AuditTopics.Covers(f) {
		return g.Admin, "the audit is for administrators"
	}
	if g.limited() {
		if ok, by := g.token.ACL.MaySubscribe(f); !ok || g.Kind == Subject {
			return ok, fromToken(by)
		}
	}
	return g.rules.ExplainSubscribe(f)
}

const byOwner = "the owner may do everything"

// limited reports whether the token's own rules have a say: always for a subject, and for a device
// or key when the token has some; they narrow then what the register allows.
func (g *Grant) limited() bool {
	return g.token != nil && (g.Kind == Subject || g.token.ACL != nil)
}

func fromToken(by string) string {
	if by == "" {
		return message.NoRule
	}
	return "the token's acl: " + by
}
