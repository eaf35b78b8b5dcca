package registry

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Limits, so that a record is small and a registry fits a small gateway.
const (
	MaxPrincipals = 100_000 // devices, keys and users together
	MaxGroups     = 10_000
	maxLabel      = 256     // bytes
	maxGroupsOf   = 64      // groups of one device
	maxFilters    = 64      // filters in one of the four lists
	maxFilter     = 1 << 10 // bytes of one filter in a rule
)

// UpdateDevice replaces a device's label, groups, rules and profile; its token and time of creation stay.
// Problems: unknown-device, unknown-group, bad-filter, bad-request. On a full disk it is refused unless it takes
// rights away; see [Registry.Narrows].
func (r *Registry) UpdateDevice(ctx context.Context, d Device) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findDevice(d.ID)
	if err != nil {
		return err
	}
	if err := r.checkDevice(&d); err != nil {
		return err
	}
	for _, name := range d.Groups {
		if _, err := r.findGroup(name); err != nil {
			return err
		}
	}
	rec := p.record()
	rec.label, rec.groups, rec.rules, rec.extra.profile = d.Label, d.Groups, copyRules(d.Rules), d.Profile
	rec.kind = rec.deviceKind()
	return r.commitOrRevoke(ctx, r.narrows(p, &d), &rec, Change{DeviceChanged, d.ID})
}

// Narrows reports whether an update of a device takes rights away and gives none: what [Registry.UpdateDevice] stores on a
// full disk too.
func (r *Registry) Narrows(d Device) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.device(d.ID)
	return p != nil && r.narrows(p, &d)
}

// narrows: the inbox may not grow either. A rule that allows all that a new group gets does not bring it.
func (r *Registry) narrows(p *principal, d *Device) bool {
	old := p.asDevice()
	if d.Profile != "" && d.Profile != old.Profile || slices.ContainsFunc(d.Groups, func(g string) bool { return !slices.Contains(old.Groups, g) }) {
		return false
	}
	was := auth.DeviceRules(d.ID, old.Groups, r.profiles.Rules(old.Profile, old.Rules))
	is := auth.DeviceRules(d.ID, d.Groups, r.profiles.Rules(d.Profile, d.Rules))
	return is.Within(&was) && (!was.Within(&is) || d.Profile != old.Profile || !slices.Equal(d.Groups, old.Groups))
}

// RemoveDevice removes a device. Problem: unknown-device.
func (r *Registry) RemoveDevice(ctx context.Context, id string) error {
	r.change.Lock()
	defer r.change.Unlock()
	if _, err := r.findDevice(id); err != nil {
		return err
	}
	return r.revoke(ctx, []*record{{kind: removeDevice, name: id}}, Change{DeviceRemoved, id})
}

// AddGroup makes a group. Problems: exists, bad-name, bad-request, too-many.
func (r *Registry) AddGroup(ctx context.Context, name, label string) error {
	r.change.Lock()
	defer r.change.Unlock()
	if err := message.CheckName("group name", name); err != nil {
		return err
	}
	if err := checkLabel(label); err != nil {
		return err
	}
	if r.tables.groups[name] != nil {
		return message.Problemf(message.CodeExists, "a group named %s exists already", name)
	}
	if len(r.tables.groups) >= MaxGroups {
		return message.Problemf(message.CodeTooMany, "there are %d groups; that is the most", MaxGroups)
	}
	return r.commit(ctx, []*record{{kind: putGroup, name: name, label: label}}, Change{GroupAdded, name})
}

// RemoveGroup removes a group; its members stay. Problem: unknown-group. GroupRemoved is announced
// first, then DeviceChanged for every member.
func (r *Registry) RemoveGroup(ctx context.Context, name string) error {
	r.change.Lock()
	defer r.change.Unlock()
	g, err := r.findGroup(name)
	if err != nil {
		return err
	}
	changes := []Change{{GroupRemoved, name}}
	for _, id := range g.sortedMembers() {
		changes = append(changes, Change{DeviceChanged, id})
	}
	return r.revoke(ctx, []*record{{kind: removeGroup, name: name}}, changes...)
}

// Join adds a device to a group; a member stays one. Problems: unknown-group, unknown-device, bad-request.
func (r *Registry) Join(ctx context.Context, group, device string) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findMember(group, device)
	if err != nil || slices.Contains(p.groups, group) {
		return err
	}
	if len(p.groups) >= maxGroupsOf {
		return message.Problemf(message.CodeBadRequest, "device %s is in %d groups; that is the most", device, maxGroupsOf)
	}
	rec := p.record()
	rec.groups = append(slices.Clone(p.groups), group)
	return r.commit(ctx, []*record{&rec}, Change{DeviceChanged, device})
}

// Leave takes a device out of a group; it need not be a member. Problems: unknown-group, unknown-device.
func (r *Registry) Leave(ctx context.Context, group, device string) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findMember(group, device)
	if err != nil || !slices.Contains(p.groups, group) {
		return err
	}
	rec := p.record()
	rec.groups = slices.DeleteFunc(slices.Clone(p.groups), func(s string) bool { return s == group })
	return r.revoke(ctx, []*record{&rec}, Change{DeviceChanged, device})
}

