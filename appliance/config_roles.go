package appliance

import (
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

func (k *checker) roles(list []RoleConfig) {
	names := make(map[string]bool, len(list))
	for i := range list {
		r, key := &list[i], at("role", i)
		if err := message.CheckName("role name", r.Name); err != nil {
			k.mistake(key+".name", "%s", message.ProblemOf(err).Detail)
		} else if names[r.Name] {
			k.mistake(key+".name", "%q is taken by an earlier [[role]]; each needs its own name", r.Name)
		}
		names[r.Name] = true
		members := 0
		for _, m := range []struct {
			what  string
			names []string
		}{{"groups", r.Groups}, {"devices", r.Devices}, {"keys", r.Keys}, {"users", r.Users}} {
			members += len(m.names)
			for n, name := range m.names {
				if err := message.CheckName("name", name); err != nil {
					k.mistake(at(key+"."+m.what, n), "%s", message.ProblemOf(err).Detail)
				}
			}
		}
		if members == 0 {
			k.mistake(key, "nobody has the role; name groups, devices, keys or users")
		}
		rules := r.rules()
		k.rules(key, &rules)
	}
}

func (r *RoleConfig) rules() message.Rules {
	return message.Rules{Publish: r.Publish, DenyPublish: r.DenyPublish, Subscribe: r.Subscribe, DenySubscribe: r.DenySubscribe}
}

// roles are the configured ones.
func (a *Appliance) roles() (list []auth.Role) {
	for i := range a.cfg.Roles {
		r := &a.cfg.Roles[i]
		list = append(list, auth.Role{Name: r.Name, Groups: r.Groups, Devices: r.Devices, Keys: r.Keys, Users: r.Users, Rules: r.rules()})
	}
	return list
}
