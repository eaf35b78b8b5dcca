package bridges

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// first is what a new user does with the README's lines for this kind of upstream: telemetry of a device goes up, a
// command comes back down to it.
func (w *world) first(t *testing.T) {
	g := newGateway(t, snippet(t, w.u.kind, w.p.addr))
	g.start()
	defer g.stop() // before another bridge reads what is for this one
	wait(t, "the bridge is connected", func() bool { return g.show("central").State == "connected" })
	out, err := exec.Command(program, "device", "add", "lamp1", "-data", g.dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(out))
	r, err := http.NewRequest(http.MethodPost, "http://"+g.addr+"/v1/publish/device/lamp1/out/state", strings.NewReader(plain(-1)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	a, err := g.http.Do(r)
	if err != nil || a.StatusCode != http.StatusCreated {
		t.Fatal(a, err)
	}
	a.Body.Close()
	wait(t, "the device's telemetry is upstream", func() bool { k, _ := w.up.count(-1, 0); return k == 1 })

	w.u.tell(t, w.addr(), `{"on":false}`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err = exec.CommandContext(ctx, program, "listen", "-device", "lamp1", "-token", token, "-n", "1", "-data", g.dir).Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != `device/lamp1/in/set {"on":false}` {
		t.Errorf("the device got %q (%v), the bridge: %+v", got, err, g.show("central"))
	}
}

// snippet is the README's [[bridge]] of a kind, with nothing but its address and the file with its password changed.
func snippet(t *testing.T, kind, addr string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```toml\n(\\[\\[bridge\\]\\].*?)```").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], `kind = "`+kind+`"`) {
			text := with(t, m[1], "127.0.0.1", addr)
			return strings.Replace(text, "/etc/edgepost/central", "PASSWORD_FILE", 1)
		}
	}
	t.Fatalf("README.md has no [[bridge]] of kind %q", kind)
	return ""
}

// The README's lines for a web server: each message is posted to it as an event.
func TestWebhook(t *testing.T) {
	posted := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		posted <- fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("ce-subject"), " ", string(body), err)
	}))
	defer s.Close()
	g := newGateway(t, snippet(t, "webhook", s.Listener.Addr().String()))
	g.start()
	g.publish(0, 1)
	if got := <-posted; got != `POST /events device/d1/out/n {"n":0}<nil>` {
		t.Errorf("the server got %s", got)
	}
}
