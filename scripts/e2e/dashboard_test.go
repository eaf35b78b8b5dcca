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

// TestFiveThousandDevices pages, searches and filters a large register.
func TestFiveThousandDevices(t *testing.T) {
	const n = 5000
	g := newGateway(t)
	g.start()
	ann := g.signedIn()
	var csv strings.Builder
	csv.WriteString("id,label\n")
	for i := range n {
		fmt.Fprintf(&csv, "lamp%04d,灯 %d\n", i, i)
	}
	root := g.api(g.addKey("root", "-admin"))
	root.want(t, 201, nil, "POST", "/v1/import/devices", []byte(csv.String()), "Content-Type", "text/csv")
	tok := g.addDevice("zz-last")
	g.mustDial("zz-last", tok)
	ann.expect(201, "POST", "/v1/publish/device/lamp4321/in/set", "on")

	type row struct {
		ID, Label, Reason string
		Online            bool
		Owed              int64
		OldestAge         *float64 `json:"oldest_age"`
		LastSeen          string   `json:"last_seen"`
	}
	type page struct {
		Devices []row
		Total   int
		Next    string
	}
	get := func(query string) (p page) {
		t.Helper()
		root.want(t, 200, &p, "GET", "/v1/devices?"+query, nil)
		return p
	}
	seen, after := 0, ""
	for pages := 0; ; pages++ {
		p := get("limit=200&after=" + after)
		for _, d := range p.Devices {
			if d.ID <= after {
				t.Fatalf("%s comes behind %s", d.ID, after)
			}
			after = d.ID
		}
		seen += len(p.Devices)
		if p.Total != n+1 {
			t.Fatalf("total %d", p.Total)
		}
		if p.Next == "" {
			break
		}
		if p.Next != after || pages > n/200+1 {
			t.Fatalf("after %d pages: next is %q, the last was %q", pages, p.Next, after)
		}
	}
	if seen != n+1 {
		t.Errorf("%d devices on all pages, want %d", seen, n+1)
	}
	if p := get("search=LAMP43&limit=10"); p.Total != 100 || len(p.Devices) != 10 || p.Devices[0].ID != "lamp4300" {
		t.Errorf("a search finds %+v", p)
	}
	if p := get("search=%E7%81%AF%2077&limit=1000"); p.Total != 11 { // 77 and 770 to 779
		t.Errorf("a search for a label finds %d", p.Total)
	}
	if p := get("state=online&limit=10"); p.Total != 1 || len(p.Devices) != 1 || p.Devices[0].ID != "zz-last" || !p.Devices[0].Online || p.Next != "" {
		t.Errorf("online are %+v", p)
	}
	if p := get("state=offline&limit=1&after=lamp4320"); p.Total != n || p.Devices[0].ID != "lamp4321" || p.Devices[0].Owed != 1 || p.Devices[0].LastSeen != "" {
		t.Errorf("offline are %+v", p)
	}
	if p := get("group=none&limit=10"); p.Total != 0 || p.Devices == nil || p.Next != "" {
		t.Errorf("an unknown group has %+v", p)
	}
}

