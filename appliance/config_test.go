package appliance

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

func TestZeroConfigIsUseful(t *testing.T) {
	var c Config
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	if c.Data != "data" || c.HTTP.Addr != ":8088" || c.Delivery.Window != 64 || c.Delivery.TTL != 7*24*time.Hour || c.Limits.MaxMessage != message.MaxPayload {
		t.Errorf("defaults are %+v", c)
	}
	if c.AnonymousOpen() {
		t.Error("anonymous access is open by default")
	}
	if !reflect.DeepEqual(c, c.WithDefaults()) {
		t.Error("WithDefaults changes its own result")
	}
}

// The documented example has every key at its default and names every key there is.
func TestExampleConfig(t *testing.T) {
	const path = "../scripts/edgepost.toml"
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP.AllowedOrigins, c.HTTP.Hosts, c.HTTP.TrustedProxies = nil, nil, nil // [] in the file
	c.TLS.Names, c.TLS.ACME.Names = nil, nil
	if want := (Config{}).WithDefaults(); !reflect.DeepEqual(c, want) {
		t.Errorf("the example is not the default:\n%+v\n%+v", c, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// With its commented-out keys switched on it holds every key.
	full := regexp.MustCompile(`(?m)^# (\[|[a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	c, err = parseConfig("full", full)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.History) != 1 || !c.AnonymousOpen() || c.Name != "hall-gateway" {
		t.Errorf("the commented-out examples say %+v", c)
	}
	lines := keyLines(full)
	for _, key := range allKeys("", reflect.TypeFor[Config]()) {
		if lines[key] == 0 {
			t.Errorf("the example does not mention %s", key)
		}
	}
}

// allKeys lists every key of a configuration, with index 0 in lists of sections.
func allKeys(prefix string, t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		key := prefix + keyOf(f)
		switch {
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, allKeys(key+".", f.Type)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, allKeys(key+"[0].", f.Type.Elem())...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

func TestSocketPath(t *testing.T) {
	if got := SocketPath("data"); got != filepath.Join("data", "control.sock") {
		t.Errorf("short: %s", got)
	}
	long := "/" + strings.Repeat("x", 100)
	got := SocketPath(long)
	if !regexp.MustCompile(`^/run/edgepost-[0-9a-f]{16}\.sock$`).MatchString(got) {
		t.Errorf("long: %s", got)
	}
	if got == SocketPath(long+"y") || got != SocketPath(long+"/") {
		t.Error("the hash does not name the directory")
	}
	dir := t.TempDir()
	if err := os.Symlink(dir, dir+"/same"); err != nil {
		t.Fatal(err)
	}
	if FallbackSocketPath(dir) != FallbackSocketPath(dir+"/same") {
		t.Error("a symbolic link names another socket")
	}
}

func TestAnonymous(t *testing.T) {
	var c Config
	c.OpenAnonymous()
	if !c.AnonymousOpen() || !c.Access.Anonymous.MayPublish("a") || !c.Access.Anonymous.MaySubscribe("#") {
		t.Error("-anonymous does not open")
	}
	c = Config{Access: AccessConfig{Anonymous: message.Rules{Subscribe: []message.Filter{"public/#"}}}}
	c.OpenAnonymous()
	if c.Access.Anonymous.MayPublish("a") {
		t.Error("-anonymous widens what the configuration says")
	}
}

func TestProxies(t *testing.T) {
	h := HTTPConfig{TrustedProxies: []string{"10.0.0.1", "bad", "fd00::/8", "::ffff:10.0.0.2"}}
	got := ""
	for _, p := range h.Proxies() {
		got += p.String() + " "
	}
	if got != "10.0.0.1/32 fd00::/8 10.0.0.2/32 " {
		t.Error(got)
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "10m": 10 * time.Minute, "7d": 7 * day, "1d12h": 36 * time.Hour,
		"1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "0d": 0,
	} {
		got, err := ParseDuration(in)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
		if back, err := ParseDuration(FormatDuration(want)); err != nil || back != want {
			t.Errorf("%v formats as %q, which reads as %v, %v", want, FormatDuration(want), back, err)
		}
	}
	for _, in := range []string{"", "d", "-1", "+1", "-1s", "1d-1s", "1d+1s", "1.5d", "7 d", "x", "1dd", "106752d", "106751d23h59m", "9999999999999999999", "9223372037"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is taken as %v", in, got)
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 10 * time.Minute: "10m", 36 * time.Hour: "1d12h", -day: "-1d", 0: "0s", 61 * time.Second: "1m1s", 10 * time.Hour: "10h", math.MinInt64: "-106751d23h47m16.854775807s"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d formats as %q, want %q", d, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "64KiB": 64 << 10, "64 MiB": 64 << 20, "1.5GiB": 3 << 29, "200MB": 200e6, "1kB": 1000, "7B": 7, "1TiB": 1 << 40,
	} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
		if back, err := ParseSize(FormatSize(want)); err != nil || back != want {
			t.Errorf("%d formats as %q, which reads as %d, %v", want, FormatSize(want), back, err)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "-1KiB", "+1", "1e3", "0x10", "64 megs", "1..5KiB", "NaN", "Inf", "9223372036854775808", "9007199254740992KiB", "8388608.5TiB", "1 2KiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is taken as %d", in, got)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"serve", "send", "listen", "device", "trace"}
	for in, want := range map[string]string{"sned": "send", "lsiten": "listen", "devcie": "device", "x": "", "xyz": "", "frobnicate": "", "traces": "trace", "srve": "serve", strings.Repeat("a", 100): ""} {
		if got := Nearest(in, words); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMistakeTexts(t *testing.T) {
	ms := Mistakes{{Key: "a", Detail: "x"}, {File: "f", Detail: "y"}, {File: "f", Line: 3, Key: "b", Detail: "z"}}
	if got := ms.Error(); got != "a: x\nf: y\nf:3: b: z" {
		t.Errorf("%q", got)
	}
	err := (&Config{Name: "no good"}).Validate()
	var got Mistakes
	if !errors.As(err, &got) || len(got) != 1 || got[0].Key != "name" || got[0].Line != 0 {
		t.Errorf("%v", err)
	}
}
