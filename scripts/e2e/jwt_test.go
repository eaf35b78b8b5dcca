package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"edgepost/appliance/guard/jwt/forge"
)

// The issuers that the gateway of these tests trusts: corp's tokens stand for nobody registered,
// fab's claim device names a device.
var (
	corp = sync.OnceValue(func() *forge.Issuer { return forge.New("https://idp.example/corp", "edgepost") })
	fab  = sync.OnceValue(func() *forge.Issuer { return forge.New("https://idp.example/fab", "edgepost") })
)

// trusting starts a gateway that fetches the issuers' keys from an HTTPS server of the test, which it
// is returned with.
func trusting(t *testing.T) (*broker, *httptest.Server) {
	t.Helper()
	mux := http.NewServeMux()
	for path, i := range map[string]*forge.Issuer{"/corp": corp(), "/fab": fab()} {
		doc := i.KeySet()
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) })
	}
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "edgepost.toml")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	config := fmt.Sprintf(`
[[issuer]]
name = "corp"
iss = "https://idp.example/corp"
aud = ["edgepost"]
jwks_url = "%[1]s/corp"
ca_file = "%[2]s"
leeway = "1s"
admin_scope = "edgepost:admin"
[[issuer]]
name = "fab"
iss = "https://idp.example/fab"
aud = ["edgepost"]
jwks_url = "%[1]s/fab"
ca_file = "%[2]s"
device_claim = "device"
`, s.URL, ca)
	if err := errors.Join(os.WriteFile(ca, cert, 0o600), os.WriteFile(file, []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	return newBroker(t, "-config", file), s
}

// connect sends one CONNECT of the version and returns the code of the answer; on success the
// connection stays.
func (b *broker) connect(t *testing.T, version byte, user, password string) (*mqttConn, byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.mqtt, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &mqttConn{Conn: conn}
	var out bytes.Buffer
	out.Write([]byte{0, 4, 'M', 'Q', 'T', 'T', version, 0xC2, 0, 60}) // user name, password, clean
	if version == 5 {
		out.WriteByte(0)
	}
	out.Write([]byte{0, 0}) // the gateway chooses the client id
	for _, s := range []string{user, password} {
		out.Write([]byte{byte(len(s) >> 8), byte(len(s))})
		out.WriteString(s)
	}
	head := []byte{0x10}
	for n := out.Len(); ; n >>= 7 {
		if n < 128 {
			head = append(head, byte(n))
			break
		}
		head = append(head, byte(n&127|128))
	}
	if _, err := conn.Write(append(head, out.Bytes()...)); err != nil {
		t.Fatal(err)
	}
	var answer [4]byte
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if version == 4 {
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			t.Fatal(err)
		}
		return c, answer[3]
	}
	p, err := packets.ReadPacket(conn)
	if err != nil {
		t.Fatal(err)
	}
	return c, p.Content.(*packets.Connack).ReasonCode
}

