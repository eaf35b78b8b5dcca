package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadCommandLine holds the exit codes: 2 usage, 3 unreachable, 4 refused, 5 timeout.
func TestBadCommandLine(t *testing.T) {
	b := startBad(t)
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 64<<10+1), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + b.g.addr
	for _, c := range []struct {
		what string
		args []string
		code int
		word string
	}{
		{"no command", nil, 2, ""},
		{"unknown command", []string{"sned"}, 2, "send"},
		{"unknown flag", []string{"send", "a", "x", "-prio", "3"}, 2, "-prio"},
		{"missing topic", []string{"send"}, 2, "TOPIC"},
		{"bad number", []string{"send", "a", "x", "-priority", "high"}, 2, "priority"},
		{"priority out of range", []string{"send", "a", "x", "-priority", "10"}, 2, "priority"},
		{"wildcard", []string{"send", "a/#", "x"}, 4, "bad-topic"},
		{"topic of 65,536 bytes", []string{"send", strings.Repeat("t", 65_536), "x"}, 4, "bad-topic"},
		{"topic that is not UTF-8", []string{"send", "a\xff", "x"}, 4, "bad-utf8"},
		{"empty topic", []string{"send", "", "x"}, 4, "bad-topic"},
		{"first use of a key", []string{"send", "a", "one", "-key", "k-1"}, 0, ""},
		{"a key with another body", []string{"send", "a", "two", "-key", "k-1"}, 4, "key-reused"},
		{"bad filter", []string{"listen", "a/#/b"}, 4, "bad-filter"},
		{"unknown device", []string{"send", "device/nobody/in/x", "x"}, 4, "unknown-device"},
		{"unknown group", []string{"send", "group/nobody/in/x", "x"}, 4, "unknown-group"},
		{"oversize file", []string{"send", "a", "-file", big}, 4, "too-large"},
		{"missing file", []string{"send", "a", "-file", big + "x"}, 1, big + "x"},
		{"bad device id", []string{"device", "add", "no spaces"}, 4, "bad-name"},
		{"device twice", []string{"device", "add", "lamp1"}, 4, "exists"},
		{"key named like a device", []string{"key", "add", "lamp1", "-publish", "#"}, 4, "exists"},
		{"bad rule", []string{"key", "add", "k2", "-publish", "a/#/b"}, 4, "bad-filter"},
		{"no such device", []string{"device", "show", "nobody"}, 4, "nobody"},
		{"bad message id", []string{"trace", "4711"}, 4, "bad-id"},
		{"unknown message", []string{"trace", "aaaaaaaa-1"}, 4, "not-found"},
		{"wrong device token", []string{"listen", "-device", "lamp1", "-token", "ep_wrong"}, 4, "unauthorized"},
		{"forbidden filter", []string{"listen", "#", "-url", url, "-token", b.tokens["narrow"]}, 4, "forbidden"},
		{"forbidden topic", []string{"send", "x", "y", "-url", url, "-token", b.tokens["narrow"]}, 4, "forbidden"},
		{"not an administrator", []string{"device", "list", "-url", url, "-token", b.tokens["app"]}, 4, "forbidden"},
		{"wrong token", []string{"status", "-url", url, "-token", "ep_wrong"}, 4, "unauthorized"},
		{"nobody there", []string{"status", "-url", "http://127.0.0.1:1"}, 3, "127.0.0.1:1"},
		{"nobody waits with us", []string{"send", "device/lamp1/in/x", "x", "-wait", "1s"}, 5, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			args := c.args
			if len(args) > 0 && !strings.Contains(strings.Join(args, " "), "-url") {
				args = append(args, "-data", b.g.dir)
			}
			r := runIn(t, "", args...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", r.code, c.code, r.out, r.errout)
			}
			if !strings.Contains(r.errout, c.word) || strings.TrimSpace(r.errout) == "" && c.code != 0 && c.code != 5 {
				t.Errorf("standard error does not say %q: %q", c.word, r.errout)
			}
			if strings.Contains(r.errout, b.tokens["narrow"]) || strings.Contains(r.errout, b.tokens["app"]) {
				t.Error("standard error shows a token")
			}
		})
	}
	b.g.stop()
	if r := b.g.run("status"); r.code != 3 || !strings.Contains(r.errout, "serve") {
		t.Errorf("with nothing running, status: exit %d, %q; want 3 and a hint", r.code, r.errout)
	}
}
