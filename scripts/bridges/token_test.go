package bridges

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"edgepost/scripts/brokers"
)

const issuer = "https://gateway.test:8448"

// authority is another edgepost: an authorization server, and an upstream that takes what it signs. Nobody comes in
// without that.
type authority struct {
	*gateway
	key    string // of an administrator
	secret string // file with that of device gw7
}

func newAuthority(t *testing.T, lifetime time.Duration) *authority {
	t.Helper()
	a := &authority{gateway: newGateway(t, "")}
	if err := os.WriteFile(a.file, fmt.Appendf(nil, "[oauth]\nissuer = %q\nlifetime = %q\n", issuer, lifetime), 0o600); err != nil {
		t.Fatal(err)
	}
	a.mqtt = freeAddr(t)
	a.start()
	a.key = a.must("key", "add", "root", "-admin", "-subscribe", "#")
	a.secret = secretFile(t, a.must("device", "add", "gw7"))
	return a
}

func (g *gateway) must(args ...string) string {
	g.t.Helper()
	b, err := exec.Command(program, append(args, "-data", g.dir)...).Output() // hints go to the other stream
	if err != nil {
		g.t.Fatalf("%v: %v", args, err)
	}
	return strings.TrimSpace(string(b))
}

// token is [bridge.token] of a bridge that is device gw7 there.
func (a *authority) token(more string) string {
	return fmt.Sprintf("[bridge.token]\nurl = \"http://%s/oauth2/token\"\nclient_id = \"gw7\"\nclient_secret_file = %q\n%s", a.addr, a.secret, more)
}

// get reads from its API as an administrator.
func (a *authority) get(path string) string {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "http://"+a.addr+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	res, err := a.http.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %s %s", path, res.Status, b)
	}
	return string(b)
}

// issued is how many tokens it has signed.
func (a *authority) issued() (n int) {
	a.t.Helper()
	for line := range strings.Lines(a.get("/metrics")) {
		if _, err := fmt.Sscanf(line, "edgepost_tokens_issued_total %d", &n); err == nil {
			return n
		}
	}
	a.t.Fatal("its metrics do not say how many tokens it signed")
	return 0
}

// Bridges of a gateway go to another by MQTT and by HTTP with access tokens that last four seconds: they renew them,
// over ended connections and revocation, and lose nothing. A wrong secret is said in words.
func TestTokens(t *testing.T) {
	t.Parallel()
	far := newAuthority(t, 4*time.Second)
	wrong := strings.ReplaceAll(far.token(""), far.secret, secretFile(t, "wrong"))
	g := newGateway(t, single{name: "m", kind: "mqtt", url: "mqtt://" + far.mqtt, to: "device/gw7/out/m", from: "device/gw7/in/#", options: far.token("")}.config()+
		single{name: "w", kind: "webhook", url: "http://" + far.addr + "/v1/publish/device/gw7/out/w", to: "w", options: far.token("scope = \"publish:device/gw7/out/#\"\n")}.config()+
		single{name: "narrow", kind: "webhook", url: "http://" + far.addr + "/v1/publish/device/gw7/out/n", to: "w", options: far.token("scope = \"publish:device/gw7/out/other\"\n")}.config()+
		single{name: "wrong", kind: "mqtt", url: "mqtt://" + far.mqtt, to: "x", options: wrong}.config()+
		single{name: "nobody", kind: "mqtt", url: "mqtt://" + far.mqtt, to: "x", options: strings.ReplaceAll(far.token(""), far.addr, freeAddr(t))}.config())
	g.start()
	n := 0
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); n++ {
		g.say("out/m", fmt.Sprintf("number %d.", n))
		g.say("out/w", fmt.Sprintf("number %d.", n))
		time.Sleep(100 * time.Millisecond)
	}
	far.must("oauth", "revoke", "device/gw7")
	for range 10 {
		g.say("out/m", fmt.Sprintf("number %d.", n))
		g.say("out/w", fmt.Sprintf("number %d.", n))
		n++
	}
	for _, name := range []string{"m", "w"} {
		wait(t, name+" has sent everything", func() bool { s := g.show(name); return s.Owed == 0 && s.State == "connected" })
		text := far.get("/v1/messages?limit=1000&topic=device/gw7/out/" + name)
		for i := range n {
			if !strings.Contains(text, fmt.Sprintf("number %d.", i)) {
				t.Errorf("%s: %d of %d is lost", name, i, n)
			}
		}
		var page struct{ Messages []struct{ From string } }
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Messages) == 0 || page.Messages[0].From != "gw7" {
			t.Errorf("%s: it is not from the device: %v %.300s", name, err, text)
		}
		if s := g.show(name); s.Counters["dead"] > 0 || s.Counters["refused"] > 0 {
			t.Errorf("%s: an old token cost messages their tries: %+v", name, s)
		}
		t.Logf("%s: %d messages, %+v", name, n, g.show(name))
	}
	if issued := far.issued(); issued < 6 {
		t.Errorf("%d tokens were signed", issued)
	} else {
		t.Logf("%d tokens were signed", issued)
	}
	far.must("send", "device/gw7/in/set", "on")
	wait(t, "a command comes down", func() bool { return g.holds("cmd/m", "on") })
	g.say("out/narrow", "x")
	for name, words := range map[string]string{"wrong": "invalid_client", "nobody": "nothing listens there", "narrow": "403"} {
		wait(t, name+" says "+words, func() bool { return strings.Contains(g.show(name).Error, words) })
		t.Log(name, ": ", g.show(name).State, ": ", g.show(name).Error)
	}
}

