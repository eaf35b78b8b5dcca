package cli

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"edgepost/appliance"
	"edgepost/appliance/message"
)

// inboxJSON is a subscription as the API shows it: a device's inbox, or a named one.
type inboxJSON struct {
	Name        string           `json:"name"`
	Filters     []message.Filter `json:"filters"`
	Depth       int64            `json:"depth"`
	InFlight    int              `json:"in_flight"`
	Oldest      string           `json:"oldest"`
	OldestAge   float64          `json:"oldest_age"` // seconds
	Connected   bool             `json:"connected"`
	Since       time.Time        `json:"since"`
	TTL         float64          `json:"ttl"` // seconds
	MaxAttempts int              `json:"max_attempts"`
	Window      int              `json:"window"`
}

// rows adds what waits in the inbox and what holds for it.
func (s *inboxJSON) rows(g *grid) {
	link := "not connected"
	if s.Connected {
		link = "connected"
	}
	if !s.Since.IsZero() {
		link += " since " + stamp(s.Since)
	}
	g.row("link", link)
	g.row("filters", joinFilters(s.Filters))
	waits := strconv.FormatInt(s.Depth, 10) + " messages, " + strconv.Itoa(s.InFlight) + " of them on their way"
	if s.Oldest != "" {
		waits += "; oldest " + s.Oldest + ", " + appliance.FormatDuration(seconds(s.OldestAge).Truncate(time.Second)) + " old"
	}
	g.row("waiting", waits)
	g.row("policy", "ttl "+appliance.FormatDuration(seconds(s.TTL))+", "+strconv.Itoa(s.MaxAttempts)+" attempts, window "+strconv.Itoa(s.Window))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func subscriptionCommands() []*command {
	return []*command{subscriptionList(), subscriptionShow(), remover("subscription rm", "NAME", "/v1/subscriptions/", "end a named subscription; what waits in it is cancelled")}
}

func subscriptionList() *command {
	c := &command{name: "subscription list", short: "list the durable named subscriptions of the token", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		docs, err := call.list(ctx, "/v1/subscriptions", "subscriptions")
		if err != nil || call.json {
			return orElse(err, func() error { return call.printEach(docs) })
		}
		g := &grid{}
		g.row("NAME", "FILTERS", "WAITING", "CONNECTED")
		return printRows(call, g, docs, func(s inboxJSON) {
			g.row(s.Name, joinFilters(s.Filters), strconv.FormatInt(s.Depth, 10), yes(s.Connected))
		})
	}
	return c
}

func subscriptionShow() *command {
	c := &command{name: "subscription show", args: "NAME", short: "show a named subscription and what waits in it", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var s inboxJSON
		body, err := call.get(ctx, "/v1/subscriptions/"+url.PathEscape(call.args[0]), &s)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		g := &grid{}
		g.row("name", s.Name)
		s.rows(g)
		return call.printGrid(g)
	}
	return c
}
