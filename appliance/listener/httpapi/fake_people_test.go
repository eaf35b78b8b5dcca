package httpapi

import (
	"context"
	"net/netip"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/door"
	"edgepost/appliance/guard/seal"
	"edgepost/appliance/registry"
	"edgepost/appliance/registry/profile"
)

// What the fake core says about people, and about devices that join.

func (f *fakeCore) IsSetUp() bool { return !f.newborn }

func (f *fakeCore) NewSetupCode(context.Context, *auth.Grant) (string, error) {
	return "BCDF-GHJK", f.note("NewSetupCode")
}

func (f *fakeCore) SetUp(_ context.Context, code, name, password string) (string, error) {
	return "session-1", f.note("SetUp %s %s %s", code, name, password)
}

func (f *fakeCore) SignIn(_ context.Context, name, password string) (string, error) {
	return "session-1", f.note("SignIn %s %s", name, password)
}

func (f *fakeCore) SignOut(_ context.Context, _ *auth.Grant, session string) {
	_ = f.note("SignOut %s", session)
}

func (f *fakeCore) SessionLeft(string) time.Duration { return 30 * time.Minute }

func (f *fakeCore) SetPassword(_ context.Context, _ *auth.Grant, name, present, password, session string) error {
	return f.note("SetPassword %s %s %s %s", name, present, password, session)
}

func (f *fakeCore) Users(context.Context, *auth.Grant) ([]registry.User, error) {
	return []registry.User{{Name: "ann", Admin: true}}, f.note("Users")
}

func (f *fakeCore) User(_ context.Context, _ *auth.Grant, name string) (registry.User, error) {
	return registry.User{Name: name}, f.note("User %s", name)
}

func (f *fakeCore) AddUser(_ context.Context, _ *auth.Grant, u registry.User, password string) error {
	return f.note("AddUser %s %v %s", u.Name, u.Admin, password)
}

func (f *fakeCore) UpdateUser(_ context.Context, _ *auth.Grant, u registry.User) error {
	return f.note("UpdateUser %s %v", u.Name, u.Admin)
}

func (f *fakeCore) RemoveUser(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("RemoveUser %s", name)
}

func (f *fakeCore) AddDevices(_ context.Context, _ *auth.Grant, list []registry.Enrolment) ([]string, error) {
	f.list = list
	if f.row != nil {
		return nil, f.row
	}
	return make([]string, len(list)), f.note("AddDevices %d", len(list))
}

func (f *fakeCore) Profiles() profile.Set {
	return profile.Set{"tasmota": {Name: "tasmota", About: "A"}}
}

func (f *fakeCore) MakeClaim(_ context.Context, _ *auth.Grant, id string) (string, string, error) {
	return "BCDF-GHJK", "edgepost:claim?code=BCDF-GHJK", f.note("MakeClaim %s", id)
}

func (f *fakeCore) Claim(_ context.Context, code string) (string, string, error) {
	return "lamp1", "ep_claimed", f.note("Claim %s", code)
}

func (f *fakeCore) OpenDoor(_ context.Context, _ *auth.Grant, span time.Duration) error {
	return f.note("OpenDoor %v", span)
}

func (f *fakeCore) CloseDoor(context.Context, *auth.Grant) error { return f.note("CloseDoor") }

func (f *fakeCore) AtDoor(context.Context, *auth.Grant) ([]door.Waiting, time.Duration, error) {
	at := time.Unix(1_800_000_000, 0)
	return []door.Waiting{{Name: "lamp9", Fingerprint: "0badcafe", Via: "mqtt", From: netip.MustParseAddr("192.168.1.9"), Since: at, Seen: at, Tries: 2}},
		9*time.Minute + time.Millisecond, f.note("AtDoor")
}

func (f *fakeCore) Approve(_ context.Context, _ *auth.Grant, d registry.Device, print string) error {
	return f.note("Approve %s %s %v %s %s", d.ID, d.Label, d.Groups, d.Profile, print)
}

func (f *fakeCore) SetSeal(_ context.Context, _ *auth.Grant, id string, form seal.Form, key seal.Key, fresh bool) (string, []byte, error) {
	return "630dcd29", []byte(`{"kty":"oct"}`), f.note("SetSeal %s %s %v %v", id, form, key != seal.Key{}, fresh)
}

func (f *fakeCore) Refuse(_ context.Context, _ *auth.Grant, name, print string) error {
	return f.note("Refuse %s %s", name, print)
}

func (f *fakeCore) Audit(_ context.Context, _ *auth.Grant, after uint64, limit int) ([][]byte, error) {
	return [][]byte{[]byte(`{"n":1,"action":"setup"}`), []byte("\xff")}, f.note("Audit %d %d", after, limit)
}
