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
			b := newBroker(t)
			tok, file := b.sealedDevice("lamp1", f.form)
			app := b.api(b.addFreeKey())
			const topic = "device/lamp1/in/set"
			opens := func(how, ct string, sealed []byte) {
				t.Helper()
				if bytes.Contains(sealed, []byte("planted")) || ct != "" && ct != f.ct {
					t.Fatalf("%s: %q as %s", how, sealed, ct)
				}
				if got := f.do(t, "open", file, topic, sealed); string(got) != plainPayload {
					t.Errorf("%s: it opens to %q", how, got)
				}
			}
			say := func() string { return app.publish(t, topic, plainPayload, "Content-Type", "application/json").ID }

			for _, v := range []string{"311", "5"} { // MQTT, stored and live
				say()
				got := b.mosquitto(t, "sub", "", "-V", v, "-u", "lamp1", "-P", tok, "-t", "device/lamp1/in/#", "-q", "1", "-C", "1", "-F", "%x")
				sealed, err := hex.DecodeString(strings.TrimSpace(got))
				if err != nil {
					t.Fatal(err)
				}
				opens("MQTT "+v, "", sealed)
			}

			l := b.mustDial("lamp1", tok)
			say()
			m := l.msg(t)
			opens("WebSocket", m.CT, m.bytes())
			l.ack(t, m.Seq)
			app.want(t, http.StatusAccepted, nil, "POST", "/v1/publish/"+topic, []byte(plainPayload), "Content-Type", "application/json", "Message-Durability", "volatile")
			m = l.msg(t)
			opens("WebSocket, volatile", m.CT, m.bytes())
			l.close()

			id := say()
			device := b.api(tok)
			var leased struct{ Messages []delivery }
			device.want(t, http.StatusOK, &leased, "GET", "/v1/devices/lamp1/messages?wait=10s", nil)
			if len(leased.Messages) != 1 {
				t.Fatalf("leased %+v", leased)
			}
			opens("a lease", leased.Messages[0].CT, leased.Messages[0].bytes())
			device.want(t, http.StatusOK, nil, "POST", "/v1/devices/lamp1/acks", fmt.Appendf(nil, `{"ids":[%q]}`, id))

			events, stop := b.stream(t, tok, "topic=device/lamp1/in/%23")
			say()
			var e delivery
			if err := json.Unmarshal([]byte(nextEvent(t, events).data), &e); err != nil {
				t.Fatal(err)
			}
			opens("an event stream", e.CT, e.bytes())
			stop()

			var page struct{ Messages []delivery }
			device.want(t, http.StatusOK, &page, "GET", "/v1/messages?topic=device/lamp1/in/%23", nil)
			if len(page.Messages) == 0 {
				t.Fatal("no history")
			}
			for _, m := range page.Messages {
				opens("history", m.CT, m.bytes())
			}
			app.want(t, http.StatusOK, &page, "GET", "/v1/messages?topic=device/lamp1/in/%23", nil)
			if got := page.Messages[0].payload(); got != plainPayload {
				t.Errorf("others read %q", got)
			}
			b.uplink(t, f, tok, file, app)
			if out := b.out.String(); strings.Contains(out, "planted") {
				t.Errorf("the log shows a payload:\n%s", out)
			}
		})
	}
}

