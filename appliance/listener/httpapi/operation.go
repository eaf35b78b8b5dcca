package httpapi

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"edgepost/appliance/guard/account"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/guard/backup"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
)

// Setting is one value of the configuration in force.
type Setting struct {
	Key    string `json:"key"` // as a file would name it: "http.addr", "history[0].filter"
	Value  any    `json:"value"`
	Origin string `json:"origin"` // "default", "line 12" of the file, or "flag"
}

// Mistake is what is wrong with a configuration.
type Mistake struct {
	Line   int    `json:"line"` // 1-based; 0: of the whole
	Key    string `json:"key"`
	Detail string `json:"detail"`
}

// Issuer is one whose tokens are accepted.
type Issuer struct {
	Name        string   `json:"name"`
	Issuer      string   `json:"iss"`
	Audience    []string `json:"aud"`
	Algorithms  []string `json:"algs"`
	Keys        string   `json:"keys"` // where they come from: an address or a file
	DeviceClaim string   `json:"device_claim,omitempty"`
	AdminScope  string   `json:"admin_scope,omitempty"`
}

// Restored is what a restored backup brought.
type Restored struct {
	registry.Census
	Bridges  int      `json:"bridges"`            // made over the API
	Problems []string `json:"problems,omitempty"` // why others of them are not restored
	Restart  bool     `json:"restart"`            // certificates and keys are in place after the next start
	Config   string   `json:"config,omitempty"`   // the text of the configuration that the gateway had; it is not put in force
}

// Operation is what administrators look at and change beside messages and principals.
type Operation interface {
	// Settings is the configuration in force, without secrets.
	Settings(g *auth.Grant) ([]Setting, error)
	// CheckConfig says what is wrong with a configuration's text; nothing: none.
	CheckConfig(ctx context.Context, g *auth.Grant, text string) ([]Mistake, error)
	// Diagnose writes a bundle without secrets, a tar.
	Diagnose(ctx context.Context, g *auth.Grant, w io.Writer) error
	// Backup packs what is not messages, encrypted; Restore replaces it.
	Backup(ctx context.Context, g *auth.Grant, passphrase string) ([]byte, error)
	Restore(ctx context.Context, g *auth.Grant, passphrase string, backup []byte) (Restored, error)
	SetName(ctx context.Context, g *auth.Grant, name string) error
	IssuerList(g *auth.Grant) ([]Issuer, error)
	// SessionList lists everybody's sessions to administrators, and people their own. present is the one that asks.
	SessionList(g *auth.Grant, present string) ([]account.Session, error)
	CloseSession(ctx context.Context, g *auth.Grant, id string) error
}

// maxConfig is what a configuration may have, as in a file.
const maxConfig = 1 << 20

func (a *api) showConfig(c *call) error {
	settings, err := a.core.Settings(c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]Setting{"settings": orEmpty(settings)})
}

// checkConfig takes the text of a configuration, whatever its type is called.
func (a *api) checkConfig(c *call) error {
	text, err := c.body(maxConfig)
	if err != nil {
		return err
	}
	mistakes, err := a.core.CheckConfig(c.r.Context(), c.grant, string(text))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &struct {
		OK       bool      `json:"ok"`
		Mistakes []Mistake `json:"mistakes"`
	}{len(mistakes) == 0, orEmpty(mistakes)})
}

func (a *api) nameGateway(c *call) error {
	var b struct {
		Name string `json:"name"`
	}
	if err := c.document(&b); err != nil {
		return err
	}
	if err := message.CheckName("gateway name", b.Name); err != nil {
		return err
	}
	if err := a.core.SetName(c.r.Context(), c.grant, b.Name); err != nil {
		return err
	}
	return c.done()
}

func (a *api) listIssuers(c *call) error {
	issuers, err := a.core.IssuerList(c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]Issuer{"issuers": orEmpty(issuers)})
}

func (a *api) listSessions(c *call) error {
	sessions, err := a.core.SessionList(c.grant, c.sessionID())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string][]account.Session{"sessions": orEmpty(sessions)})
}

func (a *api) endSession(c *call) error {
	if err := a.core.CloseSession(c.r.Context(), c.grant, c.params[0]); err != nil {
		return err
	}
	return c.done()
}

// diagnose answers with the bundle, which fits in memory: its largest part is the ring of log lines.
func (a *api) diagnose(c *call) error {
	var b bytes.Buffer
	if err := a.core.Diagnose(c.r.Context(), c.grant, &b); err != nil {
		return err
	}
	now, _ := a.Now()
	h := c.w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Disposition", `attachment; filename="edgepost-diagnostics-`+now.UTC().Format("20060102-150405")+`.tar"`)
	return c.answer(http.StatusOK, b.Bytes())
}

// maxBackup is a backup in base64 with its passphrase.
const maxBackup = backup.MaxBytes/3*4 + 4<<10

func (a *api) makeBackup(c *call) error {
	var b struct {
		Passphrase string `json:"passphrase"`
	}
	if err := c.private(); err != nil {
		return err
	}
	if err := c.document(&b); err != nil {
		return err
	}
	sealed, err := a.core.Backup(c.r.Context(), c.grant, b.Passphrase)
	if err != nil {
		return err
	}
	now, _ := a.Now()
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+a.Gateway()+now.UTC().Format("-20060102-150405")+`.edgepost-backup"`)
	return c.answer(http.StatusOK, sealed)
}

func (a *api) restore(c *call) error {
	var b struct {
		Passphrase string `json:"passphrase"`
		Backup     []byte `json:"backup"`
	}
	if err := c.private(); err != nil {
		return err
	}
	if err := jsonType(c.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	body, err := c.body(maxBackup)
	if err != nil {
		return err
	}
	if err := unmarshalStrict(body, &b); err != nil {
		return err
	}
	r, err := a.core.Restore(c.r.Context(), c.grant, b.Passphrase, b.Backup)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &r)
}
