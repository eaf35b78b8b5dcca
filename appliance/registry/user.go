package registry

import (
	"context"
	"slices"
	"strings"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry/profile"
)

// MaxUsers is the most users: an appliance in a house, not a directory.
const MaxUsers = 1000

// maxPassword is the most bytes of a password's hash.
const maxPassword = 512

// AddUser makes a user with the hash of a password. Problems: exists, bad-name, bad-filter, bad-request, too-many.
func (r *Registry) AddUser(ctx context.Context, u User, password string) error {
	return r.addUser(ctx, u, password, false)
}

// AddFirstUser is AddUser as long as nobody may administer; after that it is refused as exists.
func (r *Registry) AddFirstUser(ctx context.Context, u User, password string) error {
	return r.addUser(ctx, u, password, true)
}

func (r *Registry) addUser(ctx context.Context, u User, password string, first bool) error {
	r.change.Lock()
	defer r.change.Unlock()
	if first && r.tables.admins > 0 {
		return message.Problemf(message.CodeExists, "this gateway is set up already; sign in, or use edgepost admin passwd on the gateway")
	}
	if err := message.CheckName("user name", u.Name); err != nil {
		return err
	}
	if err := r.checkFree(u.Name); err != nil {
		return err
	}
	if r.tables.users >= MaxUsers {
		return message.Problemf(message.CodeTooMany, "there are %d users; that is the most", MaxUsers)
	}
	if err := checkUser(&u, password); err != nil {
		return err
	}
	rec := &record{
		kind: putUser, name: u.Name, label: u.Label, admin: u.Admin, rules: copyRules(u.Rules), created: r.created(), extra: extra{password: password},
	}
	return r.commit(ctx, []*record{rec}, Change{UserAdded, u.Name})
}

func checkUser(u *User, password string) error {
	if password == "" || len(password) > maxPassword {
		return message.Problemf(message.CodeBadRequest, "the hash of the password has %d bytes; 1 to %d", len(password), maxPassword)
	}
	if err := checkLabel(u.Label); err != nil {
		return err
	}
	return checkRules(&u.Rules, false)
}

// UpdateUser replaces a user's label, rules and whether it may administer. Problems: not-found, bad-filter, bad-request, and
// last-admin for the last who may administer. On a full disk it is refused unless it takes rights away and gives none.
func (r *Registry) UpdateUser(ctx context.Context, u User) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findUser(u.Name)
	if err != nil {
		return err
	}
	if err := checkUser(&u, p.extra.password); err != nil {
		return err
	}
	if !u.Admin {
		if err := r.checkNotLast(p); err != nil {
			return err
		}
	}
	rec := p.record()
	was := p.copyRules()
	narrows := (p.admin || !u.Admin) && u.Rules.Within(&was) && (p.admin != u.Admin || !was.Within(&u.Rules))
	rec.label, rec.admin, rec.rules = u.Label, u.Admin, copyRules(u.Rules)
	return r.commitOrRevoke(ctx, narrows, &rec, Change{UserChanged, u.Name})
}

// SetPassword replaces the hash of a user's password. Problems: not-found, bad-request.
func (r *Registry) SetPassword(ctx context.Context, name, password string) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findUser(name)
	if err != nil {
		return err
	}
	if err := checkUser(&User{Name: name}, password); err != nil {
		return err
	}
	rec := p.record()
	rec.extra.password = password
	return r.revoke(ctx, []*record{&rec}, Change{UserChanged, name})
}

// RemoveUser removes a user. Problems: not-found, last-admin.
func (r *Registry) RemoveUser(ctx context.Context, name string) error {
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.findUser(name)
	if err != nil {
		return err
	}
	if err := r.checkNotLast(p); err != nil {
		return err
	}
	return r.revoke(ctx, []*record{{kind: removeUser, name: name}}, Change{UserRemoved, name})
}

func (r *Registry) checkNotLast(p *principal) error {
	if p.admin && r.tables.admins == 1 {
		return message.Problemf(message.CodeLastAdmin, "%s is the last user who may administer; make another one first", p.name)
	}
	return nil
}

func (r *Registry) findUser(name string) (*principal, error) {
	if p := r.tables.user(name); p != nil {
		return p, nil
	}
	return nil, message.Problemf(message.CodeNotFound, "there is no user %.70q", name)
}

// Users returns all users, sorted by name.
func (r *Registry) Users() []User {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]User, 0, r.tables.users)
	for _, p := range r.tables.principals {
		if p.kind == auth.User {
			list = append(list, p.asUser())
		}
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// User returns one user.
func (r *Registry) User(name string) (User, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.user(name)
	if p == nil {
		return User{}, false
	}
	return p.asUser(), true
}

// Password returns the hash of a user's password.
func (r *Registry) Password(name string) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.tables.user(name)
	if p == nil {
		return "", false
	}
	return p.extra.password, true
}

// SetUp reports whether there is a user who may administer.
func (r *Registry) SetUp() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tables.admins > 0
}

// Profiles are how devices that exist already speak.
func (r *Registry) Profiles() profile.Set { return r.profiles }

func (p *principal) asUser() User {
	return User{Name: p.name, Label: p.label, Admin: p.admin, Rules: p.copyRules(), Created: asTime(p.created)}
}
