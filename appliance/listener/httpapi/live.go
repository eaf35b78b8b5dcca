package httpapi

import (
	"encoding/json"
	"net/http"

	"edgepost/appliance/message"
	"edgepost/appliance/system/pulse"
)

// live is the feed of the dashboard, as server-sent events: a tick each second until the client goes away, or may not
// administer any more. The last event says why it ended.
func (a *api) live(c *call) error {
	session := c.sessionID()
	ticks, stop, err := a.core.Watch(c.grant)
	if err != nil {
		return err
	}
	defer stop()
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events for itself
	if !c.event("", nil) {
		return nil
	}
	for {
		select {
		case <-c.r.Context().Done():
			return nil
		case t, more := <-ticks:
			if err := a.core.Holds(c.grant, session); err != nil {
				c.bye(message.ProblemOf(err))
				return nil
			}
			if !more {
				c.bye(message.Problemf(message.CodeUnavailable, "the feed was ended; connect again"))
				return nil
			}
			if !c.tick(t) {
				return nil
			}
		}
	}
}

func (c *call) tick(t *pulse.Tick) bool {
	b, err := json.Marshal(t)
	return err == nil && c.event("tick", b)
}

// bye ends a feed.
func (c *call) bye(p *message.Problem) {
	if p == nil {
		p = message.Problemf(message.CodeUnauthorized, "the credentials have ended")
	}
	b, err := json.Marshal(map[string]string{"code": p.Code, "detail": p.Detail})
	if err == nil {
		c.event("bye", b)
	}
}

// event sends one event; without a name, how soon the client shall connect again when the connection breaks. False: the
// client is gone or too slow.
func (c *call) event(name string, data []byte) bool {
	b := []byte("retry: 1000\n\n")
	if name != "" {
		b = append(append(append([]byte("event: "+name+"\ndata: "), data...), '\n'), '\n')
	}
	return c.write(b) && http.NewResponseController(c.w).Flush() == nil
}

// liveHistory is the last hour.
func (a *api) liveHistory(c *call) error {
	h, err := a.core.Past(c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &h)
}
