package bridges

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

var program string // under test, set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edgepost-bridges-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bridges:", err)
		os.Exit(1)
	}
	code := 1
	program = filepath.Join(dir, "edgepost")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "bridges: build edgepost: %v\n%s", err, text)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// cannot skips a test that this machine cannot run, and says why; in CI it fails instead.
func cannot(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("cannot run in CI: ", why)
	}
	t.Skip("SKIP: ", why)
}

// gateway is one data directory and the process that serves it, if one runs.
type gateway struct {
	t       *testing.T
	dir     string
	addr    string
	mqtt    string // its MQTT address
	program string // that serves
	file    string // its configuration
	cmd     *exec.Cmd
	out     bytes.Buffer
	end     chan struct{}
	http    *http.Client
}

// newGateway configures one with the text of [[bridge]]; start starts it.
func newGateway(t *testing.T, bridge string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), addr: freeAddr(t), mqtt: "127.0.0.1:0", program: program, http: &http.Client{Timeout: time.Minute}}
	g.file = filepath.Join(t.TempDir(), "edgepost.toml")
	g.configure(bridge)
	t.Cleanup(func() {
		g.signal(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the gateway's output:\n%s", g.out.String()[max(0, g.out.Len()-4000):])
		}
	})
	return g
}

func (g *gateway) configure(bridge string) {
	g.t.Helper()
	bridge = strings.ReplaceAll(bridge, "PASSWORD_FILE", secretFile(g.t, brokers.Password))
	text := "[access.anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]\n[storage]\nmax_bytes = \"512MiB\"\n" + bridge
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// secretFile is a file with a secret.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := brokers.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process and waits until it answers.
func (g *gateway) start() {
	g.t.Helper()
	g.cmd = exec.Command(g.program, "serve", "-data", g.dir, "-config", g.file, "-http", g.addr, "-mqtt", g.mqtt, "-https", "off", "-mqtts", "off")
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.out
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.end = make(chan struct{})
	go func(cmd *exec.Cmd, end chan struct{}) { _ = cmd.Wait(); close(end) }(g.cmd, g.end)
	wait(g.t, "the gateway answers", func() bool {
		select {
		case <-g.end:
			g.t.Fatal("the gateway ended at its start")
		default:
		}
		r, err := http.Get("http://" + g.addr + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
}

// signal ends the process and waits for it.
func (g *gateway) signal(sig syscall.Signal) {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(sig)
	<-g.end
	g.cmd = nil
}

func (g *gateway) kill() { g.signal(syscall.SIGKILL) }
func (g *gateway) stop() { g.signal(syscall.SIGTERM) }

// run runs the command line against it.
func (g *gateway) run(args ...string) (string, error) {
	b, err := exec.Command(program, append(args, "-data", g.dir)...).CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

// bridge is what the API says about the bridge.
type bridge struct {
	State    string           `json:"state"`
	Error    string           `json:"error"`
	Owed     int64            `json:"owed"`
	Counters map[string]int64 `json:"counters"`
}

func (g *gateway) bridge() bridge { return g.show("up") }

func (g *gateway) show(name string) (b bridge) {
	text, err := g.run("bridge", "show", name, "-json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &b)
	}
	if err != nil {
		b.Error = fmt.Sprint(err, ": ", text)
	}
	return b
}

// publish stores numbered messages in atomic batches until each is acknowledged; it may be called while the gateway is
// being killed: the events' ids keep them from being stored twice.
func (g *gateway) publish(from, to int) {
	const batch = 100
	for at := from; at < to; at += batch {
		var b strings.Builder
		for n := at; n < min(at+batch, to); n++ {
			sep := ","
			if n == at {
				sep = "["
			}
			fmt.Fprintf(&b, `%s{"specversion":"1.0","id":"%d","source":"/test","type":"t","subject":"device/d1/out/n","datacontenttype":"application/json","data":%s}`, sep, n, plain(n))
		}
		b.WriteByte(']')
		for {
			r, err := g.http.Post("http://"+g.addr+"/v1/messages", "application/cloudevents-batch+json", strings.NewReader(b.String()))
			if err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if r.StatusCode == http.StatusCreated {
					break
				}
			}
			if g.t.Context().Err() != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// history counts the messages that came in, by number, and reads on where it stopped.
type history struct {
	*tally
	g     *gateway
	after string
}

func (h *history) read() {
	h.g.t.Helper()
	for {
		r, err := h.g.http.Get("http://" + h.g.addr + "/v1/messages?topic=cmd/%23&limit=1000&after=" + h.after)
		if err != nil {
			h.g.t.Fatal(err)
		}
		var page struct {
			Messages []json.RawMessage `json:"messages"`
			Next     string            `json:"next"`
		}
		err = json.NewDecoder(r.Body).Decode(&page)
		r.Body.Close()
		if err != nil {
			h.g.t.Fatal(err)
		}
		for _, m := range page.Messages {
			h.add(string(m))
		}
		if len(page.Messages) == 0 || page.Next == "" {
			return
		}
		h.after = page.Next
	}
}

// tally counts numbered messages. Safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	times map[int]int
}

func newTally() *tally { return &tally{times: make(map[int]int)} }

// plain is a numbered body, event a numbered CloudEvent around it.
func plain(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

func event(n int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/other","type":"t","datacontenttype":"application/json","data":%s}`, n, plain(n))
}

// add counts a body.
func (c *tally) add(body string) {
	if n, ok := number(body); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.times[n]++
	}
}

// redelivered counts a body that the broker itself brings again, or may.
func (c *tally) redelivered(body string) {
	if n, ok := number(body); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.times[n] = max(c.times[n], 1)
	}
}

// number finds the number in what holds [plain], as it is or quoted.
func number(body string) (n int, ok bool) {
	body = strings.ReplaceAll(body, `\`, "")
	i := strings.LastIndex(body, `"n":`)
	if i < 0 {
		return 0, false
	}
	_, err := fmt.Sscanf(body[i+4:], "%d", &n)
	return n, err == nil
}

// count is how many different numbers of from…to came, and how many came again.
func (c *tally) count(from, to int) (different, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := from; n < to; n++ {
		if k := c.times[n]; k > 0 {
			different++
			again += k - 1
		}
	}
	return different, again
}

// missing are the first numbers that did not come.
func (c *tally) missing(from, to int) (list []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := from; n < to && len(list) < 20; n++ {
		if c.times[n] == 0 {
			list = append(list, n)
		}
	}
	return list
}

// wait polls until it is so; two minutes are far more than any of it takes.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	if !eventually(2*time.Minute, so) {
		t.Fatalf("it did not come to this in two minutes: %s", what)
	}
}

func eventually(limit time.Duration, so func() bool) bool {
	for until := time.Now().Add(limit); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if so() {
			return true
		}
	}
	return false
}
