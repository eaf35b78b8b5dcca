package appliance

import (
	"context"
	"io"
	"strings"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

func admin(g *auth.Grant) error {
	if g.Admin {
		return nil
	}
	return message.Problemf(message.CodeForbidden, "%s may not administer; use an -admin key or the control socket", g.Principal())
}

// taken refuses the names that say in messages and receipts that nobody registered sent them.
func taken(name string) error {
	if name == ownerName || name == "anonymous" {
		return message.Problemf(message.CodeBadName, "the name %q is the appliance's own; choose another", name)
	}
	return nil
}

// Device describes a registered device and its inbox; the device may see itself.
func (k *core) Device(ctx context.Context, g *auth.Grant, id string) (registry.Device, courier.Info, error) {
	if err := admin(g); err != nil && !g.OwnsInbox(id) {
		return registry.Device{}, courier.Info{}, err
	}
	d, ok := k.reg.Device(id)
	if !ok {
		return d, courier.Info{}, message.Problemf(message.CodeUnknownDevice, "there is no device %.64q", id)
	}
	info, err := k.c.Info(ctx, courier.DeviceInbox(id))
	return d, info, err
}

// AddDevice registers a device and makes its inbox. Like all changes that an inbox follows it is refused while
// the log takes no writes.
func (k *core) AddDevice(ctx context.Context, g *auth.Grant, d registry.Device) (token string, err error) {
	defer func() { k.audited(ctx, g, "device.add", d.ID, err) }()
	if err := admin(g); err != nil {
		return "", err
	}
	if err := taken(d.ID); err != nil {
		return "", err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.Health(); err != nil {
		return "", err // the subscription could not follow
	}
	if k.behind.Load() { // a device of that name may have been removed, and its inbox not yet
		return "", message.Problemf(message.CodeUnavailable, "devices or groups were changed while the storage took no writes; devices can be added again when the subscriptions have followed, in a moment")
	}
	token, err = k.reg.AddDevice(ctx, d)
	if err != nil {
		return "", err
	}
	return token, k.follow(ctx, d.ID)
}

// UpdateDevice changes label, groups and rules. One that only takes rights away is not refused while the log takes no
// writes: the rights end, and the inbox follows later.
func (k *core) UpdateDevice(ctx context.Context, g *auth.Grant, d registry.Device) (err error) {
	defer func() { k.audited(ctx, g, "device.update", d.ID, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	narrows := k.reg.Narrows(d)
	if err := k.Health(); err != nil && !narrows {
		return err // the subscription could not follow
	}
	if err := k.reg.UpdateDevice(ctx, d); err != nil {
		return err
	}
	err = k.follow(ctx, d.ID)
	if narrows {
		return k.later(err)
	}
	return err
}

// RemoveDevice ends the device, its subscriptions and its connections.
func (k *core) RemoveDevice(ctx context.Context, g *auth.Grant, id string) (err error) {
	defer func() { k.audited(ctx, g, "device.remove", id, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.reg.RemoveDevice(ctx, id); err != nil {
		return err
	}
	err = k.later(k.c.Remove(ctx, courier.DeviceInbox(id)))
	if k.behind.Load() {
		k.gone.Store(courier.DeviceInbox(id), true)
	}
	k.end(ctx, "device/"+id)
	k.forget(id)
	return err
}

// end ends what a removed principal leaves behind.
func (k *core) end(ctx context.Context, principal string) {
	k.kick(principal)
	for _, info := range k.c.List(principal + "/") {
		if info.Durable {
			_ = k.lag(k.c.Remove(ctx, info.Name)) // a crash leaves it to the next start, which compares with the register
		}
	}
}

// maxGrace is the longest time in which two tokens of a device are good.
const maxGrace = 30 * 24 * time.Hour

// RotateDevice gives the device a new token; the old one and connections with it end now, or after the grace.
func (k *core) RotateDevice(ctx context.Context, g *auth.Grant, id string, grace time.Duration) (token string, err error) {
	defer func() { k.audited(ctx, g, "device.rotate", id, err) }()
	if err := admin(g); err != nil {
		return "", err
	}
	if grace < 0 || grace > maxGrace {
		return "", message.Problemf(message.CodeBadRequest, "a grace lasts at most %s", FormatDuration(maxGrace))
	}
	token, err = k.reg.RotateDevice(ctx, id, grace)
	if err == nil && grace == 0 {
		k.kick("device/" + id)
	}
	return token, err
}

// follow brings a device's inbox to what the register says.
func (k *core) follow(ctx context.Context, id string) error {
	d, ok := k.reg.Device(id)
	if !ok {
		return nil
	}
	_, err := k.c.Ensure(ctx, k.inbox(d))
	return k.lag(err)
}

// inbox is a device's inbox: what is addressed to it and to its groups.
func (k *core) inbox(d registry.Device) courier.Spec {
	spec := k.policy
	spec.Name, spec.Owner, spec.Kind = courier.DeviceInbox(d.ID), "device/"+d.ID, courier.Inbox
	spec.Filters = []message.Filter{message.InboxOf(d.ID)}
	for _, g := range d.Groups {
		spec.Filters = append(spec.Filters, message.GroupInbox(g))
	}
	spec.Filters = append(spec.Filters, k.reg.Profiles().Inbox(d.Profile, d.ID)...)
	return spec
}

// inInbox reports whether the filter lies inside the inbox of the grant's device: inside one of its groups' or of its
// profile's commands too.
func (k *core) inInbox(g *auth.Grant, f message.Filter) bool {
	if g.Kind != auth.Device {
		return false
	}
	if message.InboxOf(g.Name).Covers(f) {
		return true
	}
	d, ok := k.reg.Device(g.Name)
	if !ok {
		return false
	}
	for _, own := range k.inbox(d).Filters {
		if own.Covers(f) {
			return true
		}
	}
	return false
}

// commands are those that the profile of the grant's device puts into its inbox.
func (k *core) commands(g *auth.Grant) []message.Filter {
	d, ok := k.reg.Device(g.Name)
	if !ok || g.Kind != auth.Device {
		return nil
	}
	return k.reg.Profiles().Inbox(d.Profile, d.ID)
}

// reconcile compares the subscriptions with the register. The register wins: missing inboxes are made,
// orphans end.
func (k *core) reconcile(ctx context.Context) error {
	if err := k.removeGone(ctx); err != nil {
		return err
	}
	want := make(map[string]bool)
	damaged := len(k.ob.Losses()) > 0 || k.ob.Forgotten() > 0 // a missing inbox may have been there
	for _, d := range k.reg.Devices() {
		spec := k.inbox(d)
		want[spec.Name] = true
		var err error
		if damaged {
			err = k.c.Recover(ctx, spec)
		} else {
			_, err = k.c.Ensure(ctx, spec)
		}
		if err != nil {
			return err
		}
	}
	for _, spec := range k.history {
		want[spec.Name] = true
		if _, err := k.c.Ensure(ctx, spec); err != nil {
			return err
		}
	}
	// When the register was damaged or lost, what waits for a device that it does not know any more is kept until
	// somebody adds the device again, or removes it.
	if !k.reg.SaysWhichDevices() {
		return nil
	}
	for _, kind := range []courier.Kind{courier.Inbox, courier.History} {
		for _, name := range k.c.Names(kind) {
			if !want[name] {
				if err := k.c.Remove(ctx, name); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range k.c.Names(courier.Named) {
		owner := name[:strings.LastIndexByte(name, '/')]
		if !k.Exists(owner) && owner != "anonymous" {
			if err := k.c.Remove(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Groups lists the groups.
func (k *core) Groups(_ context.Context, g *auth.Grant) ([]registry.Group, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.reg.Groups(), nil
}

// Group describes a group.
func (k *core) Group(_ context.Context, g *auth.Grant, name string) (registry.Group, error) {
	if err := admin(g); err != nil {
		return registry.Group{}, err
	}
	gr, ok := k.reg.Group(name)
	if !ok {
		return gr, message.Problemf(message.CodeUnknownGroup, "there is no group %.64q", name)
	}
	return gr, nil
}

// AddGroup makes an empty group.
func (k *core) AddGroup(ctx context.Context, g *auth.Grant, name, label string) (err error) {
	defer func() { k.audited(ctx, g, "group.add", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	return k.reg.AddGroup(ctx, name, label)
}

// RemoveGroup ends a group; its devices stay.
func (k *core) RemoveGroup(ctx context.Context, g *auth.Grant, name string) (err error) {
	defer func() { k.audited(ctx, g, "group.remove", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	group, _ := k.reg.Group(name)
	if err := k.reg.RemoveGroup(ctx, name); err != nil {
		return err
	}
	for _, id := range group.Members {
		if err := k.later(k.follow(ctx, id)); err != nil {
			return err
		}
	}
	return nil
}

// Join adds a device to a group: messages to the group from now on reach it.
func (k *core) Join(ctx context.Context, g *auth.Grant, group, device string) (err error) {
	defer func() { k.audited(ctx, g, "group.join", group+" "+device, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.Health(); err != nil {
		return err // the subscription could not follow
	}
	if err := k.reg.Join(ctx, group, device); err != nil {
		return err
	}
	return k.follow(ctx, device)
}

// Leave takes a device out of a group.
func (k *core) Leave(ctx context.Context, g *auth.Grant, group, device string) (err error) {
	defer func() { k.audited(ctx, g, "group.leave", group+" "+device, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.reg.Leave(ctx, group, device); err != nil {
		return err
	}
	return k.later(k.follow(ctx, device))
}

// Keys lists the keys of programs and people.
func (k *core) Keys(_ context.Context, g *auth.Grant) ([]registry.Key, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.reg.Keys(), nil
}

// Key describes a key.
func (k *core) Key(_ context.Context, g *auth.Grant, name string) (registry.Key, error) {
	if err := admin(g); err != nil {
		return registry.Key{}, err
	}
	key, ok := k.reg.Key(name)
	if !ok {
		return key, message.Problemf(message.CodeNotFound, "there is no key %.64q", name)
	}
	return key, nil
}

// AddKey makes a key.
func (k *core) AddKey(ctx context.Context, g *auth.Grant, key registry.Key) (token string, err error) {
	defer func() { k.audited(ctx, g, "key.add", key.Name, err) }()
	if err := admin(g); err != nil {
		return "", err
	}
	if err := taken(key.Name); err != nil {
		return "", err
	}
	return k.reg.AddKey(ctx, key)
}

// RemoveKey ends a key, its subscriptions and its connections.
func (k *core) RemoveKey(ctx context.Context, g *auth.Grant, name string) (err error) {
	defer func() { k.audited(ctx, g, "key.remove", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.reg.RemoveKey(ctx, name); err != nil {
		return err
	}
	k.end(ctx, "key/"+name)
	return nil
}

// NewTicket gives a one-use ticket for a WebSocket or stream address.
func (k *core) NewTicket(g *auth.Grant) (string, time.Duration) { return k.Tickets().Issue(g) }

// Status shows the appliance at one glance, to administrators: it names the gateway and says what is wrong with it.
func (k *core) Status(_ context.Context, g *auth.Grant) (courier.Status, error) {
	if err := admin(g); err != nil {
		return courier.Status{}, err
	}
	return k.glance(), nil
}

// glance is the status, for whoever in the appliance decides what of it is shown.
func (k *core) glance() courier.Status {
	st := k.c.Status()
	k.status(&st)
	return st
}

// WriteMetrics writes the counters in Prometheus' text format.
func (k *core) WriteMetrics(w io.Writer) {
	st := k.glance()
	writeMetrics(w, &st)
	k.bridgeMetrics(w)
	k.writeTokenMetrics(w)
	if k.extra != nil {
		k.extra(w)
	}
}

// Health is nil while messages are taken.
func (k *core) Health() error { return k.ob.Health() }
