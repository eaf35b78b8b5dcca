package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edgepost/appliance"
	"edgepost/wal"
)

// served runs serve until it printed its greeting, and returns that and how to stop it.
func served(t *testing.T, args ...string) (greeting string, errs *output, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	errs = &output{}
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Env{strings.NewReader(""), w, errs, func(string) string { return "" }, "1.2.3", time.Time{}}, append([]string{"bin/edgepost", "serve"}, args...))
		w.Close()
	}()
	for s := bufio.NewScanner(r); s.Scan(); {
		greeting += s.Text() + "\n"
		if strings.Contains(s.Text(), " send ") || strings.HasPrefix(s.Text(), "{") {
			break
		}
	}
	go io.Copy(io.Discard, r)
	stop = func() int { cancel(); return <-code }
	t.Cleanup(cancel)
	return greeting, errs, stop
}

// dataDir is a data directory that does not exist yet.
func dataDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(shortDir(t), "data")
}

// serve with the real appliance: it greets, the command line reaches it, it stops in order.
func TestServe(t *testing.T) {
	dir := dataDir(t)
	greeting, errs, stop := served(t, "-data", dir, "-http", "127.0.0.1:0", "-mqtt", "127.0.0.1:0")
	m := regexp.MustCompile(`serves http://(127\.0\.0\.1:\d+) with`).FindStringSubmatch(greeting)
	if m == nil {
		t.Fatalf("no address in %q, %s", greeting, errs)
	}
	if want := tryIt("bin/edgepost", dir); !strings.HasSuffix(greeting, want) || strings.Count(want, "-data "+dir) != 3 {
		t.Errorf("greeting %q, want %q at its end", greeting, want)
	}
	code, token, stderr := runLine(t.Context(), dir, "", nil, "device", "add", "lamp1")
	if code != exitOK || !regexp.MustCompile(`^ep_\w{32}\n$`).MatchString(token) {
		t.Errorf("device add: exit %d, %q, %q", code, token, stderr)
	}
	code, out, stderr := runLine(t.Context(), dir, "", nil, "status", "-json")
	if code != exitOK || !json.Valid([]byte(out)) || !strings.Contains(out, `"version":"1.2.3"`) {
		t.Errorf("status: exit %d, %q, %q", code, out, stderr)
	}
	code, _, stderr = runLine(t.Context(), dir, "", nil, "status", "-url", "http://"+m[1])
	if code != exitRefused || !strings.Contains(stderr, "(unauthorized)") {
		t.Errorf("status without a token: exit %d, %q", code, stderr)
	}
	if _, _, second := served(t, "-data", dir, "-http", "127.0.0.1:0"); second() != exitFailed {
		t.Error("two appliances run on one data directory")
	}
	_, busy, third := served(t, "-data", dataDir(t), "-http", m[1])
	if third() != exitFailed || !strings.Contains(busy.String(), "-http") || !strings.Contains(busy.String(), m[1]) {
		t.Errorf("a busy port: %s", busy)
	}
	if code := stop(); code != exitOK {
		t.Errorf("stopped with exit code %d: %s", code, errs)
	}
	code, _, stderr = runLine(t.Context(), dir, "", nil, "status")
	if code != exitUnreachable || !strings.Contains(stderr, "serve -data "+dir) {
		t.Errorf("status of a stopped appliance: exit %d, %q", code, stderr)
	}
}