// uplink is what a device publishes, sealed by another implementation.
func (b *broker) uplink(t *testing.T, f foreign, tok, file string, app *api) {
	t.Helper()
	const topic = "device/lamp1/out/state"
	lines := b.mustDial("", app.token)
	lines.ask(t, 1, map[string]any{"sub": map[string]any{"topic": "device/lamp1/out/#"}})
	seal := func(topic string) []byte { return f.do(t, "seal", file, topic, []byte(plainPayload)) }
	comes := func(how string) {
		t.Helper()
		if m := lines.msg(t); m.payload() != plainPayload || m.From != "lamp1" || m.Topic != topic || m.CT == f.ct {
			t.Errorf("%s: %+v", how, m)
		}
	}
	device := b.api(tok)
	first := seal(topic)
	at := device.publish(t, topic, string(first), "Content-Type", f.ct)
	comes("HTTP")

	path := filepath.Join(t.TempDir(), "sealed")
	for _, v := range []string{"311", "5"} {
		for _, q := range []string{"0", "1", "2"} {
			if err := os.WriteFile(path, seal(topic), 0o600); err != nil {
				t.Fatal(err)
			}
			b.mosquitto(t, "pub", "", "-V", v, "-u", "lamp1", "-P", tok, "-t", topic, "-q", q, "-f", path)
			comes("MQTT " + v + " QoS " + q)
		}
	}

	refuse := func(code, topic string, body []byte, ct string) {
		t.Helper()
		p := device.refused(t, http.StatusForbidden, code, "POST", "/v1/publish/"+topic, body, "Content-Type", ct)
		if strings.Contains(p.Detail, "planted") {
			t.Errorf("the problem tells the payload: %s", p.Detail)
		}
	}
	refuse("not-sealed", topic, []byte(plainPayload), "application/json")
	refuse("not-opened", topic, []byte(plainPayload), f.ct)
	refuse("not-opened", "device/lamp1/out/other", first, f.ct)
	damaged := bytes.Clone(first)
	damaged[len(damaged)-10] ^= 1
	refuse("not-opened", topic, damaged, f.ct)
	out, _ := b.tryMosquitto(t, "pub", "", "-V", "5", "-u", "lamp1", "-P", tok, "-t", topic, "-q", "1", "-m", plainPayload)
	if !strings.Contains(out, "131") && !strings.Contains(strings.ToLower(out), "implementation specific") {
		t.Errorf("a plain publish over MQTT 5: %q", out)
	}
	b.mosquitto(t, "pub", "", "-V", "311", "-u", "lamp1", "-P", tok, "-t", topic, "-q", "1", "-m", plainPayload) // acknowledged and dropped

	for _, restart := range []bool{false, true} { // sent again it is stored once
		if restart {
			lines.close()
			b.kill()
			b.start()
			lines = b.mustDial("", app.token)
			lines.ask(t, 1, map[string]any{"sub": map[string]any{"topic": "device/lamp1/out/#"}})
		}
		if again := device.publish(t, topic, string(first), "Content-Type", f.ct); again.ID != at.ID {
			t.Errorf("replayed, it is %s and not %s", again.ID, at.ID)
		}
		if again := device.publish(t, topic, string(first), "Content-Type", f.ct, "Idempotency-Key", "another"); again.ID != at.ID {
			t.Errorf("replayed with a key, it is %s and not %s", again.ID, at.ID)
		}
	}

	// What is sealed with a key that the gateway does not have is carried as it is.
	other := filepath.Join(t.TempDir(), "other.jwk")
	if err := os.WriteFile(other, []byte(b.must(nil, "seal", "key")), 0o600); err != nil {
		t.Fatal(err)
	}
	device.publish(t, topic, string(f.do(t, "seal", other, topic, []byte("for the app"))), "Content-Type", f.ct)
	m := lines.msg(t)
	if m.CT != f.ct || string(f.do(t, "open", other, topic, m.bytes())) != "for the app" {
		t.Errorf("sealed for others: %+v", m)
	}

	// Another key: the old one opens nothing any more, and connections end.
	l := b.mustDial("lamp1", tok)
	b.must(nil, "device", "seal", "lamp1", f.form, "-new")
	for {
		if _, err := l.read(10 * time.Second); err != nil {
			break
		}
	}
	old := seal(topic)
	device.publish(t, topic, string(old), "Content-Type", f.ct) // of a key that is not the device's: carried
	if m := lines.msg(t); m.CT != f.ct {
		t.Errorf("the old key still opens: %+v", m)
	}
	b.must(nil, "device", "seal", "lamp1", "off")
	device.publish(t, topic, "plain again")
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
