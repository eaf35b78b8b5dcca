package bridge

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge/mapping"
	"edgepost/appliance/message"
)

// Config is one bridge as a person writes it: one [[bridge]] of the configuration file, or the body of
// PUT /v1/bridges/{name}. Zero fields take the defaults named beside them, see [Config.WithDefaults].
type Config struct {
	Name string   `key:"name"` // its principal is bridge/<name>
	Kind string   `key:"kind"`
	URLs []string `key:"urls"` // tried in turn

	Username     string `key:"username"`
	PasswordFile string `key:"password_file"` // read again for each connection, as all files here
	TokenFile    string `key:"token_file"`    // a bearer token or JWT in place of a password
	CAFile       string `key:"ca_file"`       // PEM; default: the system's authorities
	CertFile     string `key:"cert_file"`     // PEM client certificate …
	KeyFile      string `key:"key_file"`      // … and its key
	ServerName   string `key:"server_name"`   // the name in the upstream's certificate; default: the host of the address

	Token   Token             `key:"token"`
	Up      Up                `key:"up"`
	Down    Down              `key:"down"`
	Options map[string]string `key:"options"` // of the connector
}

// Up is section [bridge.up]: what goes out. Without filters nothing does.
type Up struct {
	Filters []message.Filter `key:"filters"`
	To      string           `key:"to"`     // template of the address; default "ep/v1/default/${gw}/up/${topic}"
	Key     string           `key:"key"`    // template of the partition or group key; default "${device}"
	Format  string           `key:"format"` // event, structured or raw; default event

	Window      int           `key:"window"`       // most messages on their way, unconfirmed; default: 1 to 1024, as the upstream confirms
	WindowBytes int64         `key:"window_bytes"` // and most of their payload bytes; default 1 MiB
	Batch       int           `key:"batch"`        // most messages handed over together; default 64
	BatchBytes  int64         `key:"batch_bytes"`  // and most bytes; default 256 KiB
	Linger      time.Duration `key:"linger"`       // wait so long for a batch to fill; default 0

	TTL         time.Duration `key:"ttl"`          // older messages are not forwarded any more; default: by their own time to live only
	MaxAttempts int           `key:"max_attempts"` // tries of a message that the upstream refuses, before the dead letters; default 8

	Order        string   `key:"order"`         // fifo, or fresh-first: new messages before the backlog of an outage; default fifo
	BackfillRate int      `key:"backfill_rate"` // with fresh-first: messages of the backlog a second; default: as fast as it goes
	Rate         int64    `key:"rate"`          // bytes a second; default: any
	DailyBudget  int64    `key:"daily_budget"`  // bytes a day of the wall clock; default: any
	Schedule     []string `key:"schedule"`      // when anything goes out, "22:00-06:00"; default: always
}

// Down is section [bridge.down]: what comes in. Without from nothing does.
type Down struct {
	From    []string         `key:"from"`    // what to receive, in the upstream's own terms
	To      string           `key:"to"`      // template of the topic; default: the event's subject
	Format  string           `key:"format"`  // auto, structured or raw; default auto
	Publish []message.Filter `key:"publish"` // topics the upstream may publish to; default: what to can give, or device/+/in/# and group/+/in/#
}

// Defaults of [Config].
const (
	DefaultTo          = "ep/v1/default/${gw}/up/${topic}"
	DefaultWindowBytes = 1 << 20   // what an upstream that stalls may hold of the memory
	DefaultBatch       = 64        //
	DefaultBatchBytes  = 256 << 10 // one largest message
	DefaultMaxAttempts = 8
)

// Orders of the way out.
const (
	fifo       = "fifo"
	freshFirst = "fresh-first"
)

// WithDefaults returns the configuration with every zero field that has a default set.
func (c Config) WithDefaults() Config {
	if c.Username == "" && c.Token.URL != "" {
		c.Username = c.Token.ClientID // where a name is shown, too, it is mostly this one
	}
	if len(c.Up.Filters) > 0 {
		or(&c.Up.To, DefaultTo)
		or(&c.Up.Key, "${device}")
		or(&c.Up.Format, string(mapping.Event))
		or(&c.Up.WindowBytes, DefaultWindowBytes)
		or(&c.Up.Batch, DefaultBatch)
		or(&c.Up.BatchBytes, DefaultBatchBytes)
		or(&c.Up.MaxAttempts, DefaultMaxAttempts)
		or(&c.Up.Order, fifo)
	}
	if len(c.Down.From) > 0 {
		or(&c.Down.Format, string(mapping.Auto))
		if len(c.Down.Publish) == 0 {
			c.Down.Publish = []message.Filter{"device/+/in/#", "group/+/in/#"}
			if to, err := mapping.ParseTemplate(c.Down.To, downVars...); err == nil && c.Down.To != "" && !to.Uses(mapping.Subject) {
				c.Down.Publish = []message.Filter{to.Filter()}
			}
		}
	}
	return c
}

