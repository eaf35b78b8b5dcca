package appliance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"edgepost/appliance/message"
)

// rig is a running appliance and clients of it.
type rig struct {
	t     *testing.T
	a     *Appliance
	owner *http.Client // over the control socket
	base  string
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r, stop := startRig(t, cfg)
	t.Cleanup(stop)
	return r
}

// startRig is newRig for who stops it before the test is over.
func startRig(t *testing.T, cfg Config) (r *rig, stop func()) {
	t.Helper()
	cfg.HTTP.Addr, cfg.MQTT.Addr = "127.0.0.1:0", "127.0.0.1:0"
	if cfg.Data == "" {
		cfg.Data = t.TempDir()
	}
	a, err := New(cfg, Options{Version: "test", Log: slog.New(slog.NewTextHandler(testLog{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	r = &rig{t: t, a: a, base: "http://" + a.Addr()}
	r.owner = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", SocketPath(cfg.Data))
	}}}
	return r, func() {
		r.owner.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// call makes a request and decodes the JSON answer; a status that is not wanted fails the test.
func (r *rig) call(c *http.Client, base, method, path, token, body string, want int) map[string]any {
	r.t.Helper()
	req, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != want {
		r.t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, want, b)
	}
	var out map[string]any
	if len(bytes.TrimSpace(b)) > 0 && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		if err := json.Unmarshal(b, &out); err != nil {
			r.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return out
}

func (r *rig) admin(method, path, body string, want int) map[string]any {
	r.t.Helper()
	return r.call(r.owner, "http://localhost", method, path, "", body, want)
}

func (r *rig) as(token, method, path, body string, want int) map[string]any {
	r.t.Helper()
	return r.call(http.DefaultClient, r.base, method, path, token, body, want)
}

func (r *rig) device(id string) (token string) {
	r.t.Helper()
	return r.admin("POST", "/v1/devices", fmt.Sprintf(`{"id":%q}`, id), 201)["token"].(string)
}

func (r *rig) socket(hello string) *websocket.Conn {
	r.t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.base, "http")+"/v1/ws", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.WriteMessage(websocket.TextMessage, []byte(hello)); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// lines reads JSON objects, several to a frame, until n came.
func lines(t *testing.T, c *websocket.Conn, n int) []map[string]any {
	t.Helper()
	var out []map[string]any
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(out) < n {
		_, b, err := c.ReadMessage()
		if err != nil {
			t.Fatalf("after %d objects: %v", len(out), err)
		}
		s := bufio.NewScanner(bytes.NewReader(b))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var o map[string]any
			if err := json.Unmarshal(s.Bytes(), &o); err != nil {
				t.Fatalf("%v in %s", err, s.Bytes())
			}
			out = append(out, o)
		}
	}
	return out
}

func TestPublishIsDeliveredAndTraced(t *testing.T) {
	r := newRig(t, Config{})
	token := r.device("lamp1")
	key := r.admin("POST", "/v1/keys", `{"name":"app","rules":{"publish":["device/+/in/#"]}}`, 201)["token"].(string)

	stored := r.as(key, "POST", "/v1/publish/device/lamp1/in/set", `{"on":true}`, 201)
	if stored["subscriptions"] != 1.0 {
		t.Fatalf("stored: %v", stored)
	}
	id := stored["id"].(string)

	c := r.socket(fmt.Sprintf(`{"id":1,"hello":{"device":"lamp1","token":%q}}`, token))
	got := lines(t, c, 2)
	if got[0]["welcome"] == nil {
		t.Fatalf("first object: %v", got[0])
	}
	m := got[1]["msg"].(map[string]any)
	if m["id"] != id || m["topic"] != "device/lamp1/in/set" || m["from"] != "app" || m["attempt"] != 1.0 {
		t.Fatalf("message: %v", m)
	}
	if data, ok := m["data"].(map[string]any); !ok || data["on"] != true {
		t.Fatalf("data: %v", m["data"])
	}
	if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"ack":{"sub":0,"upto":%d}}`, int64(m["seq"].(float64)))); err != nil {
		t.Fatal(err)
	}
	res := r.admin("POST", "/v1/publish/device/lamp1/in/set?wait=delivered&timeout=200ms", "x", 201)
	if s, _ := json.Marshal(res); !bytes.Contains(s, []byte(`"sent"`)) {
		t.Fatalf("wait without an ack: %s", s)
	}
	tr := r.as(key, "GET", "/v1/messages/"+id, "", 200)
	if s, _ := json.Marshal(tr); !bytes.Contains(s, []byte(`"delivered"`)) {
		t.Fatalf("trace: %s", s)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, Config{})
	token := r.device("lamp1")
	for _, c := range []struct {
		name, token, method, path, body string
		status                          int
		code                            string
	}{
		{"no credentials", "", "POST", "/v1/publish/a", "x", 401, message.CodeUnauthorized},
		{"wrong token", "ep_wrong", "POST", "/v1/publish/a", "x", 401, message.CodeUnauthorized},
		{"forbidden topic", token, "POST", "/v1/publish/a", "x", 403, message.CodeForbidden},
		{"another's inbox", token, "GET", "/v1/devices/lamp2/messages", "", 403, message.CodeForbidden},
		{"own presence", token, "POST", "/v1/publish/$edge/alarm/x", "x", 403, message.CodeForbidden},
		{"administration", token, "GET", "/v1/keys", "", 403, message.CodeForbidden},
		{"wildcard", token, "POST", "/v1/publish?topic=a/%2B", "x", 400, message.CodeBadTopic},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.t = t
			if got := r.as(c.token, c.method, c.path, c.body, c.status); got["code"] != c.code {
				t.Errorf("code %v, want %s", got["code"], c.code)
			}
		})
	}
	if got := r.admin("POST", "/v1/publish/device/nobody/in/x", "x", 404); got["code"] != message.CodeUnknownDevice {
		t.Errorf("unknown device: %v", got)
	}
	if got := r.admin("POST", "/v1/publish/group/nobody/in/x", "x", 404); got["code"] != message.CodeUnknownGroup {
		t.Errorf("unknown group: %v", got)
	}
}

// TestStatusIsForAdministrators: it names the gateway and its troubles; who may only publish has no business with it.
func TestStatusIsForAdministrators(t *testing.T) {
	r := newRig(t, Config{Access: AccessConfig{Anonymous: message.Rules{Publish: []message.Filter{"#"}}}})
	key := r.admin("POST", "/v1/keys", `{"name":"app","rules":{"publish":["#"]}}`, 201)["token"].(string)
	root := r.admin("POST", "/v1/keys", `{"name":"root","admin":true}`, 201)["token"].(string)
	for _, token := range []string{"", r.device("lamp1"), key} {
		if got := r.as(token, "GET", "/v1/status", "", 403); got["code"] != message.CodeForbidden {
			t.Errorf("refused with %v", got)
		}
	}
	for _, got := range []map[string]any{r.as(root, "GET", "/v1/status", "", 200), r.admin("GET", "/v1/status", "", 200)} {
		if got["gateway"] == "" || got["storage"] != "ok" {
			t.Errorf("status %v", got)
		}
	}
	if got := r.as("", "GET", "/glance.json", "", 200); got["storage"] != "ok" {
		t.Errorf("the public part: %v", got)
	}
}

func TestGroupsReachTheirMembersWhileTheyAreMembers(t *testing.T) {
	r := newRig(t, Config{})
	token := r.device("lamp1")
	r.admin("POST", "/v1/groups", `{"name":"hall"}`, 201)
	r.admin("PUT", "/v1/groups/hall/devices/lamp1", "", 204)
	r.admin("POST", "/v1/publish/group/hall/in/a", "1", 201)
	got := r.as(token, "GET", "/v1/devices/lamp1/messages?max=10", "", 200)
	if n := len(got["messages"].([]any)); n != 1 {
		t.Fatalf("a member got %d messages", n)
	}
	r.admin("DELETE", "/v1/groups/hall/devices/lamp1", "", 204)
	if got := r.admin("POST", "/v1/publish/group/hall/in/a", "2", 201); got["subscriptions"] != 0.0 {
		t.Fatalf("after leaving: %v", got)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	newRig(t, Config{Data: dir})
	a, err := New(Config{Data: dir, HTTP: HTTPConfig{Addr: "127.0.0.1:0"}, MQTT: MQTTConfig{Addr: "127.0.0.1:0"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "used by another edgepost") {
		t.Fatalf("second start: %v", err)
	}
}

func TestForeignDirectoryAndBusyPort(t *testing.T) {
	foreign := t.TempDir()
	if err := writeFile(foreign+"/letter.txt", "dear"); err != nil {
		t.Fatal(err)
	}
	a, _ := New(Config{Data: foreign, HTTP: HTTPConfig{Addr: "127.0.0.1:0"}, MQTT: MQTTConfig{Addr: "127.0.0.1:0"}}, Options{})
	if err := a.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("foreign directory: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, _ = New(Config{Data: t.TempDir(), HTTP: HTTPConfig{Addr: l.Addr().String()}, MQTT: MQTTConfig{Addr: "127.0.0.1:0"}}, Options{})
	if err := a.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "-http") {
		t.Errorf("busy port: %v", err)
	}
}

func writeFile(path, s string) error { return os.WriteFile(path, []byte(s), 0o600) }
