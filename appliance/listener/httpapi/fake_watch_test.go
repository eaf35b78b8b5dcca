package httpapi

import (
	"context"
	"io"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/account"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
	"edgepost/appliance/system/job"
	"edgepost/appliance/system/pulse"
)

// watching are the requests of the dashboard.
var watching = []works{
	{"GET /v1/live", "/v1/live", "", 200, "Watch", `event: tick`},
	{"GET /v1/live/history", "/v1/live/history", "", 200, "Past", `{"step":10,"until":"0001-01-01T00:00:00Z","series":{"in":[1.5],"out":null,`},
	{"GET /v1/dead/causes", "/v1/dead/causes", "", 200, "Causes", `{"causes":[{"reason":"rejected: no","count":3,"newest":"2027-01-15T08:00:00Z","example":9}]}`},
	{"POST /v1/dead/requeue", "/v1/dead/requeue", `{"reason":"rejected: no","rate":2.5}`, 202, "RequeueAll rejected: no 2.5", `{"job":"j1"}`},
	{"DELETE /v1/dead/{entry}", "/v1/dead/3", "", 204, "Discard 3", ""},
	{"GET /v1/jobs", "/v1/jobs", "", 200, "Jobs", `{"jobs":[{"id":"j1","what":"requeue","state":"running","total":3,"done":1,"failed":0,"error":"","began":"2027-01-15T08:00:00Z"}]}`},
	{"GET /v1/jobs/{id}", "/v1/jobs/j1", "", 200, "Job j1", `{"id":"j1",`},
	{"DELETE /v1/jobs/{id}", "/v1/jobs/j1", "", 200, "StopJob j1", `"state":"stopped"`},
	{"GET /v1/config", "/v1/config", "", 200, "Settings", `{"settings":[{"key":"http.addr","value":":8088","origin":"line 3"}]}`},
	{"POST /v1/config/validate", "/v1/config/validate", "a = 1", 200, "CheckConfig a = 1", `{"ok":false,"mistakes":[{"line":1,"key":"a","detail":"unknown"}]}`},
	{"POST /v1/backup", tlsHost + "/v1/backup", `{"passphrase":"p"}`, 200, "Backup p", "sealed"},
	{"POST /v1/restore", tlsHost + "/v1/restore", `{"passphrase":"p","backup":"c2VhbGVk"}`, 200, "Restore p sealed", `{"devices":3,"groups":0,"keys":0,"users":1,"bridges":0,"restart":true}`},
	{"GET /v1/diagnostics", "/v1/diagnostics", "", 200, "Diagnose", "a bundle"},
	{"PUT /v1/gateway", "/v1/gateway", `{"name":"hall"}`, 204, "SetName hall", ""},
	{"GET /v1/issuers", "/v1/issuers", "", 200, "IssuerList", `{"issuers":[{"name":"corp","iss":"https://id.example","aud":null,"algs":null,"keys":"https://id.example/keys"}]}`},
	{"GET /v1/sessions", "/v1/sessions", "", 200, "SessionList ", `{"sessions":[{"id":"s1","user":"ann","made":"2027-01-15T08:00:00Z","used":`},
	{"DELETE /v1/sessions/{id}", "/v1/sessions/s1", "", 204, "CloseSession s1", ""},
	{"POST /v1/reach", "/v1/reach", `{"topic":"group/hall/in/x"}`, 200, "Reach group/hall/in/x", `{"subscriptions":3,"devices":[{"id":"lamp1","online":true},{"id":"lamp2","online":false}],"devices_total":2,"online":1,"offline":1,"others":["key/app/jobs"]}`},
	{"GET /v1/devices/{id}/queue", "/v1/devices/lamp1/queue?limit=5", "", 200, "Queue lamp1 5", `{"depth":9,"queue":[{"id":"k3f9w2xq-41","seq":41,"topic":"a/b","priority":4,"state":"waiting","why":"offline","age":2,"expires_in":60,"attempt":0,"size":4,"preview":"灯!"},{"id":"k3f9w2xq-42",`},
	{"GET /v1/devices/{id}/timeline", "/v1/devices/lamp1/timeline?limit=7", "", 200, "Timeline lamp1 7", `{"events":[{"at":"2027-01-15T08:00:00Z","kind":"delivered","id":"k3f9w2xq-41","topic":"a/b","attempts":2,"took":1.5,"size":4},{"kind":"offline","reason":"the connection broke"}],"before":true}`},
	{"PUT /v1/devices/{id}/queue/{msgid}", "/v1/devices/lamp1/queue/k3f9w2xq-41", `{"priority":9}`, 204, "Move lamp1 k3f9w2xq-41 9", ""},
	{"DELETE /v1/devices/{id}/queue/{msgid}", "/v1/devices/lamp1/queue/k3f9w2xq-41", "", 204, "Withdraw lamp1 k3f9w2xq-41", ""},
}

// What the fake core says to who watches.

func (f *fakeCore) Find(_ context.Context, _ *auth.Grant, q registry.Query, state string) ([]registry.Device, []courier.Standing, int, error) {
	at := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	return []registry.Device{{ID: "lamp1", Label: "灯"}},
		[]courier.Standing{{Since: at, Why: "taken over", Owed: 3, OldestAge: 1500 * time.Millisecond, Dropped: 2}}, 7, f.note("Find %+v %s", q, state)
}

