package appliance

import (
	"context"
	"errors"
	"time"

	"edgepost/appliance/guard/audit"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// personEvery is how soon connections of a session that is over, or of a token whose grace is over, end.
const personEvery = 15 * time.Second

// IsSetUp reports whether there is a user who may administer.
func (k *core) IsSetUp() bool { return k.reg.SetUp() }

// NewSetupCode makes a set-up code; an earlier one ends. Problem: exists when the gateway is set up.
func (k *core) NewSetupCode(ctx context.Context, g *auth.Grant) (code string, err error) {
	defer func() { k.audited(ctx, g, "setup.code", "", err) }()
	if err := admin(g); err != nil {
		return "", err
	}
	if k.reg.SetUp() {
		return "", message.Problemf(message.CodeExists, "this gateway is set up already; edgepost admin passwd sets an administrator's password")
	}
	return k.desk.NewCode(), nil
}

// SetUp makes the first administrator for who has the set-up code, and signs it in.
func (k *core) SetUp(ctx context.Context, code, name, password string) (session string, err error) {
	if k.reg.SetUp() {
		return "", message.Problemf(message.CodeExists, "this gateway is set up already; sign in, or use edgepost admin passwd on the gateway")
	}
	if err := k.desk.CheckCode(code, auth.RemoteFrom(ctx)); err != nil {
		k.log.Warn("a wrong set-up code was tried", "from", auth.RemoteFrom(ctx))
		k.recordStranger(ctx, audit.Record{Action: "setup", Result: message.ProblemOf(err).Code})
		return "", err
	}
	if err := taken(name); err != nil {
		return "", err
	}
	hash, err := k.desk.Hash(ctx, name, password)
	if err != nil {
		return "", err
	}
	if err := k.reg.AddFirstUser(ctx, everything(registry.User{Name: name, Admin: true}), hash); err != nil {
		return "", err
	}
	k.desk.EndCode()
	k.record(ctx, audit.Record{Actor: "user/" + name, Action: "setup", Object: name, Result: audit.OK})
	return k.desk.Sessions().Open(name), nil
}

// everything lets an administrator publish and read what programs may, unless its rules say something already.
func everything(u registry.User) registry.User {
	if u.Admin && len(u.Rules.Publish)+len(u.Rules.Subscribe)+len(u.Rules.DenyPublish)+len(u.Rules.DenySubscribe) == 0 {
		u.Rules = message.Rules{Publish: []message.Filter{"#"}, Subscribe: []message.Filter{"#"}}
	}
	return u
}

// SignIn opens a session.
func (k *core) SignIn(ctx context.Context, name, password string) (session string, err error) {
	session, err = k.desk.SignIn(ctx, name, password, auth.RemoteFrom(ctx))
	switch p := message.ProblemOf(err); {
	case err == nil:
		k.record(ctx, audit.Record{Actor: "user/" + name, Action: "session.open", Object: name, Result: audit.OK})
	case p != nil:
		// What was typed as a name may be the password.
		shown := ""
		if _, known := k.reg.User(name); known {
			shown = name
		}
		k.log.Warn("a sign-in failed", "user", shown, "from", auth.RemoteFrom(ctx), "code", p.Code)
		k.recordStranger(ctx, audit.Record{Action: "session.open", Object: shown, Result: p.Code})
	}
	return session, err
}

// SignOut ends a session.
func (k *core) SignOut(ctx context.Context, g *auth.Grant, session string) {
	k.desk.Sessions().End(session)
	k.kick(g.Principal()) // other sessions of the user connect again
	k.record(ctx, audit.Record{Actor: g.Principal(), Action: "session.close", Object: g.Name, Result: audit.OK})
}

// SessionLeft is how long a session lasts if it is not used any more.
func (k *core) SessionLeft(session string) time.Duration { return k.desk.Sessions().Left(session) }

// Users lists the users.
func (k *core) Users(_ context.Context, g *auth.Grant) ([]registry.User, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.reg.Users(), nil
}

// User describes a user; each may see itself.
func (k *core) User(_ context.Context, g *auth.Grant, name string) (registry.User, error) {
	if err := admin(g); err != nil && !self(g, name) {
		return registry.User{}, err
	}
	u, ok := k.reg.User(name)
	if !ok {
		return u, message.Problemf(message.CodeNotFound, "there is no user %.64q", name)
	}
	return u, nil
}

func self(g *auth.Grant, name string) bool { return g.Kind == auth.User && g.Name == name }

// AddUser makes a user.
func (k *core) AddUser(ctx context.Context, g *auth.Grant, u registry.User, password string) (err error) {
	defer func() { k.audited(ctx, g, "user.add", u.Name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	if err := errors.Join(taken(u.Name), message.CheckName("user name", u.Name)); err != nil {
		return err
	}
	hash, err := k.desk.Hash(ctx, u.Name, password)
	if err != nil {
		return err
	}
	if err := k.reg.AddUser(ctx, everything(u), hash); err != nil {
		return err
	}
	if u.Admin {
		k.desk.EndCode()
	}
	return nil
}

// UpdateUser changes label, rules and whether the user may administer.
func (k *core) UpdateUser(ctx context.Context, g *auth.Grant, u registry.User) (err error) {
	defer func() { k.audited(ctx, g, "user.update", u.Name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	return k.reg.UpdateUser(ctx, u)
}

// SetPassword changes a user's password and ends its other sessions. Who changes its own must know the present one; an administrator
// changes those of others.
func (k *core) SetPassword(ctx context.Context, g *auth.Grant, name, present, password, session string) (err error) {
	defer func() { k.audited(ctx, g, "user.password", name, err) }()
	if self(g, name) {
		if err := k.desk.Verify(ctx, name, present, auth.RemoteFrom(ctx)); err != nil {
			return err
		}
	} else if err := admin(g); err != nil {
		return err
	}
	if _, ok := k.reg.User(name); !ok {
		return message.Problemf(message.CodeNotFound, "there is no user %.64q", name)
	}
	hash, err := k.desk.Hash(ctx, name, password)
	if err != nil {
		return err
	}
	if err := k.reg.SetPassword(ctx, name, hash); err != nil {
		return err
	}
	k.desk.Sessions().EndOf(name, session)
	k.kick("user/" + name)
	return nil
}

// RemoveUser ends a user, its sessions, subscriptions and connections.
func (k *core) RemoveUser(ctx context.Context, g *auth.Grant, name string) (err error) {
	defer func() { k.audited(ctx, g, "user.remove", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	k.changes.RLock()
	defer k.changes.RUnlock()
	if err := k.reg.RemoveUser(ctx, name); err != nil {
		return err
	}
	k.desk.Sessions().EndOf(name, "")
	k.end(ctx, "user/"+name)
	return nil
}

// watchPeople ends what a session or a token that is over left open, until ctx is done.
func (a *Appliance) watchPeople(ctx context.Context) {
	k := &a.core
	tick := time.NewTicker(personEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, user := range k.desk.Sessions().Sweep() {
			k.kick("user/" + user)
		}
		ended, err := k.reg.EndGraces(ctx)
		if err != nil {
			a.o.Log.Warn("old tokens could not be forgotten; they are refused all the same", "error", err)
		}
		for _, id := range ended {
			k.kick("device/" + id)
		}
	}
}

// NewSetupCode makes a set-up code for the console; "" when the gateway is set up.
func (a *Appliance) NewSetupCode() string {
	if a.core.reg.SetUp() {
		return ""
	}
	return a.core.desk.NewCode()
}
