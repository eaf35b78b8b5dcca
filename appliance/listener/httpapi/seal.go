package httpapi

import (
	"encoding/json"
	"net/http"

	"edgepost/appliance/guard/seal"
	"edgepost/appliance/message"
)

// setSeal says how a device's payloads are sealed.
func (a *api) setSeal(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b struct {
		Form string          `json:"form"`
		Key  json.RawMessage `json:"key"`
		New  bool            `json:"new"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	form, err := seal.ParseForm(b.Form)
	if err != nil {
		return message.Problemf(message.CodeBadRequest, "form: %v", err)
	}
	var key seal.Key
	switch {
	case b.Form == "":
		return message.Problemf(message.CodeBadRequest, "\"form\" is missing: jwe, a256gcm or off")
	case form == seal.None && (len(b.Key) > 0 || b.New), len(b.Key) > 0 && b.New:
		return message.Problemf(message.CodeBadRequest, "\"key\" and \"new\" exclude each other, and form off has neither")
	case len(b.Key) > 0:
		if key, err = seal.ParseKey(b.Key); err != nil {
			return message.Problemf(message.CodeBadRequest, "%v", err)
		}
	}
	id, made, err := a.core.SetSeal(c.r.Context(), c.grant, c.params[0], form, key, b.New)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &struct {
		ID      string          `json:"id"`
		Seal    seal.Form       `json:"seal"`
		SealKey string          `json:"seal_key,omitempty"`
		Key     json.RawMessage `json:"key,omitempty"`
	}{c.params[0], form, id, made})
}
