package registry

import (
	"crypto/sha256"
	"maps"
	"slices"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// principal is a device, a key or a user. It is immutable; a change makes a new one. Ten thousand of them
// are normal, so it is kept small.
type principal struct {
	kind    auth.Kind
	admin   bool
	name    string
	label   string
	groups  []string          // of a device; sorted
	rules   *message.Rules    // nil: none beyond the defaults
	created int64             // unix ns, 0 unknown
	hash    [sha256.Size]byte // of the token; zero of a user, who has none
	extra   *extra            // nil: nothing
}

// claim is a code with which somebody gets a device's token, once.
type claim struct {
	hash  [sha256.Size]byte
	until int64 // unix ns, 0 for ever
}

type group struct {
	name    string
	label   string
	members map[string]struct{}
}

// tables are everything the ledger says.
//
// Invariants (checked by the tests): byToken has one entry for each token of a device or key, the one before
// the last included; a device is a member of exactly the groups it lists; a name is a device, a key or a user,
// never two of them; a claim code is of a device that is there, and byClaim is the way back.
type tables struct {
	gateway    record // kind putGateway; kind 0 before the first
	principals map[string]*principal
	devices    int                          // how many of the principals are devices
	users      int                          // and how many are users
	admins     int                          // and of these may administer
	claims     map[string]claim             // by device
	byClaim    map[[sha256.Size]byte]string // device
	byToken    map[[sha256.Size]byte]*principal
	groups     map[string]*group
	lastGone   string // the device whose removal left none; "" while there are any, or never were
}

func newTables() *tables {
	return &tables{
		principals: make(map[string]*principal),
		byToken:    make(map[[sha256.Size]byte]*principal),
		groups:     make(map[string]*group),
		claims:     make(map[string]claim),
		byClaim:    make(map[[sha256.Size]byte]string),
	}
}

// apply makes a record's change. It never fails: whether a change makes sense was checked before it
// was written, and where damage took away what it refers to, it does what is left of it.
func (t *tables) apply(r *record) {
	switch r.kind {
	case putGateway:
		t.gateway = *r
	case putDevice, putDevice2, putDevice3:
		p := newPrincipal(auth.Device, r)
		p.groups = make([]string, 0, len(r.groups))
		for _, name := range r.groups {
			g := t.group(name)
			g.members[r.name] = struct{}{}
			p.groups = append(p.groups, g.name) // one string for all members
		}
		slices.Sort(p.groups)
		p.groups = slices.Compact(p.groups)
		t.put(p)
	case putKey:
		t.put(newPrincipal(auth.Key, r))
	case putUser:
		t.put(newPrincipal(auth.User, r))
	case removeDevice:
		t.remove(r.name)
		if t.devices == 0 { // also if it is not known: a snapshot says it so
			t.lastGone = r.name
		}
	case removeKey, removeUser:
		t.remove(r.name)
	case putClaim:
		if t.device(r.name) != nil {
			t.endClaim(r.name)
			t.claims[r.name] = claim{hash: r.hash, until: r.until}
			t.byClaim[r.hash] = r.name
		}
	case removeClaim:
		t.endClaim(r.name)
	case putGroup:
		t.group(r.name).label = r.label
	case removeGroup:
		t.removeGroup(r.name)
	default:
	}
}

func newPrincipal(kind auth.Kind, r *record) *principal {
	p := &principal{kind: kind, admin: r.admin, name: r.name, label: r.label, created: r.created, hash: r.hash}
	if len(r.rules.Publish)+len(r.rules.DenyPublish)+len(r.rules.Subscribe)+len(r.rules.DenySubscribe) > 0 {
		rules := r.rules
		p.rules = &rules
	}
	if r.extra != (extra{}) {
		e := r.extra
		p.extra = &e
	}
	return p
}

func (t *tables) endClaim(device string) {
	if c, ok := t.claims[device]; ok {
		delete(t.claims, device)
		delete(t.byClaim, c.hash)
	}
}

func (t *tables) group(name string) *group {
	g := t.groups[name]
	if g == nil {
		g = &group{name: name, members: make(map[string]struct{})}
		t.groups[name] = g
	}
	return g
}

func (t *tables) put(p *principal) {
	if len(p.groups) == 0 {
		p.groups = nil
	}
	if old := t.principals[p.name]; old != nil {
		t.forget(old)
		for _, name := range old.groups {
			if _, still := slices.BinarySearch(p.groups, name); !still {
				delete(t.groups[name].members, p.name)
			}
		}
	}
	t.principals[p.name] = p
	t.count(p, 1)
	if t.devices > 0 {
		t.lastGone = ""
	}
	if p.kind == auth.User {
		return
	}
	t.byToken[p.hash] = p
	if p.extra != nil && p.extra.until != 0 {
		t.byToken[p.extra.old] = p
	}
}

func (t *tables) count(p *principal, n int) {
	switch p.kind {
	case auth.Device:
		t.devices += n
	case auth.User:
		t.users += n
		if p.admin {
			t.admins += n
		}
	default:
	}
}

func (t *tables) remove(name string) {
	p := t.principals[name]
	if p == nil {
		return
	}
	t.forget(p)
	for _, g := range p.groups {
		delete(t.groups[g].members, name)
	}
	delete(t.principals, name)
	t.endClaim(name)
}

func (t *tables) forget(p *principal) {
	if t.byToken[p.hash] == p {
		delete(t.byToken, p.hash)
	}
	if p.extra != nil && t.byToken[p.extra.old] == p {
		delete(t.byToken, p.extra.old)
	}
	t.count(p, -1)
}

func (t *tables) removeGroup(name string) {
	g := t.groups[name]
	if g == nil {
		return
	}
	for id := range g.members {
		p := *t.principals[id]
		p.groups = slices.DeleteFunc(slices.Clone(p.groups), func(s string) bool { return s == name })
		t.put(&p)
	}
	delete(t.groups, name)
}

// device and key return the principal if it is one of that kind.
func (t *tables) device(id string) *principal  { return t.ofKind(auth.Device, id) }
func (t *tables) key(name string) *principal   { return t.ofKind(auth.Key, name) }
func (t *tables) user(name string) *principal  { return t.ofKind(auth.User, name) }
func (t *tables) sortedGroups() []string       { return slices.Sorted(maps.Keys(t.groups)) }
func (t *tables) sortedPrincipals() []string   { return slices.Sorted(maps.Keys(t.principals)) }
func (g *group) sortedMembers() (ids []string) { return slices.Sorted(maps.Keys(g.members)) }

func (t *tables) ofKind(kind auth.Kind, name string) *principal {
	if p := t.principals[name]; p != nil && p.kind == kind {
		return p
	}
	return nil
}

// record returns what makes the principal.
func (p *principal) record() record {
	r := record{kind: putKey, name: p.name, label: p.label, groups: p.groups, admin: p.admin, created: p.created, hash: p.hash}
	if p.rules != nil {
		r.rules = *p.rules
	}
	if p.extra != nil {
		r.extra = *p.extra
	}
	switch p.kind {
	case auth.Device:
		r.kind = r.deviceKind()
	case auth.User:
		r.kind = putUser
	default:
	}
	return r
}

// deviceKind is the kind of record that says all of the device.
func (r *record) deviceKind() recordKind {
	switch {
	case r.extra == (extra{}):
		return putDevice
	case r.extra.form == seal.None:
		return putDevice2
	}
	return putDevice3
}

// each calls fn with the records that make the tables, in a stable order.
func (t *tables) each(fn func(*record) error) error {
	if t.gateway.kind != 0 {
		if err := fn(&t.gateway); err != nil {
			return err
		}
	}
	for _, name := range t.sortedGroups() {
		if err := fn(&record{kind: putGroup, name: name, label: t.groups[name].label}); err != nil {
			return err
		}
	}
	if t.lastGone != "" { // ahead of a key that got its name
		if err := fn(&record{kind: removeDevice, name: t.lastGone}); err != nil {
			return err
		}
	}
	for _, name := range t.sortedPrincipals() {
		r := t.principals[name].record()
		if err := fn(&r); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.claims)) {
		c := t.claims[id]
		if err := fn(&record{kind: putClaim, name: id, until: c.until, hash: c.hash}); err != nil {
			return err
		}
	}
	return nil
}