// TestQueueOfADevice looks into a queue, puts one message in front, takes another out, and previews who is reached.
func TestQueueOfADevice(t *testing.T) {
	g := newGateway(t)
	g.start()
	ann := g.signedIn()
	tok := g.addDevice("lamp1")
	g.addDevice("lamp2")
	g.must(nil, "group", "add", "hall")
	g.must(nil, "group", "join", "hall", "lamp1")
	g.must(nil, "group", "join", "hall", "lamp2")
	root := g.api(g.addKey("root", "-admin", "-publish", "#"))
	var ids []string
	for _, text := range []string{"one", "two", "three"} {
		ids = append(ids, root.publish(t, "group/hall/in/set", text).ID)
	}
	type queue struct {
		Depth int
		Queue []struct {
			ID, Topic, State, Why, Preview string
			Priority                       int
			ExpiresIn                      float64 `json:"expires_in"`
		}
	}
	show := func(device string) (list []string) {
		t.Helper()
		var q queue
		root.want(t, 200, &q, "GET", "/v1/devices/"+device+"/queue", nil)
		for _, e := range q.Queue {
			if e.State != "waiting" || !strings.Contains(e.Why, "offline") || e.Topic != "group/hall/in/set" || e.ExpiresIn <= 0 {
				t.Errorf("%+v", e)
			}
			list = append(list, fmt.Sprint(e.Preview, e.Priority))
		}
		return list
	}
	if got := fmt.Sprint(show("lamp1")); got != "[one4 two4 three4]" {
		t.Errorf("waits %s", got)
	}
	ann.expect(204, "PUT", "/v1/devices/lamp1/queue/"+ids[2], `{"priority":9}`)
	ann.expect(204, "DELETE", "/v1/devices/lamp1/queue/"+ids[0], "")
	g.kill()
	g.start()
	if a, b := fmt.Sprint(show("lamp1")), fmt.Sprint(show("lamp2")); a != "[three9 two4]" || b != "[one4 two4 three4]" {
		t.Errorf("after kill -9: lamp1 waits for %s, lamp2 for %s", a, b)
	}
	if p := root.trace(t, ids[0])["device/lamp1"]; p.State != "cancelled" || !strings.Contains(p.Reason, "user/ann") {
		t.Errorf("the trace says %+v", p)
	}
	link := g.mustDial("lamp1", tok)
	var reach struct {
		Online, Offline int
		Devices         []struct {
			ID     string
			Online bool
		}
	}
	root.want(t, 200, &reach, "POST", "/v1/reach", []byte(`{"topic":"group/hall/in/set"}`))
	if reach.Online != 1 || reach.Offline != 1 || len(reach.Devices) != 2 || reach.Devices[0].ID != "lamp1" {
		t.Errorf("reach %+v", reach)
	}
	root.refused(t, 404, "unknown-device", "POST", "/v1/reach", []byte(`{"topic":"device/nobody/in/set"}`))
	for i, want := range []string{ids[2], ids[1]} {
		m := link.msg(t)
		if m.ID != want || m.Attempt != 1 {
			t.Errorf("message %d is %+v, want %s", i, m, want)
		}
		root.refused(t, 409, "in-flight", "PUT", "/v1/devices/lamp1/queue/"+want, []byte(`{"priority":1}`))
		link.ack(t, m.Seq)
		within(t, 5*time.Second, "not delivered", func() bool { return root.trace(t, want)["device/lamp1"].State == "delivered" })
	}
	root.refused(t, 404, "not-found", "DELETE", "/v1/devices/lamp1/queue/"+ids[1], nil)
}

// TestDeadLettersInBulk groups dead letters by cause, sends one again edited, discards one, and requeues the others at a rate.
func TestDeadLettersInBulk(t *testing.T) {
	g := newGateway(t)
	g.start()
	tok := g.addDevice("lamp1")
	g.addDevice("lamp2")
	root := g.api(g.addKey("root", "-admin", "-publish", "#"))
	link := g.mustDial("lamp1", tok)
	var first stored
	for i := range 8 {
		s := root.publish(t, "device/lamp1/in/set", fmt.Sprint("text ", i))
		if i == 0 {
			first = s
		}
		m, reason := link.msg(t), "hot"
		if i >= 6 {
			reason = "cold"
		}
		link.send(map[string]any{"nack": map[string]any{"sub": 0, "seq": m.Seq, "reason": reason, "reject": true}})
	}
	type cause struct {
		Reason  string
		Count   int
		Example uint64
	}
	causes := func() (list []cause) {
		t.Helper()
		var a struct{ Causes []cause }
		root.want(t, 200, &a, "GET", "/v1/dead/causes", nil)
		return a.Causes
	}
	within(t, 10*time.Second, "not all are dead", func() bool {
		c := causes()
		return len(c) == 2 && c[0].Count == 6 && c[1].Count == 2
	})
	if c := causes(); c[0].Reason != "rejected: hot" || c[1].Reason != "rejected: cold" {
		t.Errorf("causes %+v", c)
	}
	var edited stored
	root.want(t, 201, &edited, "POST", "/v1/dead/1/requeue", []byte(`{"text":"better","priority":7}`))
	m := link.msg(t)
	if m.payload() != "better" || m.ID != edited.ID || m.ID == first.ID || m.Priority != 7 || m.Topic != "device/lamp1/in/set" {
		t.Errorf("the edited one arrives as %+v", m)
	}
	link.ack(t, m.Seq)
	root.want(t, 201, &edited, "POST", "/v1/dead/2/requeue", []byte(`{"topic":"device/lamp2/in/set"}`))
	if p := root.trace(t, edited.ID)["device/lamp2"]; p.State != "waiting" || edited.Subscriptions != 1 {
		t.Errorf("sent elsewhere: %+v", p)
	}
	root.refused(t, 404, "not-found", "POST", "/v1/dead/1/requeue", nil)
	root.want(t, 204, nil, "DELETE", "/v1/dead/3", nil)
	g.kill()
	g.start()
	if c := causes(); len(c) != 2 || c[0].Count != 3 {
		t.Fatalf("after kill -9 there are %+v", c)
	}
	requeueInBulk(t, g, root, g.mustDial("lamp1", tok))
	if c := causes(); len(c) != 1 || c[0].Reason != "rejected: cold" {
		t.Errorf("left are %+v", c)
	}
}

