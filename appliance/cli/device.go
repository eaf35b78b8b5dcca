package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/message"
)

// deviceJSON is a device as the API writes and reads it.
type deviceJSON struct {
	ID      string        `json:"id"`
	Label   string        `json:"label,omitempty"`
	Groups  []string      `json:"groups,omitempty"`
	Rules   message.Rules `json:"rules,omitzero"`
	Profile string        `json:"profile,omitempty"`
	Seal    string        `json:"seal,omitempty"`
	SealKey string        `json:"seal_key,omitempty"`
	Created time.Time     `json:"created,omitzero"`
	Inbox   *inboxJSON    `json:"inbox,omitempty"`
}

// credential is the answer to whatever makes a token.
type credential struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Token string `json:"token"`
}

func deviceCommands() []*command {
	return []*command{deviceAdd(), deviceImport(), deviceList(), deviceShow(), deviceToken(), deviceRotate(), deviceClaim(), deviceCert(), deviceSeal(), remover("device rm", "ID", "/v1/devices/", "remove a device; what waits for it is cancelled")}
}

func deviceAdd() *command {
	var d struct {
		deviceJSON
		Claim bool `json:"claim,omitempty"`
	}
	c := &command{name: "device add", args: "ID", short: "register a device and print its token", flags: newFlags()}
	c.long = `
Standard output gets the token and nothing else, so that TOKEN=$(edgepost device add lamp1) works. The token
is not stored and cannot be shown again. From now on messages to device/ID/in/… wait for the device; it
may publish to device/ID/out/…; -publish, -subscribe and -profile allow more. The commands of a profile, such as
cmnd/ID/… of Tasmota, wait for the device too, whatever its clean-session flag says.`
	c.flags.Var(list[string]{&d.Groups}, "group", "put it into `GROUP`, made if it does not exist; may be repeated")
	c.flags.StringVar(&d.Label, "label", "", "`TEXT` for people, in any language")
	c.flags.BoolVar(&d.Claim, "claim", false, "print a claim code and what its QR code says, in place of a token; see device claim")
	c.flags.StringVar(&d.Profile, "profile", "", "it speaks MQTT as a `NAME` does: tasmota, zigbee2mqtt, esphome, shelly or homeassistant; ID is its name in its topics")
	ruleFlags(c.flags, &d.Rules)
	c.run = func(ctx context.Context, call *call) error {
		d.ID = call.args[0]
		if d.Claim {
			return call.showClaim(ctx, "/v1/devices", d)
		}
		err := call.addCredential(ctx, "/v1/devices", d, "device "+d.ID+" is added. This is its token's only appearance; with it:\n"+
			"  edgepost listen -device "+d.ID+" -token TOKEN")
		if f := (*failure)(nil); errors.As(err, &f) && strings.HasSuffix(f.text, "("+message.CodeExists+")") {
			f.next = "a new token for it: edgepost device token " + d.ID
		}
		return err
	}
	return c
}

// ruleFlags adds -publish and -subscribe.
func ruleFlags(fs *flag.FlagSet, r *message.Rules) {
	fs.Var(list[message.Filter]{&r.Publish}, "publish", "allow it to publish to topics that match `FILTER`; may be repeated")
	fs.Var(list[message.Filter]{&r.Subscribe}, "subscribe", "allow it to receive topics that match `FILTER`; may be repeated")
}

// addCredential makes something that has a token, and prints the token.
func (c *call) addCredential(ctx context.Context, path string, v any, hint string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var made credential
	body, err := cl.call(ctx, http.MethodPost, path, v, &made)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(body)
	}
	for line := range strings.SplitSeq(hint, "\n") {
		c.note("%s", strings.ReplaceAll(line, "edgepost ", c.prog+" "))
	}
	return c.print(made.Token + "\n")
}

func deviceList() *command {
	c := &command{name: "device list", short: "list all devices", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/devices", "devices")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		g := &grid{}
		g.row("ID", "GROUPS", "LABEL")
		return printRows(call, g, docs, func(d deviceJSON) { g.row(d.ID, strings.Join(d.Groups, ","), d.Label) })
	}
	return c
}

func deviceShow() *command {
	c := &command{name: "device show", args: "ID", short: "show a device, what it may, and what waits for it", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var d deviceJSON
		body, err := call.get(ctx, "/v1/devices/"+url.PathEscape(call.args[0]), &d)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		g := &grid{}
		g.row("id", d.ID)
		g.row("label", d.Label)
		g.row("groups", strings.Join(d.Groups, ", "))
		if d.Profile != "" {
			g.row("profile", d.Profile)
		}
		if d.Seal != "" {
			g.row("sealed", d.Seal+", key "+d.SealKey)
		}
		g.rules(&d.Rules)
		g.row("created", stamp(d.Created))
		if d.Inbox != nil {
			d.Inbox.rows(g)
		}
		return call.printGrid(g)
	}
	return c
}

