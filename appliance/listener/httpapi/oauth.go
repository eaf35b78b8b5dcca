package httpapi

import (
	"net/http"
	"net/url"
	"time"

	"edgepost/appliance/message"
)

// oauthRoutes are what administrators decide about access tokens; package oauthapi gives them out.
func (a *api) oauthRoutes() []route {
	return []route{
		{method: get, pattern: "/v1/oauth", serve: a.showOAuth},
		{method: post, pattern: "/v1/oauth/rotate", serve: a.rotateTokenKeys},
		{method: post, pattern: "/v1/oauth/revoke", serve: a.revokeTokens},
		{method: get, pattern: "/v1/oauth/device/{code}", serve: a.showDeviceRequest},
		{method: post, pattern: "/v1/oauth/device/{code}/approve", serve: a.approveDevice},
		{method: post, pattern: "/v1/oauth/device/{code}/refuse", serve: a.refuseDevice},
	}
}

// keyJSON is a key that signs access tokens.
type keyJSON struct {
	ID    string `json:"kid"`
	State string `json:"state"`
	Age   int64  `json:"age"` // seconds in that state
}

func (a *api) showOAuth(c *call) error {
	keys, err := a.core.TokenKeys(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	list := make([]keyJSON, len(keys))
	for i, k := range keys {
		list[i] = keyJSON{k.ID, k.State, int64(k.Since / time.Second)}
	}
	return c.json(http.StatusOK, &struct {
		Issuer string    `json:"issuer"`
		Keys   []keyJSON `json:"keys"`
	}{a.core.Issuer(), list})
}

func (a *api) rotateTokenKeys(c *call) error {
	var b struct {
		End bool `json:"end_tokens"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
	}
	if err := a.core.RotateTokenKeys(c.r.Context(), c.grant, b.End); err != nil {
		return err
	}
	return c.done()
}

func (a *api) revokeTokens(c *call) error {
	var b struct {
		Principal string `json:"principal"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	if err := a.core.RevokeTokens(c.r.Context(), c.grant, b.Principal); err != nil {
		return err
	}
	return c.done()
}

// requestJSON is a device that waits with a user code.
type requestJSON struct {
	Client    string `json:"client_id"` // nobody has proved it
	Principal string `json:"principal"` // registered under that name; "" nobody
	Scope     string `json:"scope"`
	From      string `json:"from"`
	Left      int64  `json:"expires_in"` // seconds
}

func (a *api) showDeviceRequest(c *call) error {
	req, principal, err := a.core.DeviceRequest(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	r := requestJSON{Client: req.Client, Principal: principal, Scope: req.Scope.Text, Left: int64(req.Left / time.Second)}
	if req.From.IsValid() {
		r.From = req.From.String()
	}
	return c.json(http.StatusOK, &r)
}

func (a *api) approveDevice(c *call) error {
	var b struct {
		Keep bool `json:"keep"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
	}
	client, err := a.core.ApproveDevice(c.r.Context(), c.grant, c.params[0], b.Keep)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]string{"client_id": client})
}

func (a *api) refuseDevice(c *call) error {
	if c.r.ContentLength != 0 {
		return message.Problemf(message.CodeBadRequest, "refusing takes no body")
	}
	if err := a.core.RefuseDevice(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// devicePage leads who types the short address that a device shows to the dashboard's page for it. The code is behind the #, so
// that no log has it.
func (a *api) devicePage(c *call) error {
	to := "/#/approve"
	if code := c.query.Get("user_code"); code != "" {
		to += "?code=" + url.QueryEscape(code)
	}
	c.w.Header().Set("Location", to)
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}
