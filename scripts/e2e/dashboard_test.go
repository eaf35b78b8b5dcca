package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signedIn is the administrator of a new gateway, in a browser on it.
func (g *gateway) signedIn() *person {
	g.t.Helper()
	p := g.person()
	p.expect(201, "POST", "/v1/setup", fmt.Sprintf(`{"code":%q,"name":"ann","password":%q}`, g.setupCode(), password))
	return p
}

// feedEvent is one event of a feed.
type feedEvent struct{ name, data string }

// feed opens a feed of events. The channel ends with it.
func (p *person) feed(path string) <-chan feedEvent {
	t := p.g.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.g.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", p.cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
	events := make(chan feedEvent, 100)
	go func() {
		defer close(events)
		defer res.Body.Close()
		var e feedEvent
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "event: "):
				e.name = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				e.data = line[len("data: "):]
			case line == "" && e.name != "":
				events <- e
				e = feedEvent{}
			}
		}
	}()
	return events
}

// next waits for an event.
func next(t *testing.T, events <-chan feedEvent) feedEvent {
	t.Helper()
	select {
	case e, open := <-events:
		if !open {
			t.Fatal("the feed ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event in 20 s")
	}
	return feedEvent{}
}

// TestLiveFeed watches a gateway as its dashboard does: what happens shows up, and signing out ends it.
func TestLiveFeed(t *testing.T) {
	g := newGateway(t)
	g.start()
	ann := g.signedIn()
	tok := g.addDevice("lamp1")
	g.addDevice("lamp2")
	g.mustDial("lamp1", tok)
	events := ann.feed("/v1/live")
	for range 3 {
		ann.expect(201, "POST", "/v1/publish/device/lamp2/in/set", `{"on":true}`)
	}
	type tick struct {
		Totals  struct{ Published int64 }
		Ack     struct{ P50, P99 float64 }
		Owed    int64
		Devices struct{ Total, Online int64 }
		Backlog []struct {
			Name, Kind string
			Owed       int64
			OldestAge  *float64 `json:"oldest_age"`
		}
		Storage struct {
			State       string
			DiskFree    int64    `json:"disk_free"`
			DeviceBytes int64    `json:"device_bytes"`
			FlashYears  *float64 `json:"flash_years"`
		}
		Memory struct{ RSS, Budget int64 }
		CPU    struct{ Cores int }
		Tune   struct {
			Why []struct{ Limit, Value, Why string }
		}
	}
	var got tick
	for until := time.Now().Add(20 * time.Second); got.Owed != 3 && time.Now().Before(until); {
		e := next(t, events)
		if e.name != "tick" {
			t.Fatalf("event %+v", e)
		}
		got = tick{}
		if err := json.Unmarshal([]byte(e.data), &got); err != nil {
			t.Fatalf("%v in %s", err, e.data)
		}
	}
	if got.Owed != 3 || got.Devices.Total != 2 || got.Devices.Online != 1 || got.Ack.P50 <= 0 || got.Ack.P99 < got.Ack.P50 {
		t.Errorf("the feed says %+v", got)
	}
	if len(got.Backlog) != 1 || got.Backlog[0].Name != "device/lamp2" || got.Backlog[0].Kind != "inbox" || got.Backlog[0].Owed != 3 || got.Backlog[0].OldestAge == nil {
		t.Errorf("the backlog is %+v", got.Backlog)
	}
	if got.Storage.State != "ok" || got.Storage.DiskFree <= 0 || got.Storage.DeviceBytes <= 0 || got.Storage.FlashYears != nil || got.Memory.RSS <= 0 || got.Memory.Budget <= 0 || got.CPU.Cores < 1 || len(got.Tune.Why) < 4 {
		t.Errorf("the machine is %+v", got)
	}
	ann.expect(200, "GET", "/v1/live/history", "")
	ann.expect(204, "DELETE", "/v1/session", "")
	var last feedEvent
	for e := range events {
		last = e
	}
	if last.name != "bye" || !strings.Contains(last.data, `"unauthorized"`) {
		t.Errorf("after signing out the last event is %+v", last)
	}
	free := g.api(g.addFreeKey())
	free.refused(t, 403, "forbidden", "GET", "/v1/live", nil)
	free.refused(t, 403, "forbidden", "GET", "/v1/live/history", nil)
}
