package bridges

import (
	"bufio"
	"encoding/hex"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"edgepost/scripts/brokers"
)

// TestJMS has a Java application read what the gateway sends to ActiveMQ over STOMP: each message is what JMS calls it,
// and a selector finds one by an event's attribute.
func TestJMS(t *testing.T) {
	b := startBroker(t, "activemq-debian")
	lines := jmsConsumer(t, "tcp://"+b.Addr("tcp"), "ep.up.d1", "JMSXGroupID = 'd1' AND cloudEvents_subject LIKE 'device/d1/%'")
	g := newGateway(t, strings.ReplaceAll(stomp("", "", "/queue/ep.up.${device}", "/queue/ep.down", "").config(b.Addr("stomp")), "keep_alive = 2", ""))
	g.start()
	for _, m := range []struct{ kind, body, sent string }{
		{"text/plain; charset=utf-8", "温度 21", "text"}, {"application/json", `{"n":1}`, "text"}, {"application/octet-stream", "a\x00b\xff", "bytes"}, {"text/plain", "a\x00b", "text"},
	} {
		r, err := http.NewRequest(http.MethodPost, "http://"+g.addr+"/v1/publish/device/d1/out/x", strings.NewReader(m.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", m.kind)
		r.Header.Set("Message-Priority", "8")
		r.Header.Set("Message-TTL", "1h")
		a, err := g.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		line := <-lines
		for _, want := range []string{
			m.sent + " priority=8 persistent=true", " lives=3", " JMSXGroupID=d1", " cloudEvents_subject=device/d1/out/x", " cloudEvents_source=/edgepost/", " contentType=" + m.kind,
			" body=" + hex.EncodeToString([]byte(m.body)),
		} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q is not in %s", m.kind, want, line)
			}
		}
		if strings.Contains(line, " lives=0") {
			t.Errorf("%s: it never expires: %s", m.kind, line)
		}
	}
}

// jmsConsumer runs the Java program until the test ends.
func jmsConsumer(t *testing.T, url, queue, selector string) <-chan string {
	t.Helper()
	const lib = "/usr/share/activemq/lib"
	cmd := exec.Command("java", "-Xmx128m", "-cp", lib+"/*:"+lib+"/optional/*", "jms/Consumer.java", url, brokers.User, brokers.Password, queue, selector)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		cannot(t, err)
	}
	lines := make(chan string, 100)
	ready := make(chan bool, 1)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			if s.Text() == "READY" {
				ready <- true
			} else {
				lines <- s.Text()
			}
		}
		close(ready)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range lines { // until it has ended
		}
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(errs.String())
		}
	})
	if !<-ready {
		t.Fatal("the JMS application does not start")
	}
	return lines
}
