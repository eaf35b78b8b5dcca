package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	typeJWE    = "application/jose"
	typeBinary = "application/vnd.edgepost.a256gcm"
)

// foreign is another implementation of one form: jose of npm and Node's crypto, or python3-jwcrypto.
type foreign struct {
	form    string // as edgepost names it
	ct      string
	command func(what, file, topic string) []string
}

func foreigners(t *testing.T) map[string]foreign {
	t.Helper()
	if _, err := os.Stat("seal/node_modules/jose"); err != nil {
		cannot(t, "the npm package jose is not installed; scripts/setup does it")
	}
	if err := exec.Command("/usr/bin/python3", "-c", "import jwcrypto").Run(); err != nil {
		cannot(t, "python3-jwcrypto is not installed; scripts/setup does it")
	}
	node := func(form string) func(string, string, string) []string {
		return func(what, file, topic string) []string {
			return []string{"node", "seal/seal.js", what, form, file, topic}
		}
	}
	return map[string]foreign{
		"jose": {"jwe", typeJWE, node("jwe")},
		"jwcrypto": {"jwe", typeJWE, func(what, file, topic string) []string {
			return []string{"/usr/bin/python3", "seal/seal.py", what, file, topic}
		}},
		"node": {"a256gcm", typeBinary, node("a256gcm")},
	}
}

// do seals or opens one payload with the key in the file.
func (f *foreign) do(t *testing.T, what, file, topic string, in []byte) []byte {
	t.Helper()
	args := f.command(what, file, topic)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	var errout bytes.Buffer
	cmd.Stderr = &errout
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q of %q: %v\n%s", args, in, err, &errout)
	}
	return out
}

