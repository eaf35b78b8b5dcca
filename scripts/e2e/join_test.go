package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// publishes has a device publish over MQTT 5; "" when it is served, else what mosquitto_pub says.
func (b *broker) publishes(t *testing.T, name, pw string) string {
	t.Helper()
	out, err := b.tryMosquitto(t, "pub", "", "-V", "5", "-u", name, "-P", pw, "-t", "device/"+name+"/out/x", "-q", "1", "-m", "hi")
	if err == nil {
		return ""
	}
	return strings.ToLower(out)
}

// fetches has a device fetch over HTTP.
func (b *broker) fetches(t *testing.T, name, pw string) (int, string) {
	t.Helper()
	a, err := b.api("").do("GET", "/v1/devices/"+name+"/messages", nil, "Authorization", basicAuth(name, pw))
	if err != nil {
		t.Fatal(err)
	}
	var p problem
	_ = json.Unmarshal(a.body, &p)
	return a.status, p.Code
}

const factory = "factory-password-of-" // and the device's name

// TestPermitJoin: unknown devices are refused, held as waiting once joining is permitted, and served once they are approved, each
// on its own protocol and with the password that it has.
func TestPermitJoin(t *testing.T) {
	b := newBroker(t)
	if out := b.publishes(t, "plug", factory+"plug"); !strings.Contains(out, "bad user") {
		t.Errorf("before joining is permitted: %q", out)
	}
	if status, code := b.fetches(t, "meter", factory+"meter"); status != 401 || code != "unauthorized" {
		t.Errorf("before joining is permitted: %d %s", status, code)
	}
	b.must(nil, "join", "open", "-minutes", "5")
	first := b.knock(t)
	if r := b.run("join", "approve", "plug"); r.code != 4 || !strings.Contains(r.errout, "fingerprint") {
		t.Errorf("two wait as plug, and one of them is approved: %+v", r)
	}
	b.must(nil, "join", "approve", "plug", "-which", first, "-label", "Stecker", "-group", "hall")
	b.must(nil, "join", "approve", "meter")
	b.must(nil, "join", "approve", "panel")
	b.must(nil, "join", "refuse", "nosy")
	b.kill() // what was approved stays
	b.start()
	if out := b.publishes(t, "plug", factory+"plug"); out != "" {
		t.Errorf("approved and refused: %q", out)
	}
	if out := b.publishes(t, "plug", "another-password"); out == "" {
		t.Error("who came with another password is served too")
	}
	if status, _ := b.fetches(t, "meter", factory+"meter"); status != 200 {
		t.Errorf("approved: %d", status)
	}
	l, err := b.dial("panel", factory+"panel")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if _, err := b.dial("nosy", factory+"nosy"); err == nil {
		t.Error("refused and served")
	}
	if out := b.publishes(t, "late", factory+"late"); !strings.Contains(out, "bad user") {
		t.Errorf("joining is still permitted behind a restart: %q", out)
	}
}

// knock has devices come that nobody knows, two of them under the name plug, and returns the fingerprint of the first one.
func (b *broker) knock(t *testing.T) (plug string) {
	t.Helper()
	if out := b.publishes(t, "plug", factory+"plug"); !strings.Contains(out, "not authori") {
		t.Errorf("it waits, and is told %q", out)
	}
	_ = b.publishes(t, "plug", factory+"plug")
	_ = b.publishes(t, "plug", "another-password") // somebody else
	if status, code := b.fetches(t, "meter", factory+"meter"); status != 403 || code != "waiting" {
		t.Errorf("it waits: %d %s", status, code)
	}
	if _, err := b.dial("panel", factory+"panel"); err == nil || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("over WebSocket: %v", err)
	}
	if _, err := b.dial("nosy", factory+"nosy"); err == nil {
		t.Error("nosy is served")
	}
	b.addDevice("lamp1")
	if out := b.publishes(t, "lamp1", "a-wrong-password"); !strings.Contains(out, "bad user") {
		t.Errorf("a device that is known waits: %q", out)
	}
	var door struct {
		Waiting []struct {
			Name, Fingerprint, Via string
			Tries                  int
		}
	}
	b.must(&door, "join", "list")
	via := map[string]string{}
	for _, w := range door.Waiting {
		via[w.Name] = w.Via
	}
	if len(door.Waiting) != 5 || door.Waiting[0].Tries != 2 || via["plug"] != "mqtt" || via["meter"] != "http" || via["panel"] != "ws" {
		t.Fatalf("%+v", door)
	}
	return door.Waiting[0].Fingerprint
}

