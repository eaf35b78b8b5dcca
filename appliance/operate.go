package appliance

import (
	"cmp"
	"context"

	"edgepost/appliance/guard/account"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/httpapi"
	"edgepost/appliance/message"
)

// SetName names the gateway.
func (k *core) SetName(ctx context.Context, g *auth.Grant, name string) (err error) {
	defer func() { k.audited(ctx, g, "gateway.name", name, err) }()
	if err := admin(g); err != nil {
		return err
	}
	if k.fixedName {
		return message.Problemf(message.CodeExists, "the configuration names this gateway; change its name there")
	}
	return k.reg.SetName(ctx, name)
}

// IssuerList describes the issuers whose tokens are accepted, without secrets.
func (k *core) IssuerList(g *auth.Grant) ([]httpapi.Issuer, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.issuers, nil
}

func issuerList(list []IssuerConfig) []httpapi.Issuer {
	out := make([]httpapi.Issuer, 0, len(list))
	for _, c := range list {
		c = c.withDefaults()
		out = append(out, httpapi.Issuer{
			Name: c.Name, Issuer: c.Issuer, Audience: c.Audience, Algorithms: c.Algorithms, Keys: cmp.Or(plain(c.KeysURL), c.KeysFile, c.SecretFile),
			DeviceClaim: c.DeviceClaim, AdminScope: c.AdminScope,
		})
	}
	return out
}

// SessionList lists the sessions of all people, for administrators; for others their own. present is the asker's own.
func (k *core) SessionList(g *auth.Grant, present string) ([]account.Session, error) {
	if g.Admin {
		return k.desk.Sessions().List("", present), nil
	}
	if g.Kind != auth.User {
		return nil, admin(g)
	}
	return k.desk.Sessions().List(g.Name, present), nil
}

// CloseSession ends one of them.
func (k *core) CloseSession(ctx context.Context, g *auth.Grant, id string) (err error) {
	user := ""
	defer func() { k.audited(ctx, g, "session.end", user, err) }()
	if !g.Admin {
		if user = g.Name; g.Kind != auth.User {
			return admin(g)
		}
	}
	user, ok := k.desk.Sessions().EndListed(user, id)
	if !ok {
		return message.Problemf(message.CodeNotFound, "there is no session %.20q", id)
	}
	k.kick("user/" + user)
	return nil
}