// sealedDevice adds a device whose payloads are sealed, and returns its token and its key's file.
func (g *gateway) sealedDevice(id, form string) (tok, file string) {
	g.t.Helper()
	tok = g.addDevice(id)
	file = filepath.Join(g.t.TempDir(), id+".jwk")
	if err := os.WriteFile(file, []byte(g.must(nil, "device", "seal", id, form)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return tok, file
}

// sealedLine is a gateway with the device lamp1, whose payloads are sealed, an application, and another implementation.
type sealedLine struct {
	*broker
	t         *testing.T
	f         foreign
	tok, file string // the device's
	device    *api
	app       *api
	lines     *link // of the application, on what the device publishes
}

const plainPayload = `{"on":true,"secret":"planted-payload"}`

// bytes is the payload as it was published.
func (d *delivery) bytes() []byte {
	if len(d.DataBase64) > 0 {
		return d.DataBase64
	}
	return []byte(d.payload())
}

// TestSealedDevice: what a device gets over every protocol opens with another implementation, and what that one
// seals is stored plain.
func TestSealedDevice(t *testing.T) {
	for name, f := range foreigners(t) {
		t.Run(name, func(t *testing.T) {
			s := &sealedLine{broker: newBroker(t), t: t, f: f}
			s.tok, s.file = s.sealedDevice("lamp1", f.form)
			s.device, s.app = s.api(s.tok), s.api(s.addFreeKey())
			s.downMQTT()
			s.downWebSocket()
			s.downHTTP()
			s.listen()
			at, first := s.up()
			s.refusals(first)
			for _, restart := range []bool{false, true} {
				if restart {
					s.kill()
					s.start()
					s.listen()
				}
				s.replay(at, first)
			}
			s.keys()
			if out := s.out.String(); strings.Contains(out, "planted") {
				t.Errorf("the log shows a payload:\n%s", out)
			}
		})
	}
}

const (
	downTopic = "device/lamp1/in/set"
	upTopic   = "device/lamp1/out/state"
)

// say sends the payload to the device.
func (s *sealedLine) say() string {
	s.t.Helper()
	return s.app.publish(s.t, downTopic, plainPayload, "Content-Type", "application/json").ID
}

// opens checks that what the device got is sealed and opens to the payload.
func (s *sealedLine) opens(how, ct string, sealed []byte) {
	s.t.Helper()
	if bytes.Contains(sealed, []byte("planted")) || ct != "" && ct != s.f.ct {
		s.t.Fatalf("%s: %q as %s", how, sealed, ct)
	}
	if got := s.f.do(s.t, "open", s.file, downTopic, sealed); string(got) != plainPayload {
		s.t.Errorf("%s: it opens to %q", how, got)
	}
}

func (s *sealedLine) downMQTT() {
	for _, v := range []string{"311", "5"} {
		s.say()
		got := s.mosquitto(s.t, "sub", "", "-V", v, "-u", "lamp1", "-P", s.tok, "-t", "device/lamp1/in/#", "-q", "1", "-C", "1", "-F", "%x")
		sealed, err := hex.DecodeString(strings.TrimSpace(got))
		if err != nil {
			s.t.Fatal(err)
		}
		s.opens("MQTT "+v, "", sealed)
	}
}

func (s *sealedLine) downWebSocket() {
	l := s.mustDial("lamp1", s.tok)
	defer l.close()
	s.say()
	m := l.msg(s.t)
	s.opens("WebSocket", m.CT, m.bytes())
	l.ack(s.t, m.Seq)
	s.app.want(s.t, http.StatusAccepted, nil, "POST", "/v1/publish/"+downTopic, []byte(plainPayload), "Content-Type", "application/json", "Message-Durability", "volatile")
	m = l.msg(s.t)
	s.opens("WebSocket, volatile", m.CT, m.bytes())
	l.ping(s.t) // the ack is taken
}

func (s *sealedLine) downHTTP() {
	id := s.say()
	var leased, page struct{ Messages []delivery }
	s.device.want(s.t, http.StatusOK, &leased, "GET", "/v1/devices/lamp1/messages?wait=10s", nil)
	if len(leased.Messages) != 1 {
		s.t.Fatalf("leased %+v", leased)
	}
	s.opens("a lease", leased.Messages[0].CT, leased.Messages[0].bytes())
	s.device.want(s.t, http.StatusOK, nil, "POST", "/v1/devices/lamp1/acks", fmt.Appendf(nil, `{"ids":[%q]}`, id))

	events, stop := s.stream(s.t, s.tok, "topic=device/lamp1/in/%23")
	defer stop()
	s.say()
	var e delivery
	if err := json.Unmarshal([]byte(nextEvent(s.t, events).data), &e); err != nil {
		s.t.Fatal(err)
	}
	s.opens("an event stream", e.CT, e.bytes())

	s.device.want(s.t, http.StatusOK, &page, "GET", "/v1/messages?topic=device/lamp1/in/%23", nil)
	if len(page.Messages) == 0 {
		s.t.Fatal("no history")
	}
	for _, m := range page.Messages {
		s.opens("history", m.CT, m.bytes())
	}
	s.app.want(s.t, http.StatusOK, &page, "GET", "/v1/messages?topic=device/lamp1/in/%23", nil)
	if got := page.Messages[0].payload(); got != plainPayload {
		s.t.Errorf("others read %q", got)
	}
}

// listen has the application listen to the device.
func (s *sealedLine) listen() {
	s.lines = s.mustDial("", s.app.token)
	s.lines.ask(s.t, 1, map[string]any{"sub": map[string]any{"topic": "device/lamp1/out/#"}})
}

// seal is what the device publishes.
func (s *sealedLine) seal() []byte {
	return s.f.do(s.t, "seal", s.file, upTopic, []byte(plainPayload))
}

func (s *sealedLine) comes(how string) {
	s.t.Helper()
	if m := s.lines.msg(s.t); m.payload() != plainPayload || m.From != "lamp1" || m.Topic != upTopic || m.CT == s.f.ct {
		s.t.Errorf("%s: %+v", how, m)
	}
}

// up publishes as the device over HTTP and MQTT. It returns the first one, and how it was stored.
func (s *sealedLine) up() (at stored, first []byte) {
	first = s.seal()
	at = s.device.publish(s.t, upTopic, string(first), "Content-Type", s.f.ct)
	s.comes("HTTP")
	path := filepath.Join(s.t.TempDir(), "sealed")
	for _, v := range []string{"311", "5"} {
		for _, q := range []string{"0", "1", "2"} {
			if err := os.WriteFile(path, s.seal(), 0o600); err != nil {
				s.t.Fatal(err)
			}
			s.mosquitto(s.t, "pub", "", "-V", v, "-u", "lamp1", "-P", s.tok, "-t", upTopic, "-q", q, "-f", path)
			s.comes("MQTT " + v + " QoS " + q)
		}
	}
	return at, first
}

// refusals publishes as the device what is not sealed, or not well.
func (s *sealedLine) refusals(first []byte) {
	refuse := func(code, topic string, body []byte, ct string) {
		s.t.Helper()
		p := s.device.refused(s.t, http.StatusForbidden, code, "POST", "/v1/publish/"+topic, body, "Content-Type", ct)
		if strings.Contains(p.Detail, "planted") {
			s.t.Errorf("the problem tells the payload: %s", p.Detail)
		}
	}
	refuse("not-sealed", upTopic, []byte(plainPayload), "application/json")
	refuse("not-opened", upTopic, []byte(plainPayload), s.f.ct)
	refuse("not-opened", "device/lamp1/out/other", first, s.f.ct)
	damaged := bytes.Clone(first)
	damaged[len(damaged)-10] ^= 1
	refuse("not-opened", upTopic, damaged, s.f.ct)
	out, _ := s.tryMosquitto(s.t, "pub", "", "-V", "5", "-u", "lamp1", "-P", s.tok, "-t", upTopic, "-q", "1", "-m", plainPayload)
	if !strings.Contains(out, "Not authorized") {
		s.t.Errorf("a plain publish over MQTT 5: %q", out)
	}
	s.mosquitto(s.t, "pub", "", "-V", "311", "-u", "lamp1", "-P", s.tok, "-t", upTopic, "-q", "1", "-m", plainPayload) // acknowledged and dropped
}

// replay sends what was stored already: it is answered as it was, and stored once.
func (s *sealedLine) replay(at stored, first []byte) {
	if again := s.device.publish(s.t, upTopic, string(first), "Content-Type", s.f.ct); again.ID != at.ID {
		s.t.Errorf("replayed, it is %s and not %s", again.ID, at.ID)
	}
	if again := s.device.publish(s.t, upTopic, string(first), "Content-Type", s.f.ct, "Idempotency-Key", "another"); again.ID != at.ID {
		s.t.Errorf("replayed with a key, it is %s and not %s", again.ID, at.ID)
	}
}

// keys publishes with keys that are not the device's, and gives it another one, and none.
func (s *sealedLine) keys() {
	other := filepath.Join(s.t.TempDir(), "other.jwk")
	if err := os.WriteFile(other, []byte(s.must(nil, "seal", "key")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.device.publish(s.t, upTopic, string(s.f.do(s.t, "seal", other, upTopic, []byte("for the app"))), "Content-Type", s.f.ct)
	m := s.lines.msg(s.t)
	if m.CT != s.f.ct || string(s.f.do(s.t, "open", other, upTopic, m.bytes())) != "for the app" {
		s.t.Errorf("sealed for others: %+v", m)
	}

	l := s.mustDial("lamp1", s.tok)
	s.must(nil, "device", "seal", "lamp1", s.f.form, "-new")
	for { // connections of the device end
		if _, err := l.read(10 * time.Second); err != nil {
			break
		}
	}
	s.device.publish(s.t, upTopic, string(s.seal()), "Content-Type", s.f.ct) // the old key is nobody's: carried
	if m := s.lines.msg(s.t); m.CT != s.f.ct {
		s.t.Errorf("the old key still opens: %+v", m)
	}
	s.must(nil, "device", "seal", "lamp1", "off")
	s.device.publish(s.t, upTopic, "plain again")
}

// TestSealedEndToEnd: send -seal and listen -open with a key that the gateway never had; nothing of it is on the disk or
// in the log, and another implementation reads and writes the same.
func TestSealedEndToEnd(t *testing.T) {
	g := startGateway(t, "")
	tok, app := g.addDevice("lamp1"), g.api(g.addFreeKey())
	const topic = "device/lamp1/in/set"
	file := filepath.Join(t.TempDir(), "lamp1.jwk")
	if err := os.WriteFile(file, []byte(g.must(nil, "seal", "key")), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range foreigners(t) {
		g.must(nil, "send", topic, plainPayload, "-seal", file, "-form", f.form)
		app.publish(t, topic, string(f.do(t, "seal", file, topic, []byte(plainPayload))), "Content-Type", f.ct)
		var leased struct{ Messages []delivery }
		g.api(tok).want(t, http.StatusOK, &leased, "GET", "/v1/devices/lamp1/messages?wait=10s", nil)
		if len(leased.Messages) != 2 || leased.Messages[0].CT != f.ct {
			t.Fatalf("%s: %+v", name, leased)
		}
		if got := f.do(t, "open", file, topic, leased.Messages[0].bytes()); string(got) != plainPayload {
			t.Errorf("%s opens what send sealed to %q", name, got)
		}
		nack := fmt.Appendf(nil, `{"nack":[{"id":%q,"delay_ms":1},{"id":%q,"delay_ms":1}]}`, leased.Messages[0].ID, leased.Messages[1].ID)
		g.api(tok).want(t, http.StatusOK, nil, "POST", "/v1/devices/lamp1/acks", nack)
		out := g.must(nil, "listen", "-device", "lamp1", "-token", tok, "-open", file, "-n", "2", "-url", "http://"+g.addr)
		if want := strings.Repeat(topic+" "+plainPayload+"\n", 2); out != want {
			t.Errorf("%s: listen -open shows %q", name, out)
		}
	}
	if found := g.onDisk(); len(found) > 0 {
		t.Errorf("sealed payloads are on the disk: %v", found)
	}
	if strings.Contains(g.out.String(), "planted") {
		t.Error("the log shows a sealed payload")
	}
	for _, refused := range []string{"des", "3des", "rc4", "md5"} {
		if r := g.run("send", topic, "x", "-seal", file, "-form", refused); r.code != 2 || !strings.Contains(r.errout, "is not offered") {
			t.Errorf("%s: %+v", refused, r)
		}
	}
}
