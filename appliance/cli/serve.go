package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"edgepost/appliance"
)

// stopTimeout is how long a stop may take before it is cut: init systems kill after 20 to 90 s.
const stopTimeout = 15 * time.Second

// serving is what the flags of serve say.
type serving struct {
	config, http, https, mqtt, mqtts string
	anonymous                        bool

	text string   // of the configuration's file
	set  []string // keys that flags set
}

func serveCommand() *command {
	var s serving
	c := &command{name: "serve", short: "run the appliance until it is told to stop", flags: newFlags(), local: true}
	c.long = `
A flag wins over the configuration file, and that over the defaults; scripts/edgepost.toml in the source documents
every key. The log goes to standard error. SIGTERM and SIGINT stop it in order, a second one at once.`
	c.flags.StringVar(&s.config, "config", "", "read the configuration from `FILE` (TOML)")
	c.flags.StringVar(&s.http, "http", "", "serve API, WebSocket and page on `ADDR` (default "+appliance.DefaultHTTPAddr+")")
	c.flags.StringVar(&s.https, "https", "", "serve them over TLS on `ADDR`, or off (default "+appliance.DefaultHTTPSAddr+")")
	c.flags.StringVar(&s.mqtt, "mqtt", "", "serve MQTT on `ADDR` (default "+appliance.DefaultMQTTAddr+")")
	c.flags.StringVar(&s.mqtts, "mqtts", "", "serve MQTT over TLS on `ADDR`, or off (default "+appliance.DefaultMQTTSAddr+")")
	c.flags.BoolVar(&s.anonymous, "anonymous", false, "let everybody publish and subscribe everything, without a token")
	c.run = func(ctx context.Context, call *call) error { return s.run(ctx, call) }
	return c
}

func (s *serving) run(ctx context.Context, c *call) error {
	cfg, err := s.configure(c)
	if err != nil {
		return err
	}
	a, err := appliance.New(cfg, appliance.Options{Version: c.Version, Built: c.Built, Log: c.logger(cfg.LogLevel), ConfigText: s.text, Flags: s.set})
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while it started
		}
		return err
	}
	err = c.welcome(cfg, a)
	if code := a.NewSetupCode(); code != "" {
		c.note("set-up code %s: nobody may administer over the network yet. Open the page and enter it, or on this machine: %s admin passwd%s", code, c.prog, dataFlag(cfg.Data))
	}
	if err == nil {
		<-ctx.Done()
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, a.Stop(stop))
}

// configure reads the configuration file and lays the flags over it.
func (s *serving) configure(c *call) (appliance.Config, error) {
	var cfg appliance.Config
	if s.config != "" {
		var err error
		if cfg, s.text, err = appliance.LoadConfigText(s.config); err != nil {
			return cfg, &failure{exitUsage, err.Error(), ""}
		}
	}
	if cfg.Data == "" || c.given["data"] || c.Getenv("EDGEPOST_DATA") != "" {
		cfg.Data = c.data
		s.set = append(s.set, "data")
	}
	for _, f := range []struct {
		given string
		into  *string
		key   string
	}{{s.http, &cfg.HTTP.Addr, "http.addr"}, {s.https, &cfg.HTTPS.Addr, "https.addr"}, {s.mqtt, &cfg.MQTT.Addr, "mqtt.addr"}, {s.mqtts, &cfg.MQTTS.Addr, "mqtts.addr"}} {
		if f.given != "" {
			*f.into = f.given
			s.set = append(s.set, f.key)
		}
	}
	if s.anonymous {
		cfg.OpenAnonymous()
		s.set = append(s.set, "access.anonymous")
	}
	if err := cfg.Validate(); err != nil { // the file was right, so it is a flag
		text := strings.NewReplacer("https.addr:", "flag -https:", "http.addr:", "flag -http:", "mqtts.addr:", "flag -mqtts:", "mqtt.addr:", "flag -mqtt:").Replace(err.Error())
		return cfg, usage("serve", "serve: %s", text)
	}
	return cfg, nil // the appliance adds the defaults, and wants to know what was chosen
}

// logger writes to standard error, as JSON with -json.
func (c *call) logger(level string) *slog.Logger {
	var o slog.HandlerOptions
	var l slog.Level
	if l.UnmarshalText([]byte(level)) == nil {
		o.Level = l
	}
	if c.json {
		return slog.New(slog.NewJSONHandler(c.Stderr, &o))
	}
	return slog.New(slog.NewTextHandler(c.Stderr, &o))
}

// welcome says where the appliance is, and how to try it.
func (c *call) welcome(cfg appliance.Config, a *appliance.Appliance) error {
	addr, mqtt := a.Addr(), a.MQTTAddr()
	if cfg.AnonymousOpen() {
		c.note("WARNING: anonymous access is open: whoever reaches %s may publish %s and subscribe %s without a token", addr,
			orNone(joinFilters(cfg.Access.Anonymous.Publish)), orNone(joinFilters(cfg.Access.Anonymous.Subscribe)))
	}
	if c.json {
		return c.printValue(struct {
			Version string `json:"version"`
			HTTP    string `json:"http"`
			HTTPS   string `json:"https,omitempty"`
			MQTT    string `json:"mqtt,omitempty"`
			MQTTS   string `json:"mqtts,omitempty"`
			Finger  string `json:"fingerprint,omitempty"`
			Data    string `json:"data"`
		}{c.Version, addr, a.HTTPSAddr(), mqtt, a.MQTTSAddr(), a.Fingerprint(), cfg.Data})
	}
	also := "MQTT is not served: its port is another program's; choose one with -mqtt.\n"
	if mqtt != "" {
		also = "MQTT is served on " + mqtt + ".\n"
	}
	also += secured(a.HTTPSAddr(), a.MQTTSAddr(), a.Fingerprint())
	return c.print(fmt.Sprintf("edgepost %s serves %s with its data in %s.\n%sTry it from another terminal: add a device, be it, and reach it.\n\n%s\n",
		c.Version, reachable(addr), cfg.Data, also, tryIt(c.prog, cfg.Data)))
}

// secured says where TLS is served, and how to recognise it.
func secured(https, mqtts, fingerprint string) string {
	var ports []string
	if https != "" {
		ports = append(ports, "HTTPS on "+https)
	}
	if mqtts != "" {
		ports = append(ports, "MQTT on "+mqtts)
	}
	if len(ports) == 0 {
		return ""
	}
	return "Over TLS: " + strings.Join(ports, ", ") + ". Its key: " + fingerprint + "\n"
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// tryIt is what serve prints for pasting into a shell. CI pastes it as it is.
func tryIt(prog, data string) string {
	prog, data = shellWord(prog), dataFlag(data)
	return "  TOKEN=$(" + prog + " device add lamp1" + data + ")\n" +
		"  " + prog + " listen -device lamp1 -token $TOKEN" + data + " &\n" +
		"  " + prog + ` send device/lamp1/in/set '{"on":true}' -wait` + data + "\n"
}

// dataFlag is the flag that names the data directory; "" for the usual one.
func dataFlag(data string) string {
	if data = filepath.Clean(data); data == appliance.DefaultData {
		return ""
	}
	return " -data " + shellWord(data)
}

// shellWord quotes s for a POSIX shell where it needs that.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// reachable is a URL that works on this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "http://localhost:" + port + " (and all other addresses of this machine)"
	}
	return "http://" + addr
}
