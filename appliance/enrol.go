package appliance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"edgepost/appliance/guard/audit"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/door"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
	"edgepost/appliance/registry/profile"
)

// The ways in which devices come to be registered beside AddDevice: by a list, by approval, by a claim code.

const inboxesAtOnce = 32 // that one list makes at the same time: they share fsyncs

// AddDevices registers all devices of a list or none; a refused one is named by a [registry.RowError].
func (k *core) AddDevices(ctx context.Context, g *auth.Grant, list []registry.Enrolment) (tokens []string, err error) {
	defer func() { k.audited(ctx, g, "device.import", fmt.Sprintf("%d devices", len(list)), err) }()
	if err := admin(g); err != nil {
		return nil, err
	}
	for i := range list {
		if err := taken(list[i].ID); err != nil {
			return nil, &registry.RowError{Row: i, Err: err}
		}
	}
	return k.enrol(ctx, list)
}

// enrol registers devices and makes their inboxes.
func (k *core) enrol(ctx context.Context, list []registry.Enrolment) (tokens []string, err error) {
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.Health(); err != nil {
		return nil, err // the subscriptions could not follow
	}
	tokens, err = k.reg.AddDevices(ctx, list)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	errs := make([]error, len(list))
	turns := make(chan struct{}, inboxesAtOnce)
	for i := range list {
		turns <- struct{}{}
		all.Go(func() {
			errs[i] = k.follow(ctx, list[i].ID)
			<-turns
		})
	}
	all.Wait()
	return tokens, errors.Join(errs...)
}

// OpenDoor permits joining for a time; 0 is ten minutes.
func (k *core) OpenDoor(ctx context.Context, g *auth.Grant, span time.Duration) (err error) {
	defer func() { k.audited(ctx, g, "join.open", "", err) }()
	if err := admin(g); err != nil {
		return err
	}
	return k.door.Open(span)
}

// CloseDoor ends it and sends everybody away who waits.
func (k *core) CloseDoor(ctx context.Context, g *auth.Grant) (err error) {
	defer func() { k.audited(ctx, g, "join.close", "", err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.door.Close()
	return nil
}

// AtDoor lists who waits, and how long joining is still permitted.
func (k *core) AtDoor(_ context.Context, g *auth.Grant) ([]door.Waiting, time.Duration, error) {
	if err := admin(g); err != nil {
		return nil, 0, err
	}
	return k.door.List(), k.door.Left(), nil
}

// Approve registers a device that waits, under its own name and with the secret that it presented.
func (k *core) Approve(ctx context.Context, g *auth.Grant, d registry.Device, print string) (err error) {
	defer func() { k.audited(ctx, g, "join.approve", d.ID, err) }()
	if err := admin(g); err != nil {
		return err
	}
	if err := taken(d.ID); err != nil {
		return err
	}
	pin, err := k.door.Find(d.ID, print)
	if err != nil {
		return err
	}
	_, err = k.enrol(ctx, []registry.Enrolment{{Device: d, Pinned: pin.Hash, Guessable: pin.Guessable}})
	if row, ok := errors.AsType[*registry.RowError](err); ok {
		return row.Err
	}
	if err == nil {
		k.door.Leave(d.ID)
	}
	return err
}

// Refuse sends a device away that waits.
func (k *core) Refuse(ctx context.Context, g *auth.Grant, name, print string) (err error) {
	defer func() { k.audited(ctx, g, "join.refuse", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	return k.door.Refuse(name, print)
}

// MakeClaim makes a claim code for a device; contents is what a QR code of it says.
func (k *core) MakeClaim(ctx context.Context, g *auth.Grant, id string) (code, contents string, err error) {
	defer func() { k.audited(ctx, g, "device.claim", id, err) }()
	if err := admin(g); err != nil {
		return "", "", err
	}
	code, err = k.reg.MakeClaim(ctx, id)
	if err != nil {
		return "", "", err
	}
	q := url.Values{"gateway": {k.reg.Name()}, "device": {id}, "code": {code}}
	return code, "edgepost:claim?" + q.Encode(), nil
}

// Claim uses a claim code up and returns the device's new token; connections with the old one end.
func (k *core) Claim(ctx context.Context, code string) (id, token string, err error) {
	right, err := k.desk.Guess(auth.RemoteFrom(ctx))
	if err != nil {
		return "", "", err
	}
	id, token, err = k.reg.Claim(ctx, code)
	switch p := message.ProblemOf(err); {
	case err == nil:
		right()
		k.kick("device/" + id)
		k.record(ctx, audit.Record{Actor: "device/" + id, Action: "device.claimed", Object: id, Result: audit.OK})
	case p != nil:
		k.recordStranger(ctx, audit.Record{Action: "device.claimed", Result: p.Code})
	}
	return id, token, err
}

// Profiles lists how devices that exist already speak.
func (k *core) Profiles() profile.Set { return k.reg.Profiles() }
