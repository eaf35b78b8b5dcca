package registry

import (
	"time"

	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// Device is a registered device. Everything it was ever sent waits in its inbox.
type Device struct {
	ID      string        `json:"id"`
	Label   string        `json:"label,omitempty"`    // for people, any language
	Groups  []string      `json:"groups,omitempty"`   // sorted
	Rules   message.Rules `json:"rules,omitzero"`     // beyond the defaults; "${device}" stands for the id
	Profile string        `json:"profile,omitempty"`  // how it speaks MQTT, see package profile
	Seal    seal.Form     `json:"seal,omitzero"`      // how its payloads are sealed; read only, see [Registry.SetSeal]
	SealKey string        `json:"seal_key,omitempty"` // id of the key
	Created time.Time     `json:"created,omitzero"`   // zero when the clock was not trusted
}

// User is a person who signs in with a password.
type User struct {
	Name    string        `json:"name"`
	Label   string        `json:"label,omitempty"`
	Admin   bool          `json:"admin,omitempty"`
	Rules   message.Rules `json:"rules,omitzero"`
	Created time.Time     `json:"created,omitzero"` // zero when the clock was not trusted
}

// Group is a set of devices that are addressed together.
type Group struct {
	Name    string   `json:"name"`
	Label   string   `json:"label,omitempty"`
	Members []string `json:"members"` // device ids, sorted
}

// Key is the credential of a program or a person.
type Key struct {
	Name    string        `json:"name"`
	Label   string        `json:"label,omitempty"`
	Admin   bool          `json:"admin,omitempty"`
	Rules   message.Rules `json:"rules,omitzero"`
	Created time.Time     `json:"created,omitzero"` // zero when the clock was not trusted
}

// ChangeKind is what happened to the registry.
type ChangeKind uint8

// The changes that others follow. DeviceAdded and DeviceRemoved of one id never coalesce: a device
// that was removed and added again is another device.
const (
	DeviceAdded ChangeKind = iota + 1
	DeviceChanged
	DeviceRemoved
	GroupAdded
	GroupRemoved
	KeyAdded
	KeyRemoved
	TokenRotated // of a device
	SealChanged  // of a device: another form or key
	NameChanged  // of the gateway
	UserAdded
	UserChanged // also: another password
	UserRemoved
	ClaimMade // of a device
	ClaimEnded
)

// Change is one durable change. A change of a group's members is a DeviceChanged of each device.
type Change struct {
	Kind ChangeKind
	Name string // of the device, group, key, user or gateway
}
