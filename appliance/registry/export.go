package registry

import (
	"context"
	"encoding/binary"
	"errors"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// Census counts what a registry holds.
type Census struct {
	Devices int `json:"devices"`
	Groups  int `json:"groups"`
	Keys    int `json:"keys"`
	Users   int `json:"users"`
}

// Export returns all that the registry holds, for [Registry.Import]: records of the ledger, each behind its length. Tokens and
// passwords are in it as hashes only; keys that seal payloads are in it as they are.
func (r *Registry) Export() (b []byte, n Census) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_ = r.tables.each(func(rec *record) error { // fn has no errors
		e := rec.encode()
		b = append(binary.AppendUvarint(b, uint64(len(e))), e...)
		n.count(rec)
		return nil
	})
	return b, n
}

func (n *Census) count(rec *record) {
	switch rec.kind {
	case putDevice, putDevice2, putDevice3:
		n.Devices++
	case putGroup:
		n.Groups++
	case putKey:
		n.Keys++
	case putUser:
		n.Users++
	default:
	}
}

var errExport = errors.New("the backup's register is damaged")

// Import replaces everybody by what another registry exported, in one change, durable on return; this gateway's epoch stays. It
// returns what there is now, and whose principals were there before or are now: their connections are to end. A Problem when
// the export has no administrator but this registry has one.
func (r *Registry) Import(ctx context.Context, export []byte) (n Census, principals []string, err error) {
	records, admin, err := r.readExport(export, &n)
	if err != nil {
		return n, nil, err
	}
	r.change.Lock()
	defer r.change.Unlock()
	if !admin && r.SetUp() {
		return n, nil, message.Problemf(message.CodeLastAdmin, "the backup has no administrator; nobody could sign in afterwards")
	}
	gone, changes := r.everybody(&principals)
	for _, rec := range records {
		if rec.kind == putGateway {
			mine := r.tables.gateway
			mine.name = rec.name
			*rec = mine
			changes = append(changes, Change{NameChanged, rec.name})
			continue
		}
		changes = append(changes, added(rec, &principals)...)
	}
	if err := r.commit(ctx, append(gone, records...), changes...); err != nil {
		return n, nil, err
	}
	return n, principals, nil
}

// readExport decodes an export and checks that it is one.
func (r *Registry) readExport(b []byte, n *Census) (records []*record, admin bool, err error) {
	for len(b) > 0 {
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k) {
			return nil, false, errExport
		}
		rec, err := decode(b[k : k+int(size)])
		if err != nil {
			return nil, false, errors.Join(errExport, err)
		}
		b = b[k+int(size):]
		switch rec.kind {
		case putGateway, putGroup, putDevice, putDevice2, putDevice3, putKey, putClaim:
		case putUser:
			admin = admin || rec.admin
		case removeDevice: // says only that there was one
			continue
		default:
			return nil, false, errExport
		}
		if err := errors.Join(message.CheckName("name", rec.name), checkLabel(rec.label), checkRules(&rec.rules, true)); err != nil {
			return nil, false, errors.Join(errExport, err)
		}
		n.count(&rec)
		records = append(records, &rec)
	}
	if n.Devices+n.Keys+n.Users > MaxPrincipals || n.Groups > MaxGroups || len(records) == 0 {
		return nil, false, errExport
	}
	return records, admin, nil
}

// everybody lists the records that remove all there is.
func (r *Registry) everybody(principals *[]string) (gone []*record, changes []Change) {
	for _, name := range r.tables.sortedPrincipals() {
		p := r.tables.principals[name]
		*principals = append(*principals, p.kind.String()+"/"+name)
		switch p.kind {
		case auth.Device:
			gone, changes = append(gone, &record{kind: removeDevice, name: name}), append(changes, Change{DeviceRemoved, name})
		case auth.Key:
			gone, changes = append(gone, &record{kind: removeKey, name: name}), append(changes, Change{KeyRemoved, name})
		default:
			gone, changes = append(gone, &record{kind: removeUser, name: name}), append(changes, Change{UserRemoved, name})
		}
	}
	for _, name := range r.tables.sortedGroups() {
		gone, changes = append(gone, &record{kind: removeGroup, name: name}), append(changes, Change{GroupRemoved, name})
	}
	return gone, changes
}

// added is what a record that is put brings.
func added(rec *record, principals *[]string) []Change {
	kind, of := DeviceAdded, auth.Device
	switch rec.kind {
	case putGroup:
		return []Change{{GroupAdded, rec.name}}
	case putClaim:
		return nil
	case putKey:
		kind, of = KeyAdded, auth.Key
	case putUser:
		kind, of = UserAdded, auth.User
	default:
	}
	*principals = append(*principals, of.String()+"/"+rec.name)
	return []Change{{kind, rec.name}}
}
