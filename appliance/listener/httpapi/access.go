package httpapi

import (
	"net/http"

	"edgepost/appliance/message"
)

// checkAccess is the dry run of the rules: what would be answered, and by which rule. It changes
// nothing and counts nowhere.
func (a *api) checkAccess(c *call) error {
	g, q := c.grant, c.query
	if p := q.Get("principal"); p != "" && p != g.Principal() {
		if !g.Admin {
			return message.Problemf(message.CodeForbidden, "only an administrator may ask about others")
		}
		var ok bool
		if g, ok = a.core.Current(p); !ok {
			return message.Problemf(message.CodeNotFound, "there is no principal %.100q; one looks like device/lamp1, key/app, user/ann, jwt/corp/alice (once its token was seen) or anonymous", p)
		}
	}
	var allowed bool
	var rule string
	action, topic := q.Get("action"), q.Get("topic")
	switch action {
	case "publish":
		t, err := message.ParseTopic(topic)
		if err != nil {
			return err
		}
		allowed, rule = g.ExplainPublish(t)
	case "subscribe":
		f, err := message.ParseFilter(topic)
		if err != nil {
			return err
		}
		allowed, rule = g.ExplainSubscribe(f)
	default:
		return message.Problemf(message.CodeBadRequest, "query parameter action is %.40q; it must be publish or subscribe", action)
	}
	return c.json(http.StatusOK, &struct {
		Principal string `json:"principal"`
		Action    string `json:"action"`
		Topic     string `json:"topic"`
		Allowed   bool   `json:"allowed"`
		Rule      string `json:"rule"`
	}{g.Principal(), action, topic, allowed, rule})
}
