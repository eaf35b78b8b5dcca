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
	var reason string
	var rate float64
	var all bool
	c := &command{name: "dead requeue", args: "[ENTRY]", short: "send a dead letter to its subscription again and print its id, or many", flags: newFlags()}
	c.flags.StringVar(&reason, "reason", "", "all that have this `REASON`, exactly, instead of one")
	c.flags.BoolVar(&all, "all", false, "all of them")
	c.flags.Float64Var(&rate, "rate", 10, "with -reason or -all: `N` a second")
	c.run = func(ctx context.Context, call *call) error {
		cl, err := call.client()
		if err != nil {
			return err
		}
		many := all || reason != ""
		switch {
		case many && len(call.args) > 0:
			return usage(c.name, "%s: give either an ENTRY, or -reason or -all", c.name)
		case many:
			return requeueMany(ctx, call, cl, map[string]any{"reason": reason, "rate": rate})
		case len(call.args) == 0:
			return usage(c.name, "%s: say which: an ENTRY, -reason REASON or -all", c.name)
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

// jobJSON is a job of the appliance.
type jobJSON struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Total  int64  `json:"total"`
	Done   int64  `json:"done"`
	Failed int64  `json:"failed"`
	Error  string `json:"error"`
}

// jobPoll is how often a command that waits for a job asks for it.
const jobPoll = 200 * time.Millisecond

// requeueMany begins a job and waits for its end; ctrl-C leaves it running.
func requeueMany(ctx context.Context, call *call, cl *client, ask map[string]any) error {
	var begun struct {
		Job string `json:"job"`
	}
	if _, err := cl.call(ctx, http.MethodPost, "/v1/dead/requeue", ask, &begun); err != nil {
		return err
	}
	tick := time.NewTicker(jobPoll)
	defer tick.Stop()
	for {
		var j jobJSON
		shown, err := cl.call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(begun.Job), nil, &j)
		if err != nil {
			return err
		}
		if j.State != "running" {
			if j.Failed > 0 || j.State != "done" {
				call.note("%d could not be requeued, the job is %s: %s", j.Total-j.Done, j.State, j.Error)
			}
			if call.json {
				return call.printJSON(shown)
			}
			return call.print(strconv.FormatInt(j.Done, 10) + " requeued\n")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