func deviceToken() *command {
	c := &command{name: "device token", args: "ID", short: "give a device a new token and print it; the old one ends", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		id := call.args[0]
		return call.addCredential(ctx, "/v1/devices/"+url.PathEscape(id)+"/token", nil, "device "+id+" has a new token; the old one no longer works")
	}
	return c
}

func deviceRotate() *command {
	var grace time.Duration
	c := &command{name: "device rotate", args: "ID", short: "give a device a new token and print it; the old one ends after a grace", flags: newFlags()}
	c.long = `
Without -grace the old token and connections with it end at once. With it both tokens are good until then, so that
the device can be given the new one; after that whoever still uses the old one is disconnected.`
	c.flags.Var(span{&grace}, "grace", "how long the old token stays good: `TIME` such as 10m or 7d, at most 30d")
	c.run = func(ctx context.Context, call *call) error {
		id, hint := call.args[0], "the old one no longer works"
		var body any
		if grace > 0 {
			hint = "the old one works for " + appliance.FormatDuration(grace) + " more"
			body = map[string]string{"grace": grace.String()}
		}
		return call.addCredential(ctx, "/v1/devices/"+url.PathEscape(id)+"/token", body, "device "+id+" has a new token; "+hint)
	}
	return c
}

// maxImport is the most bytes of a list of devices, as the API has it.
const maxImport = 2 << 20

func deviceImport() *command {
	c := &command{name: "device import", args: "FILE.csv", short: "register a list of devices, all or none, and print their tokens", flags: newFlags()}
	c.long = `
The first line names the columns: id, label, groups, token, profile; only id is needed. Groups are separated by
blanks. A token that is there, 8 characters or more, is the device's; where none is, one is made. Standard
output gets id,token lines for the tokens that were made. FILE may be - for standard input.`
	c.run = func(ctx context.Context, call *call) error {
		list, err := call.readList(call.args[0])
		if err != nil {
			return err
		}
		cl, err := call.client()
		if err != nil {
			return err
		}
		body, err := cl.do(ctx, request{
			method: http.MethodPost, path: "/v1/import/devices", body: bytes.NewReader(list), header: http.Header{"Content-Type": {"text/csv"}}, wait: time.Minute,
		})
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		var made struct {
			Devices []credential `json:"devices"`
		}
		if err := cl.decode(body, &made); err != nil {
			return err
		}
		call.note("%d devices are added", len(made.Devices))
		var b strings.Builder
		for _, d := range made.Devices {
			if d.Token != "" {
				b.WriteString(d.ID + "," + d.Token + "\n")
			}
		}
		return call.print(b.String())
	}
	return c
}

// readList reads a file, or standard input for "-".
func (c *call) readList(name string) ([]byte, error) {
	in := c.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the list: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	if len(b) > maxImport {
		return nil, usage(c.cmd.name, "%s: the list is larger than %s; divide it", c.cmd.name, appliance.FormatSize(maxImport))
	}
	return b, nil
}

// rules adds what somebody may do.
func (g *grid) rules(r *message.Rules) {
	for _, one := range []struct {
		name string
		list []message.Filter
	}{{"publish", r.Publish}, {"deny_publish", r.DenyPublish}, {"subscribe", r.Subscribe}, {"deny_subscribe", r.DenySubscribe}} {
		if len(one.list) > 0 {
			g.row(one.name, joinFilters(one.list))
		}
	}
}

func joinFilters(list []message.Filter) string {
	words := make([]string, len(list))
	for i, f := range list {
		words[i] = string(f)
	}
	return strings.Join(words, ", ")
}

// stamp writes a time as the API does; "" when it is not known.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// remover is a command that deletes one thing.
func remover(name, arg, path, short string) *command {
	c := &command{name: name, args: arg, short: short, flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodDelete, path+url.PathEscape(call.args[0]), nil)
	}
	return c
}

// change does something that has no answer. With -json it still prints one object.
func (c *call) change(ctx context.Context, method, path string, v any) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	body, err := cl.call(ctx, method, path, v, nil)
	switch {
	case err != nil || !c.json:
		return err
	case len(body) == 0:
		return c.print("{}\n")
	}
	return c.printJSON(body)
}

// get reads one object.
func (c *call) get(ctx context.Context, path string, into any) ([]byte, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return cl.call(ctx, http.MethodGet, path, nil, into)
}

// list reads the objects under one name of the answer.
func (c *call) list(ctx context.Context, path, name string) ([]json.RawMessage, error) {
	var answer map[string]json.RawMessage
	if _, err := c.get(ctx, path, &answer); err != nil {
		return nil, err
	}
	var docs []json.RawMessage
	if len(answer[name]) > 0 {
		if err := json.Unmarshal(answer[name], &docs); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// printRows decodes each document, lets row add it, and prints the grid.
func printRows[T any](c *call, g *grid, docs []json.RawMessage, row func(T)) error {
	for _, doc := range docs {
		var v T
		if err := json.Unmarshal(doc, &v); err != nil {
			return err
		}
		row(v)
	}
	return c.printGrid(g)
}

func orElse(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}
