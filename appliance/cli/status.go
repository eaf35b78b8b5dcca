package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"edgepost/appliance"
)

type statusJSON struct {
	Gateway       string   `json:"gateway"`
	Epoch         string   `json:"epoch"`
	Version       string   `json:"version"`
	Uptime        int64    `json:"uptime"` // seconds
	Head          uint64   `json:"head"`
	TailFrom      uint64   `json:"tail_from"`
	LogBytes      int64    `json:"log_bytes"`
	LogLimit      int64    `json:"log_limit"`
	Storage       string   `json:"storage"`
	Encryption    string   `json:"encryption"`
	LogEncrypted  int64    `json:"log_encrypted"`
	LogPlain      int64    `json:"log_plain"`
	Connected     int64    `json:"connected"`
	Subscriptions int64    `json:"subscriptions"`
	Owed          int64    `json:"owed"`
	DeadLetters   int64    `json:"dead_letters"`
	Published     int64    `json:"published"`
	Volatile      int64    `json:"volatile"`
	Sent          int64    `json:"sent"`
	Delivered     int64    `json:"delivered"`
	Expired       int64    `json:"expired"`
	Dead          int64    `json:"dead"`
	Cancelled     int64    `json:"cancelled"`
	Lost          int64    `json:"lost"`
	Dropped       int64    `json:"dropped"`
	Commits       int64    `json:"commits"`
	ClockTrusted  bool     `json:"clock_trusted"`
	Anonymous     bool     `json:"anonymous"`
	Warnings      []string `json:"warnings"`
}

func statusCommand() *command {
	c := &command{name: "status", short: "show the appliance at one glance", flags: newFlags()}
	c.run = func(ctx context.Context, call *call) error {
		var s statusJSON
		body, err := call.get(ctx, "/v1/status", &s)
		if err != nil || call.json {
			return orElse(err, func() error { return call.printJSON(body) })
		}
		return call.print(s.text())
	}
	return c
}

func (s *statusJSON) text() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	row("gateway", "%s, edgepost %s, up %s", printable(s.Gateway), printable(s.Version), appliance.FormatDuration(time.Duration(s.Uptime)*time.Second))
	row("storage", "%s, %s of %s, messages %d to %d of epoch %s", printable(s.Storage), roundSize(s.LogBytes), roundSize(s.LogLimit), s.TailFrom, s.Head, printable(s.Epoch))
	if s.LogEncrypted > 0 || s.Encryption != "" && s.Encryption != "plain" {
		row("encrypted", "%s now; %s are, %s are not", printable(s.Encryption), roundSize(s.LogEncrypted), roundSize(s.LogPlain))
	}
	row("now", "%d connected, %d subscriptions, %d deliveries owed, %d dead letters", s.Connected, s.Subscriptions, s.Owed, s.DeadLetters)
	row("stored", "%d messages in %d commits; %d volatile ones were not stored, %d of those dropped", s.Published, s.Commits, s.Volatile, s.Dropped)
	row("sent", "%d: %d delivered, %d expired, %d dead, %d cancelled, %d lost", s.Sent, s.Delivered, s.Expired, s.Dead, s.Cancelled, s.Lost)
	if !s.ClockTrusted {
		row("clock", "not trusted yet: messages carry no time")
	}
	if s.Anonymous {
		row("WARNING", "access without credentials is open")
	}
	for _, w := range s.Warnings {
		row("WARNING", "%s", printable(w))
	}
	return b.String()
}

// roundSize writes a size with one digit behind the point at most, for people only.
func roundSize(n int64) string {
	for _, u := range []struct {
		name string
		unit int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.unit {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(u.unit)), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", n)
}