// The flags win over the environment, that over the file; -anonymous warns; -json is one object.
func TestServeConfiguration(t *testing.T) {
	dir := dataDir(t)
	file := filepath.Join(filepath.Dir(dir), "c.toml")
	text := fmt.Sprintf("data = %q\nlog_level = \"error\"\n[http]\naddr = \":1\"\n", dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	greeting, errs, stop := served(t, "-config", file, "-http", "127.0.0.1:0", "-anonymous", "-json")
	var g struct{ Version, HTTP, Data string }
	if err := json.Unmarshal([]byte(greeting), &g); err != nil || g.Data != dir || !strings.HasPrefix(g.HTTP, "127.0.0.1:") {
		t.Errorf("%q: %v", greeting, err)
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(errs.String(), "WARNING: anonymous access is open") {
		t.Errorf("no warning: %s", errs)
	}

	s := serving{config: file}
	c := &call{Env: Env{Getenv: func(k string) string { return "" }}, common: common{data: "data", given: map[string]bool{}}}
	if cfg, err := s.configure(c); err != nil || cfg.Data != dir || cfg.HTTP.Addr != ":1" || cfg.AnonymousOpen() {
		t.Errorf("file: %+v, %v", cfg, err)
	}
	c.Getenv, c.data = func(string) string { return "/env" }, "/env"
	if cfg, err := s.configure(c); err != nil || cfg.Data != "/env" {
		t.Errorf("environment: %q, %v", cfg.Data, err)
	}
	c.data, c.given["data"] = "/flag", true
	if cfg, err := s.configure(c); err != nil || cfg.Data != "/flag" {
		t.Errorf("flag: %q, %v", cfg.Data, err)
	}
}

func TestTryIt(t *testing.T) {
	for _, c := range []struct{ prog, data, want string }{
		{"edgepost", "./data", `edgepost send device/lamp1/in/set '{"on":true}' -wait` + "\n"},
		{"/opt/my tools/edgepost", "data", "TOKEN=$('/opt/my tools/edgepost' device add lamp1)\n"},
		{"e", "/var/lib/edge post", "listen -device lamp1 -token $TOKEN -data '/var/lib/edge post' &\n"},
		{"e", "it's", `device add lamp1 -data 'it'\''s')`},
	} {
		if got := tryIt(c.prog, c.data); !strings.Contains(got, c.want) {
			t.Errorf("%s", got)
		}
	}
	for in, want := range map[string]string{"[::]:8088": "http://localhost:8088 (", "0.0.0.0:80": "http://localhost:80 (", "10.0.0.1:80": "http://10.0.0.1:80", "[fd00::1]:80": "http://[fd00::1]:80"} {
		if got := reachable(in); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestLogCommands(t *testing.T) {
	dir := dataDir(t)
	code, _, stderr := runLine(t.Context(), dir, "", nil, "log", "verify")
	if code != exitFailed || !strings.Contains(stderr, filepath.Join(dir, "outbox")) || !strings.Contains(stderr, "registry") {
		t.Errorf("no logs: exit %d, %q", code, stderr)
	}
	code, _, stderr = runLine(t.Context(), dir, "", nil, "log", "dump", "inbox")
	if code != exitUsage || !strings.Contains(stderr, "outbox or registry") {
		t.Errorf("unknown log: exit %d, %q", code, stderr)
	}
	_, _, stop := served(t, "-data", dir, "-http", "127.0.0.1:0")
	for _, topic := range []string{"a/b", "c/d"} {
		if code, _, stderr := runLine(t.Context(), dir, "", nil, "send", topic, "x"); code != exitOK {
			t.Errorf("send: exit %d, %s", code, stderr)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	code, out, stderr := runLine(t.Context(), dir, "", nil, "log", "verify")
	if code != exitOK || strings.Count(out, "OK: ") != 2 {
		t.Errorf("verify: exit %d, %q, %q", code, out, stderr)
	}
	code, out, _ = runLine(t.Context(), dir, "", nil, "log", "verify", "outbox", "-json")
	if code != exitOK || !strings.HasPrefix(out, `{"log":"outbox","ok":true,"generations":1,`) || !strings.Contains(out, `"lost":[]`) {
		t.Errorf("verify -json: exit %d, %q", code, out)
	}
	code, out, _ = runLine(t.Context(), dir, "", nil, "log", "dump")
	if code != exitOK || !strings.Contains(out, "message a/b") {
		t.Errorf("dump: exit %d, %q", code, out)
	}

	// One wrong bit in a frame that others follow.
	files, err := filepath.Glob(filepath.Join(dir, "outbox", "g*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	hit := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(string(b), "a/b"); i > 0 {
			b[i] ^= 1
			hit = os.WriteFile(f, b, 0o600) == nil
		}
	}
	code, out, stderr = runLine(t.Context(), dir, "", nil, "log", "verify", "outbox")
	if !hit || code != exitFailed || !strings.Contains(stderr, "is damaged in 1 places") || !strings.Contains(out, "DAMAGED") {
		t.Errorf("damage: %v, exit %d, %q, %q", hit, code, out, stderr)
	}
	if got := fmt.Sprint(lostRanges([]wal.Range{{First: 1, Last: 3}})); got != "[[1 3]]" {
		t.Error(got)
	}
}

// Where the data directory has no room for a socket, both ends meet at the fallback.
func TestFallbackSocket(t *testing.T) {
	dir := dataDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", appliance.FallbackSocketPath(dir))
	if err != nil {
		t.Skipf("no socket in /run: %v", err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })}}
	s.Start()
	defer s.Close()
	if code, out, stderr := runLine(t.Context(), dir, "", nil, "status", "-json"); code != exitOK || out != "{}\n" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	t.Chdir(filepath.Dir(dir))
	if code, _, stderr := runLine(t.Context(), "data", "", nil, "status"); code != exitOK {
		t.Errorf("by its relative path: exit %d, %q", code, stderr)
	}
}

// A data directory whose path is too long for a socket is reached by a shorter path where there is one.
func TestLongPath(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.MkdirAll(filepath.Join(long, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(long)
	l, err := net.Listen("unix", filepath.Join("data", "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })}}
	s.Start()
	defer s.Close()
	for _, dir := range []string{"data", filepath.Join(long, "data")} {
		if code, _, stderr := runLine(t.Context(), dir, "", nil, "status", "-json"); code != exitOK {
			t.Errorf("%s: exit %d, %q", dir, code, stderr)
		}
	}
}