// AddKey makes a key and returns its token, which cannot be read again. Problems: exists, bad-name,
// bad-filter, bad-request, too-many.
func (r *Registry) AddKey(ctx context.Context, k Key) (token string, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	if err := message.CheckName("key name", k.Name); err != nil {
		return "", err
	}
	if err := r.checkFree(k.Name); err != nil {
		return "", err
	}
	if err := checkLabel(k.Label); err != nil {
		return "", err
	}
	if err := checkRules(&k.Rules, false); err != nil {
		return "", err
	}
	token = newToken()
	rec := &record{
		kind: putKey, name: k.Name, label: k.Label, admin: k.Admin, rules: copyRules(k.Rules),
		created: r.created(), hash: auth.HashToken(token),
	}
	if err := r.commit(ctx, []*record{rec}, Change{KeyAdded, k.Name}); err != nil {
		return "", err
	}
	return token, nil
}

// RemoveKey removes a key. Problem: not-found.
func (r *Registry) RemoveKey(ctx context.Context, name string) error {
	r.change.Lock()
	defer r.change.Unlock()
	if r.tables.key(name) == nil {
		return message.Problemf(message.CodeNotFound, "there is no key %.70q", name)
	}
	return r.revoke(ctx, []*record{{kind: removeKey, name: name}}, Change{KeyRemoved, name})
}

// SetName names the gateway. Problem: bad-name.
func (r *Registry) SetName(ctx context.Context, name string) error {
	r.change.Lock()
	defer r.change.Unlock()
	if err := message.CheckName("gateway name", name); err != nil {
		return err
	}
	rec := r.tables.gateway
	if rec.name == name {
		return nil
	}
	rec.name = name
	return r.commit(ctx, []*record{&rec}, Change{NameChanged, name})
}

// The find functions read the tables under r.change, which every writer holds.

func (r *Registry) findDevice(id string) (*principal, error) {
	if p := r.tables.device(id); p != nil {
		return p, nil
	}
	return nil, message.Problemf(message.CodeUnknownDevice, "there is no device %.70q", id)
}

func (r *Registry) findGroup(name string) (*group, error) {
	if g := r.tables.groups[name]; g != nil {
		return g, nil
	}
	return nil, message.Problemf(message.CodeUnknownGroup, "there is no group %.70q", name)
}

func (r *Registry) findMember(group, device string) (*principal, error) {
	if _, err := r.findGroup(group); err != nil {
		return nil, err
	}
	return r.findDevice(device)
}

func (r *Registry) checkFree(name string) error {
	if p := r.tables.principals[name]; p != nil {
		return message.Problemf(message.CodeExists, "a %s named %s exists already; devices, keys and users share their names", p.kind, name)
	}
	if len(r.tables.principals) >= MaxPrincipals {
		return message.Problemf(message.CodeTooMany, "there are %d devices, keys and users; that is the most", MaxPrincipals)
	}
	return nil
}

// checkDevice checks what is not the id, and sorts the groups into a copy.
func (r *Registry) checkDevice(d *Device) error {
	if err := r.profiles.Check(d.Profile); err != nil {
		return err
	}
	if err := checkLabel(d.Label); err != nil {
		return err
	}
	d.Groups = slices.Compact(slices.Sorted(slices.Values(d.Groups)))
	if len(d.Groups) > maxGroupsOf {
		return message.Problemf(message.CodeBadRequest, "the device is in %d groups; the most is %d", len(d.Groups), maxGroupsOf)
	}
	for _, g := range d.Groups {
		if err := message.CheckName("group name", g); err != nil {
			return err
		}
	}
	return checkRules(&d.Rules, true)
}

func checkLabel(s string) error {
	if len(s) > maxLabel || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return message.Problemf(message.CodeBadRequest, "the label is longer than %d bytes, not valid UTF-8 or has control characters", maxLabel)
	}
	return nil
}

func checkRules(r *message.Rules, device bool) error {
	for _, rule := range [...]struct {
		what string
		list []message.Filter
	}{{"publish", r.Publish}, {"deny_publish", r.DenyPublish}, {"subscribe", r.Subscribe}, {"deny_subscribe", r.DenySubscribe}} {
		what, list := rule.what, rule.list
		if len(list) > maxFilters {
			return message.Problemf(message.CodeBadRequest, "rules.%s has %d filters; the most is %d", what, len(list), maxFilters)
		}
		for i, f := range list {
			if len(f) > maxFilter {
				return message.Problemf(message.CodeBadFilter, "rules.%s[%d] has %d bytes; the most is %d", what, i, len(f), maxFilter)
			}
			if _, err := message.ParseFilter(string(f)); err != nil {
				return message.Problemf(message.CodeBadFilter, "rules.%s[%d]: %s", what, i, message.ProblemOf(err).Detail)
			}
			if !device && strings.Contains(string(f), auth.DevicePlaceholder) {
				return message.Problemf(message.CodeBadFilter, "rules.%s[%d] has %s, which only means something in the rules of a device",
					what, i, auth.DevicePlaceholder)
			}
		}
	}
	return nil
}

func (r *Registry) created() int64 {
	t := r.now()
	if t.IsZero() {
		return 0
	}
	return t.Truncate(time.Second).UnixNano()
}
