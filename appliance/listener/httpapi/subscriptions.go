package httpapi

import (
	"net/http"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

const (
	maxFilters  = 64
	maxWindow   = 1000
	maxAttempts = 1000
)

// infoJSON shows a subscription.
type infoJSON struct {
	Name        string           `json:"name"`
	Filters     []message.Filter `json:"filters"`
	Depth       int64            `json:"depth"`
	InFlight    int              `json:"in_flight"`
	Oldest      string           `json:"oldest,omitempty"`
	OldestAge   float64          `json:"oldest_age,omitempty"` // seconds
	Connected   bool             `json:"connected"`
	Since       time.Time        `json:"since,omitzero"`
	TTL         float64          `json:"ttl,omitempty"` // seconds
	MaxAttempts int              `json:"max_attempts"`
	Window      int              `json:"window"`
	Durable     bool             `json:"durable"`
}

func showInfo(i *courier.Info) infoJSON {
	j := infoJSON{
		Name: i.Name, Filters: orEmpty(i.Filters), Depth: i.Depth, InFlight: i.InFlight, OldestAge: i.OldestAge.Round(time.Millisecond).Seconds(),
		Connected: i.Connected, Since: i.Since.UTC().Truncate(time.Millisecond), TTL: i.TTL.Seconds(),
		MaxAttempts: i.MaxAttempts, Window: i.Window, Durable: i.Durable,
	}
	if !i.Oldest.IsZero() {
		j.Oldest = i.Oldest.String()
	}
	return j
}

// specJSON is the body of PUT /v1/subscriptions/{name}.
type specJSON struct {
	Filters     []string `json:"filters"`
	After       string   `json:"after"`
	TTL         *span    `json:"ttl"`
	MaxAttempts *int     `json:"max_attempts"`
	Window      *int     `json:"window"`
}

func (j *specJSON) spec() (s courier.NamedSpec, err error) {
	if len(j.Filters) == 0 || len(j.Filters) > maxFilters {
		return s, message.Problemf(message.CodeBadFilter, "filters has %d entries; 1 to %d are possible", len(j.Filters), maxFilters)
	}
	for _, f := range j.Filters {
		filter, err := message.ParseFilter(f)
		if err != nil {
			return s, err
		}
		s.Filters = append(s.Filters, filter)
	}
	if j.After != "" {
		if s.After, err = message.ParseID(j.After); err != nil {
			return s, err
		}
	}
	if j.TTL != nil {
		if s.TTL = time.Duration(*j.TTL); s.TTL == 0 {
			return s, message.Problemf(message.CodeBadRequest, "ttl 0 would expire everything at once; leave it out for seven days")
		}
	}
	if s.MaxAttempts, err = bounded("max_attempts", j.MaxAttempts, maxAttempts); err != nil {
		return s, err
	}
	s.Window, err = bounded("window", j.Window, maxWindow)
	return s, err
}

// bounded is 0, the default, for an absent number.
func bounded(name string, n *int, most int) (int, error) {
	switch {
	case n == nil:
		return 0, nil
	case *n < 1 || *n > most:
		return 0, message.Problemf(message.CodeBadRequest, "%s %d is out of range 1 to %d", name, *n, most)
	}
	return *n, nil
}

func (a *api) listSubscriptions(c *call) error {
	infos, err := a.core.Subscriptions(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	list := make([]infoJSON, 0, len(infos))
	for i := range infos {
		list = append(list, showInfo(&infos[i]))
	}
	return c.json(http.StatusOK, map[string]any{"subscriptions": list})
}

func (a *api) putSubscription(c *call) error {
	if err := message.CheckName("subscription name", c.params[0]); err != nil {
		return err
	}
	var body specJSON
	if err := c.document(&body); err != nil {
		return err
	}
	spec, err := body.spec()
	if err != nil {
		return err
	}
	info, created, err := a.core.PutSubscription(c.r.Context(), c.grant, c.params[0], spec)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/v1/subscriptions/"+c.params[0])
	}
	return c.json(status, showInfo(&info))
}

func (a *api) showSubscription(c *call) error {
	if err := message.CheckName("subscription name", c.params[0]); err != nil {
		return err
	}
	info, err := a.core.Subscription(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, showInfo(&info))
}

func (a *api) deleteSubscription(c *call) error {
	if err := message.CheckName("subscription name", c.params[0]); err != nil {
		return err
	}
	if err := a.core.DeleteSubscription(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// rewind owes again what is kept behind a message.
func (a *api) rewind(c *call) error {
	if err := message.CheckName("subscription name", c.params[0]); err != nil {
		return err
	}
	var body struct {
		After string `json:"after"`
	}
	if err := c.document(&body); err != nil {
		return err
	}
	var after message.ID // zero is the oldest one kept
	if body.After != "oldest" {
		var err error
		if after, err = message.ParseID(body.After); err != nil {
			return message.Problemf(message.CodeBadID, `after %.60q is neither a message id nor "oldest"`, body.After)
		}
	}
	gap, err := a.core.Rewind(c.r.Context(), c.grant, c.params[0], after)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]bool{"gap": gap})
}
