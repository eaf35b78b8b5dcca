package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// at opens a registry whose clock the test moves; zero is a clock that is not trusted.
func at(t *testing.T, now *time.Time) *Registry {
	t.Helper()
	r, err := Open(t.TempDir(), Options{Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func known(r *Registry, token string) bool {
	_, ok := r.LookupToken(auth.HashToken(token))
	return ok
}

func TestRotationWithGrace(t *testing.T) {
	ctx, now := context.Background(), day
	r := at(t, &now)
	first, err := r.AddDevice(ctx, Device{ID: "lamp1", Label: "L", Profile: "tasmota"})
	must(t, err)
	second, err := r.RotateDevice(ctx, "lamp1", 10*time.Minute)
	must(t, err)
	e, _ := r.Lookup("lamp1")
	if !known(r, first) || !known(r, second) || e.OldHash != auth.HashToken(first) || e.TokenHash != auth.HashToken(second) {
		t.Fatal("within the grace both tokens must be good")
	}
	now = time.Time{}
	if e, _ := r.Lookup("lamp1"); known(r, first) || e.OldHash != [32]byte{} || !known(r, second) {
		t.Error("without a trusted clock the old token is still good")
	}
	if _, err := r.RotateDevice(ctx, "lamp1", time.Minute); message.ProblemOf(err) == nil {
		t.Errorf("a grace that nobody can measure: %v", err)
	}
	now = day.Add(10*time.Minute - time.Second)
	if ended, err := r.EndGraces(ctx); err != nil || len(ended) > 0 || !known(r, first) {
		t.Errorf("too early: %v, %v", ended, err)
	}
	now = day.Add(10 * time.Minute)
	if known(r, first) {
		t.Error("the old token outlives its grace")
	}
	ended, err := r.EndGraces(ctx)
	if err != nil || !slices.Equal(ended, []string{"lamp1"}) || known(r, first) || !known(r, second) {
		t.Errorf("%v, %v", ended, err)
	}
	must(t, r.tables.check())
	if d, _ := r.Device("lamp1"); d.Label != "L" || d.Profile != "tasmota" {
		t.Errorf("rotation changed %+v", d)
	}
	// A second rotation ends the grace of the first at once.
	third, err := r.RotateDevice(ctx, "lamp1", time.Hour)
	must(t, err)
	_, err = r.RotateDevice(ctx, "lamp1", 0)
	must(t, err)
	if known(r, second) || known(r, third) {
		t.Error("a rotation without grace left an old token")
	}
	must(t, r.tables.check())
}

func TestProfileGivesRulesAndStays(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	_, err := r.AddDevice(ctx, Device{ID: "plug", Profile: "tasmota", Rules: message.Rules{Publish: []message.Filter{"x"}}})
	must(t, err)
	r = reopen(t, r, dir)
	e, _ := r.Lookup("plug")
	if !slices.Contains(e.Rules.Publish, "tele/${device}/#") || !slices.Contains(e.Rules.Publish, "x") || !slices.Contains(e.Rules.Subscribe, "cmnd/${device}/#") {
		t.Errorf("%+v", e.Rules)
	}
	d, _ := r.Device("plug")
	if d.Profile != "tasmota" || len(d.Rules.Publish) != 1 {
		t.Errorf("%+v", d)
	}
	d.Profile = ""
	must(t, r.UpdateDevice(ctx, d))
	if e, _ := r.Lookup("plug"); len(e.Rules.Publish) != 1 || len(e.Rules.Subscribe) != 0 {
		t.Errorf("without a profile: %+v", e.Rules)
	}
	_, err = r.AddDevice(ctx, Device{ID: "y", Profile: "tasmoda"})
	wantCode(t, err, message.CodeBadRequest)
}

func TestAddDevicesIsAllOrNone(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	_, err := r.AddDevice(ctx, Device{ID: "there"})
	must(t, err)
	pinned := auth.HashToken("a secret that it presented")
	good := []Enrolment{
		{Device: Device{ID: "a", Groups: []string{"hall"}}},
		{Device: Device{ID: "b", Groups: []string{"hall", "attic"}}, Token: "tasmota-1"},
		{Device: Device{ID: "c"}, Pinned: pinned, Guessable: true},
		{Device: Device{ID: "d"}, Token: strings.Repeat("x", 40)},
	}
	for _, c := range []struct {
		bad  Enrolment
		code string
	}{
		{Enrolment{Device: Device{ID: "a"}}, message.CodeExists},
		{Enrolment{Device: Device{ID: "there"}}, message.CodeExists},
		{Enrolment{Device: Device{ID: "no/id"}}, message.CodeBadName},
		{Enrolment{Device: Device{ID: "e"}, Token: "short"}, message.CodeBadRequest},
		{Enrolment{Device: Device{ID: "e"}, Token: "with blanks in it"}, message.CodeBadRequest},
		{Enrolment{Device: Device{ID: "e"}, Token: "tasmota-1"}, message.CodeExists},
		{Enrolment{Device: Device{ID: "e"}, Pinned: pinned}, message.CodeExists},
		{Enrolment{Device: Device{ID: "e", Groups: []string{"no/group"}}}, message.CodeBadName},
		{Enrolment{Device: Device{ID: "e", Profile: "none"}}, message.CodeBadRequest},
	} {
		version := r.Version()
		_, err := r.AddDevices(ctx, append(slices.Clone(good), c.bad))
		var row *RowError
		if !errors.As(err, &row) || row.Row != 4 {
			t.Errorf("%+v: %v does not name row 4", c.bad, err)
		}
		wantCode(t, err, c.code)
		if r.Version() != version || r.HasDevice("a") || r.HasGroup("hall") {
			t.Errorf("%+v: half of the list is there", c.bad)
		}
	}
	tokens, err := r.AddDevices(ctx, good)
	must(t, err)
	if len(tokens) != 4 || tokens[0] == "" || tokens[1] != "" || tokens[2] != "" {
		t.Errorf("%q", tokens)
	}
	r = reopen(t, r, dir)
	for id, guessable := range map[string]bool{"a": false, "b": true, "c": true, "d": false} {
		if e, ok := r.Lookup(id); !ok || e.Guessable != guessable {
			t.Errorf("%s: %+v, %v", id, e, ok)
		}
	}
	if g, _ := r.Group("hall"); !slices.Equal(g.Members, []string{"a", "b"}) || !known(r, "tasmota-1") {
		t.Errorf("%+v", g)
	}
	many := make([]Enrolment, MaxEnrol)
	for i := range many {
		many[i] = Enrolment{Device: Device{ID: fmt.Sprint("n", i), Label: "one of many"}}
	}
	_, err = r.AddDevices(ctx, append(many, Enrolment{}))
	wantCode(t, err, message.CodeTooMany)
	if _, err = r.AddDevices(ctx, many); err != nil || !r.HasDevice(fmt.Sprint("n", MaxEnrol-1)) {
		t.Errorf("the most at once: %v", err)
	}
	must(t, r.tables.check())
}

func TestClaimCodeIsGoodOnceAndForAWhile(t *testing.T) {
	ctx, now := context.Background(), day
	r := at(t, &now)
	old, err := r.AddDevice(ctx, Device{ID: "lamp1"})
	must(t, err)
	earlier, err := r.MakeClaim(ctx, "lamp1")
	must(t, err)
	code, err := r.MakeClaim(ctx, "lamp1")
	must(t, err)
	if len(code) != 19 || strings.ToUpper(code) != code {
		t.Errorf("code %q", code)
	}
	for _, wrong := range []string{"", earlier, code[1:], code + "B"} {
		_, _, err := r.Claim(ctx, wrong)
		wantCode(t, err, message.CodeUnauthorized)
	}
	if !known(r, old) {
		t.Error("a wrong code ended the token")
	}
	id, token, err := r.Claim(ctx, strings.ToLower(strings.ReplaceAll(code, "-", " ")))
	if err != nil || id != "lamp1" || !known(r, token) || known(r, old) || r.HasClaim("lamp1") {
		t.Fatalf("%s, %v", id, err)
	}
	_, _, err = r.Claim(ctx, code)
	wantCode(t, err, message.CodeUnauthorized)

	code, err = r.MakeClaim(ctx, "lamp1")
	must(t, err)
	now = time.Time{}
	_, _, err = r.Claim(ctx, code)
	wantCode(t, err, message.CodeUnavailable)
	now = day.Add(ClaimTTL)
	_, _, err = r.Claim(ctx, code)
	wantCode(t, err, message.CodeUnauthorized)
	now = time.Time{}
	code, err = r.MakeClaim(ctx, "lamp1") // for ever
	must(t, err)
	if _, _, err = r.Claim(ctx, code); err != nil {
		t.Error(err)
	}
	code, _ = r.MakeClaim(ctx, "lamp1")
	must(t, r.RemoveDevice(ctx, "lamp1"))
	_, _, err = r.Claim(ctx, code)
	wantCode(t, err, message.CodeUnauthorized)
	_, err = r.MakeClaim(ctx, "lamp1")
	wantCode(t, err, message.CodeUnknownDevice)
}

func TestUsers(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := open(t, dir)
	if r.SetUp() {
		t.Fatal("a new register has an administrator")
	}
	must(t, r.AddUser(ctx, User{Name: "guest"}, "$h"))
	must(t, r.AddFirstUser(ctx, User{Name: "ann", Admin: true}, "$h1"))
	wantCode(t, r.AddFirstUser(ctx, User{Name: "mallory", Admin: true}, "$h"), message.CodeExists)
	wantCode(t, r.AddUser(ctx, User{Name: "ann"}, "$h"), message.CodeExists)
	wantCode(t, r.AddUser(ctx, User{Name: "a/b"}, "$h"), message.CodeBadName)
	wantCode(t, r.AddUser(ctx, User{Name: "bob"}, ""), message.CodeBadRequest)
	wantCode(t, r.AddUser(ctx, User{Name: "bob"}, strings.Repeat("x", maxPassword+1)), message.CodeBadRequest)
	_, err := r.AddDevice(ctx, Device{ID: "ann"})
	wantCode(t, err, message.CodeExists)
	wantCode(t, r.RemoveUser(ctx, "ann"), message.CodeLastAdmin)
	wantCode(t, r.UpdateUser(ctx, User{Name: "ann"}), message.CodeLastAdmin)
	wantCode(t, r.RemoveUser(ctx, "nobody"), message.CodeNotFound)
	wantCode(t, r.SetPassword(ctx, "nobody", "$h"), message.CodeNotFound)
	must(t, r.SetPassword(ctx, "ann", "$h2"))
	must(t, r.UpdateUser(ctx, User{Name: "guest", Admin: true, Rules: message.Rules{Subscribe: []message.Filter{"#"}}}))
	r = reopen(t, r, dir)
	if h, ok := r.Password("ann"); h != "$h2" || !ok || !r.SetUp() {
		t.Errorf("%q", h)
	}
	if _, ok := r.LookupToken([32]byte{}); ok {
		t.Error("no token is somebody's token")
	}
	e, ok := r.Lookup("guest")
	if !ok || e.Kind != auth.User || !e.Admin || len(e.Rules.Subscribe) != 1 || e.TokenHash != [32]byte{} {
		t.Errorf("%+v", e)
	}
	must(t, r.RemoveUser(ctx, "ann"))
	if _, ok := r.User("ann"); ok || len(r.Users()) != 1 {
		t.Errorf("%+v", r.Users())
	}
	must(t, r.tables.check())
}
