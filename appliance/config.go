package appliance

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/bridge"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/guard/oauth"
	"edgepost/appliance/message"
)

// Config is everything that can be set from outside. The zero value is a working appliance: a
// field that is zero takes the default named beside it, see [Config.WithDefaults]. Each field's
// TOML key is its `key` tag; scripts/edgepost.toml documents them all. int64 fields are sizes in
// bytes.
type Config struct {
	Data     string `key:"data"`      // the data directory; default "data"
	Name     string `key:"name"`      // what the gateway is called; default: the registry's ep-<8 random>
	LogLevel string `key:"log_level"` // debug, info, warn or error; default info
	WAN      bool   `key:"wan"`       // also serve sources outside private address ranges

	HTTP     HTTPConfig      `key:"http"`
	HTTPS    HTTPSConfig     `key:"https"`
	MQTT     MQTTConfig      `key:"mqtt"`
	MQTTS    MQTTSConfig     `key:"mqtts"`
	TLS      TLSConfig       `key:"tls"`
	Storage  StorageConfig   `key:"storage"`
	Delivery DeliveryConfig  `key:"delivery"`
	Limits   LimitsConfig    `key:"limits"`
	History  []HistoryConfig `key:"history"`
	Issuers  []IssuerConfig  `key:"issuer"`
	OAuth    OAuthConfig     `key:"oauth"`
	Access   AccessConfig    `key:"access"`
	Roles    []RoleConfig    `key:"role"`
	Bridges  []bridge.Config `key:"bridge"`
}

// HTTPConfig is section [http]: the API, WebSocket, SSE and the page.
type HTTPConfig struct {
	Addr           string   `key:"addr"`            // host:port to listen on; default ":8088"
	AllowedOrigins []string `key:"allowed_origins"` // scheme://host[:port] of pages beside our own that may connect; "*" any
	Hosts          []string `key:"hosts"`           // names in a Host header beside our own addresses and names
	TrustedProxies []string `key:"trusted_proxies"` // addresses or prefixes whose X-Forwarded-For is believed; see [HTTPConfig.Proxies]
}

// MQTTConfig is section [mqtt].
type MQTTConfig struct {
	Addr string `key:"addr"` // host:port to listen on; default ":1883"
}

// StorageConfig is section [storage]: the write-ahead log on the gateway's flash. Sizes are bytes.
type StorageConfig struct {
	MaxBytes    int64         `key:"max_bytes"`    // the log's budget; 0: chosen from the free space
	Generation  int64         `key:"generation"`   // size of one file of the log; 0: chosen from the memory
	RetainBytes int64         `key:"retain_bytes"` // settled messages kept for trace and history; 0: a quarter of the budget
	RetainAge   time.Duration `key:"retain_age"`   // and for how long; default 7 days
	Linger      time.Duration `key:"linger"`       // wait for company before an fsync under load, at most eight times; default 1 ms

	Encryption EncryptionConfig `key:"encryption"`
}

// DeliveryConfig is section [delivery]: what holds for every device's inbox.
type DeliveryConfig struct {
	TTL         time.Duration `key:"ttl"`          // a message that nobody took for so long expires; default 7 days
	MaxAttempts int           `key:"max_attempts"` // failed attempts before a dead letter; default 8
	BackoffBase time.Duration `key:"backoff_base"` // before the second attempt, then doubled, with full jitter; default 1 s
	BackoffMax  time.Duration `key:"backoff_max"`  // longest wait between attempts; default 5 min
	Window      int           `key:"window"`       // unacknowledged messages on their way to one device; default 64
	AckTimeout  time.Duration `key:"ack_timeout"`  // unacknowledged for so long on a live link is a failed attempt; default 30 s
}

// LimitsConfig is section [limits].
type LimitsConfig struct {
	MaxMessage       int64 `key:"max_message"`       // payload bytes of one message; default 256 KiB, the most
	MaxBatch         int64 `key:"max_batch"`         // bytes of one request with several messages, unpacked; default 1 MiB
	MaxConnections   int   `key:"max_connections"`   // at the same time, all protocols; 0: chosen from the memory
	MaxSubscriptions int   `key:"max_subscriptions"` // of one connection; default 100
}

// HistoryConfig is one [[history]]: the last messages of every topic that a filter selects stay
// readable, however old.
type HistoryConfig struct {
	Name   string         `key:"name"`   // shown as history/<name>
	Filter message.Filter `key:"filter"` // each topic that it selects has its own history
	Last   int            `key:"last"`   // messages per topic, 1 to 100,000
}

