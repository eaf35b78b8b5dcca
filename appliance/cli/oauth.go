package cli

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"edgepost/appliance"
)

func oauthCommands() []*command {
	return []*command{oauthShow(), oauthApprove(), oauthRefuse(), oauthRevoke(), oauthRotate()}
}

func oauthShow() *command {
	c := &command{name: "oauth show", args: "[CODE]", short: "show the issuer of access tokens and its keys, or the device that waits with a user code", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		if len(call.args) == 1 {
			return call.showWaiting(ctx, call.args[0])
		}
		var o struct {
			Issuer string `json:"issuer"`
			Keys   []struct {
				ID    string `json:"kid"`
				State string `json:"state"`
				Age   int64  `json:"age"`
			} `json:"keys"`
		}
		body, err := call.get(ctx, "/v1/oauth", &o)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		call.note("issuer %s", o.Issuer)
		g := &grid{}
		g.row("KEY", "STATE", "FOR")
		for _, k := range o.Keys {
			g.row(k.ID, k.State, appliance.FormatDuration(time.Duration(k.Age)*time.Second))
		}
		return call.printGrid(g)
	}
	return c
}

func (c *call) showWaiting(ctx context.Context, code string) error {
	var r struct {
		Client    string `json:"client_id"`
		Principal string `json:"principal"`
		Scope     string `json:"scope"`
		From      string `json:"from"`
		Left      int64  `json:"expires_in"`
	}
	body, err := c.get(ctx, deviceCodePath(code, ""), &r)
	if err != nil || c.json {
		return orElse(err, func() error { return c.printJSON(body) })
	}
	if r.Principal == "" {
		r.Principal = "nobody yet"
	}
	g := &grid{}
	g.row("CLIENT", "REGISTERED", "FROM", "SCOPE", "LEFT")
	g.row(r.Client, r.Principal, r.From, r.Scope, appliance.FormatDuration(time.Duration(r.Left)*time.Second))
	return c.printGrid(g)
}

func deviceCodePath(code, what string) string {
	return "/v1/oauth/device/" + url.PathEscape(code) + what
}

func oauthApprove() *command {
	keep := false
	c := &command{name: "oauth approve", args: "CODE", short: "grant the request of the device that shows the user code", flags: newFlags()}
	c.long = `
The device gets one access token for the device or key that it says it is (edgepost oauth show CODE). With -keep it also
gets a secret of its own with which it asks for further tokens: a new device is registered, and the token that a
registered one had until now ends.`
	c.flags.BoolVar(&keep, "keep", false, "also give the device a secret of its own, and register it if it is new")
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, deviceCodePath(call.args[0], "/approve"), map[string]bool{"keep": keep})
	}
	return c
}

func oauthRefuse() *command {
	c := &command{name: "oauth refuse", args: "CODE", short: "refuse the request of the device that shows the user code", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, deviceCodePath(call.args[0], "/refuse"), nil)
	}
	return c
}

func oauthRevoke() *command {
	c := &command{name: "oauth revoke", args: "PRINCIPAL", short: "end all access tokens of device/ID or key/NAME, and connections with them", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, "/v1/oauth/revoke", map[string]string{"principal": call.args[0]})
	}
	return c
}

func oauthRotate() *command {
	end := false
	c := &command{name: "oauth rotate", short: "sign access tokens with the next key from now on; it happens by itself every 90 days", flags: newFlags()}
	c.flags.BoolVar(&end, "end-tokens", false, "the old key is not to be trusted any more: its tokens end now")
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, "/v1/oauth/rotate", map[string]bool{"end_tokens": end})
	}
	return c
}
