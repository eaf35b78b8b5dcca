package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
	"edgepost/appliance/registry/profile"
	"edgepost/wal"
)

// Options configure a registry; the zero value works.
type Options struct {
	Now       func() time.Time // wall time, zero while it is not trusted; nil: time.Now
	Log       *slog.Logger     // nil: discard
	MachineID string           // content of /etc/machine-id; "" unknown
	Wal       wal.Options      // of the ledger; zero fields take small values that suit it
}

// Registry knows who exists. All methods are safe for concurrent use. What they return is a copy.
// Errors of changes are a [message.Problem] wherever a client can act on them; ctx cancels a change
// only before it begins, never half of it.
type Registry struct {
	now      func() time.Time
	log      *slog.Logger
	profiles profile.Set

	change sync.Mutex // held through a whole change: check, make durable, make visible, announce
	ledger *ledger    // guarded by change
	watch  []func(Change)
	damage []string // found at Open; not changed after

	version atomic.Uint64 // counts changes

	mu     sync.RWMutex // guards tables; written only with change held too
	tables *tables
}

// Open opens the registry in dir, which it creates if need be. Errors are those of wal.Open (locked,
// foreign, not allowed), a record of a newer version, or, for a new registry, storage that cannot
// be written.
func Open(dir string, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := openLedger(dir, walOptions(o))
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	profiles, err := profile.Load()
	if err != nil {
		_ = l.log.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r := &Registry{now: o.Now, log: o.Log, ledger: l, profiles: profiles}
	if err := r.begin(o.MachineID); err != nil {
		_ = l.log.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

// walOptions makes the ledger small: it is written a few times a day.
func walOptions(o Options) wal.Options {
	w := o.Wal
	if w.Generation == 0 {
		w.Generation = 128 << 10
	}
	if w.Cache == 0 {
		w.Cache = 64 << 10
	}
	if w.Reserve == 0 {
		w.Reserve = 64 << 10 // for what must not wait for space: removals
	}
	if w.Linger == 0 {
		w.Linger = -1
	}
	if w.Log == nil {
		w.Log = o.Log
	}
	if w.Now == nil {
		w.Now = func() wal.Stamp {
			t := o.Now()
			if t.IsZero() {
				return wal.Stamp{}
			}
			return wal.Stamp{Wall: t.UnixNano()}
		}
	}
	return w
}

func (r *Registry) begin(machineID string) error {
	t, err := r.ledger.load()
	if err != nil {
		return err
	}
	r.tables = t
	if err := r.ledger.log.Start(); err != nil {
		return err
	}
	if err := r.identify(machineID); err != nil {
		return err
	}
	r.damage = slices.Clone(r.ledger.damage)
	if n := r.ledger.damaged - len(r.damage); n > 0 {
		r.damage = append(r.damage, fmt.Sprintf("and %d more", n))
	}
	r.version.Add(1)
	if r.ledger.damaged == 0 { // what a repair could still need stays
		r.ledger.tidy(t)
	}
	return nil
}

// identify gives a new gateway its name and epoch, and a copied one new ones: two gateways that
// were flashed from one image must not make the same message ids.
func (r *Registry) identify(machineID string) error {
	machine := ""
	if machineID = strings.TrimSpace(machineID); machineID != "" {
		sum := sha256.Sum256([]byte("edgepost " + machineID)) // the id itself is confidential: machine-id(5)
		machine = hex.EncodeToString(sum[:16])
	}
	gateway := r.tables.gateway
	switch {
	case gateway.kind == 0, machine != "" && gateway.machine != "" && machine != gateway.machine:
		gateway = record{kind: putGateway, name: newGatewayName(), epoch: newEpoch(), machine: machine}
	case machine != "" && gateway.machine == "":
		gateway.machine = machine
	default:
		return nil
	}
	renewed := r.tables.gateway.kind != 0
	if err := r.ledger.append([]*record{&gateway}); err != nil {
		if renewed { // a full disk must not keep a gateway from starting
			r.log.Warn("this gateway seems to be a copy, but its new identity cannot be stored; it keeps the old one", "error", err)
			return nil
		}
		return err
	}
	if !renewed { // once more, in a frame of its own: without its epoch every message would get another id
		_ = r.ledger.append([]*record{&gateway})
	}
	if renewed && gateway.epoch != r.tables.gateway.epoch {
		r.log.Warn("the machine id changed: this gateway is a copy and gets a new name and epoch",
			"old", r.tables.gateway.name, "new", gateway.name)
	}
	r.tables.apply(&gateway)
	return nil
}

func newGatewayName() string { return "ep-" + string(newEpoch()) }

func newEpoch() message.Epoch {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return message.NewEpoch(binary.LittleEndian.Uint64(b[:]))
}

// Close closes the ledger; changes are refused from now on, reading goes on.
func (r *Registry) Close() error {
	r.change.Lock()
	defer r.change.Unlock()
	if err := r.ledger.log.Close(); err != nil {
		return fmt.Errorf("close registry: %w", err)
	}
	return nil
}

// Damage says what [Open] found damaged, as sentences for people; nil when nothing was.
func (r *Registry) Damage() []string { return slices.Clone(r.damage) }

// SaysWhichDevices reports whether Devices are all there are. A register that was lost and begun anew, or of which the disk
// damaged something, does not know; one without devices knows it if the last of them was removed.
func (r *Registry) SaysWhichDevices() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.damage) == 0 && (r.tables.devices > 0 || r.tables.lastGone != "")
}

// Encrypted is how much of the registry on disk is encrypted.
func (r *Registry) Encrypted() wal.Share { return r.ledger.log.Encrypted() }

// Watch has fn called after every change, in order, by the goroutine that made it: fn must be quick
// and may read the registry, but not change it.
func (r *Registry) Watch(fn func(Change)) {
	r.change.Lock()
	defer r.change.Unlock()
	r.watch = append(r.watch, fn)
}

// Name returns the gateway's name.
func (r *Registry) Name() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.gateway.name
}