// AccessConfig is section [access].
type AccessConfig struct {
	Anonymous message.Rules `key:"anonymous"` // what everybody may do without credentials; zero: nothing
}

// RoleConfig is one [[role]]: rules that many have beside their own. A name in it need not be registered yet.
type RoleConfig struct {
	Name          string           `key:"name"`
	Groups        []string         `key:"groups"` // all their devices have it
	Devices       []string         `key:"devices"`
	Keys          []string         `key:"keys"`
	Users         []string         `key:"users"`
	Publish       []message.Filter `key:"publish"` // "${device}" is a device's id
	DenyPublish   []message.Filter `key:"deny_publish"`
	Subscribe     []message.Filter `key:"subscribe"`
	DenySubscribe []message.Filter `key:"deny_subscribe"`
}

// Defaults of [Config]. Each says why it is what it is.
const (
	DefaultData        = "data"
	DefaultHTTPAddr    = ":8088" // 8080 is zigbee2mqtt's
	DefaultHTTPSAddr   = ":8448"
	DefaultMQTTAddr    = ":1883"            // registered for MQTT
	DefaultMQTTSAddr   = ":8883"            // registered for MQTT over TLS
	DefaultTTL         = 7 * 24 * time.Hour // a device may be away over a holiday week
	DefaultRetainAge   = 7 * 24 * time.Hour // "what happened last weekend" stays answerable
	DefaultLinger      = time.Millisecond   // below the cost of one fsync on flash
	DefaultMaxAttempts = 8
	DefaultBackoffBase = time.Second
	DefaultBackoffMax  = 5 * time.Minute
	DefaultWindow      = 64
	DefaultAckTimeout  = 30 * time.Second
	DefaultMaxBatch    = 1 << 20
	DefaultMaxSubs     = 100
)

// WithDefaults returns the configuration with every zero field that has a fixed default set. What
// depends on the machine (0: chosen) stays 0.
func (c Config) WithDefaults() Config {
	or(&c.Data, DefaultData)
	or(&c.LogLevel, "info")
	or(&c.HTTP.Addr, DefaultHTTPAddr)
	or(&c.HTTPS.Addr, DefaultHTTPSAddr)
	or(&c.MQTT.Addr, DefaultMQTTAddr)
	or(&c.MQTTS.Addr, DefaultMQTTSAddr)
	or(&c.TLS.Profile, string(cert.Compatible))
	or(&c.TLS.ACME.Directory, DefaultACMEDirectory)
	or(&c.Storage.RetainAge, DefaultRetainAge)
	or(&c.Storage.Linger, DefaultLinger)
	or(&c.Storage.Encryption.Cipher, "auto")
	or(&c.Delivery.TTL, DefaultTTL)
	or(&c.Delivery.MaxAttempts, DefaultMaxAttempts)
	or(&c.Delivery.BackoffBase, DefaultBackoffBase)
	or(&c.Delivery.BackoffMax, max(DefaultBackoffMax, c.Delivery.BackoffBase))
	or(&c.Delivery.Window, DefaultWindow)
	or(&c.Delivery.AckTimeout, DefaultAckTimeout)
	or(&c.OAuth.Lifetime, oauth.DefaultLifetime)
	or(&c.OAuth.Rotation, oauth.DefaultRotation)
	or(&c.Limits.MaxMessage, message.MaxPayload)
	or(&c.Limits.MaxBatch, DefaultMaxBatch)
	or(&c.Limits.MaxSubscriptions, DefaultMaxSubs)
	return c
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// AnonymousOpen reports whether anybody may publish or subscribe something without credentials.
func (c *Config) AnonymousOpen() bool {
	return len(c.Access.Anonymous.Publish)+len(c.Access.Anonymous.Subscribe) > 0
}

// OpenAnonymous lets everybody publish and subscribe everything, unless the configuration says
// already what they may: what `serve -anonymous` means.
func (c *Config) OpenAnonymous() {
	if !c.AnonymousOpen() {
		c.Access.Anonymous.Publish = []message.Filter{"#"}
		c.Access.Anonymous.Subscribe = []message.Filter{"#"}
	}
}

// Proxies returns TrustedProxies as prefixes. It skips what [Config.Validate] refuses.
func (h *HTTPConfig) Proxies() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(h.TrustedProxies))
	for _, s := range h.TrustedProxies {
		if p, err := parsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	return netip.ParsePrefix(s)
}