// Reach is how many messages may be on their way at the most.
func (c *Config) Reach() int {
	if c.Up.Window > 0 {
		return c.Up.Window
	}
	return MaxAdaptive
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

var (
	upVars   = []string{mapping.Gateway, mapping.Bridge, mapping.Topic, mapping.Device, mapping.Key}
	keyVars  = upVars[:4]
	downVars = []string{mapping.Gateway, mapping.Bridge, mapping.Topic, mapping.Key, mapping.Subject}
)

// KindOf returns the connector of that name.
func KindOf(kinds []Kind, name string) (Kind, bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// Check calls mistake for everything that is wrong; a zero field that has a default never is. key is relative to
// the bridge: "up.filters[0]".
func (c *Config) Check(kinds []Kind, mistake Mistake) {
	if err := message.CheckName("bridge name", c.Name); err != nil {
		mistake("name", "%s", message.ProblemOf(err).Detail)
	}
	kind, ok := KindOf(kinds, c.Kind)
	if !ok {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.Name
		}
		mistake("kind", "there is no connector %.40q; there are %s", c.Kind, strings.Join(names, ", "))
		return
	}
	if kind.Open == nil {
		mistake("kind", "the connector %s is not compiled into this program (it was built with omit_%s)", c.Kind, c.Kind)
		return
	}
	c.checkURLs(&kind, mistake)
	c.checkUp(&kind, mistake)
	c.checkDown(&kind, mistake)
	c.checkOptions(&kind, mistake)
	if len(c.Up.Filters) == 0 && len(c.Down.From) == 0 {
		mistake("up.filters", "the bridge forwards nothing: set up.filters, or down.from, or both")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		mistake("cert_file", "cert_file and key_file belong together")
	}
	c.checkToken(mistake)
	if c.PasswordFile != "" && c.TokenFile != "" {
		mistake("token_file", "there is one of password_file and token_file, not both")
	}
	if kind.Check != nil {
		full := c.WithDefaults()
		kind.Check(&full, mistake)
	}
}

func (c *Config) checkURLs(kind *Kind, mistake Mistake) {
	if len(c.URLs) == 0 {
		mistake("urls", "it is missing; write the upstream's addresses, such as [\"%s://broker.example\"]", kind.Schemes[0].Name)
	}
	schemes := make([]string, len(kind.Schemes))
	for i, s := range kind.Schemes {
		schemes[i] = s.Name
	}
	for i, s := range c.URLs {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
			mistake(index("urls", i), "%.80q is not an address of this connector; write %s://host[:port]", s, strings.Join(schemes, ":// or "))
		case u.User != nil:
			mistake(index("urls", i), "an address holds no user or password; use username and password_file")
		}
	}
}

func (c *Config) checkUp(kind *Kind, mistake Mistake) {
	u := &c.Up
	if len(u.Filters) > 0 && !kind.Up {
		mistake("up.filters", "the connector %s does not send", c.Kind)
	}
	if len(u.Filters) > 0 && kind.MustAddress != "" && (u.To == "" || u.To == DefaultTo) {
		mistake("up.to", "it is missing; write an address of the broker, such as %q: the default would make one of each of the gateway's topics", kind.MustAddress)
	}
	filters(u.Filters, "up.filters", mistake)
	template("up.to", u.To, upVars, mistake)
	template("up.key", u.Key, keyVars, mistake)
	format("up.format", u.Format, []mapping.Format{mapping.Event, mapping.Structured, mapping.Raw}, mistake)
	inRange("up.window", u.Window, maxWindow, mistake)
	inRange("up.batch", u.Batch, 1000, mistake)
	inRange("up.max_attempts", u.MaxAttempts, 1000, mistake)
	inRange("up.window_bytes", u.WindowBytes, 64<<20, mistake)
	inRange("up.batch_bytes", u.BatchBytes, 8<<20, mistake)
	inRange("up.linger", u.Linger, 10*time.Minute, mistake)
	inRange("up.ttl", u.TTL, message.MaxTTL, mistake)
	inRange("up.backfill_rate", u.BackfillRate, 1_000_000, mistake)
	inRange("up.rate", u.Rate, 1<<40, mistake)
	inRange("up.daily_budget", u.DailyBudget, 1<<50, mistake)
	if u.Order != "" && u.Order != fifo && u.Order != freshFirst {
		mistake("up.order", "%.40q is no order; there are %s and %s", u.Order, fifo, freshFirst)
	}
	if u.BackfillRate > 0 && u.Order != freshFirst {
		mistake("up.backfill_rate", "it belongs to up.order = \"%s\"", freshFirst)
	}
	for i, h := range u.Schedule {
		if _, err := parseHours(h); err != nil {
			mistake(index("up.schedule", i), "%s", err)
		}
	}
}

func (c *Config) checkDown(kind *Kind, mistake Mistake) {
	d := &c.Down
	if len(d.From) > 0 && !kind.Down {
		mistake("down.from", "the connector %s does not receive", c.Kind)
	}
	for i, s := range d.From {
		if s == "" {
			mistake(index("down.from", i), "it is empty")
		}
	}
	filters(d.Publish, "down.publish", mistake)
	template("down.to", d.To, downVars, mistake)
	format("down.format", d.Format, []mapping.Format{mapping.Auto, mapping.Structured, mapping.Raw}, mistake)
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

func filters(list []message.Filter, key string, mistake Mistake) {
	for i, f := range list {
		if _, err := message.ParseFilter(string(f)); err != nil {
			mistake(index(key, i), "%s", message.ProblemOf(err).Detail)
		}
	}
}

func template(key, s string, vars []string, mistake Mistake) {
	if _, err := mapping.ParseTemplate(s, vars...); err != nil {
		mistake(key, "%s", err)
	}
}

func format(key, s string, allowed []mapping.Format, mistake Mistake) {
	if s == "" || slices.Contains(allowed, mapping.Format(s)) {
		return
	}
	names := make([]string, len(allowed))
	for i, f := range allowed {
		names[i] = string(f)
	}
	mistake(key, "%.40q is not a format; there are %s", s, strings.Join(names, ", "))
}

func inRange[T int | int64 | time.Duration](key string, v, most T, mistake Mistake) {
	if v < 0 || v > most {
		mistake(key, "%v is out of range; up to %v", v, most)
	}
}
