package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
)

// statusJSON shows a [courier.Status].
type statusJSON struct {
	Gateway       string        `json:"gateway"`
	Epoch         message.Epoch `json:"epoch"`
	Version       string        `json:"version"`
	Uptime        int64         `json:"uptime"` // seconds
	Head          uint64        `json:"head"`
	TailFrom      uint64        `json:"tail_from"`
	LogBytes      int64         `json:"log_bytes"`
	LogLimit      int64         `json:"log_limit"`
	Storage       string        `json:"storage"`
	Encryption    string        `json:"encryption"`
	LogEncrypted  int64         `json:"log_encrypted"`
	LogPlain      int64         `json:"log_plain"`
	Connected     int64         `json:"connected"`
	Subscriptions int64         `json:"subscriptions"`
	Owed          int64         `json:"owed"`
	DeadLetters   int64         `json:"dead_letters"`
	Published     int64         `json:"published"`
	Volatile      int64         `json:"volatile"`
	Sent          int64         `json:"sent"`
	Delivered     int64         `json:"delivered"`
	Expired       int64         `json:"expired"`
	Dead          int64         `json:"dead"`
	Cancelled     int64         `json:"cancelled"`
	Lost          int64         `json:"lost"`
	Dropped       int64         `json:"dropped"`
	Commits       int64         `json:"commits"`
	ClockTrusted  bool          `json:"clock_trusted"`
	Anonymous     bool          `json:"anonymous"`
	Warnings      []string      `json:"warnings"`
}

func (a *api) status(c *call) error {
	s, err := a.core.Status(c.r.Context(), c.grant)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, &statusJSON{
		Gateway: s.Gateway, Epoch: s.Epoch, Version: s.Version, Uptime: int64(s.Uptime / time.Second),
		Head: s.Head, TailFrom: s.TailFrom, LogBytes: s.LogBytes, LogLimit: s.LogLimit, Storage: s.Storage,
		Encryption: s.Encryption, LogEncrypted: s.LogEncrypted, LogPlain: s.LogPlain,
		Connected: s.Connected, Subscriptions: s.Subscriptions, Owed: s.Owed, DeadLetters: s.DeadLetters,
		Published: s.Published, Volatile: s.Volatile, Sent: s.Sent, Delivered: s.Delivered, Expired: s.Expired,
		Dead: s.Dead, Cancelled: s.Cancelled, Lost: s.Lost, Dropped: s.Dropped, Commits: s.Commits,
		ClockTrusted: s.ClockTrusted, Anonymous: s.Anonymous, Warnings: orEmpty(s.Warnings),
	})
}

// showGlance is the public part of the status: nothing that names a device, a topic or a path.
func (a *api) showGlance(c *call) error {
	g := &a.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.body == nil || now.Sub(g.at) >= time.Second {
		owner := auth.NewGrant(auth.Owner, "", true, message.Rules{})
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), time.Second)
		defer cancel()
		s, err := a.core.Status(ctx, owner)
		if err != nil {
			return err
		}
		if g.body, err = a.encodeGlance(&s); err != nil {
			return err
		}
		g.at = now
	}
	return c.answer(http.StatusOK, g.body)
}

func (a *api) encodeGlance(s *courier.Status) ([]byte, error) {
	storage := "ok"
	if s.Storage != "" && s.Storage != "ok" {
		storage = "refusing messages"
	}
	b, err := json.Marshal(&struct {
		Version   string `json:"version"`
		Uptime    int64  `json:"uptime"`
		Storage   string `json:"storage"`
		Connected int64  `json:"connected"`
		Published int64  `json:"published"`
		Delivered int64  `json:"delivered"`
		Owed      int64  `json:"owed"`
		Anonymous bool   `json:"anonymous"`
	}{a.Version, int64(s.Uptime / time.Second), storage, s.Connected, s.Published, s.Delivered, s.Owed, s.Anonymous})
	return append(b, '\n'), err
}

// health answers probes. The reason of a failure is for who may read the log.
func (a *api) health(c *call) error {
	err := a.core.Health()
	if err != nil && message.ProblemOf(err) == nil {
		a.Log.Warn("unhealthy", "error", err)
		return message.Problemf(message.CodeUnavailable, "not ready; the log says why")
	}
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, []byte("{\"status\":\"ok\"}\n"))
}

// metrics is for programs with a key and for the owner: it tells more than a device needs to know,
// and anonymous access to topics does not open it.
func (a *api) metrics(c *call) error {
	switch c.grant.Kind {
	case auth.Anonymous:
		return message.Problemf(message.CodeUnauthorized, "metrics need a token; edgepost key add NAME makes one")
	case auth.Device, auth.Bridge:
		return message.Problemf(message.CodeForbidden, "metrics are not for devices; use a key")
	case auth.Subject:
		if !c.grant.Admin {
			return message.Problemf(message.CodeForbidden, "metrics are for tokens that may administer, or a key")
		}
	case auth.Key, auth.Owner, auth.User:
	}
	c.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(a.WriteTimeout))
	a.core.WriteMetrics(c.w)
	return nil
}

// newTicket gives a browser what it can put into an address.
func (a *api) newTicket(c *call) error {
	ticket, expires := a.core.NewTicket(c.grant)
	return c.json(http.StatusCreated, &struct {
		Ticket    string `json:"ticket"`
		ExpiresIn int64  `json:"expires_in"`
	}{ticket, int64(expires / time.Second)})
}