// Epoch names this life of the gateway's log. It does not change while the registry is open.
func (r *Registry) Epoch() message.Epoch {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.gateway.epoch
}

// HasDevice reports whether a device is registered.
func (r *Registry) HasDevice(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.device(id) != nil
}

// HasGroup reports whether a group exists.
func (r *Registry) HasGroup(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.groups[name] != nil
}

// Devices returns all devices, sorted by id.
func (r *Registry) Devices() []Device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Device, 0, r.tables.devices)
	for _, p := range r.tables.principals {
		if p.kind == auth.Device {
			list = append(list, p.asDevice())
		}
	}
	slices.SortFunc(list, func(a, b Device) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// CountDevices is how many devices there are.
func (r *Registry) CountDevices() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.devices
}

// Device returns one device.
func (r *Registry) Device(id string) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.device(id)
	if p == nil {
		return Device{}, false
	}
	return p.asDevice(), true
}

// Groups returns all groups, sorted by name.
func (r *Registry) Groups() []Group {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Group, 0, len(r.tables.groups))
	for _, name := range r.tables.sortedGroups() {
		list = append(list, r.tables.groups[name].asGroup())
	}
	return list
}

// Group returns one group.
func (r *Registry) Group(name string) (Group, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.tables.groups[name]
	if g == nil {
		return Group{}, false
	}
	return g.asGroup(), true
}

// Keys returns all keys, sorted by name.
func (r *Registry) Keys() []Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Key, 0, len(r.tables.principals)-r.tables.devices-r.tables.users)
	for _, p := range r.tables.principals {
		if p.kind == auth.Key {
			list = append(list, p.asKey())
		}
	}
	slices.SortFunc(list, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Key returns one key.
func (r *Registry) Key(name string) (Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.key(name)
	if p == nil {
		return Key{}, false
	}
	return p.asKey(), true
}

// Lookup implements [auth.Directory].
func (r *Registry) Lookup(name string) (auth.Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.asEntry(r.tables.principals[name])
}

// LookupToken implements [auth.Directory].
func (r *Registry) LookupToken(hash [sha256.Size]byte) (auth.Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.byToken[hash]
	if p != nil && p.hash != hash && !p.extra.oldGood(r.now()) {
		return auth.Entry{}, false
	}
	return r.asEntry(p)
}

// Version implements [auth.Directory].
func (r *Registry) Version() uint64 { return r.version.Load() }

var _ auth.Directory = (*Registry)(nil)

func (p *principal) asDevice() Device {
	d := Device{ID: p.name, Label: p.label, Groups: slices.Clone(p.groups), Rules: p.copyRules(), Created: asTime(p.created)}
	if p.extra != nil {
		d.Profile = p.extra.profile
		if d.Seal = p.extra.form; d.Seal != seal.None {
			d.SealKey = p.extra.sealKey.ID()
		}
	}
	return d
}

func (p *principal) asKey() Key {
	return Key{Name: p.name, Label: p.label, Admin: p.admin, Rules: p.copyRules(), Created: asTime(p.created)}
}

func (r *Registry) asEntry(p *principal) (auth.Entry, bool) {
	if p == nil {
		return auth.Entry{}, false
	}
	e := auth.Entry{Kind: p.kind, Name: p.name, TokenHash: p.hash, Admin: p.admin, Groups: p.groups}
	if p.rules != nil {
		e.Rules = *p.rules
	}
	if p.extra != nil && p.kind == auth.Device {
		e.Guessable = p.extra.guessable
		e.Rules = r.profiles.Rules(p.extra.profile, e.Rules)
		if p.extra.oldGood(r.now()) {
			e.OldHash = p.extra.old
		}
	}
	return e, true
}

func (p *principal) copyRules() message.Rules {
	if p.rules == nil {
		return message.Rules{}
	}
	return copyRules(*p.rules)
}

func copyRules(r message.Rules) message.Rules {
	return message.Rules{
		Publish: slices.Clone(r.Publish), DenyPublish: slices.Clone(r.DenyPublish),
		Subscribe: slices.Clone(r.Subscribe), DenySubscribe: slices.Clone(r.DenySubscribe),
	}
}

func (g *group) asGroup() Group {
	return Group{Name: g.name, Label: g.label, Members: g.sortedMembers()}
}

func asTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// commit makes the records of one change durable, then visible, then announces it. r.change is held.
func (r *Registry) commit(ctx context.Context, records []*record, changes ...Change) error {
	return r.store(ctx, r.ledger.append, records, changes)
}

// revoke is commit for changes that take rights away: a full disk must not keep anybody in.
func (r *Registry) revoke(ctx context.Context, records []*record, changes ...Change) error {
	return r.store(ctx, r.ledger.appendUrgent, records, changes)
}

// commitOrRevoke is revoke for an update that narrows. One that changes no rights is not let at the space that is kept
// for those that do.
func (r *Registry) commitOrRevoke(ctx context.Context, narrows bool, rec *record, change Change) error {
	if narrows {
		return r.revoke(ctx, []*record{rec}, change)
	}
	return r.commit(ctx, []*record{rec}, change)
}

func (r *Registry) store(ctx context.Context, write func([]*record) error, records []*record, changes []Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(records); err != nil {
		return err
	}
	r.mu.Lock()
	for _, rec := range records {
		r.tables.apply(rec)
	}
	r.version.Add(1)
	r.mu.Unlock()
	for _, c := range changes {
		for _, fn := range r.watch {
			fn(c)
		}
	}
	r.ledger.tidy(r.tables)
	return nil
}
