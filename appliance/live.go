package appliance

import (
	"math"
	"runtime/debug"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/message"
	"edgepost/appliance/system/pulse"
	"edgepost/appliance/system/usage"
)

// debtors is how many backlogs the live feed names.
const debtors = 10

// gauge reads the appliance for the live feed.
type gauge struct{ a *Appliance }

// Read is what the history needs: counters, and one look at each subscription.
func (g gauge) Read() pulse.Reading {
	c := g.a.core.c
	n, o := c.Counters(), c.Overview(0)
	return pulse.Reading{
		In: n.Published + n.Volatile, Out: n.Sent, Delivered: n.Delivered, Owed: o.Owed, Online: o.Online, CPU: usage.CPU(), RSS: usage.RSS(),
	}
}

// Describe fills in what is shown once a second to whoever watches.
func (g gauge) Describe(t *pulse.Tick) {
	a, k := g.a, &g.a.core
	st := k.c.Counters()
	k.status(&st)
	t.ClockTrusted, t.Uptime, t.Anonymous = st.ClockTrusted, round(st.Uptime), st.Anonymous
	t.Warnings = append(t.Warnings, st.Warnings...)
	t.Totals = pulse.Totals{
		Published: st.Published, Volatile: st.Volatile, Sent: st.Sent, Delivered: st.Delivered, Expired: st.Expired, Dead: st.Dead,
		Cancelled: st.Cancelled, Lost: st.Lost, Dropped: st.Dropped,
	}
	t.DeadLetters, t.Devices.Total = st.DeadLetters, int64(k.reg.CountDevices())
	t.Connections = int64(k.connections())
	o := k.c.Overview(debtors)
	t.OldestAge = round(o.OldestAge)
	for _, d := range o.Debtors {
		t.Backlog = append(t.Backlog, pulse.Backlog{Name: d.Name, Kind: string(d.Kind), Owed: d.Owed, OldestAge: round(d.OldestAge)})
	}
	k.describeBridges(t)
	disk := usage.DiskOf(a.cfg.Data)
	written := max(usage.Written(), k.ob.Stats().Bytes)
	t.Storage = pulse.Storage{
		State: st.Storage, LogBytes: st.LogBytes, LogLimit: st.LogLimit, DiskFree: disk.Free, DeviceBytes: written, PayloadBytes: k.ob.Payload(),
	}
	if !disk.InMemory {
		t.Storage.FlashYears = pulse.FlashYears(disk.Total, written, st.Uptime)
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		t.Memory.Budget = limit
	}
	t.Tune.Why = []pulse.Reason{}
	for _, w := range a.limits.Why {
		t.Tune.Why = append(t.Tune.Why, pulse.Reason(w))
	}
}

func round(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Watch opens the live feed, for administrators. It ends with the principal's sessions, like its other connections.
func (k *core) Watch(g *auth.Grant) (<-chan *pulse.Tick, func(), error) {
	if err := admin(g); err != nil {
		return nil, nil, err
	}
	return k.pulse.Watch(g.Principal())
}

// Holds is nil as long as the grant may administer, and the session that it came with lasts.
func (k *core) Holds(g *auth.Grant, session string) error {
	now, err := k.Now(g)
	if err != nil {
		return err
	}
	if session != "" && k.SessionLeft(session) == 0 {
		return message.Problemf(message.CodeUnauthorized, "you are signed out; sign in again")
	}
	return admin(now)
}

// Past is the last hour, for administrators.
func (k *core) Past(g *auth.Grant) (pulse.History, error) {
	if err := admin(g); err != nil {
		return pulse.History{}, err
	}
	h := k.pulse.History()
	for _, s := range []*[]float64{&h.Series.In, &h.Series.Out, &h.Series.Delivered, &h.Series.CPU} {
		for i, v := range *s {
			(*s)[i] = math.Round(v*100) / 100
		}
	}
	return h, nil
}