// requeueInBulk requeues the three that are left of one cause, and begins and stops a job for the others.
func requeueInBulk(t *testing.T, g *gateway, root *api, link *link) {
	t.Helper()
	if out := g.must(nil, "dead", "requeue", "-reason", "rejected: hot", "-rate", "50"); out != "3 requeued\n" {
		t.Errorf("dead requeue printed %q", out)
	}
	for i := 3; i < 6; i++ {
		m := link.msg(t)
		if m.payload() != fmt.Sprint("text ", i) {
			t.Errorf("requeued %d arrives as %+v", i, m)
		}
		link.ack(t, m.Seq)
	}
	var begun struct{ Job string }
	root.want(t, 202, &begun, "POST", "/v1/dead/requeue", []byte(`{"rate":0.1}`))
	var j struct {
		State       string
		Total, Done int
	}
	root.want(t, 200, &j, "GET", "/v1/jobs/"+begun.Job, nil)
	if j.State != "running" || j.Total != 2 {
		t.Errorf("the job is %+v", j)
	}
	root.want(t, 200, &j, "DELETE", "/v1/jobs/"+begun.Job, nil)
	if j.State != "stopped" || j.Done == j.Total {
		t.Errorf("the stopped job is %+v", j)
	}
}

// TestTimeline tells a device's story, newest first: it came, published, got a message, refused one, and its connection broke.
func TestTimeline(t *testing.T) {
	g := newGateway(t)
	g.start()
	tok := g.addDevice("lamp1")
	root := g.api(g.addKey("root", "-admin", "-publish", "#"))
	link := g.mustDial("lamp1", tok)
	out := g.api(tok).publish(t, "device/lamp1/out/state", "warm")
	got := root.publish(t, "device/lamp1/in/set", "on")
	link.ack(t, link.msg(t).Seq)
	within(t, 5*time.Second, "not delivered", func() bool { return root.trace(t, got.ID)["device/lamp1"].State == "delivered" })
	bad := root.publish(t, "device/lamp1/in/set", "boom")
	link.send(map[string]any{"nack": map[string]any{"sub": 0, "seq": link.msg(t).Seq, "reason": "no", "reject": true}})
	within(t, 5*time.Second, "not dead", func() bool { return root.trace(t, bad.ID)["device/lamp1"].State == "dead" })
	link.close()
	type event struct {
		Kind, ID, Topic, Reason string
		Took                    *float64
	}
	var line struct {
		Events []event
		Before bool
	}
	within(t, 10*time.Second, "the story is not whole", func() bool {
		root.want(t, 200, &line, "GET", "/v1/devices/lamp1/timeline", nil)
		return len(line.Events) == 5
	})
	kinds := make(map[string]event)
	for _, e := range line.Events {
		kinds[e.Kind] = e
	}
	if e := kinds["published"]; e.ID != out.ID || e.Topic != "device/lamp1/out/state" {
		t.Errorf("published: %+v", e)
	}
	if e := kinds["delivered"]; e.ID != got.ID || e.Topic != "device/lamp1/in/set" {
		t.Errorf("delivered: %+v", e)
	}
	if e := kinds["dead"]; e.ID != bad.ID || e.Reason != "rejected: no" {
		t.Errorf("dead: %+v", e)
	}
	if e := kinds["offline"]; e.Reason != "the connection broke" {
		t.Errorf("offline: %+v", e)
	}
	if last := line.Events[4]; last.Kind != "online" || line.Before {
		t.Errorf("it began with %+v", last)
	}
	root.want(t, 200, &line, "GET", "/v1/devices/lamp1/timeline?limit=2", nil)
	if len(line.Events) != 2 {
		t.Errorf("limited: %+v", line)
	}
	root.refused(t, 404, "unknown-device", "GET", "/v1/devices/lamp2/timeline", nil)
}
