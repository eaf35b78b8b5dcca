package httpapi

import (
	"context"
	"time"

	"edgepost/appliance/courier"
	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/registry"
	"edgepost/appliance/system/pulse"
)

// watching are the requests of the dashboard.
var watching = []works{
	{"GET /v1/live", "/v1/live", "", 200, "Watch", `event: tick`},
	{"GET /v1/live/history", "/v1/live/history", "", 200, "Past", `{"step":10,"until":"0001-01-01T00:00:00Z","series":{"in":[1.5],"out":null,`},
	{"POST /v1/reach", "/v1/reach", `{"topic":"group/hall/in/x"}`, 200, "Reach group/hall/in/x", `{"subscriptions":3,"devices":[{"id":"lamp1","online":true},{"id":"lamp2","online":false}],"devices_total":2,"online":1,"offline":1,"others":["key/app/jobs"]}`},
	{"GET /v1/devices/{id}/queue", "/v1/devices/lamp1/queue?limit=5", "", 200, "Queue lamp1 5", `{"depth":9,"queue":[{"id":"k3f9w2xq-41","seq":41,"topic":"a/b","priority":4,"state":"waiting","why":"offline","age":2,"expires_in":60,"attempt":0,"size":4,"preview":"灯!"},{"id":"k3f9w2xq-42",`},
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

func (f *fakeCore) Move(_ context.Context, _ *auth.Grant, device string, id message.ID, priority uint8) error {
	return f.note("Move %s %s %d", device, id, priority)
}

func (f *fakeCore) Withdraw(_ context.Context, _ *auth.Grant, device string, id message.ID) error {
	return f.note("Withdraw %s %s", device, id)
}

func (f *fakeCore) Reach(_ context.Context, _ *auth.Grant, t message.Topic) ([]courier.Audience, error) {
	return []courier.Audience{{Name: "device/lamp1", Device: true, Online: true}, {Name: "device/lamp2", Device: true}, {Name: "key/app/jobs"}}, f.note("Reach %s", t)
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
