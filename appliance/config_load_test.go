package appliance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"edgepost/appliance/bridge/mqtt"
	"edgepost/appliance/guard/cert"
	"edgepost/appliance/message"
)

// expected is one "# want KEY: PART" note; a note that has its line for itself is about the line
// above. PARTs are separated by "; " and each must be in the detail.
type expected struct {
	line  int
	key   string
	parts []string
}

func wants(text string) []expected {
	note := regexp.MustCompile(`# want (.*?): ?(.*)`)
	var out []expected
	for i, l := range strings.Split(text, "\n") {
		if m := note.FindStringSubmatch(l); m != nil {
			line := i + 1
			if strings.HasPrefix(l, "# want") {
				line--
			}
			out = append(out, expected{line, m[1], strings.Split(m[2], "; ")})
		}
	}
	return out
}

// Every file in testdata holds mistakes, each noted on its line: exactly those are reported.
func TestConfigMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if !cert.HasACME && filepath.Base(file) == "acme.toml" {
				t.Skip("built with omit_acme")
			}
			if mqtt.Kind().Open == nil && filepath.Base(file) == "bridges.toml" {
				t.Skip("built with omit_mqtt")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := wants(string(text))
			_, err = LoadConfig(file)
			var got Mistakes
			if !errors.As(err, &got) && len(want) > 0 {
				t.Fatalf("no mistakes found: %v", err)
			}
			for i := 0; i < max(len(got), len(want)); i++ {
				switch {
				case i >= len(want):
					t.Errorf("reported, but not a mistake: %v", got[i])
				case i >= len(got):
					t.Errorf("line %d, %s: not reported", want[i].line, want[i].key)
				default:
					check(t, file, got[i], want[i])
				}
			}
		})
	}
}

func check(t *testing.T, file string, got Mistake, want expected) {
	t.Helper()
	if got.File != file || got.Line != want.line || got.Key != want.key || got.Detail == "" {
		t.Errorf("line %d, %s: reported as %v", want.line, want.key, got)
	}
	for _, part := range want.parts {
		if !strings.Contains(got.Detail, part) {
			t.Errorf("line %d, %s: %q does not say %q", want.line, want.key, got.Detail, part)
		}
	}
}

// A wrong type is tried on every key there is.
func TestTypesCoverEveryKey(t *testing.T) {
	text, err := os.ReadFile("testdata/types.toml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, w := range wants(string(text)) {
		key := w.key
		if i := strings.LastIndexByte(key, '['); i > 0 && strings.HasSuffix(key, "]") {
			key = key[:i]
		}
		seen[key] = true
	}
	for _, key := range allKeys("", reflect.TypeFor[Config]()) {
		if !seen[key] {
			t.Errorf("types.toml has no wrong value for %s", key)
		}
	}
}

func TestOddlyWritten(t *testing.T) {
	c, err := LoadConfig("testdata/odd.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Data: "/var/lib/edgepost", Name: "gw-1", LogLevel: "debug",
		HTTP:     HTTPConfig{Addr: "127.0.0.1:0", Hosts: []string{"a.example"}},
		Storage:  StorageConfig{MaxBytes: 64 << 20, RetainAge: 24 * time.Hour, Linger: 500 * time.Microsecond},
		Delivery: DeliveryConfig{TTL: 36 * time.Hour},
		Limits:   LimitsConfig{MaxMessage: 65536},
		History:  []HistoryConfig{{"a", "x/#", 3}},
		Access:   AccessConfig{Anonymous: message.Rules{Publish: []message.Filter{"a/#"}}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("read %+v\nwant %+v", c, want)
	}
}

func TestUnreadableConfig(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.toml")
	if err := os.WriteFile(big, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, part := range map[string]string{
		filepath.Join(dir, "missing.toml"): "no such file",
		dir:                                "is a directory",
		big:                                "larger than 1MiB",
	} {
		_, err := LoadConfig(path)
		if err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), part) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestPrivateConfig(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read everything")
	}
	path := filepath.Join(t.TempDir(), "private.toml")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
}

func TestByteOrderMark(t *testing.T) {
	_, err := parseConfig("f", "\xef\xbb\xbfwan = true\ndatta = 1\n")
	if err == nil || !strings.Contains(err.Error(), `f:2: datta: unknown key; did you mean "data"?`) {
		t.Error(err)
	}
	if c, err := parseConfig("f", "\xef\xbb\xbfwan = true\r\n"); err != nil || !c.WAN {
		t.Error(c, err)
	}
}

// Whatever the file holds, loading ends with a good configuration or with mistakes that have a line
// inside the file; and every key that the decoder saw has a line.
func FuzzLoadConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, name := range append(files, "../scripts/edgepost.toml") {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("[[a]]\nb=[{c={d=1}},\n{c.e=2}]\n[[a.x]]\n[a.x.y]\nz=''''a'''''\n")
	f.Add("\"\\u0061\\n\".'b' = \"\"\"a\\\"\"\"\"\" # \"\n")
	index := regexp.MustCompile(`\[\d+\]`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig("f", text)
		lines := strings.Count(text, "\n") + 1
		if err == nil {
			if again := c.WithDefaults(); again.Validate() != nil {
				t.Fatalf("defaults spoil it: %v", again.Validate())
			}
		} else {
			ms, _ := errors.AsType[Mistakes](err)
			if len(ms) == 0 {
				t.Fatalf("an error without mistakes: %v", err)
			}
			for _, m := range ms {
				if m.Line < 0 || m.Line > lines || m.Detail == "" {
					t.Fatalf("line %d of %d: %v", m.Line, lines, m)
				}
			}
		}
		var table map[string]any
		meta, err := toml.Decode(text, &table)
		if err != nil {
			keyLines(text) // it ends
			return
		}
		seen := map[string]bool{}
		for key, line := range keyLines(text) {
			if line < 1 || line > lines {
				t.Fatalf("%s at line %d of %d", key, line, lines)
			}
			seen[index.ReplaceAllString(key, "")] = true
		}
		for _, k := range meta.Keys() {
			key := ""
			for _, part := range k {
				key = join(key, part)
			}
			if key = index.ReplaceAllString(key, ""); !seen[key] {
				t.Fatalf("%s has no line: %v", key, fmt.Sprint(seen))
			}
		}
	})
}
