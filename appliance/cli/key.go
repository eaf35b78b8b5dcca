package cli

import (
	"context"
	"net/url"
	"time"

	"edgepost/appliance/message"
)

type keyJSON struct {
	Name    string        `json:"name"`
	Label   string        `json:"label,omitempty"`
	Admin   bool          `json:"admin,omitempty"`
	Rules   message.Rules `json:"rules,omitzero"`
	Created time.Time     `json:"created,omitzero"`
}

func keyCommands() []*command {
	return []*command{keyAdd(), keyList(), keyShow(), remover("key rm", "NAME", "/v1/keys/", "remove a key; its token ends at once")}
}

func keyAdd() *command {
	var k keyJSON
	c := &command{name: "key add", args: "NAME", short: "make a key for a program and print its token", flags: newFlags()}
	c.long = `
Standard output gets the token and nothing else. It is not stored and cannot be shown again. A key may do
nothing but what -publish, -subscribe and -admin allow. Its name must not be a device's.`
	ruleFlags(c.flags, &k.Rules)
	c.flags.BoolVar(&k.Admin, "admin", false, "allow it to administer: devices, groups, keys, dead letters")
	c.flags.StringVar(&k.Label, "label", "", "`TEXT` for people, in any language")
	c.run = func(ctx context.Context, call *call) error {
		k.Name = call.args[0]
		if !k.Admin && len(k.Rules.Publish)+len(k.Rules.Subscribe) == 0 {
			return usage(c.name, "%s: the key could do nothing; give -publish FILTER, -subscribe FILTER or -admin", c.name)
		}
		return call.addCredential(ctx, "/v1/keys", k, "key "+k.Name+" is added. This is its token's only appearance; use it with -token or EDGEPOST_TOKEN")
	}
	return c
}

func keyList() *command {
	c := &command{name: "key list", short: "list all keys", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/keys", "keys")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		t := &grid{}
		t.row("NAME", "ADMIN", "PUBLISH", "SUBSCRIBE", "LABEL")
		return printRows(call, t, docs, func(k keyJSON) {
			t.row(k.Name, yes(k.Admin), joinFilters(k.Rules.Publish), joinFilters(k.Rules.Subscribe), k.Label)
		})
	}
	return c
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func keyShow() *command {
	c := &command{name: "key show", args: "NAME", short: "show a key and what it may", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var k keyJSON
		body, err := call.get(ctx, "/v1/keys/"+url.PathEscape(call.args[0]), &k)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		t := &grid{}
		t.row("name", k.Name)
		t.row("label", k.Label)
		t.row("admin", yes(k.Admin))
		t.rules(&k.Rules)
		t.row("created", stamp(k.Created))
		return call.printGrid(t)
	}
	return c
}