// TestShortPasswordsAreGuessedSlowly: a pinned password that a person chose is looked at ever more slowly from one address, and loopback
// is no exception.
func TestShortPasswordsAreGuessedSlowly(t *testing.T) {
	g := newGateway(t)
	g.start()
	list := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(list, []byte("id,token\nplug,hunter2hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.must(nil, "device", "import", list)
	try := func(pw string) int {
		a, err := g.api("").do("GET", "/v1/devices/plug/messages", nil, "Authorization", basicAuth("plug", pw))
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	if got := try("hunter2hunter2"); got != 200 {
		t.Fatalf("the right one: %d", got)
	}
	for i := range 5 {
		if got := try(fmt.Sprint("guess-", i)); got != 401 {
			t.Errorf("guess %d: %d", i, got)
		}
	}
	if got := try("hunter2hunter2"); got != 429 {
		t.Errorf("after five guesses the next one is looked at: %d", got)
	}
	if a, _ := g.api("hunter2hunter2").do("GET", "/v1/devices/plug/messages", nil); a.status != 401 {
		t.Errorf("a short password counts without its name: %d", a.status)
	}
}

// TestClaimCode: a device gets its token by a code, once, and who had the token before is disconnected.
func TestClaimCode(t *testing.T) {
	g := newGateway(t)
	g.start()
	var made struct{ ID, Claim, QR string }
	g.must(&made, "device", "add", "lamp1", "-claim")
	if !strings.HasPrefix(made.QR, "edgepost:claim?") || !strings.Contains(made.QR, made.Claim) || made.ID != "lamp1" {
		t.Fatalf("%+v", made)
	}
	claimed := runIn(t, "", "claim", made.Claim, "-url", "http://"+g.addr)
	if claimed.code != 0 || !strings.HasPrefix(claimed.out, "ep_") {
		t.Fatalf("%+v", claimed)
	}
	l, err := g.dial("lamp1", strings.TrimSpace(claimed.out))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if again := runIn(t, "", "claim", made.Claim, "-url", "http://"+g.addr); again.code != 4 {
		t.Errorf("the code is good twice: %+v", again)
	}
	code, _, _ := strings.Cut(g.must(nil, "device", "claim", "lamp1"), "\n")
	if r := runIn(t, "", "claim", strings.ToLower(code), "-url", "http://"+g.addr); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if !ended(l) {
		t.Error("the old token's connection goes on")
	}
	if _, err := g.dial("lamp1", strings.TrimSpace(claimed.out)); err == nil {
		t.Error("the old token is good")
	}
}

// ended reports whether the connection is ended soon.
func ended(l *link) bool {
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		if f, err := l.read(20 * time.Second); err != nil || f.Bye != nil {
			return true
		}
	}
	return false
}

// TestRotation: with a grace both tokens are good and nobody is disconnected; without one the old token's connections end at once, on
// WebSocket and MQTT. Only administrators rotate.
func TestRotation(t *testing.T) {
	b := newBroker(t)
	first := b.addDevice("lamp1")
	ws, err := b.dial("lamp1", first)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.close()
	second := strings.TrimSpace(b.must(nil, "device", "rotate", "lamp1", "-grace", "1h"))
	for _, token := range []string{first, second} {
		if a, _ := b.api(token).do("POST", "/v1/publish/device/lamp1/out/x", []byte("x")); a.status != 201 {
			t.Errorf("within the grace: %d", a.status)
		}
	}
	if err := ws.send(map[string]any{"ping": 1}); err != nil {
		t.Error(err)
	}
	if f, err := ws.read(20 * time.Second); err != nil || f.Pong == nil {
		t.Errorf("%+v, %v", f, err)
	}
	gone := make(chan struct{}, 1)
	c, _ := b.paho5(t, as("other", "lamp1", second), func(*paho.Publish) {})
	go func() { <-c.Done(); gone <- struct{}{} }()
	third := strings.TrimSpace(b.must(nil, "device", "rotate", "lamp1"))
	if !ended(ws) {
		t.Error("the WebSocket goes on")
	}
	receive(t, gone)
	for token, want := range map[string]int{first: 401, second: 401, third: 201} {
		if a, _ := b.api(token).do("POST", "/v1/publish/device/lamp1/out/x", []byte("x")); a.status != want {
			t.Errorf("after the rotation: %d, want %d", a.status, want)
		}
	}
	for _, path := range []string{"/v1/devices/lamp1/token", "/v1/devices/lamp1/claim", "/v1/join", "/v1/users", "/v1/setup/code"} {
		if a, _ := b.api(third).do("POST", path, []byte("{}"), "Content-Type", "application/json"); a.status != 403 {
			t.Errorf("a device may POST %s: %d %s", path, a.status, a.body)
		}
	}
}

// TestImport: a list of devices is registered as a whole, or the line that is wrong is named.
func TestImport(t *testing.T) {
	g := newGateway(t)
	g.start()
	dir := t.TempDir()
	write := func(text string) string {
		file := filepath.Join(dir, "list.csv")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := "\uFEFFid,label,groups,token,profile\r\nlamp1,\"Lampe, oben\",hall attic,,\r\nplug1,,hall,a-password-of-its-own,tasmota\r\n\r\nlamp2,灯,,,\r\n"
	for text, want := range map[string]string{
		good + "lamp1,,,,\n":      "line 6: ",
		good + "lamp 3,,,,\n":     "line 6: ",
		good + "lamp3,,,short,\n": "line 6: ",
		good + "lamp3,,,,none\n":  "line 6: ",
		good + "lamp3,,\n":        "line 6: ",
		"id,lable\nx,y\n":         "line 1: ",
		"label\nx\n":              "line 1: ",
		"":                        "empty",
	} {
		if r := g.run("device", "import", write(text)); r.code != 4 || !strings.Contains(r.errout, want) {
			t.Errorf("%q: %+v", text, r)
		}
	}
	var none struct{ Devices []token }
	if a, _ := g.api(g.addKey("root", "-admin")).do("GET", "/v1/devices", nil); json.Unmarshal(a.body, &none) != nil || len(none.Devices) != 0 {
		t.Fatalf("half of a list is there: %s", a.body)
	}
	r := g.run("device", "import", write(good))
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], "lamp1,ep_") || !strings.HasPrefix(lines[1], "lamp2,ep_") {
		t.Fatalf("%+v", r)
	}
	if a, _ := g.api(strings.TrimPrefix(lines[0], "lamp1,")).do("GET", "/v1/devices/lamp1/messages", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a, _ := g.api("").do("GET", "/v1/devices/plug1/messages", nil, "Authorization", basicAuth("plug1", "a-password-of-its-own")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var many bytes.Buffer
	many.WriteString("id,groups\n")
	for i := range 3000 {
		fmt.Fprintf(&many, "n%d,hall\n", i)
	}
	if r := g.run("device", "import", write(many.String())); r.code != 0 || strings.Count(r.out, ",ep_") != 3000 {
		t.Fatalf("exit %d %.300s", r.code, r.errout)
	}
	if s := g.api(g.addFreeKey()).publish(t, "group/hall/in/x", "x"); s.Subscriptions != 3002 {
		t.Errorf("%d subscriptions", s.Subscriptions)
	}
}

// basicAuth is the header of a name with its password.
func basicAuth(name, pw string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+pw))
}
