package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"edgepost/appliance"
)

type bridgeJSON struct {
	Name      string           `json:"name"`
	Kind      string           `json:"kind"`
	State     string           `json:"state"`
	Since     time.Time        `json:"since"`
	URL       string           `json:"url"`
	Error     string           `json:"error"`
	ErrorAt   time.Time        `json:"error_at"`
	RetryAt   time.Time        `json:"retry_at"`
	Holds     string           `json:"holds"`
	Owed      int64            `json:"owed"`
	Bytes     int64            `json:"bytes"`
	InFlight  int              `json:"in_flight"`
	Window    int              `json:"window"`
	OldestAge float64          `json:"oldest_age"` // seconds
	Rate      float64          `json:"rate"`
	ETA       *float64         `json:"eta"` // seconds
	Source    string           `json:"source"`
	Counters  map[string]int64 `json:"counters"`
	Config    json.RawMessage  `json:"config"`
}

func bridgeCommands() []*command {
	return []*command{
		bridgeList(), bridgeShow(),
		bridgeOrder("pause", "end the connection of a bridge until it is resumed; what matches waits in the log"),
		bridgeOrder("resume", "end a pause, or the wait before the next connection"),
		bridgeOrder("drain", "have a bridge forward what it owes, and pause then"),
		bridgeSkip(), bridgeRewind(), bridgeTest(),
		remover("bridge rm", "NAME", "/v1/bridges/", "end a bridge with all that it owes"),
	}
}

func bridgeList() *command {
	c := &command{name: "bridge list", short: "list the bridges to upstreams", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/bridges", "bridges")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		g := &grid{}
		g.row("NAME", "KIND", "STATE", "OWED", "OLDEST", "ETA", "LAST ERROR")
		return printRows(call, g, docs, func(b bridgeJSON) {
			g.row(b.Name, b.Kind, b.State, strconv.FormatInt(b.Owed, 10), b.oldest(), b.eta(), b.Error)
		})
	}
	return c
}

func (b *bridgeJSON) oldest() string {
	if b.Owed == 0 {
		return ""
	}
	return appliance.FormatDuration(seconds(b.OldestAge).Truncate(time.Second))
}

func (b *bridgeJSON) eta() string {
	if b.ETA == nil {
		return ""
	}
	return appliance.FormatDuration(seconds(*b.ETA).Truncate(time.Second))
}

func bridgeShow() *command {
	c := &command{name: "bridge show", args: "NAME", short: "show a bridge, its backlog and its configuration", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var b bridgeJSON
		body, err := call.get(ctx, "/v1/bridges/"+url.PathEscape(call.args[0]), &b)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		g := &grid{}
		name := b.Name
		if from := map[string]string{"file": "the configuration file", "api": "the API"}[b.Source]; from != "" { // an orphan is from nowhere
			name += " (" + b.Kind + ", from " + from + ")"
		}
		g.row("name", name)
		state := b.State
		if b.URL != "" && b.State != "paused" {
			state += " " + b.URL
		}
		if !b.Since.IsZero() {
			state += " since " + stamp(b.Since)
		}
		if !b.RetryAt.IsZero() {
			state += ", next try " + stamp(b.RetryAt)
		}
		if b.Holds != "" {
			state += "; it sends nothing: " + b.Holds
		}
		g.row("state", state)
		waits := fmt.Sprintf("%d messages, about %d bytes, %d on their way", b.Owed, b.Bytes, b.InFlight)
		if b.Window > 0 {
			waits += fmt.Sprintf(" of %d at the most", b.Window)
		}
		if b.Owed > 0 {
			waits += "; oldest " + b.oldest() + " old"
		}
		if b.ETA != nil {
			waits += "; done in " + b.eta()
		}
		g.row("owed", waits)
		if b.Error != "" {
			g.row("last error", stamp(b.ErrorAt)+" "+b.Error)
		}
		n := b.Counters
		g.row("out", fmt.Sprintf("%d sent, %d confirmed, %d refused, %d dead; %.1f a second", n["sent"], n["confirmed"], n["refused"], n["dead"], b.Rate))
		g.row("in", fmt.Sprintf("%d received, %d stored, %d repeated, %d looped, %d not taken", n["received"], n["stored"], n["repeated"], n["looped"], n["not_taken"]))
		g.row("config", string(b.Config))
		return call.printGrid(g)
	}
	return c
}

// bridgeOrder is a command that has nothing to say.
func bridgeOrder(do, short string) *command {
	c := &command{name: "bridge " + do, args: "NAME", short: short, flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		return call.change(ctx, http.MethodPost, bridgePath(call, do), nil)
	}
	return c
}

func bridgePath(call *call, do string) string {
	return "/v1/bridges/" + url.PathEscape(call.args[0]) + "/" + do
}

func bridgeSkip() *command {
	var until string
	c := &command{name: "bridge skip", args: "NAME", short: "end what a bridge owes as cancelled, and print how much that was", flags: newFlags()}
	c.flags.StringVar(&until, "until", "", "up to and including the message `ID`; default: everything")
	c.run = func(ctx context.Context, call *call) error {
		var answer struct {
			Skipped int64 `json:"skipped"`
		}
		body, err := call.order(ctx, bridgePath(call, "skip"), map[string]string{"until": until}, &answer)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		return call.print(strconv.FormatInt(answer.Skipped, 10) + "\n")
	}
	return c
}

func bridgeRewind() *command {
	var after, since string
	c := &command{name: "bridge rewind", args: "NAME", short: "have a bridge send again what is kept: when the upstream lost it", flags: newFlags()}
	c.flags.StringVar(&after, "after", "", "what came behind the message `ID`, or oldest")
	c.flags.StringVar(&since, "since", "", "what is younger than this `DURATION`")
	c.run = func(ctx context.Context, call *call) error {
		if (after == "") == (since == "") {
			return usage("bridge rewind", "bridge rewind: say one of -after and -since")
		}
		order := map[string]string{"after": after}
		if since != "" {
			order = map[string]string{"since": since}
		}
		var answer struct {
			Gap bool `json:"gap"`
		}
		body, err := call.order(ctx, bridgePath(call, "rewind"), order, &answer)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		if answer.Gap {
			call.note("some of it is no longer kept: it was settled and cleaned away")
		}
		return nil
	}
	return c
}

func bridgeTest() *command {
	c := &command{name: "bridge test", args: "NAME", short: "look whether the upstream takes a connection now", flags: newFlags()}
	c.long = `It connects with the bridge's addresses and credentials, changes nothing and takes no session over.`
	c.run = func(ctx context.Context, call *call) error {
		var answer struct {
			OK    bool   `json:"ok"`
			URL   string `json:"url"`
			Error string `json:"error"`
		}
		body, err := call.order(ctx, bridgePath(call, "test"), nil, &answer)
		switch {
		case err != nil:
			return err
		case call.json:
			err = call.printJSON(body)
		case answer.OK:
			err = call.print(answer.URL + " takes the connection\n")
		}
		if err == nil && !answer.OK {
			return errors.New(answer.Error)
		}
		return err
	}
	return c
}

// order posts a document and reads the answer.
func (c *call) order(ctx context.Context, path string, v, into any) ([]byte, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return cl.call(ctx, http.MethodPost, path, v, into)
}
