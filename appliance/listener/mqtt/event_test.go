package mqtt_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// An event is the same whether it comes by HTTP or by MQTT, and whoever reads it.
func TestEventsBetweenHTTPAndMQTT(t *testing.T) {
	s := &stage{t: t, data: t.TempDir(), peers: map[string]*client{}, words: strings.NewReplacer()}
	s.start()
	defer s.stop()
	play := func(lines string) {
		t.Helper()
		for line := range strings.Lines(lines) {
			if err := s.step(strings.TrimSpace(line)); err != nil {
				t.Fatalf("%s%v", line, err)
			}
		}
	}
	play(`dial d 5
		> connect id=d clean
		< connack code=00 std
		> subscribe id=1 f=shop/#:1
		< suback id=1 codes=01`)
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.app.Addr()+"/v1/messages?topic=shop/a", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/shop", "ce-type": "sold", "ce-partitionkey": "Caf%C3%A9",
	} {
		req.Header.Set(name, value)
	}
	if got := status(t, req, nil); got != http.StatusCreated {
		t.Fatalf("publish: status %d", got)
	}
	play("< publish t=shop/a q=1 id=1 p={} ct=application/json u.specversion=1.0 u.id=e1 u.source=/shop u.type=sold u.subject=shop/a u.time=* u.partitionkey=Café u.priority=4 u.epid=* u.epseq=*")

	play(`dial p 5
		> connect id=p clean
		< connack code=00 std
		> publish t=shop/b q=1 id=1 p={} ct=application/json u.specversion=1.0 u.id=e2 u.source=/shop u.type=sold u.subject=s u.partitionkey=Café
		< puback id=1
		> publish t=nowhere q=1 id=2 p=x u.specversion=1.0 u.id=e3 u.source=/shop u.type=sold
		< puback id=2 code=10
		> publish t=nowhere q=2 id=3 p=x
		< pubrec id=3 code=10`)
	// Structured, over MQTT and over HTTP: whoever sends it again, it is the same event.
	const e4 = `{"specversion":"1.0","id":"e4","source":"/shop","type":"sold","time":"2026-11-29T08:00:00Z","datacontenttype":"text/plain","data":"hi"}`
	play("> publish t=shop/c q=1 id=4 ct=application/cloudevents+json pf=1 p=" + e4 + `
		< puback id=4
		use d
		< publish t=shop/b q=1 id=2 p={} ct=* u.specversion=1.0 u.id=e2 u.source=* u.type=* u.subject=s u.time=* u.partitionkey=* u.priority=* u.epid=* u.epseq=*
		< publish t=shop/c q=1 id=3 p=hi ct=text/plain u.specversion=1.0 u.id=e4 u.source=/shop u.type=sold u.subject=shop/c u.time=2026-11-29T08:00:00Z u.priority=4 u.epid=* u.epseq=*`)
	if req, err = http.NewRequestWithContext(t.Context(), "POST", "http://"+s.app.Addr()+"/v1/messages?topic=shop/c", strings.NewReader(e4)); err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	if got := status(t, req, nil); got != http.StatusCreated {
		t.Fatalf("the event again: status %d", got)
	}
	play(`use p
		> publish t=shop/c q=1 id=5 ct=application/cloudevents+json p={"specversion":"1.0","id":"e4","source":"/shop","type":"sold","data":"else"}
		< puback id=5 code=83 reason=*
		use d
		silent`)
	if req, err = http.NewRequestWithContext(t.Context(), "GET", "http://"+s.app.Addr()+"/v1/messages?topic=shop/b", nil); err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/cloudevents-batch+json")
	var events []map[string]any
	if got := status(t, req, &events); got != http.StatusOK || len(events) != 1 {
		t.Fatalf("history: status %d, %v", got, events)
	}
	for name, want := range map[string]string{"id": "e2", "source": "/shop", "type": "sold", "subject": "s", "partitionkey": "Café", "datacontenttype": "application/json"} {
		if got := fmt.Sprint(events[0][name]); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// status makes a request and decodes the answer, if it is wanted.
func status(t *testing.T, req *http.Request, into any) int {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
	}
	return res.StatusCode
}
