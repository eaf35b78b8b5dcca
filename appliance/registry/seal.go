package registry

import (
	"context"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/seal"
)

// SetSeal says how the device's payloads are sealed and with which key; with [seal.None] the key is forgotten.
// The zero key keeps the one that is there, or makes one; made reports which. Problem: unknown-device.
func (r *Registry) SetSeal(ctx context.Context, id string, form seal.Form, key seal.Key) (now seal.Key, made bool, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findDevice(id)
	if err != nil {
		return seal.Key{}, false, err
	}
	rec := p.record()
	switch {
	case form == seal.None:
		key = seal.Key{}
	case key == seal.Key{} && rec.extra.form != seal.None:
		key = rec.extra.sealKey
	case key == seal.Key{}:
		key, made = seal.NewKey(), true
	}
	if rec.extra.form == form && rec.extra.sealKey == key {
		return key, false, nil
	}
	rec.extra.form, rec.extra.sealKey = form, key
	rec.kind = rec.deviceKind()
	if err := r.revoke(ctx, []*record{&rec}, Change{SealChanged, id}); err != nil {
		return seal.Key{}, false, err
	}
	return key, made, nil
}

// Seal is how the device's payloads are sealed, and with which key.
func (r *Registry) Seal(id string) (seal.Form, seal.Key) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p := r.tables.ofKind(auth.Device, id); p != nil && p.extra != nil {
		return p.extra.form, p.extra.sealKey
	}
	return seal.None, seal.Key{}
}
