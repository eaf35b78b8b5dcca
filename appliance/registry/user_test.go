package registry

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
)

// stepUser is a change of users and claim codes.
func (m *model) stepUser(t *testing.T, r *Registry, rnd *rand.Rand, name string) {
	t.Helper()
	ctx := context.Background()
	_, isUser := m.users[name]
	_, isDevice := m.devices[name]
	_, isKey := m.keys[name]
	u := User{Name: name, Label: "u", Admin: rnd.IntN(2) == 0, Created: day}
	admins := 0
	for _, other := range m.users {
		if other.Admin {
			admins++
		}
	}
	last := m.users[name].Admin && admins == 1
	var err error
	var ok bool
	switch rnd.IntN(5) {
	case 0:
		if err, ok = r.AddUser(ctx, u, "$hash of "+name), !isUser && !isDevice && !isKey; ok {
			m.users[name] = u
		}
	case 1:
		u.Label = "changed"
		if err, ok = r.UpdateUser(ctx, u), isUser && (u.Admin || !last); ok {
			m.users[name] = u
		}
	case 2:
		if err, ok = r.RemoveUser(ctx, name), isUser && !last; ok {
			delete(m.users, name)
		}
	case 3:
		ok = isDevice
		var code string
		if code, err = r.MakeClaim(ctx, name); ok {
			m.claims[name] = code
		}
	default:
		code := m.claims[name]
		ok = code != ""
		var id, token string
		if id, token, err = r.Claim(ctx, strings.ToLower(code)); ok {
			if id != name {
				t.Fatalf("the code of %s is %s's", name, id)
			}
			m.tokens[name] = token
			delete(m.claims, name)
		}
	}
	if (err == nil) != ok || r.SetUp() != m.setUp() {
		t.Fatalf("user %s: error %v, want success %v; set up %v", name, err, ok, r.SetUp())
	}
}

func (m *model) setUp() bool {
	for _, u := range m.users {
		if u.Admin {
			return true
		}
	}
	return false
}
