package httpapi

import (
	"bytes"
	"net/http"
	"time"

	"edgepost/appliance/message"
)

// BridgeView is a bridge as the API shows it. Ages and spans are seconds.
type BridgeView struct {
	Name      string         `json:"name"`
	Kind      string         `json:"kind,omitempty"`
	State     string         `json:"state"`
	Since     time.Time      `json:"since,omitzero"`
	URL       string         `json:"url,omitempty"` // host it is connected or connecting to
	Error     string         `json:"error,omitempty"`
	ErrorAt   time.Time      `json:"error_at,omitzero"`
	RetryAt   time.Time      `json:"retry_at,omitzero"`
	Holds     string         `json:"holds,omitempty"` // why it sends nothing although it is connected
	Owed      int64          `json:"owed"`
	Bytes     int64          `json:"bytes"` // of what is owed, about: by the average of messages stored lately
	InFlight  int            `json:"in_flight"`
	Window    int            `json:"window,omitempty"` // most that may be on their way now
	OldestAge float64        `json:"oldest_age"`
	Rate      float64        `json:"rate"` // messages a second confirmed lately
	ETA       *float64       `json:"eta"`  // until nothing is owed, at that rate; null: unknown
	Source    string         `json:"source,omitempty"`
	Counters  any            `json:"counters"`
	Config    map[string]any `json:"config,omitempty"`
}

// BridgeOrder is what an operator wishes of a bridge.
type BridgeOrder struct {
	Do    string        // pause, resume, drain, test, skip, rewind
	Until message.ID    // skip: up to and including; zero: everything
	After message.ID    // rewind: behind it; zero: from the oldest that is kept
	Since time.Duration // rewind: what is younger than this; 0: see After
}

// BridgeResult is what came of it.
type BridgeResult struct {
	Skipped int64
	Gap     bool   // rewind: some of what was meant is no longer kept
	OK      bool   // test: the upstream takes connections …
	URL     string // … at this host
	Error   string // … or why not
}

func (a *api) bridgeRoutes() []route {
	return []route{
		{method: get, pattern: "/v1/bridges", serve: a.listBridges},
		{method: get, pattern: "/v1/bridges/{name}", serve: a.showBridge},
		{method: put, pattern: "/v1/bridges/{name}", serve: a.putBridge},
		{method: patch, pattern: "/v1/bridges/{name}", serve: a.patchBridge},
		{method: remove, pattern: "/v1/bridges/{name}", serve: a.removeBridge},
		{method: post, pattern: "/v1/bridges/{name}/{do}", serve: a.orderBridge},
	}
}

func (a *api) listBridges(c *call) error {
	list, err := a.core.Bridges(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]BridgeView{"bridges": orEmpty(list)})
}

func (a *api) showBridge(c *call) error {
	if err := message.CheckName("bridge name", c.params[0]); err != nil {
		return err
	}
	v, err := a.core.Bridge(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &v)
}

func (a *api) putBridge(c *call) error   { return a.changeBridge(c, false) }
func (a *api) patchBridge(c *call) error { return a.changeBridge(c, true) }

func (a *api) changeBridge(c *call, merge bool) error {
	if err := message.CheckName("bridge name", c.params[0]); err != nil {
		return err
	}
	var body map[string]any
	if err := c.document(&body); err != nil {
		return err
	}
	v, created, err := a.core.PutBridge(c.r.Context(), c.grant, c.params[0], body, merge)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/v1/bridges/"+c.params[0])
	}
	return c.json(status, &v)
}

func (a *api) removeBridge(c *call) error {
	if err := message.CheckName("bridge name", c.params[0]); err != nil {
		return err
	}
	if err := a.core.RemoveBridge(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// orderBridge pauses, resumes, drains, tests, skips or rewinds.
func (a *api) orderBridge(c *call) error {
	if err := message.CheckName("bridge name", c.params[0]); err != nil {
		return err
	}
	o := BridgeOrder{Do: c.params[1]}
	if err := c.readOrder(&o); err != nil {
		return err
	}
	r, err := a.core.OrderBridge(c.r.Context(), c.grant, c.params[0], o)
	if err != nil {
		return err
	}
	switch o.Do {
	case "test":
		return c.json(http.StatusOK, &struct {
			OK    bool   `json:"ok"`
			URL   string `json:"url,omitempty"`
			Error string `json:"error,omitempty"`
		}{r.OK, r.URL, r.Error})
	case "skip":
		return c.json(http.StatusOK, map[string]int64{"skipped": r.Skipped})
	case "rewind":
		return c.json(http.StatusOK, map[string]bool{"gap": r.Gap})
	}
	return c.done()
}

// readOrder reads the body, which only skip and rewind have.
func (c *call) readOrder(o *BridgeOrder) (err error) {
	var body struct {
		After string `json:"after"`
		Since *span  `json:"since"`
		Until string `json:"until"`
	}
	switch o.Do {
	case "pause", "resume", "drain", "test":
		return nil
	case "skip":
		b, err := c.body(maxDocument)
		if err != nil || len(bytes.TrimSpace(b)) == 0 {
			return err
		}
		if err := unmarshalStrict(b, &body); err != nil {
			return err
		}
		if body.After != "" || body.Since != nil {
			return message.Problemf(message.CodeBadJSON, `skip takes {"until": ID} or nothing, which is everything`)
		}
		if body.Until != "" {
			o.Until, err = message.ParseID(body.Until)
		}
		return err
	case "rewind":
		if err := c.document(&body); err != nil {
			return err
		}
		switch {
		case body.Until != "" || (body.After != "") == (body.Since != nil):
			return message.Problemf(message.CodeBadJSON, `rewind takes one of {"after": ID}, {"after": "oldest"} and {"since": SECONDS}`)
		case body.Since != nil:
			o.Since = time.Duration(*body.Since)
		case body.After != "oldest":
			o.After, err = message.ParseID(body.After)
		}
		return err
	}
	return message.Problemf(message.CodeNotFound, "there is no %.40q of a bridge; there are pause, resume, drain, test, skip, rewind", o.Do)
}
