package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// setupCode reads the code that the console shows.
func (g *gateway) setupCode() string {
	g.t.Helper()
	var code string
	within(g.t, 10*time.Second, "the console shows no set-up code", func() bool {
		if m := regexp.MustCompile(`set-up code ([A-Z]{4}-[A-Z]{4})`).FindStringSubmatch(g.out.String()); m != nil {
			code = m[1]
		}
		return code != ""
	})
	return code
}

// typed runs the command line with something on standard input, as a script that types a password.
func (g *gateway) typed(stdin string, args ...string) result {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), program, append(args, "-data", g.dir)...)
	var out, errout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errout
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), out.String(), errout.String()}
}

// person is a browser on the gateway itself.
type person struct {
	*api
	cookie string
}

func (g *gateway) person() *person { return &person{api: g.api("")} }

func (p *person) do(method, path, body string, headers ...string) answer {
	p.g.t.Helper()
	if p.cookie != "" {
		headers = append(headers, "Cookie", p.cookie)
	}
	if body != "" {
		headers = append(headers, "Content-Type", "application/json")
	}
	a, err := p.api.do(method, path, []byte(body), headers...)
	if err != nil {
		p.g.t.Fatal(err)
	}
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if p.cookie = c.Name + "=" + c.Value; c.MaxAge < 0 {
			p.cookie = ""
		}
	}
	return a
}