func (f *fakeCore) Queue(_ context.Context, _ *auth.Grant, device string, limit int) ([]courier.Waiting, int64, error) {
	m := message.New("a/b", []byte("灯!"))
	m.ID, m.Seq = mid(41), 41
	at := message.Receipt{ID: mid(41), State: message.Waiting, Reason: "offline"}
	return []courier.Waiting{{Msg: m, Place: at, Age: 2 * time.Second, ExpiresIn: time.Minute}, {Place: message.Receipt{ID: mid(42)}}}, 9, f.note("Queue %s %d", device, limit)
}

func (f *fakeCore) Timeline(_ context.Context, _ *auth.Grant, device string, limit int) ([]courier.Event, bool, error) {
	return []courier.Event{
		{At: morning, Kind: "delivered", ID: mid(41), Topic: "a/b", Attempts: 2, Took: 1500 * time.Millisecond, Bytes: 4}, {Kind: "offline", Reason: courier.Broken},
	}, true, f.note("Timeline %s %d", device, limit)
}

func (f *fakeCore) Move(_ context.Context, _ *auth.Grant, device string, id message.ID, priority uint8) error {
	return f.note("Move %s %s %d", device, id, priority)
}

func (f *fakeCore) Withdraw(_ context.Context, _ *auth.Grant, device string, id message.ID) error {
	return f.note("Withdraw %s %s", device, id)
}

func (f *fakeCore) Reach(_ context.Context, _ *auth.Grant, t message.Topic) ([]courier.Audience, error) {
	return []courier.Audience{{Name: "device/lamp1", Device: true, Online: true}, {Name: "device/lamp2", Device: true}, {Name: "key/app/jobs"}}, f.note("Reach %s", t)
}

var morning = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

func (f *fakeCore) Causes(*auth.Grant) ([]message.DeadCause, error) {
	return []message.DeadCause{{Reason: "rejected: no", Count: 3, Newest: morning, Example: 9}}, f.note("Causes")
}

func (f *fakeCore) RequeueAll(_ context.Context, _ *auth.Grant, reason string, rate float64) (job.Job, error) {
	return job.Job{ID: "j1"}, f.note("RequeueAll %s %v", reason, rate)
}

func (f *fakeCore) RequeueEdited(_ context.Context, _ *auth.Grant, entry uint64, edit courier.Edit) (message.StoredAs, error) {
	f.edit = edit
	return f.stored, f.note("RequeueEdited %d", entry)
}

func (f *fakeCore) Discard(_ context.Context, _ *auth.Grant, entry uint64) error {
	return f.note("Discard %d", entry)
}

func (f *fakeCore) Jobs(*auth.Grant) ([]job.Job, error) {
	return []job.Job{{ID: "j1", What: "requeue", State: job.Running, Total: 3, Done: 1, Began: morning}}, f.note("Jobs")
}

func (f *fakeCore) Job(_ *auth.Grant, id string) (job.Job, error) {
	return job.Job{ID: id}, f.note("Job %s", id)
}

func (f *fakeCore) StopJob(_ context.Context, _ *auth.Grant, id string) (job.Job, error) {
	return job.Job{ID: id, State: job.Stopped}, f.note("StopJob %s", id)
}

func (f *fakeCore) Settings(*auth.Grant) ([]Setting, error) {
	return []Setting{{"http.addr", ":8088", "line 3"}}, f.note("Settings")
}

func (f *fakeCore) CheckConfig(_ context.Context, _ *auth.Grant, text string) ([]Mistake, error) {
	return []Mistake{{1, "a", "unknown"}}, f.note("CheckConfig %s", text)
}

func (f *fakeCore) Diagnose(_ context.Context, _ *auth.Grant, w io.Writer) error {
	_, _ = io.WriteString(w, "a bundle")
	return f.note("Diagnose")
}

func (f *fakeCore) Backup(_ context.Context, _ *auth.Grant, passphrase string) ([]byte, error) {
	return []byte("sealed"), f.note("Backup %s", passphrase)
}

func (f *fakeCore) Restore(_ context.Context, _ *auth.Grant, passphrase string, b []byte) (Restored, error) {
	return Restored{Census: registry.Census{Devices: 3, Users: 1}, Restart: true}, f.note("Restore %s %s", passphrase, b)
}

func (f *fakeCore) SetName(_ context.Context, _ *auth.Grant, name string) error {
	return f.note("SetName %s", name)
}

func (f *fakeCore) IssuerList(*auth.Grant) ([]Issuer, error) {
	return []Issuer{{Name: "corp", Issuer: "https://id.example", Keys: "https://id.example/keys"}}, f.note("IssuerList")
}

func (f *fakeCore) SessionList(_ *auth.Grant, present string) ([]account.Session, error) {
	return []account.Session{{ID: "s1", User: "ann", Made: morning}}, f.note("SessionList %s", present)
}

func (f *fakeCore) CloseSession(_ context.Context, _ *auth.Grant, id string) error {
	return f.note("CloseSession %s", id)
}

// Watch is a feed that ends after one tick.
func (f *fakeCore) Watch(*auth.Grant) (<-chan *pulse.Tick, func(), error) {
	ticks := make(chan *pulse.Tick, 1)
	ticks <- &pulse.Tick{Time: time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC), Uptime: 90, Rates: pulse.Rates{In: 2}}
	close(ticks)
	return ticks, func() {}, f.note("Watch")
}

func (f *fakeCore) Holds(_ *auth.Grant, session string) error {
	f.sessions = append(f.sessions, session)
	return f.ended
}

func (f *fakeCore) Past(*auth.Grant) (pulse.History, error) {
	return pulse.History{Step: 10, Series: pulse.Series{In: []float64{1.5}}}, f.note("Past")
}
