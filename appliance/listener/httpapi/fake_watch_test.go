package httpapi

import (
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/system/pulse"
)

// watching are the requests of the dashboard.
var watching = []works{
	{"GET /v1/live", "/v1/live", "", 200, "Watch", `event: tick`},
	{"GET /v1/live/history", "/v1/live/history", "", 200, "Past", `{"step":10,"until":"0001-01-01T00:00:00Z","series":{"in":[1.5],"out":null,`},
}

// What the fake core says to who watches.

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
