package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Ports that nothing listens on: the gateways of different tests must not meet.
const nowhere = "127.0.0.1:0"

var program string // the program under test, set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edgepost-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := 1
	if program, err = buildBinary(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func buildBinary(dir string) (string, error) {
	if b := os.Getenv("EDGEPOST_E2E_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	out := filepath.Join(dir, "bin", "edgepost")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build edgepost: %w\n%s", err, text)
	}
	return out, nil
}

// cannot skips a test that this machine cannot run, and says why; in CI it fails instead.
func cannot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("cannot run in CI: " + why)
	}
	t.Skip("SKIP: " + why)
}

// gateway is one data directory and the process that serves it, if one runs.
type gateway struct {
	t    *testing.T
	dir  string
	addr string // of HTTP; stays the same over restarts
	args []string
	cwd  string // "" ours; else the directory that holds bin/edgepost, and the program is called so

	mu  sync.Mutex
	cmd *exec.Cmd
	out *buffer // of the running process, both streams
	end chan struct{}
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newGateway chooses a directory and a port; start starts it. args are further flags of serve.
func newGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), addr: freeAddr(t), args: args}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() && g.out != nil {
			t.Logf("the gateway's output:\n%s", tail(g.out.String(), 6000))
		}
	})
	return g
}

// startGateway is newGateway, configured by the text of a configuration file, and started.
func startGateway(t *testing.T, config string) *gateway {
	t.Helper()
	g := newGateway(t)
	if config != "" {
		file := filepath.Join(t.TempDir(), "edgepost.toml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		g.args = append(g.args, "-config", file)
	}
	g.start()
	return g
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// start starts the process and waits until it answers.
func (g *gateway) start() {
	g.t.Helper()
	if err := g.tryStart(); err != nil {
		g.t.Fatalf("start: %v\n%s", err, g.out)
	}
}

func (g *gateway) tryStart() error {
	g.mu.Lock()
	args := append([]string{"serve", "-data", g.dir, "-http", g.addr, "-mqtt", nowhere, "-https", nowhere, "-mqtts", nowhere}, g.args...)
	name := program
	if g.cwd != "" {
		name = "bin/edgepost"
	}
	g.cmd, g.out, g.end = exec.Command(name, args...), &buffer{}, make(chan struct{})
	g.cmd.Dir = g.cwd
	g.cmd.Stdout, g.cmd.Stderr = g.out, g.out
	err := g.cmd.Start()
	cmd, end := g.cmd, g.end
	g.mu.Unlock()
	if err != nil {
		return err
	}
	go func() { cmd.Wait(); close(end) }()
	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		res, err := probe.Get("http://" + g.addr + "/healthz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-end:
			return fmt.Errorf("it ended: %v", cmd.ProcessState)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("it did not become healthy in 30 s")
}

// kill is kill -9, and waits for the end; nothing when nothing runs.
func (g *gateway) kill() { g.signal(syscall.SIGKILL) }

// stop asks the process to end as an init system does, and returns its exit code.
func (g *gateway) stop() int { return g.signal(syscall.SIGTERM) }

func (g *gateway) signal(sig syscall.Signal) int {
	g.mu.Lock()
	cmd, end := g.cmd, g.end
	g.cmd = nil
	g.mu.Unlock()
	if cmd == nil || cmd.Process == nil {
		return -1
	}
	cmd.Process.Signal(sig)
	select {
	case <-end:
	case <-time.After(20 * time.Second):
		cmd.Process.Kill()
		<-end
		g.t.Errorf("the gateway did not end within 20 s of %v", sig)
	}
	return cmd.ProcessState.ExitCode()
}

// result is what one run of the command line said.
type result struct {
	code        int
	out, errout string
}

// run runs the command line against the gateway's data directory; at most 30 seconds.
func (g *gateway) run(args ...string) result {
	g.t.Helper()
	return runIn(g.t, "", append(args, "-data", g.dir)...)
}

// runIn runs the program in a directory with nothing added.
func runIn(t *testing.T, dir string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%q still ran after 30 s", args)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errout.String()}
}

// must runs the command line, expects success, and decodes its JSON into v unless v is nil.
func (g *gateway) must(v any, args ...string) string {
	g.t.Helper()
	if v != nil {
		args = append(args, "-json")
	}
	r := g.run(args...)
	if r.code != 0 {
		g.t.Fatalf("%q: exit %d\n%s%s", args, r.code, r.out, r.errout)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(r.out), v); err != nil {
			g.t.Fatalf("%q printed %q: %v", args, r.out, err)
		}
	}
	return r.out
}

// token is what adding a device or a key prints.
type token struct {
	ID, Name, Token string
}

// addDevice adds a device by the command line and returns its token.
func (g *gateway) addDevice(id string, flags ...string) string {
	g.t.Helper()
	var tok token
	g.must(&tok, append([]string{"device", "add", id}, flags...)...)
	if tok.Token == "" || tok.ID != id {
		g.t.Fatalf("device add %s printed %+v", id, tok)
	}
	return tok.Token
}

// addKey adds a key that may publish and subscribe what the filters say, and returns its token.
func (g *gateway) addKey(name string, flags ...string) string {
	g.t.Helper()
	var tok token
	g.must(&tok, append([]string{"key", "add", name}, flags...)...)
	if tok.Token == "" || tok.Name != name {
		g.t.Fatalf("key add %s printed %+v", name, tok)
	}
	return tok.Token
}

// addFreeKey adds the key app, which may do everything but administer.
func (g *gateway) addFreeKey() string {
	g.t.Helper()
	return g.addKey("app", "-publish", "#", "-subscribe", "#")
}

// within polls until ok, and fails the test when it takes longer.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("not within %v: %s", d, strings.TrimSpace(what))
		}
	}
}
