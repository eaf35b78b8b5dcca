package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

type deadJSON struct {
	Entry        uint64       `json:"entry"`
	Subscription string       `json:"subscription"`
	Reason       string       `json:"reason"`
	Attempts     int          `json:"attempts"`
	At           time.Time    `json:"at"`
	Message      *messageJSON `json:"message"`
}

func deadCommands() []*command { return []*command{deadList(), deadShow(), deadRequeue()} }

func deadList() *command {
	var after uint64
	var limit int
	c := &command{name: "dead list", short: "list dead letters: messages that a subscription gave up", flags: newFlags()}
	c.flags.Uint64Var(&after, "after", 0, "start behind this `ENTRY`")
	c.flags.IntVar(&limit, "n", 0, "at most `N`; 0: as many as one answer holds")
	c.run = func(ctx context.Context, call *call) error {
		q := url.Values{}
		if after > 0 {
			q.Set("after", strconv.FormatUint(after, 10))
		}
		if limit > 0 {
			q.Set("limit", strconv.Itoa(limit))
		}
		path := "/v1/dead"
		if len(q) > 0 {
			path += "?" + q.Encode()
		}
		var answer struct {
			Dead []json.RawMessage `json:"dead"`
			Next uint64            `json:"next"`
		}
		if _, err := call.get(ctx, path, &answer); err != nil {
			return err
		}
		if answer.Next > 0 {
			defer call.note("there may be more: -after %d", answer.Next)
		}
		if call.json {
			return call.printEach(answer.Dead)
		}
		g := &grid{}
		g.row("ENTRY", "SUBSCRIPTION", "ID", "TOPIC", "ATTEMPTS", "AT", "REASON")
		return printRows(call, g, answer.Dead, func(d deadJSON) {
			m := d.shown()
			g.row(strconv.FormatUint(d.Entry, 10), d.Subscription, m.ID, m.Topic, strconv.Itoa(d.Attempts), stamp(d.At), d.Reason)
		})
	}
	return c
}

// shown is the message, or an empty one when it is no longer kept.
func (d *deadJSON) shown() *messageJSON {
	if d.Message == nil {
		return &messageJSON{}
	}
	return d.Message
}

func deadShow() *command {
	c := &command{name: "dead show", args: "ENTRY", short: "show a dead letter with its payload", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var d deadJSON
		body, err := call.get(ctx, "/v1/dead/"+url.PathEscape(call.args[0]), &d)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		m := d.shown()
		g := &grid{}
		g.row("entry", strconv.FormatUint(d.Entry, 10))
		g.row("subscription", d.Subscription)
		g.row("reason", d.Reason)
		g.row("attempts", strconv.Itoa(d.Attempts))
		g.row("at", stamp(d.At))
		g.row("id", m.ID)
		g.row("topic", m.Topic)
		g.row("from", m.From)
		g.row("type", m.Type)
		g.row("payload", m.payload())
		return call.printGrid(g)
	}
	return c
}

func deadRequeue() *command {
	c := &command{name: "dead requeue", args: "ENTRY", short: "send a dead letter to its subscription again and print its id", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		var stored publishedJSON
		body, err := cl.call(ctx, http.MethodPost, "/v1/dead/"+url.PathEscape(call.args[0])+"/requeue", nil, &stored)
		if err != nil {
			return err
		}
		if call.json {
			return call.printJSON(body)
		}
		return call.print(stored.ID + "\n")
	}
	return c
}