// trusting starts a broker that takes tokens of the authority.
func (a *authority) trusting(name string) *brokers.Broker {
	a.t.Helper()
	b := newBroker(a.t, name)
	keys := "/oauth2/jwks"
	if err := b.Trust(brokers.Issuer{Name: issuer, URL: "http://" + a.addr + keys, Keys: []byte(a.get(keys)), All: "publish:#"}); err != nil {
		a.t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		a.t.Fatal(err)
	}
	return b
}

// brief is how long tokens last at brokers: so long that a new one is there, in the last quarter, when Kafka's client shows
// it on the connection, a second or more before the old one ends.
const brief = 12 * time.Second

// renews sends over a bridge until a token has ended: over one connection, on which it shows another.
func (a *authority) renews(g *gateway, name string) {
	a.t.Helper()
	wait(a.t, name+" connects", func() bool { return g.show(name).State == "connected" })
	before, sent := a.issued(), 0
	for until := time.Now().Add(brief + 3*time.Second); time.Now().Before(until); sent++ {
		g.say("out/"+name, "x")
		time.Sleep(100 * time.Millisecond)
	}
	wait(a.t, name+" has sent everything", func() bool { s := g.show(name); return s.Owed == 0 && s.Counters["confirmed"] >= int64(sent) })
	s := g.show(name)
	a.t.Logf("%s: %d messages, %+v", name, sent, s)
	if n := a.issued() - before; n == 0 || s.Error != "" {
		a.t.Errorf("%d tokens were signed meanwhile; %q", n, s.Error)
	}
}

func TestTokensKafka(t *testing.T) {
	far := newAuthority(t, brief)
	b := far.trusting("kafka")
	kafkaTopics(t, b.Addr("kafka"), "ep.up")
	g := newGateway(t, single{name: "k", kind: "kafka", url: "kafka://" + b.Addr("kafka+sasl"), to: "ep.up", options: far.token("")}.config()+
		single{name: "forged", kind: "kafka", url: "kafka://" + b.Addr("kafka+sasl"), keys: "token_file = \"" + secretFile(t, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJlZGdlIn0.") + "\"\n", to: "ep.up"}.config())
	g.start()
	far.renews(g, "k")
	if s := g.show("forged"); s.State == "connected" || !strings.Contains(s.Error, "refuses this user") {
		t.Errorf("a forged token: %+v", s)
	}
}

// RabbitMQ 3 takes no tokens over AMQP 1.0: its plugin opens a connection of its own inside, which has none.
func TestTokensRabbitMQ(t *testing.T) {
	far := newAuthority(t, brief)
	b := far.trusting("rabbitmq")
	scope := far.token("scope = \"publish:#\"\n")
	g := newGateway(t, single{name: "r", kind: "rabbitmq", url: "amqp://" + b.Addr("amqp091"), to: "up", from: "down", options: "queue_type = \"classic\"\nbind = \"up\"\n" + scope}.config()+
		single{name: "s", kind: "stomp", url: "stomp://" + b.Addr("stomp"), to: "/queue/up.s", options: scope}.config())
	g.start()
	far.renews(g, "r")
	g.passes("s")
	g.stop()
	g.configure(single{name: "narrow", kind: "rabbitmq", url: "amqp://" + b.Addr("amqp091"), to: "up", options: far.token("scope = \"publish:x\"\n")}.config())
	g.start()
	wait(t, "a token without the scope is refused", func() bool { return strings.Contains(g.show("narrow").Error, "refused for user 'gw7'") })
}