// Mistake is one thing that is wrong with a configuration. File and Line are set when it was read
// from a file; Line 0 means the whole file.
type Mistake struct {
	File   string
	Line   int    // 1-based
	Key    string // dotted, with an index inside lists: history[0].filter; "" for the whole file
	Detail string // what is wrong and what is allowed
}

func (m Mistake) String() string {
	s := m.Detail
	if m.Key != "" {
		s = m.Key + ": " + s
	}
	switch {
	case m.File == "":
		return s
	case m.Line == 0:
		return m.File + ": " + s
	default:
		return m.File + ":" + strconv.Itoa(m.Line) + ": " + s
	}
}

// Mistakes is everything that is wrong with a configuration, in the order of the file's lines.
type Mistakes []Mistake

func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// checker collects the mistakes of [Config.Validate].
type checker struct{ found Mistakes }

func (k *checker) mistake(key, format string, args ...any) {
	k.found = append(k.found, Mistake{Key: key, Detail: fmt.Sprintf(format, args...)})
}

// Validate checks every value and how they fit together; a zero field is always allowed. The error
// is [Mistakes].
func (c *Config) Validate() error {
	if ms := c.mistakes(); len(ms) > 0 {
		return ms
	}
	return nil
}

func (c *Config) mistakes() Mistakes {
	var k checker
	if c.Name != "" {
		if err := message.CheckName("gateway name", c.Name); err != nil {
			k.mistake("name", "%s", message.ProblemOf(err).Detail)
		}
	}
	switch c.LogLevel {
	case "", "debug", "info", "warn", "error":
	default:
		k.mistake("log_level", "%q is not a level; it may be debug, info, warn or error", c.LogLevel)
	}
	k.http(&c.HTTP)
	k.addr("mqtt.addr", c.MQTT.Addr)
	k.secure(c)
	k.storage(&c.Storage)
	k.delivery(&c.Delivery)
	k.size("limits.max_message", c.Limits.MaxMessage, 1, message.MaxPayload)
	k.size("limits.max_batch", c.Limits.MaxBatch, 1<<10, 64<<20)
	k.count("limits.max_connections", c.Limits.MaxConnections, 1_000_000)
	k.count("limits.max_subscriptions", c.Limits.MaxSubscriptions, 100_000)
	k.history(c.History)
	k.issuers(c.Issuers)
	k.oauth(c)
	k.rules("access.anonymous", &c.Access.Anonymous)
	k.roles(c.Roles)
	k.bridges(c.Bridges)
	return k.found
}

func (k *checker) http(h *HTTPConfig) {
	k.addr("http.addr", h.Addr)
	for i, o := range h.AllowedOrigins {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || o != u.Scheme+"://"+u.Host) {
			k.mistake(at("http.allowed_origins", i), "%.80q is not an origin; write scheme://host[:port] such as \"https://panel.example:8443\", or \"*\" for any", o)
		}
	}
	for i, name := range h.Hosts {
		if name == "" || len(name) > 253 || strings.ContainsAny(name, "/:@*? \t") {
			k.mistake(at("http.hosts", i), "%.80q is not a host name; write it without scheme and port, such as \"gateway.example\"", name)
		}
	}
	for i, p := range h.TrustedProxies {
		if _, err := parsePrefix(p); err != nil {
			k.mistake(at("http.trusted_proxies", i), "%.80q is not an address; write one such as \"10.0.0.2\" or a prefix such as \"10.0.0.0/24\"", p)
		}
	}
}

func (k *checker) storage(s *StorageConfig) {
	k.size("storage.max_bytes", s.MaxBytes, 1<<20, 1<<50)
	k.size("storage.generation", s.Generation, 64<<10, 16<<20)
	k.size("storage.retain_bytes", s.RetainBytes, 1, 1<<50)
	k.span("storage.retain_age", s.RetainAge, time.Second, message.MaxTTL)
	k.span("storage.linger", s.Linger, time.Microsecond, time.Second)
	k.encryption(&s.Encryption)
	if s.MaxBytes > 0 && s.Generation > s.MaxBytes/4 {
		k.mistake("storage.generation", "%s is more than a quarter of max_bytes (%s)", FormatSize(s.Generation), FormatSize(s.MaxBytes))
	}
	if s.MaxBytes > 0 && s.RetainBytes > s.MaxBytes {
		k.mistake("storage.retain_bytes", "%s is more than max_bytes (%s)", FormatSize(s.RetainBytes), FormatSize(s.MaxBytes))
	}
}

