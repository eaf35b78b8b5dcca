package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

type groupJSON struct {
	Name    string   `json:"name"`
	Label   string   `json:"label,omitempty"`
	Members []string `json:"members,omitempty"`
}

func groupCommands() []*command {
	return []*command{
		groupAdd(), groupList(), groupShow(),
		remover("group rm", "NAME", "/v1/groups/", "remove a group; its devices stay"),
		member("group join", http.MethodPut, "put a device into a group"),
		member("group leave", http.MethodDelete, "take a device out of a group"),
	}
}

func groupAdd() *command {
	var g groupJSON
	c := &command{name: "group add", args: "NAME", short: "make a group of devices", flags: newFlags()}
	c.long = `A message to group/NAME/in/… goes to the inbox of every device that is in the group then.`
	c.flags.StringVar(&g.Label, "label", "", "`TEXT` for people, in any language")
	c.run = func(ctx context.Context, call *call) error {
		g.Name = call.args[0]
		return call.change(ctx, http.MethodPost, "/v1/groups", g)
	}
	return c
}

func groupList() *command {
	c := &command{name: "group list", short: "list all groups", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/groups", "groups")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		t := &grid{}
		t.row("NAME", "DEVICES", "LABEL")
		return printRows(call, t, docs, func(g groupJSON) { t.row(g.Name, strconv.Itoa(len(g.Members)), g.Label) })
	}
	return c
}

func groupShow() *command {
	c := &command{name: "group show", args: "NAME", short: "show a group and its devices", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var g groupJSON
		body, err := call.get(ctx, "/v1/groups/"+url.PathEscape(call.args[0]), &g)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		t := &grid{}
		t.row("name", g.Name)
		t.row("label", g.Label)
		t.row("devices", strings.Join(g.Members, ", "))
		return call.printGrid(t)
	}
	return c
}

// member is a command that changes who is in a group.
func member(name, method, short string) *command {
	c := &command{name: name, args: "GROUP DEVICE", short: short, flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, method, "/v1/groups/"+url.PathEscape(call.args[0])+"/devices/"+url.PathEscape(call.args[1]), nil)
	}
	return c
}