func (p *person) expect(status int, method, path, body string, headers ...string) answer {
	p.g.t.Helper()
	a := p.do(method, path, body, headers...)
	if a.status != status {
		p.g.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

const password = "a quite long sentence"

// TestSetup goes the way of a new user over HTTP: the code, the administrator, a sign-in, and what a password changes.
func TestSetup(t *testing.T) {
	g := newGateway(t)
	g.start()
	code := g.setupCode()
	ann := g.person()
	if a := ann.expect(401, "GET", "/v1/devices", ""); !bytes.Contains(a.body, []byte("/v1/setup")) {
		t.Errorf("a stranger is not told that the gateway needs set-up: %s", a.body)
	}
	if tok := g.addDevice("lamp1"); tok == "" { // the control socket is the owner
		t.Fatal("no token")
	}
	if a := ann.expect(200, "GET", "/v1/setup", ""); !bytes.Contains(a.body, []byte(`"needed":true`)) {
		t.Errorf("%s", a.body)
	}
	body := fmt.Sprintf(`{"code":%q,"name":"ann","password":%q}`, code, password)
	ann.expect(401, "POST", "/v1/setup", `{"code":"BCDF-GHJK","name":"ann","password":"`+password+`"}`)
	ann.expect(400, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"ann","password":"short"}`, code))
	a := ann.expect(201, "POST", "/v1/setup", body)
	if k := a.header.Get("Set-Cookie"); !strings.Contains(k, "HttpOnly") || !strings.Contains(k, "SameSite=Strict") || !strings.HasPrefix(k, "ep-local=") {
		t.Errorf("cookie %q", k)
	}
	ann.expect(200, "GET", "/v1/devices", "")
	ann.expect(201, "POST", "/v1/publish/device/lamp1/in/set", `{"on":true}`)
	g.person().expect(409, "POST", "/v1/setup", body)

	other := g.person()
	other.expect(201, "POST", "/v1/session", `{"name":"ann","password":"`+password+`"}`)
	other.expect(200, "GET", "/v1/users", "")
	ann.expect(401, "PUT", "/v1/users/ann/password", `{"present":"not this","password":"another long sentence"}`)
	ann.expect(204, "PUT", "/v1/users/ann/password", `{"present":"`+password+`","password":"another long sentence"}`)
	other.expect(401, "GET", "/v1/users", "")
	ann.expect(200, "GET", "/v1/users", "")
	old := ann.cookie
	ann.expect(204, "DELETE", "/v1/session", "")
	ann.cookie = old
	ann.expect(401, "GET", "/v1/users", "")
	ann.cookie = ""
	ann.expect(401, "POST", "/v1/session", `{"name":"ann","password":"`+password+`"}`)
	ann.expect(201, "POST", "/v1/session", `{"name":"ann","password":"another long sentence"}`)
	g.kill()
	g.start()
	if strings.Contains(g.out.String(), "set-up code") {
		t.Error("a gateway that is set up shows a set-up code")
	}
	ann.expect(401, "GET", "/v1/users", "") // sessions do not survive a restart
	ann.cookie = ""
	ann.expect(201, "POST", "/v1/session", `{"name":"ann","password":"another long sentence"}`)
}

// TestHeadlessSetup is the command line's way.
func TestHeadlessSetup(t *testing.T) {
	g := newGateway(t)
	g.start()
	old := g.setupCode()
	newer := strings.TrimSpace(g.must(nil, "admin", "code"))
	g.person().expect(401, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"eve","password":%q}`, old, password))
	if r := g.typed("1234\n", "admin", "passwd"); r.code != 4 || !strings.Contains(r.errout, "too short") {
		t.Errorf("a short password: %+v", r)
	}
	if r := g.typed(password+"\n", "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	g.person().expect(409, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"eve","password":%q}`, newer, password))
	p := g.person()
	p.expect(201, "POST", "/v1/session", `{"name":"admin","password":"`+password+`"}`)
	if r := g.typed("another long sentence\n", "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	p.expect(401, "GET", "/v1/devices", "")
	if r := g.typed(password, "user", "add", "bob", "-subscribe", "alarm/#"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	bob := g.person()
	bob.expect(201, "POST", "/v1/session", `{"name":"bob","password":"`+password+`"}`)
	bob.expect(403, "GET", "/v1/devices", "")
	bob.expect(403, "POST", "/v1/publish/alarm/x", "x")
	bob.expect(200, "GET", "/v1/messages?topic=alarm/%23", "")
	g.must(nil, "user", "rm", "bob")
	bob.expect(401, "GET", "/v1/messages?topic=alarm/%23", "")
	if r := g.run("user", "rm", "admin"); r.code != 4 || !strings.Contains(r.errout, "last-admin") {
		t.Errorf("the last administrator is gone: %+v", r)
	}
}

// TestPasswordsOnlyWhereNobodyReadsAlong: plain HTTP is taken from the gateway itself and nobody else, whoever claims to be there.
func TestPasswordsOnlyWhereNobodyReadsAlong(t *testing.T) {
	g := startGateway(t, "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n")
	if r := g.typed(password, "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	sign := `{"name":"admin","password":"` + password + `"}`
	for _, headers := range [][]string{
		{"X-Forwarded-For", "192.168.1.7"},
		{"X-Forwarded-For", "127.0.0.1"},
		{"X-Forwarded-For", "192.168.1.7", "X-Forwarded-Proto", "http"},
	} {
		p := g.person()
		if a := p.expect(403, "POST", "/v1/session", sign, headers...); !bytes.Contains(a.body, []byte("HTTPS")) || p.cookie != "" {
			t.Errorf("%q: %s", headers, a.body)
		}
	}
	p := g.person()
	p.expect(201, "POST", "/v1/session", sign, "X-Forwarded-For", "192.168.1.7", "X-Forwarded-Proto", "https")
	if !strings.HasPrefix(p.cookie, "__Host-ep=") {
		t.Errorf("behind a proxy with TLS the cookie is %q", p.cookie)
	}
	p.expect(200, "GET", "/v1/users", "", "X-Forwarded-For", "192.168.1.7", "X-Forwarded-Proto", "https")
	p.expect(401, "GET", "/v1/users", "", "X-Forwarded-For", "192.168.1.7") // the same cookie where others read along

	plain := newGateway(t) // knows of no proxy
	plain.start()
	if r := plain.typed(password, "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, h := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Proto"} {
		plain.person().expect(403, "POST", "/v1/session", sign, h, "https")
	}
	plain.person().expect(403, "POST", "/v1/setup", `{"code":"x","name":"eve","password":"`+password+`"}`, "Via", "1.1 x")
}

// TestSignInOverHTTPS: the cookie of HTTPS is taken there and nowhere else.
func TestSignInOverHTTPS(t *testing.T) {
	secure := freeAddr(t)
	g := newGateway(t, "-https", secure)
	g.start()
	if r := g.typed(password, "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	browser := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // its certificate is another test's business
	defer browser.CloseIdleConnections()
	ask := func(method, path, body, cookie string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, "https://"+secure+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		res, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	res := ask("POST", "/v1/session", `{"name":"admin","password":"`+password+`"}`, "")
	k := res.Header.Get("Set-Cookie")
	if res.StatusCode != 201 || !strings.HasPrefix(k, "__Host-ep=") || !strings.Contains(k, "Secure") {
		t.Fatalf("%d %q", res.StatusCode, k)
	}
	cookie, _, _ := strings.Cut(k, ";")
	if res := ask("GET", "/v1/devices", "", cookie); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	if res := ask("GET", "/v1/devices", "", strings.Replace(cookie, "__Host-ep", "ep-local", 1)); res.StatusCode != 401 {
		t.Errorf("the cookie of plain HTTP counts over HTTPS: %d", res.StatusCode)
	}
	p := g.person()
	p.cookie = cookie
	p.expect(401, "GET", "/v1/devices", "")
}

// TestRemovedMeansDisconnected: every kind of connection of a key or device ends when it is removed.
func TestRemovedMeansDisconnected(t *testing.T) {
	g := newGateway(t)
	g.start()
	app, lamp := g.addFreeKey(), g.addDevice("lamp1")
	events, stop := g.stream(t, app, "topic=a/%23")
	defer stop()
	program, err := g.dial("", app)
	if err != nil {
		t.Fatal(err)
	}
	defer program.close()
	device, err := g.dial("lamp1", lamp)
	if err != nil {
		t.Fatal(err)
	}
	defer device.close()
	within(t, 20*time.Second, "the stream is not open", func() bool {
		g.api(app).publish(t, "a/b", "x")
		select {
		case <-events:
			return true
		default:
			return false
		}
	})
	g.must(nil, "key", "rm", "app")
	g.must(nil, "device", "rm", "lamp1")
	if !ended(program) || !ended(device) {
		t.Error("a WebSocket goes on")
	}
	for e := range events { // until curl ends, which it does after 30 s at the latest
		if e.name == "bye" && strings.Contains(e.data, "removed") {
			return
		}
	}
	t.Error("the stream ended without a reason, or went on")
}

// TestBrowserAttacks has a signed-in person's browser open a hostile page.
func TestBrowserAttacks(t *testing.T) {
	g := startGateway(t, "[http]\nallowed_origins = [\"http://panel.example\"]\n")
	if r := g.typed(password, "admin", "passwd"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	p := g.person()
	p.expect(201, "POST", "/v1/session", `{"name":"admin","password":"`+password+`"}`)
	p.expect(403, "POST", "/v1/keys", `{"name":"evil","admin":true}`, "Origin", "http://evil.example")
	p.expect(403, "POST", "/v1/keys", `{"name":"evil","admin":true}`, "Sec-Fetch-Site", "cross-site")
	p.expect(401, "POST", "/v1/keys", `{"name":"evil","admin":true}`, "Origin", "http://panel.example") // may use the API, with its own token
	p.expect(401, "GET", "/v1/keys", "", "Origin", "http://panel.example")
	p.expect(403, "GET", "/v1/ws", "", "Origin", "http://evil.example", "Connection", "Upgrade", "Upgrade", "websocket")
	req, err := http.NewRequest("GET", "http://"+g.addr+"/v1/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.evil.example"
	req.Header.Set("Cookie", p.cookie)
	res, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("DNS rebinding: %d", res.StatusCode)
	}
	if _, err := g.dialRaw(http.Header{"Origin": {"http://" + g.addr}, "Cookie": {p.cookie}}); err != nil {
		t.Errorf("our own page cannot open its WebSocket: %v", err)
	}
	var keys struct{ Keys []token }
	if a := p.expect(200, "GET", "/v1/keys", ""); json.Unmarshal(a.body, &keys) != nil || len(keys.Keys) != 0 {
		t.Errorf("%s", a.body)
	}
}

// TestGuessing is of passwords, set-up codes and claim codes.
func TestGuessing(t *testing.T) {
	g := newGateway(t)
	g.start()
	code := g.setupCode()
	for path, body := range map[string]string{
		"/v1/setup":   `{"code":"BCDF-GHJK","name":"eve","password":"` + password + `"}`,
		"/v1/session": `{"name":"admin","password":"wrong horse battery"}`,
		"/v1/claim":   `{"code":"BCDF-GHJK-BCDF-GHJK"}`,
	} {
		p := g.person()
		for range 5 {
			p.expect(401, "POST", path, body)
		}
		if a := p.expect(429, "POST", path, body); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	g.person().expect(429, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"ann","password":%q}`, code, password))
	if !strings.Contains(g.out.String(), "wrong set-up code") {
		t.Error("the log does not tell of the guesses")
	}
	if r := g.run("audit", "-json"); strings.Count(r.out, `"action":"setup"`) < 5 || strings.Count(r.out, `"action":"session.open"`) < 5 {
		t.Errorf("the audit does not tell of the guesses: %+v", r)
	}
}

// TestAudit: the history is complete, only administrators read it, nobody writes it, and a change shows.
func TestAudit(t *testing.T) {
	g := newGateway(t)
	g.start()
	app := g.addKey("app", "-publish", "#", "-subscribe", "#", "-subscribe", "$edge/#")
	lamp := g.addDevice("lamp1")
	g.must(nil, "group", "add", "hall")
	g.must(nil, "device", "rotate", "lamp1")
	g.must(nil, "device", "rm", "lamp1")
	r := g.run("audit", "-json")
	for _, want := range []string{"key.add", "device.add", "group.add", "device.rotate", "device.remove"} {
		if !strings.Contains(r.out, `"action":"`+want+`"`) {
			t.Errorf("%s is missing in %s", want, r.out)
		}
	}
	if strings.Contains(r.out, lamp) || strings.Contains(r.out, app) {
		t.Error("a token is in the audit")
	}
	key := g.api(app)
	if a, _ := key.do("POST", "/v1/publish/$edge/audit/log", []byte("{}")); a.status != 403 {
		t.Errorf("a key writes the audit: %d", a.status)
	}
	if a, _ := key.do("GET", "/v1/audit", nil); a.status != 403 {
		t.Errorf("a key reads the audit: %d", a.status)
	}
	if a, _ := key.do("GET", "/v1/messages?topic=$edge/audit/%23", nil); a.status != 403 {
		t.Errorf("a key reads the topic of the audit: %d", a.status)
	}
	if a, _ := key.do("GET", "/v1/messages?topic=$edge/%23&limit=1000", nil); bytes.Contains(a.body, []byte("device.rotate")) {
		t.Error("a rule for $edge/# shows the audit")
	}
	root := g.api(g.addKey("root", "-admin"))
	var page struct {
		Messages []struct {
			ID   string
			Data json.RawMessage
		}
	}
	root.want(t, 200, &page, "GET", "/v1/messages?topic=$edge/audit/%23", nil)
	if len(page.Messages) < 6 {
		t.Fatalf("an administrator sees %d records on the topic", len(page.Messages))
	}
	if a, _ := root.do("DELETE", "/v1/messages/"+page.Messages[0].ID, nil); a.status != 403 {
		t.Errorf("an administrator cancels a record: %d", a.status)
	}
	first := regexp.MustCompile(`^OK: (\d+) records, 1 to (\d+); head (\S+)`).FindStringSubmatch(g.must(nil, "audit", "-verify"))
	if first == nil || first[1] != first[2] {
		t.Fatalf("%q", first)
	}
	g.kill() // the chain goes on behind a crash
	g.start()
	g.addDevice("lamp2")
	if out := g.must(nil, "audit", "-verify", "-head", first[3]); !strings.HasPrefix(out, "OK: ") {
		t.Error(out)
	}
	if r := g.run("audit", "-verify", "-head", "3:"+strings.Repeat("0", 64)); r.code != 1 {
		t.Errorf("a head that never was: %+v", r)
	}
}

// TestSecretsStaySecret plants secrets and looks for them wherever they must not be.
func TestSecretsStaySecret(t *testing.T) {
	g := startGateway(t, "log_level = \"debug\"\n")
	code := g.setupCode()
	p := g.person()
	p.expect(401, "POST", "/v1/session", `{"name":"planted-password-as-name","password":"planted-wrong-password"}`)
	p.expect(201, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"ann","password":"planted-right-password"}`, code))
	session := strings.SplitN(p.cookie, "=", 2)[1]
	device, key := g.addDevice("lamp1"), g.addKey("app", "-publish", "#", "-subscribe", "#")
	rotated := strings.TrimSpace(g.must(nil, "device", "rotate", "lamp1", "-grace", "10m"))
	claim, _, _ := strings.Cut(g.must(nil, "device", "claim", "lamp1"), "\n")
	g.must(nil, "join", "open")
	if a, _ := g.api("").do("GET", "/v1/devices/new1/messages", nil, "Authorization", "Basic bmV3MTpwbGFudGVkLWRldmljZS1wYXNzd29yZA=="); a.status != 403 { // new1:planted-device-password
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, token := range []string{device, rotated} {
		if a, _ := g.api(token).do("GET", "/v1/devices/lamp1/messages", nil); a.status != 200 {
			t.Errorf("within the grace: %d", a.status)
		}
	}
	id := g.api(key).publish(t, "device/lamp1/in/set", "x").ID
	secrets := []string{"planted-password-as-name", "planted-wrong-password", "planted-right-password", "planted-device-password", session, device, key, rotated, claim}
	seen := map[string]string{
		"status": g.must(nil, "status", "-json"), "trace": g.must(nil, "trace", id, "-json"), "audit": g.must(nil, "audit", "-json"),
		"devices": g.must(nil, "device", "list", "-json"), "users": g.must(nil, "user", "list", "-json"), "join": g.must(nil, "join", "list", "-json"),
	}
	if r := g.run("log", "dump", "outbox"); r.code == 0 {
		seen["dump"] = r.out
	}
	g.stop()
	seen["console"] = strings.ReplaceAll(g.out.String(), "set-up code "+code, "")
	secrets = append(secrets, code)
	err := filepath.WalkDir(g.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		seen[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range seen {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%.6s… is in %s", s, where)
			}
		}
	}
}