func (k *checker) delivery(d *DeliveryConfig) {
	k.span("delivery.ttl", d.TTL, time.Second, message.MaxTTL)
	k.count("delivery.max_attempts", d.MaxAttempts, 1000)
	k.span("delivery.backoff_base", d.BackoffBase, time.Millisecond, 24*time.Hour)
	k.span("delivery.backoff_max", d.BackoffMax, time.Millisecond, 24*time.Hour)
	k.count("delivery.window", d.Window, 4096)
	k.span("delivery.ack_timeout", d.AckTimeout, 100*time.Millisecond, 24*time.Hour)
	if base := max(d.BackoffBase, 0); d.BackoffMax > 0 && d.BackoffMax < base {
		k.mistake("delivery.backoff_max", "%s is less than backoff_base (%s)", FormatDuration(d.BackoffMax), FormatDuration(base))
	}
}

func (k *checker) history(list []HistoryConfig) {
	names := make(map[string]bool, len(list))
	for i, h := range list {
		key := at("history", i)
		if err := message.CheckName("history name", h.Name); err != nil {
			k.mistake(key+".name", "%s", message.ProblemOf(err).Detail)
		} else if names[h.Name] {
			k.mistake(key+".name", "%q is taken by an earlier [[history]]; each needs its own name", h.Name)
		}
		names[h.Name] = true
		k.filter(key+".filter", h.Filter)
		if h.Last < 1 || h.Last > 100_000 {
			k.mistake(key+".last", "%d is out of range; 1 to 100000 messages per topic", h.Last)
		}
	}
}

func (k *checker) rules(key string, r *message.Rules) {
	k.filters(key+".publish", r.Publish)
	k.filters(key+".deny_publish", r.DenyPublish)
	k.filters(key+".subscribe", r.Subscribe)
	k.filters(key+".deny_subscribe", r.DenySubscribe)
}

func (k *checker) filters(key string, list []message.Filter) {
	for i, f := range list {
		k.filter(at(key, i), f)
	}
}

func (k *checker) filter(key string, f message.Filter) {
	if _, err := message.ParseFilter(string(f)); err != nil {
		k.mistake(key, "%s", message.ProblemOf(err).Detail)
	}
}

func (k *checker) addr(key, s string) {
	if s == "" {
		return
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n > 65_535 || strings.ContainsAny(host, "/ \t") {
		k.mistake(key, "%.80q is not an address to listen on; write host:port such as \":8088\" or \"192.168.1.1:8088\" (port 0: any free one)", s)
	}
}

func (k *checker) size(key string, n, least, most int64) {
	if n != 0 && (n < least || n > most) {
		k.mistake(key, "%s is out of range; %s to %s", FormatSize(n), FormatSize(least), FormatSize(most))
	}
}

func (k *checker) count(key string, n, most int) {
	if n < 0 || n > most {
		k.mistake(key, "%d is out of range; 1 to %d", n, most)
	}
}

func (k *checker) span(key string, d, least, most time.Duration) {
	if d != 0 && (d < least || d > most) {
		k.mistake(key, "%s is out of range; %s to %s", FormatDuration(d), FormatDuration(least), FormatDuration(most))
	}
}

func at(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// maxSocketPath is the longest path that every supported kernel takes in sun_path (104 bytes on
// BSD, 108 on Linux, with the NUL), rounded down.
const maxSocketPath = 100

// SocketPath returns where the control socket of the appliance with that data directory is:
// DIR/control.sock, or FallbackSocketPath when that is too long for a socket address. Both ends
// use it. Where the file system of DIR has no sockets, the appliance listens on
// [FallbackSocketPath] instead, and clients try that second.
func SocketPath(dir string) string {
	if p := filepath.Join(dir, "control.sock"); len(p) <= maxSocketPath {
		return p
	}
	return FallbackSocketPath(dir)
}

// FallbackSocketPath returns /run/edgepost-<hash>.sock; hash are 16 hex digits of the SHA-256 of
// the absolute data directory with symbolic links resolved where they can be.
func FallbackSocketPath(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	sum := sha256.Sum256([]byte(dir))
	return "/run/edgepost-" + hex.EncodeToString(sum[:8]) + ".sock"
}
