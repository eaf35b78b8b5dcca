package httpapi

import (
	"net/http"
	"net/url"
	"time"

	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// deviceBody is what a client says about a device. The registry checks names and filters.
type deviceBody struct {
	ID      string        `json:"id"`
	Label   string        `json:"label"`
	Groups  []string      `json:"groups"`
	Rules   message.Rules `json:"rules"`
	Profile string        `json:"profile"`

	Claim       bool   `json:"claim"`       // when it is added: make a claim code
	Fingerprint string `json:"fingerprint"` // when it is approved: which of those who wait
}

// only refuses what belongs to another call.
func (b *deviceBody) only(claim, fingerprint bool) error {
	if b.Claim && !claim {
		return message.Problemf(message.CodeBadJSON, "\"claim\" belongs to POST /v1/devices; for a device that is there: POST /v1/devices/{id}/claim")
	}
	if b.Fingerprint != "" && !fingerprint {
		return message.Problemf(message.CodeBadJSON, "\"fingerprint\" belongs to POST /v1/join/{name}/approve")
	}
	return nil
}

func (b *deviceBody) device() registry.Device {
	return registry.Device{ID: b.ID, Label: b.Label, Groups: b.Groups, Rules: b.Rules, Profile: b.Profile}
}

func (a *api) addDevice(c *call) error {
	var b deviceBody
	if err := c.document(&b); err != nil {
		return err
	}
	if err := b.only(true, false); err != nil {
		return err
	}
	token, err := a.core.AddDevice(c.r.Context(), c.grant, b.device())
	if err == nil && b.Claim {
		return a.claimable(c, b.ID)
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/devices/"+url.PathEscape(b.ID))
	return c.json(http.StatusCreated, tokenJSON{ID: b.ID, Token: token})
}

// claimable answers with a claim code in place of a device's token, which nobody ever sees.
func (a *api) claimable(c *call, id string) error {
	code, contents, err := a.core.MakeClaim(c.r.Context(), c.grant, id)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/devices/"+url.PathEscape(id))
	return c.json(http.StatusCreated, &claimJSON{id, code, contents})
}

// tokenJSON shows a secret, this once.
type tokenJSON struct {
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	Token string `json:"token"`
}

func (a *api) showDevice(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	d, inbox, err := a.core.Device(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &struct {
		registry.Device
		Inbox infoJSON `json:"inbox"`
	}{d, showInfo(&inbox)})
}

func (a *api) updateDevice(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b deviceBody
	if err := c.document(&b); err != nil {
		return err
	}
	if err := b.only(false, false); err != nil {
		return err
	}
	if b.ID != "" && b.ID != c.params[0] {
		return message.Problemf(message.CodeBadRequest, "the body is about device %.70q, the path about %q; an id does not change", b.ID, c.params[0])
	}
	b.ID = c.params[0]
	if err := a.core.UpdateDevice(c.r.Context(), c.grant, b.device()); err != nil {
		return err
	}
	return c.done()
}

func (a *api) removeDevice(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	if err := a.core.RemoveDevice(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

func (a *api) rotateDevice(c *call) error {
	if err := message.CheckName("device id", c.params[0]); err != nil {
		return err
	}
	var b struct {
		Grace span `json:"grace"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&b); err != nil {
			return err
		}
	}
	token, err := a.core.RotateDevice(c.r.Context(), c.grant, c.params[0], time.Duration(b.Grace))
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, tokenJSON{ID: c.params[0], Token: token})
}

func (a *api) listGroups(c *call) error {
	groups, err := a.core.Groups(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	for i := range groups {
		groups[i].Members = orEmpty(groups[i].Members)
	}
	return c.json(http.StatusOK, map[string][]registry.Group{"groups": orEmpty(groups)})
}

func (a *api) addGroup(c *call) error {
	var b struct {
		Name  string `json:"name"`
		Label string `json:"label"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	if err := a.core.AddGroup(c.r.Context(), c.grant, b.Name, b.Label); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/groups/"+url.PathEscape(b.Name))
	return c.json(http.StatusCreated, registry.Group{Name: b.Name, Label: b.Label, Members: []string{}})
}

func (a *api) showGroup(c *call) error {
	if err := message.CheckName("group name", c.params[0]); err != nil {
		return err
	}
	g, err := a.core.Group(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	g.Members = orEmpty(g.Members)
	return c.json(http.StatusOK, &g)
}

func (a *api) removeGroup(c *call) error {
	if err := message.CheckName("group name", c.params[0]); err != nil {
		return err
	}
	if err := a.core.RemoveGroup(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

func (a *api) join(c *call) error {
	if err := checkMember(c); err != nil {
		return err
	}
	if err := a.core.Join(c.r.Context(), c.grant, c.params[0], c.params[1]); err != nil {
		return err
	}
	return c.done()
}

func (a *api) leave(c *call) error {
	if err := checkMember(c); err != nil {
		return err
	}
	if err := a.core.Leave(c.r.Context(), c.grant, c.params[0], c.params[1]); err != nil {
		return err
	}
	return c.done()
}

func checkMember(c *call) error {
	if err := message.CheckName("group name", c.params[0]); err != nil {
		return err
	}
	return message.CheckName("device id", c.params[1])
}

func (a *api) listKeys(c *call) error {
	keys, err := a.core.Keys(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]registry.Key{"keys": orEmpty(keys)})
}

func (a *api) addKey(c *call) error {
	var b struct {
		Name  string        `json:"name"`
		Label string        `json:"label"`
		Admin bool          `json:"admin"`
		Rules message.Rules `json:"rules"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	token, err := a.core.AddKey(c.r.Context(), c.grant, registry.Key{Name: b.Name, Label: b.Label, Admin: b.Admin, Rules: b.Rules})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/keys/"+url.PathEscape(b.Name))
	return c.json(http.StatusCreated, tokenJSON{Name: b.Name, Token: token})
}

func (a *api) showKey(c *call) error {
	if err := message.CheckName("key name", c.params[0]); err != nil {
		return err
	}
	k, err := a.core.Key(c.r.Context(), c.grant, c.params[0])
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &k)
}

func (a *api) removeKey(c *call) error {
	if err := message.CheckName("key name", c.params[0]); err != nil {
		return err
	}
	if err := a.core.RemoveKey(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// orEmpty makes a list that JSON shows as [] and never as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
