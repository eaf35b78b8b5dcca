package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"edgepost/appliance/guard/jwt/forge"
)

const (
	ownIssuer  = "https://gateway.test:8448"
	deviceCode = "urn:ietf:params:oauth:grant-type:device_code"
)

// issuing starts a gateway with the issuer's name and further lines of [oauth].
func issuing(t *testing.T, more string) *broker {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edgepost.toml")
	if err := os.WriteFile(file, []byte("[oauth]\nissuer = \""+ownIssuer+"\"\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return newBroker(t, "-config", file)
}

// granted is an answer of /oauth2.
type granted struct {
	Token   string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"`
	Scope   string `json:"scope"`
	Secret  string `json:"client_secret"`

	Device   string `json:"device_code"`
	User     string `json:"user_code"`
	Interval int64  `json:"interval"`

	Active  bool   `json:"active"`
	Subject string `json:"sub"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// oauth posts a form in pairs; client is "name:secret" for the header, or "".
func (g *gateway) oauth(t *testing.T, path, client string, form ...string) (granted, answer) {
	t.Helper()
	v := url.Values{}
	for i := 0; i < len(form); i += 2 {
		v.Add(form[i], form[i+1])
	}
	headers := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if client != "" {
		r := &http.Request{Header: http.Header{}}
		name, secret, _ := strings.Cut(client, ":")
		r.SetBasicAuth(name, secret)
		headers = append(headers, "Authorization", r.Header.Get("Authorization"))
	}
	res, err := g.api("").do("POST", "/oauth2/"+path, []byte(v.Encode()), headers...)
	if err != nil {
		t.Fatal(err)
	}
	var out granted
	if len(res.body) > 0 {
		if err := json.Unmarshal(res.body, &out); err != nil {
			t.Fatalf("%s: %d %q", path, res.status, res.body)
		}
	}
	return out, res
}

// access gets a token by client_credentials.
func (g *gateway) access(t *testing.T, client string, form ...string) string {
	t.Helper()
	out, res := g.oauth(t, "token", client, append([]string{"grant_type", "client_credentials"}, form...)...)
	if res.status != 200 || out.Type != "Bearer" || strings.Count(out.Token, ".") != 2 {
		t.Fatalf("%s: %d %s", client, res.status, res.body)
	}
	return out.Token
}

// TestAccessTokens has a token of client_credentials work on HTTP, WebSocket and MQTT as its device, with its inbox; and no further
// than its scope.
func TestAccessTokens(t *testing.T) {
	b := issuing(t, "")
	secret := b.addDevice("lamp1")
	app := b.addFreeKey()
	root := b.addKey("root", "-admin")
	tok := b.access(t, "lamp1:"+secret)
	b.api(app).publish(t, "device/lamp1/in/set", "on")
	b.api(tok).publish(t, "device/lamp1/out/state", "by http")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/device/lamp2/out/x", nil)
	l, f := b.hello(t, "lamp1", tok)
	if f.Welcome == nil {
		t.Fatal(show(f))
	}
	d := l.msg(t)
	if d.Topic != "device/lamp1/in/set" {
		t.Errorf("%+v", d)
	}
	l.ack(t, d.Seq)
	l.ping(t)
	l.close()
	for version, refused := range map[byte]byte{4: 4, 5: 0x86} {
		for user, want := range map[string]byte{"lamp1": 0, "app": refused, "somebody": refused} {
			if c, code := b.connect(t, version, user, tok); code != want {
				t.Errorf("MQTT %d as %s: code %#x", version, user, code)
			} else {
				_ = c.Close()
			}
		}
	}
	b.mosquitto(t, "pub", "", "-u", "lamp1", "-P", tok, "-q", "1", "-t", "device/lamp1/out/state", "-m", "by mqtt")

	narrow := b.access(t, "app:"+app, "scope", "publish:room/+/set subscribe:room/#")
	b.api(narrow).publish(t, "room/1/set", "x")
	b.api(narrow).refused(t, 403, "forbidden", "POST", "/v1/publish/device/lamp1/in/set", nil)
	b.api(b.access(t, "root:"+root)).refused(t, 403, "forbidden", "GET", "/v1/devices", nil) // a token without the scope does not administer
	b.api(b.access(t, "root:"+root, "scope", "admin")).want(t, 200, nil, "GET", "/v1/devices", nil)
	body, _ := b.oauth(t, "token", "", "grant_type", "client_credentials", "client_id", "lamp1", "client_secret", secret)
	b.api(body.Token).publish(t, "device/lamp1/out/state", "secret in the body")

	if in, _ := b.oauth(t, "introspect", "lamp1:"+secret, "token", tok); !in.Active || in.Subject != "device/lamp1" {
		t.Errorf("%+v", in)
	}
	if in, _ := b.oauth(t, "introspect", "app:"+app, "token", tok); in.Active || in.Subject != "" {
		t.Errorf("another client sees %+v", in)
	}
	if in, _ := b.oauth(t, "introspect", "root:"+root, "token", tok); !in.Active {
		t.Error("an administrator's key sees nothing")
	}
	for _, s := range []string{tok, narrow} {
		b.wantSecret(t, s)
	}
	if strings.Contains(b.out.String(), secret) || strings.Contains(b.out.String(), app) {
		t.Error("a secret is in the log")
	}
	if info, err := os.Stat(filepath.Join(b.dir, "oauth", "keys")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

// TestOAuthErrors are the codes of RFC 6749 §5.2.
func TestOAuthErrors(t *testing.T) {
	b := issuing(t, "")
	lamp, app := "lamp1:"+b.addDevice("lamp1"), "app:"+b.addFreeKey()
	tok := b.access(t, lamp)
	for _, c := range []struct {
		path, client string
		form         []string
		status       int
		code         string
	}{
		{"token", lamp, nil, 400, "invalid_request"},
		{"token", lamp, []string{"grant_type", "client_credentials", "grant_type", "client_credentials"}, 400, "invalid_request"},
		{"token", lamp, []string{"grant_type", "client_credentials", "client_secret", "x"}, 400, "invalid_request"},
		{"token", lamp, []string{"grant_type", "authorization_code", "code", "x"}, 400, "unsupported_grant_type"},
		{"token", lamp, []string{"grant_type", "password", "username", "a", "password", "b"}, 400, "unsupported_grant_type"},
		{"token", lamp, []string{"grant_type", "client_credentials", "scope", "admin"}, 400, "invalid_scope"},
		{"token", app, []string{"grant_type", "client_credentials", "scope", "write"}, 400, "invalid_scope"},
		{"token", "", []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"token", "lamp1:wrong", []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"token", "nobody:wrong", []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"token", "lamp1:" + tok, []string{"grant_type", "client_credentials"}, 401, "invalid_client"}, // it would prolong itself
		{"token", "", []string{"grant_type", deviceCode, "device_code", "x", "client_id", "lamp1"}, 400, "invalid_grant"},
		{"token", "", []string{"grant_type", deviceCode, "client_id", "lamp1"}, 400, "invalid_request"},
		{"device_authorization", "", nil, 400, "invalid_request"},
		{"device_authorization", "lamp1:wrong", []string{"client_id", "lamp1"}, 401, "invalid_client"},
		{"revoke", "", []string{"token", tok}, 401, "invalid_client"},
		{"revoke", lamp, nil, 400, "invalid_request"},
		{"revoke", app, []string{"token", tok}, 400, "unauthorized_client"},
		{"introspect", "", []string{"token", tok}, 401, "invalid_client"},
	} {
		out, res := b.oauth(t, c.path, c.client, c.form...)
		if res.status != c.status || out.Error != c.code || out.Description == "" || res.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %q %q: %d %s", c.path, c.client, c.form, res.status, res.body)
		}
		if challenge := res.header.Get("WWW-Authenticate"); c.status == 401 && c.client != "" && !strings.HasPrefix(challenge, "Basic ") {
			t.Errorf("%s: WWW-Authenticate %q", c.path, challenge)
		}
	}
	// From the network, secrets are only taken over TLS. (A proxy that nobody configured stands for the network.)
	res, err := b.api("").do("POST", "/oauth2/token", []byte("grant_type=client_credentials"), "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "192.168.1.7")
	if err != nil || res.status != 400 || !strings.Contains(string(res.body), "HTTPS") {
		t.Errorf("%d %s %v", res.status, res.body, err)
	}
	if out, res := b.oauth(t, "revoke", lamp, "token", "no-token-at-all"); res.status != 200 { // RFC 7009 §2.2
		t.Errorf("%d %+v", res.status, out)
	}
	if out, _ := b.oauth(t, "introspect", lamp, "token", "no-token-at-all"); out.Active {
		t.Errorf("%+v", out)
	}
}

// TestDeviceGrant goes the way of RFC 8628: a device without credentials, and a person who signs in.
func TestDeviceGrant(t *testing.T) {
	b := issuing(t, "")
	b.addDevice("lamp1")
	ann := b.person()
	ann.expect(201, "POST", "/v1/setup", `{"code":"`+b.setupCode()+`","name":"ann","password":"`+password+`"}`)
	begin := func(client string) granted {
		t.Helper()
		out, res := b.oauth(t, "device_authorization", "", "client_id", client)
		if res.status != 200 || out.Interval != 5 || len(out.User) != 9 {
			t.Fatalf("%d %s", res.status, res.body)
		}
		return out
	}
	poll := func(client string, c granted, want string) granted {
		t.Helper()
		out, res := b.oauth(t, "token", "", "grant_type", deviceCode, "client_id", client, "device_code", c.Device)
		if out.Error != want || (res.status == 200) != (want == "") {
			t.Fatalf("%d %s, want %q", res.status, res.body, want)
		}
		return out
	}
	c := begin("lamp1")
	poll("lamp1", c, "slow_down") // the first question comes 5 s later
	poll("lamp2", c, "invalid_grant")
	b.person().expect(401, "POST", "/v1/oauth/device/"+c.User+"/approve", "")
	if a := ann.expect(200, "GET", "/v1/oauth/device/"+strings.ToLower(c.User), ""); !strings.Contains(string(a.body), `"principal":"device/lamp1"`) {
		t.Errorf("%s", a.body)
	}
	ann.expect(200, "POST", "/v1/oauth/device/"+c.User+"/approve", "")
	tok := poll("lamp1", c, "")
	poll("lamp1", c, "invalid_grant")
	b.api(tok.Token).publish(t, "device/lamp1/out/x", "granted")
	if tok.Secret != "" {
		t.Error("a secret is given that nobody granted")
	}

	c = begin("lamp1")
	ann.expect(204, "POST", "/v1/oauth/device/"+c.User+"/refuse", "")
	poll("lamp1", c, "access_denied")

	c = begin("panel") // nobody registered
	ann.expect(404, "POST", "/v1/oauth/device/"+c.User+"/approve", "")
	b.must(nil, "oauth", "approve", c.User, "-keep")
	tok = poll("panel", c, "")
	b.api(tok.Token).publish(t, "device/panel/out/x", "new")
	b.api(b.access(t, "panel:"+tok.Secret)).publish(t, "device/panel/out/x", "again")

	// Guesses are slowed, and in the audit.
	for n := 0; ; n++ {
		if a := ann.do("GET", "/v1/oauth/device/BBBB-BBBB", ""); a.status == 429 {
			break
		} else if a.status != 404 || n > 20 {
			t.Fatalf("guess %d: %d %s", n, a.status, a.body)
		}
	}
	audit := b.must(nil, "audit")
	for _, what := range []string{"oauth.approve", "oauth.refuse", "oauth.code", "device.add"} {
		if !strings.Contains(audit, what) {
			t.Errorf("the audit has no %s:\n%s", what, audit)
		}
	}
	if log := b.out.String(); strings.Contains(log, tok.Secret) || strings.Contains(log, c.Device) || strings.Contains(log, c.User) {
		t.Error("a code or a secret is in the log")
	}
	b.wantSecret(t, tok.Token)
}

// TestAccessTokensEnd has a token end by its time, and connections with it.
func TestAccessTokensEnd(t *testing.T) {
	b := issuing(t, "lifetime = \"6s\"\n")
	secret := b.addDevice("lamp1")
	var tok string
	var c *mqttConn
	code := byte(1)
	for n := 0; code != 0; n++ { // a slow machine may find the token ended already
		if n == 10 {
			t.Fatalf("no token is accepted: %#x", code)
		}
		tok = b.access(t, "lamp1:"+secret)
		c, code = b.connect(t, 5, "lamp1", tok)
	}
	ends := time.Now().Add(9 * time.Second) // with the leeway
	time.Sleep(time.Until(ends))            // what follows waits for 20 s
	p, err := packets.ReadPacket(c)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := p.Content.(*packets.Disconnect); !ok || d.ReasonCode != 0x87 {
		t.Errorf("MQTT ended with %v", p)
	}
	if p := b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/device/lamp1/out/x", nil); !strings.Contains(p.Detail, "expired") {
		t.Error(p.Detail)
	}
	if in, _ := b.oauth(t, "introspect", "lamp1:"+secret, "token", tok); in.Active {
		t.Error("a token that has ended is active")
	}
}

// TestRevokedAccessTokens has connections end at once, on every protocol, and what was revoked stay so over kill -9.
func TestRevokedAccessTokens(t *testing.T) {
	b := issuing(t, "")
	secret := b.addDevice("lamp1", "-subscribe", "news/#")
	client := "lamp1:" + secret
	app := b.api(b.addFreeKey())
	for name, revoke := range map[string]func(tok string){
		"by the client": func(tok string) { b.oauth(t, "revoke", client, "token", tok) },
		"by a person":   func(string) { b.must(nil, "oauth", "revoke", "device/lamp1") },
		"with the key":  func(string) { b.must(nil, "oauth", "rotate", "-end-tokens") },
		"with the secret": func(string) {
			secret = strings.TrimSpace(b.must(nil, "device", "rotate", "lamp1"))
			client = "lamp1:" + secret
		},
	} {
		tok := b.access(t, client)
		l, f := b.hello(t, "", tok)
		if f.Welcome == nil {
			t.Fatalf("%s: %s", name, show(f))
		}
		c, code := b.connect(t, 5, "lamp1", tok)
		if code != 0 {
			t.Fatalf("%s: %#x", name, code)
		}
		events, stop := b.stream(t, tok, "topic=news/%23")
		within(t, 20*time.Second, "the stream does not begin", func() bool {
			app.publish(t, "news/1", "x")
			return len(events) > 0
		})
		revoke(tok)
		ended, want := false, 4003
		if name == "with the secret" { // that ends everything of the device
			want = 4011
		}
		l.wantEnd(t, want)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if p, err := packets.ReadPacket(c); err != nil {
			t.Errorf("%s: MQTT: %v", name, err)
		} else if d, ok := p.Content.(*packets.Disconnect); !ok || d.ReasonCode != 0x87 {
			t.Errorf("%s: MQTT ended with %v", name, p)
		}
		for e := range events {
			if e.name == "bye" {
				ended = true
			}
		}
		if stop(); !ended {
			t.Errorf("%s: the stream goes on", name)
		}
		b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/device/lamp1/out/x", nil)
		b.kill()
		b.start()
		b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/device/lamp1/out/x", nil)
		b.api(b.access(t, client)).publish(t, "device/lamp1/out/x", "with a new token")
	}
}

// TestKeyRotation has old tokens hold after a rotation and a restart.
func TestKeyRotation(t *testing.T) {
	b := issuing(t, "")
	client := "lamp1:" + b.addDevice("lamp1")
	old := b.access(t, client)
	b.must(nil, "oauth", "rotate")
	fresh := b.access(t, client)
	if strings.Split(old, ".")[0] == strings.Split(fresh, ".")[0] {
		t.Error("the key did not change")
	}
	for range 2 {
		b.api(old).publish(t, "device/lamp1/out/x", "old")
		b.api(fresh).publish(t, "device/lamp1/out/x", "fresh")
		b.kill()
		b.start()
	}
	var doc struct{ Keys []struct{ Kid, D string } }
	b.api("").want(t, 200, &doc, "GET", "/oauth2/jwks", nil)
	if len(doc.Keys) != 3 || doc.Keys[0].D != "" {
		t.Errorf("%+v", doc)
	}
	var meta struct {
		Issuer string
		Token  string `json:"token_endpoint"`
	}
	b.api("").want(t, 200, &meta, "GET", "/.well-known/oauth-authorization-server", nil)
	if meta.Issuer != ownIssuer || meta.Token != "http://"+b.addr+"/oauth2/token" {
		t.Errorf("%+v", meta)
	}
}

// TestForgedAccessTokens shows every forged token in the name of our own issuer to every way in.
func TestForgedAccessTokens(t *testing.T) {
	b := issuing(t, "")
	b.addDevice("lamp1")
	forger, other := forge.New(ownIssuer, ownIssuer), forge.New("https://other.example", ownIssuer)
	now := time.Now()
	list := forger.Attacks(now, other)
	list = append(list, forge.Attack{Name: "a device of our own", Token: forger.Token(now, forge.Claims{"sub": "device/lamp1", "acl": nil})})
	var doc struct{ Keys []struct{ Kid, X string } }
	b.api("").want(t, 200, &doc, "GET", "/oauth2/jwks", nil)
	for _, alg := range []string{"EdDSA", "HS256"} {
		payload, err := json.Marshal(forger.Claims(now, forge.Claims{"sub": "device/lamp1", "acl": nil}))
		if err != nil {
			t.Fatal(err)
		}
		header := []byte(`{"alg":"` + alg + `","typ":"at+jwt","kid":"` + doc.Keys[0].Kid + `"}`)
		list = append(list,
			forge.Attack{Name: alg + " with our kid", Token: forger.SignWith(header, payload, "EdDSA")},
			forge.Attack{Name: alg + " with our public key as secret", Token: forge.HMAC(header, payload, []byte(doc.Keys[0].X))})
	}
	for _, k := range list {
		if res, err := b.api(k.Token).do("POST", "/v1/publish/device/lamp1/out/x", nil); err == nil && res.status != http.StatusUnauthorized {
			t.Errorf("%s, HTTP: %d %.200s", k.Name, res.status, res.body)
		}
		l, f := b.hello(t, "", k.Token)
		if f.Error == nil {
			t.Errorf("%s, WebSocket: %s", k.Name, show(f))
		}
		l.close()
		for _, user := range []string{"lamp1", "x"} {
			if len(k.Token) > 65535 {
				continue
			}
			c, code := b.connect(t, 5, user, k.Token)
			if code != 0x86 {
				t.Errorf("%s, MQTT: code %#x", k.Name, code)
			}
			_ = c.Close()
		}
	}
}

// TestBoundAccessTokens: a token that was asked for with a device's certificate is good only together with it.
func TestBoundAccessTokens(t *testing.T) {
	s := startSecure(t)
	s.addDevice("lamp1")
	s.addDevice("lamp2")
	key, cert := s.enrol(t, "lamp1")
	at := "https://localhost:" + portOf(s.https)
	web := []string{"--cacert", s.ca, "--cert", cert, "--key", key}
	var out granted
	if err := json.Unmarshal([]byte(curl(t, append(web, "-d", "grant_type=client_credentials", at+"/oauth2/token")...)), &out); err != nil || out.Token == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	bearer := []string{"-H", "Authorization: Bearer " + out.Token, "-w", "%{http_code}", "-d", "x", at + "/v1/publish/device/lamp1/out/x"}
	if text := curl(t, append(web, bearer...)...); !strings.HasSuffix(text, "201") {
		t.Errorf("with the certificate: %s", text)
	}
	if text := curl(t, append([]string{"--cacert", s.ca}, bearer...)...); !strings.HasSuffix(text, "401") || !strings.Contains(text, "bound to a certificate") {
		t.Errorf("without it: %s", text)
	}
	s.api(out.Token).refused(t, 401, "unauthorized", "POST", "/v1/publish/device/lamp1/out/x", nil)
	if _, code := s.connect(t, 5, "lamp1", out.Token); code != 0x86 {
		t.Errorf("MQTT without it: %#x", code)
	}
	if text, err := s.client(t, "pub", "--cert", cert, "--key", key, "-u", "lamp1", "-P", out.Token, "-q", "1", "-t", "device/lamp1/out/x", "-m", "1"); err != nil {
		t.Errorf("MQTT with it: %v %s", err, text)
	}
	key2, cert2 := s.enrol(t, "lamp2")
	if text, err := s.client(t, "pub", "--cert", cert2, "--key", key2, "-u", "lamp1", "-P", out.Token, "-q", "1", "-t", "device/lamp1/out/x", "-m", "1"); err == nil {
		t.Errorf("MQTT with another device's: %s", text)
	}
}

// TestRoles has a role of the configuration hold for the devices of its group and for the key that it names.
func TestRoles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "edgepost.toml")
	save(t, file, `
[[role]]
name = "sensors"
groups = ["hall"]
keys = ["panel"]
publish = ["sensor/${device}/#"]
subscribe = ["time/#"]
deny_subscribe = ["time/secret"]
`)
	b := newBroker(t, "-config", file)
	tok := b.addDevice("lamp1", "-group", "hall")
	b.api(tok).publish(t, "sensor/lamp1/t", "21")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/sensor/lamp2/t", nil)
	b.api(b.addDevice("lamp2")).refused(t, 403, "forbidden", "POST", "/v1/publish/sensor/lamp2/t", nil) // not in the group
	if out := b.must(nil, "access", "check", "lamp1", "publish", "sensor/lamp1/t"); !strings.Contains(out, "allowed: publish sensor/lamp1/#") {
		t.Error(out)
	}
	b.api(b.addKey("panel", "-publish", "x")).want(t, 200, nil, "GET", "/v1/messages?topic=time/%23", nil)
	if r := b.run("access", "check", "lamp1", "subscribe", "time/secret"); r.code != 4 {
		t.Errorf("%+v", r)
	}
	b.must(nil, "group", "leave", "hall", "lamp1")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/sensor/lamp1/t", nil)
}
