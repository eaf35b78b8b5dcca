package auth

import (
	"slices"

	"edgepost/appliance/message"
)

// Role is a set of rules that many have beside their own: the devices of its groups, and who it names. Rules add up, and what one of
// them denies is denied. "${device}" stands for a device's id.
type Role struct {
	Name                         string
	Groups, Devices, Keys, Users []string
	Rules                        message.Rules
}

// has reports whether an entry has the role.
func (r *Role) has(e *Entry) bool {
	switch e.Kind {
	case Device:
		return slices.Contains(r.Devices, e.Name) || slices.ContainsFunc(e.Groups, func(g string) bool { return slices.Contains(r.Groups, g) })
	case Key:
		return slices.Contains(r.Keys, e.Name)
	case User:
		return slices.Contains(r.Users, e.Name)
	default:
		return false
	}
}

// withRoles returns an entry's rules together with those of its roles. Of whom "${device}" means nothing a rule with it
// allows nothing.
func (a *Authenticator) withRoles(e *Entry) message.Rules {
	rules := e.Rules
	for i := range a.roles {
		if r := &a.roles[i]; r.has(e) {
			rules.Publish = slices.Concat(rules.Publish, r.Rules.Publish)
			rules.DenyPublish = slices.Concat(rules.DenyPublish, r.Rules.DenyPublish)
			rules.Subscribe = slices.Concat(rules.Subscribe, r.Rules.Subscribe)
			rules.DenySubscribe = slices.Concat(rules.DenySubscribe, r.Rules.DenySubscribe)
		}
	}
	return rules
}
