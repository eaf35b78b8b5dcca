package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// broker is a gateway whose MQTT port is known.
type broker struct {
	*gateway
	mqtt string
}

func newBroker(t *testing.T, args ...string) *broker {
	t.Helper()
	b := &broker{mqtt: freeAddr(t)}
	b.gateway = newGateway(t, append([]string{"-mqtt", b.mqtt}, args...)...)
	b.start()
	return b
}

func (b *broker) port() string { return b.mqtt[strings.LastIndexByte(b.mqtt, ':')+1:] }

// mosquitto runs mosquitto_pub or mosquitto_sub of Debian for at most a minute and returns what it
// printed.
func (b *broker) mosquitto(t *testing.T, name, stdin string, args ...string) string {
	t.Helper()
	out, err := b.tryMosquitto(t, name, stdin, args...)
	if err != nil {
		t.Fatalf("mosquitto_%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func (b *broker) tryMosquitto(t *testing.T, name, stdin string, args ...string) (string, error) {
	t.Helper()
	name = "mosquitto_" + name
	if _, err := exec.LookPath(name); err != nil {
		cannot(t, name+" is not installed; scripts/setup does it")
	}
	cmd := exec.Command("timeout", append([]string{"60", name, "-h", "127.0.0.1", "-p", b.port()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// background starts a client and returns its lines; the test ends it.
func background(t *testing.T, name string, args ...string) (lines <-chan string, ended <-chan error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errout bytes.Buffer
	cmd.Stderr = &errout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out, end := make(chan string, 100_000), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(out)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			out <- s.Text()
		}
		if err := cmd.Wait(); err != nil {
			end <- fmt.Errorf("%w\n%s", err, &errout)
			return
		}
		end <- nil
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-done
	})
	return out, end
}

func line(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case l, ok := <-lines:
		if !ok {
			t.Fatal("the client has ended")
		}
		return l
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came in 30 s")
	}
	return ""
}

// TestMosquittoReadme are the lines of the README: a device, its token, and mosquitto's clients.
func TestMosquittoReadme(t *testing.T) {
	b := newBroker(t)
	tok, app := b.addDevice("lamp1"), b.addFreeKey()
	for _, v := range []string{"31", "311", "5"} {
		for _, q := range []string{"0", "1", "2"} {
			b.mosquitto(t, "pub", "", "-V", v, "-u", "app", "-P", app, "-t", "device/lamp1/in/set", "-q", "1", "-m", "on"+v+q)
			got := b.mosquitto(t, "sub", "", "-V", v, "-u", "lamp1", "-P", tok, "-t", "device/lamp1/in/#", "-q", q, "-C", "1", "-F", "%t %p %q")
			if want := "device/lamp1/in/set on" + v + q + " " + map[string]string{"0": "0", "1": "1", "2": "1"}[q] + "\n"; got != want {
				t.Errorf("version %s QoS %s: %q", v, q, got)
			}
		}
	}
	out, err := b.tryMosquitto(t, "pub", "", "-V", "5", "-u", "lamp1", "-P", "wrong", "-t", "x", "-m", "y")
	if err == nil || !strings.Contains(strings.ToLower(out), "user name or password") {
		t.Errorf("a wrong token: %v %q", err, out)
	}
	if out, err = b.tryMosquitto(t, "pub", "", "-V", "5", "-t", "x", "-q", "1", "-m", "y"); err == nil {
		t.Errorf("no token: %q", out)
	}
	out, _ = b.tryMosquitto(t, "pub", "", "-V", "5", "-u", "lamp1", "-P", tok, "-t", "device/lamp2/in/x", "-q", "1", "-m", "y") // exits with 0
	if !strings.Contains(out, "Not authorized") {
		t.Errorf("a publish that is not allowed: %q", out)
	}
}

// TestMosquittoKeepsWhatIsOffline is the 20,000-message case: to an offline session of QoS 1, then
// kill -9, then all arrive in order.
func TestMosquittoKeepsWhatIsOffline(t *testing.T) {
	const total = 20_000
	b := newBroker(t, "-anonymous")
	for _, v := range []string{"311", "5"} {
		sub := []string{"-V", v, "-i", "dev" + v, "-c", "-q", "1", "-t", "q" + v + "/#"}
		if v == "5" {
			sub = append(sub, "-x", "3600")
		}
		b.mosquitto(t, "sub", "", append(sub, "-E")...)
		var in strings.Builder
		for i := range total {
			fmt.Fprintf(&in, "m%05d\n", i)
		}
		b.mosquitto(t, "pub", in.String(), "-V", v, "-t", "q"+v+"/x", "-q", "1", "-l")
		b.kill()
		b.start()
		got := b.mosquitto(t, "sub", "", append(sub, "-C", fmt.Sprint(total))...)
		if got != in.String() {
			t.Errorf("version %s: %d lines of %d, or out of order", v, strings.Count(got, "\n"), total)
		}
	}
}

// TestMosquittoFeatures: retained messages, wills, properties, $SYS, and QoS 2 from end to end.
func TestMosquittoFeatures(t *testing.T) {
	b := newBroker(t, "-anonymous")
	b.mosquitto(t, "pub", "", "-t", "state/1", "-q", "1", "-r", "-m", "kept")
	if got := b.mosquitto(t, "sub", "", "-t", "state/#", "-C", "1", "-F", "%t %p %r"); got != "state/1 kept 1\n" {
		t.Errorf("retained: %q", got)
	}
	b.mosquitto(t, "pub", "", "-t", "state/1", "-r", "-n")
	if got, _ := b.tryMosquitto(t, "sub", "", "-t", "state/#", "-C", "1", "-W", "1"); strings.Contains(got, "kept") {
		t.Errorf("a retained message that was cleared: %q", got)
	}
	if got := b.mosquitto(t, "sub", "", "-t", "$SYS/broker/version", "-C", "1"); !strings.HasPrefix(got, "edgepost ") {
		t.Errorf("$SYS: %q", got)
	}
	b.mosquitto(t, "sub", "", "-i", "away", "-c", "-q", "1", "-t", "away/#", "-E")
	got := b.mosquitto(t, "sub", "", "-t", "$SYS/broker/clients/+", "-C", "6", "-F", "%t=%p")
	for _, want := range []string{"connected=1", "disconnected=1", "total=2"} {
		if !strings.Contains(got, "$SYS/broker/clients/"+want+"\n") {
			t.Errorf("$SYS has no clients/%s among\n%s", want, got)
		}
	}

	lines, _ := background(t, "mosquitto_sub", "-p", b.port(), "-V", "5", "-q", "2", "-t", "t/#", "-F", "%t|%p|%q|%C|%R|%D|%P|%E")
	time.Sleep(300 * time.Millisecond) // it prints nothing when it has subscribed
	b.mosquitto(t, "pub", "", "-V", "5", "-t", "t/x", "-q", "2", "-m", "{}", "-D", "publish", "content-type", "application/json", "-D", "publish",
		"response-topic", "answer", "-D", "publish", "correlation-data", "77", "-D", "publish", "user-property", "k", "v", "-D", "publish", "message-expiry-interval", "60")
	if got := line(t, lines); got != "t/x|{}|2|application/json|answer|77|k:v|60" {
		t.Errorf("properties: %s", got)
	}
	_, ended := background(t, "timeout", "-s", "KILL", "1", "mosquitto_sub", "-p", b.port(), "-t", "none", "--will-topic", "t/will", "--will-payload", "gone", "--will-qos", "1")
	<-ended
	if got := line(t, lines); !strings.HasPrefix(got, "t/will|gone|1|") {
		t.Errorf("will: %s", got)
	}
}

// TestMosquittoShares divides a group's messages between two members.
func TestMosquittoShares(t *testing.T) {
	b := newBroker(t, "-anonymous")
	one, _ := background(t, "mosquitto_sub", "-p", b.port(), "-V", "5", "-q", "1", "-t", "$share/g/job/#")
	two, _ := background(t, "mosquitto_sub", "-p", b.port(), "-V", "5", "-q", "1", "-t", "$share/g/job/#")
	time.Sleep(300 * time.Millisecond) // they print nothing when they have subscribed
	var in strings.Builder
	for i := range 200 {
		fmt.Fprintf(&in, "%d\n", i)
	}
	b.mosquitto(t, "pub", in.String(), "-V", "5", "-t", "job/x", "-q", "1", "-l")
	seen := map[string]int{}
	n := [2]int{}
	for range 200 {
		select {
		case l := <-one:
			seen[l]++
			n[0]++
		case l := <-two:
			seen[l]++
			n[1]++
		case <-time.After(20 * time.Second):
			t.Fatalf("only %d came", len(seen))
		}
	}
	if len(seen) != 200 || n[0] == 0 || n[1] == 0 {
		t.Errorf("%d different ones, divided %v", len(seen), n)
	}
}

// said is a message as the clients of other languages print it.
type said struct {
	Present        bool
	Topic, Payload string
	QoS            int
	Dup, Retain    bool
	Type           string
}

// device runs a client of another language that answers count messages, and gives it two before it
// connects for the first time, more while it is connected, and more while it is not.
func (b *broker) device(t *testing.T, command []string, version string, typed bool) {
	t.Helper()
	tok, key := b.addDevice("d"+version, "-publish", "device/d"+version+"/out/#"), b.addKey("k"+version, "-publish", "#", "-subscribe", "#")
	app := b.api(key)
	lines := b.mustDial("", key)
	lines.ask(t, 7, map[string]any{"sub": map[string]any{"topic": "device/d" + version + "/out/#"}})
	for round := range 2 {
		var ids []string
		for i := range 3 {
			ids = append(ids, app.publish(t, "device/d"+version+"/in/set", fmt.Sprintf(`{"n":%d,"s":"你好"}`, i), "Content-Type", "application/json").ID)
		}
		args := append(command[1:], version, "d"+version, tok, "client"+version, "device/d"+version+"/in/#", "3", "device/d"+version+"/out/answer")
		out, err := exec.Command(command[0], args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		text := strings.Split(strings.TrimSpace(string(out)), "\n")
		for i, l := range text {
			var s said
			if err := json.Unmarshal([]byte(l), &s); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			if i == 0 {
				if s.Present != (round == 1 && version != "3") { // 3.1 does not say it
					t.Errorf("round %d: %s", round, l)
				}
				continue
			}
			want := said{Topic: "device/d" + version + "/in/set", Payload: fmt.Sprintf(`{"n":%d,"s":"你好"}`, i-1), QoS: 1}
			if typed {
				want.Type = "application/json"
			}
			if s != want {
				t.Errorf("have %s", l)
			}
		}
		if len(text) != 4 {
			t.Errorf("it printed\n%s", out)
		}
		for i, id := range ids {
			if m := lines.msg(t); m.payload() != fmt.Sprintf(`got {"n":%d,"s":"你好"}`, i) || m.From != "d"+version {
				t.Errorf("the answer over WebSocket: %+v %s", m, m.payload())
			}
			within(t, 5*time.Second, id+" is not delivered", func() bool { return app.trace(t, id)["device/d"+version].State == "delivered" })
		}
	}
}

// TestJavaScriptMQTT is mqtt.js of npm, over TCP and over WebSocket.
func TestJavaScriptMQTT(t *testing.T) {
	if _, err := os.Stat("mqtt/node_modules/mqtt"); err != nil {
		cannot(t, "the npm package mqtt is not installed; scripts/setup does it")
	}
	b := newBroker(t)
	b.device(t, []string{"node", "mqtt/client.js", "mqtt://" + b.mqtt}, "4", false)
	b.device(t, []string{"node", "mqtt/client.js", "ws://" + b.addr + "/mqtt"}, "5", true)
}

// TestPythonMQTT is paho-mqtt of PyPI.
func TestPythonMQTT(t *testing.T) {
	if _, err := os.Stat("mqtt/lib/paho"); err != nil {
		cannot(t, "the Python package paho-mqtt is not installed; scripts/setup does it")
	}
	t.Setenv("PYTHONPATH", "mqtt/lib")
	b := newBroker(t)
	for _, v := range []string{"3", "4", "5"} {
		b.device(t, []string{"python3", "mqtt/client.py", "127.0.0.1", b.port()}, v, v == "5")
	}
}
