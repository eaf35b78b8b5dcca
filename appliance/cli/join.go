package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"edgepost/appliance"
)

// doorJSON is who waits for approval.
type doorJSON struct {
	Open    bool  `json:"open"`
	Left    int64 `json:"left"` // seconds
	Waiting []struct {
		Name        string    `json:"name"`
		Fingerprint string    `json:"fingerprint"`
		Via         string    `json:"via"`
		From        string    `json:"from"`
		Seen        time.Time `json:"seen"`
		Tries       int       `json:"tries"`
		Short       bool      `json:"short"`
	} `json:"waiting"`
}

func joinCommands() []*command {
	return []*command{joinOpen(), joinClose(), joinList(), joinApprove(), joinRefuse()}
}

func joinOpen() *command {
	minutes := 0
	c := &command{name: "join open", short: "permit joining: for ten minutes unknown devices are held as waiting", flags: newFlags()}
	c.long = `
Give the device a user name, which becomes its id, and a password of 8 characters or more, and let it connect
over MQTT, WebSocket or HTTP. Then: edgepost join list, edgepost join approve NAME.`
	c.flags.IntVar(&minutes, "minutes", 0, "permit it for `N` minutes, 1 to 60 (default 10)")
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		var body any
		if call.given["minutes"] {
			body = map[string]int{"minutes": minutes}
		}
		var d doorJSON
		answer, err := cl.call(ctx, http.MethodPost, "/v1/join", body, &d)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(answer) })
		}
		call.note("joining is permitted for %s", appliance.FormatDuration(time.Duration(d.Left)*time.Second))
		return nil
	}
	return c
}

func joinClose() *command {
	c := &command{name: "join close", short: "permit joining no longer; who waits is sent away", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodDelete, "/v1/join", nil)
	}
	return c
}

func joinList() *command {
	c := &command{name: "join list", short: "list the devices that wait for approval", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var d doorJSON
		body, err := call.get(ctx, "/v1/join", &d)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		if d.Open {
			call.note("joining is permitted for %s more", appliance.FormatDuration(time.Duration(d.Left)*time.Second))
		} else {
			call.note("joining is not permitted; edgepost join open")
		}
		g := &grid{}
		g.row("NAME", "FINGERPRINT", "VIA", "FROM", "SEEN", "TRIES", "NOTE")
		for _, w := range d.Waiting {
			note := ""
			if w.Short {
				note = "password too short"
			}
			g.row(w.Name, w.Fingerprint, w.Via, w.From, stamp(w.Seen), strconv.Itoa(w.Tries), note)
		}
		return call.printGrid(g)
	}
	return c
}

func joinApprove() *command {
	var d struct {
		deviceJSON
		Fingerprint string `json:"fingerprint,omitempty"`
	}
	c := &command{name: "join approve", args: "NAME", short: "register a device that waits, with the password that it presented", flags: newFlags()}
	c.flags.Var(list[string]{&d.Groups}, "group", "put it into `GROUP`, made if it does not exist; may be repeated")
	c.flags.StringVar(&d.Label, "label", "", "`TEXT` for people, in any language")
	c.flags.StringVar(&d.Profile, "profile", "", "it speaks MQTT as a `NAME` does: tasmota, zigbee2mqtt, esphome, shelly or homeassistant")
	c.flags.StringVar(&d.Fingerprint, "which", "", "when two wait under the name: the one with the fingerprint `HEX` of join list")
	ruleFlags(c.flags, &d.Rules)
	c.run = func(ctx context.Context, call *call) error {
		d.ID = call.args[0]
		return call.change(ctx, http.MethodPost, "/v1/join/"+url.PathEscape(d.ID)+"/approve", d)
	}
	return c
}

func joinRefuse() *command {
	print := ""
	c := &command{name: "join refuse", args: "NAME", short: "send a device away that waits", flags: newFlags()}
	c.flags.StringVar(&print, "which", "", "when two wait under the name: the one with the fingerprint `HEX` of join list")
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, "/v1/join/"+url.PathEscape(call.args[0])+"/refuse", map[string]string{"fingerprint": print})
	}
	return c
}

// claimJSON is a claim code.
type claimJSON struct {
	ID    string `json:"id"`
	Claim string `json:"claim"`
	QR    string `json:"qr"`
}

func deviceClaim() *command {
	c := &command{name: "device claim", args: "ID", short: "make a code with which somebody gets a new token of the device, once", flags: newFlags()}
	c.long = `
Standard output gets two lines: the code, and what a QR code of it says. It is good for 30 days and once:
edgepost claim CODE, or POST /v1/claim. The token of now stays good until then.`
	c.run = func(ctx context.Context, call *call) error {
		return call.showClaim(ctx, "/v1/devices/"+url.PathEscape(call.args[0])+"/claim", nil)
	}
	return c
}

func (c *call) showClaim(ctx context.Context, path string, body any) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var made claimJSON
	answer, err := cl.call(ctx, http.MethodPost, path, body, &made)
	if err != nil || c.json {
		return orElse(err, func() error { return c.printJSON(answer) })
	}
	return c.print(made.Claim + "\n" + made.QR + "\n")
}

func claimCommand() *command {
	c := &command{name: "claim", args: "CODE", short: "use a claim code up and print the token of its device", flags: newFlags()}
	c.long = `
Needs no other credentials: a new device runs it with -url. Standard output gets the token and nothing else.`
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		var made credential
		body, err := cl.call(ctx, http.MethodPost, "/v1/claim", map[string]string{"code": call.args[0]}, &made)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		call.note("this is the token of device %s", made.ID)
		return call.print(fmt.Sprintln(made.Token))
	}
	return c
}
