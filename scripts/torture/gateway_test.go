package torture

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

// gateway is one data directory and the process that serves it, if one runs.
type gateway struct {
	t      *testing.T
	dir    string
	addr   string   // of HTTP; stays the same over restarts
	config string   // path of the configuration, "" none
	wrap   []string // what the program runs under: strace, faketime, an emulator
	binary string   // the program, unless it is the one under test
	ready  time.Duration

	mu  sync.Mutex
	cmd *exec.Cmd
	out *buffer // of all its processes, all streams
	old int     // length of out before the process that runs
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

// newGateway describes a gateway with its data in dir and a configuration; start starts it. At the
// end of the test it is killed, and must not have crashed ever.
func newGateway(t *testing.T, dir, config string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: dir, addr: freeAddr(t), out: &buffer{}, ready: 30 * time.Second}
	if config != "" {
		g.config = filepath.Join(t.TempDir(), "edgepost.toml")
		if err := os.WriteFile(g.config, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		g.kill()
		g.checkNoCrash()
		if t.Failed() {
			t.Logf("the gateway's output:\n%s", tail(g.out.String(), 20_000))
		}
	})
	return g
}

// checkNoCrash fails the test if the program ever ended by itself in disorder.
func (g *gateway) checkNoCrash() {
	g.t.Helper()
	out := g.out.String()
	for _, bad := range []string{"panic:", "fatal error:", "DATA RACE", "goroutine 1 ["} {
		if i := strings.Index(out, bad); i >= 0 {
			g.t.Errorf("the gateway crashed:\n%s", out[i:min(len(out), i+4000)])
			return
		}
	}
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

// start starts the process and waits until it answers.
func (g *gateway) start() {
	g.t.Helper()
	if err := g.tryStart(); err != nil {
		g.t.Fatalf("start: %v", err)
	}
}

// tryStart returns an error when the process ends or does not become healthy in time.
func (g *gateway) tryStart() error {
	binary := program
	if g.binary != "" {
		binary = g.binary
	}
	args := append(append([]string(nil), g.wrap...), binary, "serve", "-data", g.dir, "-http", g.addr, "-mqtt", nowhere, "-https", "off", "-mqtts", "off", "-json")
	if g.config != "" {
		args = append(args, "-config", g.config)
	}
	g.mu.Lock()
	cmd, end := exec.Command(args[0], args[1:]...), make(chan struct{})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = g.out, g.out
	old := len(g.out.String())
	err := cmd.Start()
	if err == nil {
		g.cmd, g.end, g.old = cmd, end, old
	}
	g.mu.Unlock()
	if err != nil {
		return err
	}
	go func() { cmd.Wait(); close(end) }()
	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for until := time.Now().Add(g.ready); time.Now().Before(until); {
		res, err := probe.Get("http://" + g.addr + "/healthz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusInsufficientStorage {
				return nil // 507: it serves, and says that the storage is full or fails
			}
		}
		select {
		case <-end:
			return fmt.Errorf("it ended: %v", cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGQUIT) // it says what it waits for
	<-end
	return fmt.Errorf("it did not become healthy in %v", g.ready)
}

// mqtt returns the address of the running process's MQTT port. The process serves HTTP, and so counts as
// started, before it prints the line that names the port.
func (g *gateway) mqtt() (addr string) {
	g.t.Helper()
	within(g.t, 30*time.Second, "the gateway printed no address of MQTT", func() bool {
		g.mu.Lock()
		old := g.old
		g.mu.Unlock()
		_, rest, found := strings.Cut(g.out.String()[old:], `"mqtt":"`)
		addr, _, _ = strings.Cut(rest, `"`)
		return found && strings.Contains(rest, "\n")
	})
	return addr
}

// alive reports whether the process runs.
func (g *gateway) alive() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return false
	}
	select {
	case <-g.end:
		return false
	default:
		return true
	}
}

// kill is kill -9, of what the program runs under too, and waits for the end; nothing when nothing runs.
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
	group := -cmd.Process.Pid
	syscall.Kill(group, sig)
	select {
	case <-end:
	case <-time.After(20 * time.Second):
		syscall.Kill(group, syscall.SIGKILL)
		<-end
		g.t.Errorf("the gateway did not end within 20 s of %v", sig)
	}
	return cmd.ProcessState.ExitCode()
}

// run runs the command line on the gateway's data directory; at most 60 seconds.
func (g *gateway) run(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, "-data", g.dir)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%q: %w\n%s%s", args, err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// must is run for a test that needs it; the JSON it prints goes to v unless v is nil.
func (g *gateway) must(v any, args ...string) string {
	g.t.Helper()
	if v != nil {
		args = append(args, "-json")
	}
	out, err := g.run(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			g.t.Fatalf("%q printed %q: %v", args, out, err)
		}
	}
	return out
}

// addDevice registers a device and returns its token.
func (g *gateway) addDevice(id string, flags ...string) string {
	g.t.Helper()
	var tok struct{ Token string }
	g.must(&tok, append([]string{"device", "add", id}, flags...)...)
	return tok.Token
}

// addKey makes the key app, which may publish and subscribe everything, and returns its token.
func (g *gateway) addKey() string {
	g.t.Helper()
	var tok struct{ Token string }
	g.must(&tok, "key", "add", "app", "-publish", "#", "-subscribe", "#", "-admin")
	return tok.Token
}

// files lists what is in the data directory, and what is free on its disk.
func (g *gateway) files() string {
	list, _ := exec.Command("find", g.dir, "-type", "f", "-printf", "%P\t%s bytes, %k KiB on disk\n").Output()
	free, _ := exec.Command("df", g.dir).Output()
	return string(list) + string(free)
}

// errVerify is what `log verify` says about a damaged log.
var errVerify = errors.New("the log is damaged")

// verify runs `log verify`, which must find nothing wrong after faults that the log must survive whole.
func (g *gateway) verify() error {
	if out, err := g.run("log", "verify"); err != nil {
		return fmt.Errorf("%w: %s: %w", errVerify, out, err)
	}
	return nil
}