// hello opens a WebSocket without credentials in the request and says hello.
func (g *gateway) hello(t *testing.T, device, token string) (*link, frame) {
	t.Helper()
	l, err := g.dialRaw(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := map[string]any{"token": token}
	if device != "" {
		h["device"] = device
	}
	if err := l.send(map[string]any{"id": 1, "hello": h}); err != nil {
		t.Fatal(err)
	}
	f, err := l.read(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return l, f
}

// TestOutsideIssuer has one token work on HTTP, WebSocket and MQTT, as far as its claim acl goes.
func TestOutsideIssuer(t *testing.T) {
	b, _ := trusting(t)
	tok := corp().Token(time.Now(), forge.Claims{"sub": "auth0|7"})
	b.api(tok).publish(t, "room/1", "by http")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/other", nil)
	b.api(tok).refused(t, 403, "forbidden", "GET", "/v1/devices", nil)
	b.api(corp().Token(time.Now(), forge.Claims{"scope": "edgepost:admin"})).want(t, 200, nil, "GET", "/v1/devices", nil)

	l, f := b.hello(t, "", tok)
	if f.Welcome == nil {
		t.Fatalf("hello was answered by %s", show(f))
	}
	if f := l.ask(t, 2, map[string]any{"sub": map[string]any{"topic": "room/#"}}); f.OK == nil {
		t.Fatalf("sub was answered by %s", show(f))
	}
	l.wantError(t, 3, "forbidden", map[string]any{"sub": map[string]any{"topic": "#"}})
	for version, codes := range map[byte][2]byte{4: {0, 4}, 5: {0, 0x86}} {
		if _, code := b.connect(t, version, "unused", tok); code != codes[0] {
			t.Errorf("MQTT %d: code %#x", version, code)
		}
		if _, code := b.connect(t, version, "unused", tok+"A"); code != codes[1] {
			t.Errorf("MQTT %d: code %#x for a token with a sign more", version, code)
		}
	}
	got := b.mosquitto(t, "sub", "", "-V", "5", "-u", "x", "-P", tok, "-t", "room/+", "-W", "50", "-E")
	if strings.Contains(got, "denied") {
		t.Error(got)
	}
	b.mosquitto(t, "pub", "", "-V", "5", "-u", "x", "-P", tok, "-q", "1", "-t", "room/2", "-m", "by mqtt")
	if d := l.msg(t); d.Topic != "room/2" || d.From != "auth0%7C7@corp" {
		t.Errorf("%+v", d)
	}
	out := b.must(nil, "access", "check", "jwt/corp/auth0%7C7", "publish", "room/3")
	if !strings.Contains(out, "allowed: the token's acl: allow all") {
		t.Error(out)
	}
	if r := b.run("access", "check", "jwt/corp/auth0%7C7", "publish", "other"); r.code != 4 || !strings.Contains(r.out, "no rule allows it") {
		t.Errorf("%+v", r)
	}
	b.wantSecret(t, tok)
}

// wantSecret fails when the token's signature shows up in the log or in the data directory.
func (g *gateway) wantSecret(t *testing.T, tok string) {
	t.Helper()
	secret := []byte(tok[strings.LastIndexByte(tok, '.')+1:])
	if strings.Contains(g.out.String(), string(secret)) {
		t.Error("a token is in the log")
	}
	err := filepath.Walk(g.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // files of the log come and go
		}
		if doc, err := os.ReadFile(path); err == nil && bytes.Contains(doc, secret) {
			t.Errorf("a token is in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestForgedTokens shows every forged token to every way in.
func TestForgedTokens(t *testing.T) {
	b, _ := trusting(t)
	now := time.Now()
	b.api(corp().Token(now, nil)).publish(t, "room/1", "the keys are there")
	b.api(fab().Token(now, nil)).publish(t, "room/1", "and there")
	for _, k := range corp().Attacks(now, fab()) {
		if res, err := b.api(k.Token).do("POST", "/v1/publish/room/1", nil); err == nil && res.status != http.StatusUnauthorized {
			t.Errorf("%s, HTTP: %d %.200s", k.Name, res.status, res.body)
		}
		if l, err := b.dialRaw(http.Header{"Authorization": {"Bearer " + k.Token}}); err == nil {
			t.Errorf("%s, WebSocket's request: accepted", k.Name)
			l.close()
		}
		l, f := b.hello(t, "", k.Token)
		switch {
		case f.Error == nil || f.Error.Code != "unauthorized" && (f.Error.Code != "too-large" || len(k.Token) < 3000):
			t.Errorf("%s, WebSocket: %s", k.Name, show(f))
		case f.Error.Code == "unauthorized":
			l.wantEnd(t, 4003)
		}
		l.close()
		for version, want := range map[byte]byte{4: 4, 5: 0x86} {
			c, code := b.connect(t, version, "alice", k.Token)
			if code != want {
				t.Errorf("%s, MQTT %d: code %#x", k.Name, version, code)
			}
			_ = c.Close()
		}
	}
	b.wantSecret(t, corp().Token(now, nil))
}

// TestTokenOfADevice has an outside issuer's token be the device that it names: it gets its inbox.
func TestTokenOfADevice(t *testing.T) {
	b, _ := trusting(t)
	b.addDevice("lamp1")
	app := b.api(b.addFreeKey())
	tok := fab().Token(time.Now(), forge.Claims{"sub": "serial-77", "device": "lamp1", "acl": nil})
	app.publish(t, "device/lamp1/in/set", "on")
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
	var list struct{ Messages []delivery }
	b.api(tok).want(t, 200, &list, "GET", "/v1/devices/lamp1/messages", nil)
	if len(list.Messages) != 0 {
		t.Errorf("what was acknowledged comes again: %+v", list)
	}
	b.api(tok).publish(t, "device/lamp1/out/state", "on")
	b.api(tok).refused(t, 403, "forbidden", "POST", "/v1/publish/device/lamp2/out/state", nil)
	for _, c := range []struct {
		user, token string
		code        byte
	}{
		{"lamp1", tok, 0},
		{"lamp2", tok, 0x86},
		{"lamp1", fab().Token(time.Now(), forge.Claims{"device": "lamp2"}), 0x86},
		{"lamp1", corp().Token(time.Now(), forge.Claims{"sub": "lamp1"}), 0x86},                    // corp's tokens name no devices
		{"", corp().Token(time.Now(), forge.Claims{"sub": "lamp1", "device": "lamp1"}), 0},         // its own principal
		{"lamp1", corp().Token(time.Now(), forge.Claims{"sub": "lamp1", "device": "lamp1"}), 0x86}, // and not the device
	} {
		if _, code := b.connect(t, 5, c.user, c.token); code != c.code {
			t.Errorf("user %q: code %#x, want %#x", c.user, code, c.code)
		}
	}
	if l, f := b.hello(t, "lamp1", corp().Token(time.Now(), forge.Claims{"sub": "lamp1"})); f.Error == nil {
		t.Error("a subject is welcomed as the device of the same name")
	} else {
		l.wantEnd(t, 4003)
	}
	l, f = b.hello(t, "lamp1", tok)
	if f.Welcome == nil {
		t.Fatal(show(f))
	}
	b.must(nil, "device", "rm", "lamp1")
	l.wantEnd(t, 4011)
	b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/device/lamp1/out/state", nil)
}

// short makes a token that ends in a moment, and calls open until that finds it still valid.
func short(t *testing.T, open func(tok string) bool) (ends time.Time) {
	t.Helper()
	for life := 3 * time.Second; life < 5*time.Minute; life *= 2 {
		ends = time.Now().Add(life + time.Second) // the issuer's leeway
		if open(corp().Token(time.Now(), forge.Claims{"exp": time.Now().Add(life).Unix()})) {
			return ends
		}
	}
	t.Fatal("no token is accepted")
	return ends
}

// TestTokensEnd has connections end with their tokens, unless a new one comes in time.
func TestTokensEnd(t *testing.T) {
	b, _ := trusting(t)
	b.api(corp().Token(time.Now(), nil)).publish(t, "room/1", "the keys are there")
	var l, renewed *link
	var c *mqttConn
	var events <-chan event
	ends := short(t, func(tok string) (ok bool) {
		var f, g frame
		var code byte
		l, f = b.hello(t, "", tok)
		renewed, g = b.hello(t, "", tok)
		c, code = b.connect(t, 5, "x", tok)
		res, err := b.api(tok).do("POST", "/v1/publish/room/1", nil)
		if f.Welcome == nil || g.Welcome == nil || code != 0 || err != nil || res.status != 201 {
			return false
		}
		res, err = b.api(tok).do("GET", "/v1/messages?topic=room/%23", nil)
		if err != nil || res.status != 200 {
			return false
		}
		var stop func()
		events, stop = b.stream(t, tok, "topic=room/%23")
		t.Cleanup(stop)
		if renewed.send(map[string]any{"id": 4, "auth": map[string]any{"token": corp().Token(time.Now(), nil)}}) != nil {
			return false
		}
		f, err = renewed.read(20 * time.Second)
		return err == nil && f.OK != nil
	})
	time.Sleep(time.Until(ends)) // what follows waits for 20 s each, and the token may live longer
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	l.wantEnd(t, 4003)
	p, err := packets.ReadPacket(c)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := p.Content.(*packets.Disconnect); !ok || d.ReasonCode != 0x87 {
		t.Errorf("MQTT ended with %v", p)
	}
	for {
		if e := nextEvent(t, events); e.name == "bye" {
			break
		}
	}
	renewed.wantError(t, 5, "forbidden", map[string]any{"auth": map[string]any{"token": corp().Token(time.Now(), forge.Claims{"sub": "somebody else"})}})
	if f := renewed.ask(t, 6, map[string]any{"pub": map[string]any{"topic": "room/1", "data": 1}}); f.OK == nil {
		t.Errorf("the renewed session: %s", show(f))
	}
}

// TestKeysOutliveTheirServer has tokens accepted while the issuer cannot be reached, from the copy in
// the data directory, over kill -9; and refused by a gateway that never saw the keys.
func TestKeysOutliveTheirServer(t *testing.T) {
	b, s := trusting(t)
	tok := corp().Token(time.Now(), nil)
	b.api(tok).publish(t, "room/1", "fetched")
	s.Close()
	b.kill()
	b.start()
	b.api(tok).publish(t, "room/1", "from the copy")
	info, err := os.Stat(filepath.Join(b.dir, "jwks", "corp.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	b.kill()
	if err := os.RemoveAll(filepath.Join(b.dir, "jwks")); err != nil {
		t.Fatal(err)
	}
	b.start()
	if p := b.api(tok).refused(t, 401, "unauthorized", "POST", "/v1/publish/room/1", nil); !strings.Contains(p.Detail, "no keys") {
		t.Error(p.Detail)
	}
}

// TestSubjectsKeepTheirSessions has a named subscription of a subject, who is registered nowhere,
// outlive a restart.
func TestSubjectsKeepTheirSessions(t *testing.T) {
	b, _ := trusting(t)
	api := b.api(corp().Token(time.Now(), nil))
	body, err := json.Marshal(map[string]any{"filters": []string{"room/#"}})
	if err != nil {
		t.Fatal(err)
	}
	api.want(t, 201, nil, "PUT", "/v1/subscriptions/mine", body, "Content-Type", "application/json")
	api.publish(t, "room/1", "one")
	b.kill()
	b.start()
	var list struct{ Messages []delivery }
	api.want(t, 200, &list, "GET", "/v1/subscriptions/mine/messages", nil)
	if len(list.Messages) != 1 || list.Messages[0].payload() != "one" {
		t.Errorf("%+v", list)
	}
}
