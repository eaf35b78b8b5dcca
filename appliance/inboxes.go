package appliance

import (
	"context"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// Find lists a page of devices with how their inboxes are. state is "online", "offline", or "" for both.
func (k *core) Find(ctx context.Context, g *auth.Grant, q registry.Query, state string) (page []registry.Device, inboxes []courier.Standing, total int, err error) {
	if err := admin(g); err != nil {
		return nil, nil, 0, err
	}
	var keep func([]string) []string
	if state != "" {
		keep = func(ids []string) []string {
			all, failed := k.c.Standings(ctx, ids, false)
			if failed != nil {
				err = failed
				return nil
			}
			kept := ids[:0]
			for i, id := range ids {
				if all[i].Online == (state == "online") {
					kept = append(kept, id)
				}
			}
			return kept
		}
	}
	page, total = k.reg.Find(q, keep)
	if err != nil {
		return nil, nil, 0, err
	}
	ids := make([]string, len(page))
	for i := range page {
		ids[i] = page[i].ID
	}
	inboxes, err = k.c.Standings(ctx, ids, q.Limit > 0)
	return page, inboxes, total, err
}

// known refuses who may not administer, and devices that are not registered.
func (k *core) known(g *auth.Grant, device string) error {
	if err := admin(g); err != nil {
		return err
	}
	if !k.reg.HasDevice(device) {
		return message.Problemf(message.CodeUnknownDevice, "there is no device %.64q", device)
	}
	return nil
}

// Queue lists what waits for a device, what goes next first.
func (k *core) Queue(ctx context.Context, g *auth.Grant, device string, limit int) ([]courier.Waiting, int64, error) {
	if err := k.known(g, device); err != nil {
		return nil, 0, err
	}
	return k.c.Queue(ctx, courier.DeviceInbox(device), limit)
}

// Timeline lists what happened to a device, newest first.
func (k *core) Timeline(ctx context.Context, g *auth.Grant, device string, limit int) ([]courier.Event, bool, error) {
	if err := k.known(g, device); err != nil {
		return nil, false, err
	}
	return k.c.Timeline(ctx, device, limit)
}

// Move gives a message that waits for a device another priority.
func (k *core) Move(ctx context.Context, g *auth.Grant, device string, id message.ID, priority uint8) (err error) {
	defer func() { k.audited(ctx, g, "queue.move", device+" "+id.String(), err) }()
	if err := k.known(g, device); err != nil {
		return err
	}
	_, err = k.c.Move(ctx, courier.DeviceInbox(device), id, priority)
	return err
}

// Withdraw takes a message out of the queue of one device.
func (k *core) Withdraw(ctx context.Context, g *auth.Grant, device string, id message.ID) (err error) {
	defer func() { k.audited(ctx, g, "queue.withdraw", device+" "+id.String(), err) }()
	if err := k.known(g, device); err != nil {
		return err
	}
	return k.c.Withdraw(ctx, courier.DeviceInbox(device), id, "withdrawn by "+g.Principal())
}

// Reach lists who would get a message on the topic if the grant published it now.
func (k *core) Reach(ctx context.Context, g *auth.Grant, t message.Topic) ([]courier.Audience, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	if err := k.admit(g, message.New(t, nil)); err != nil {
		return nil, err
	}
	return k.c.Reach(ctx, t)
}
