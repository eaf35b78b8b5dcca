package pulse

import "time"

// point is one step of the history.
type point struct {
	at                 time.Time
	in, out, delivered float64 // a second
	p50, p99           time.Duration
	owed, online       int64
	cpu                float64 // percent
	rss                int64
}

// between is what happened from one sample to the next.
func between(a, b *sample, cores int) point {
	p := point{at: b.at, owed: b.Owed, online: b.Online, rss: b.RSS}
	passed := b.at.Sub(a.at).Seconds()
	if passed <= 0 {
		return p
	}
	p.in, p.out, p.delivered = float64(b.In-a.In)/passed, float64(b.Out-a.Out)/passed, float64(b.Delivered-a.Delivered)/passed
	p.cpu = 100 * (b.CPU - a.CPU).Seconds() / passed / float64(cores)
	ack := b.ack.Since(&a.ack)
	p.p50, p.p99 = ack.Quantile(0.5), ack.Quantile(0.99)
	return p
}

// note adds a step to the history.
func (r *Recorder) note(s *sample) {
	p := between(&r.stepped, s, r.cores)
	r.stepped = *s
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.points) == maxPoints {
		r.points = append(r.points[:0], r.points[1:]...)
	}
	r.points = append(r.points, p)
}

// History is the last hour: one value in each series for each step, oldest first, the last one at Until. Units are those of a
// [Tick].
type History struct {
	Step   float64   `json:"step"` // seconds
	Until  time.Time `json:"until"`
	Series Series    `json:"series"`
}

// Series are equally long. P50 and P99 are 0 in a step in which nothing was published.
type Series struct {
	In        []float64 `json:"in"`
	Out       []float64 `json:"out"`
	Delivered []float64 `json:"delivered"`
	P50       []float64 `json:"p50"`
	P99       []float64 `json:"p99"`
	Owed      []int64   `json:"owed"`
	Online    []int64   `json:"online"`
	CPU       []float64 `json:"cpu"`
	RSS       []int64   `json:"rss"`
}

// History returns the last hour, or what there is of it.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.points)
	h := History{Step: Step.Seconds(), Until: time.Now(), Series: Series{
		In: make([]float64, n), Out: make([]float64, n), Delivered: make([]float64, n), P50: make([]float64, n), P99: make([]float64, n),
		Owed: make([]int64, n), Online: make([]int64, n), CPU: make([]float64, n), RSS: make([]int64, n),
	}}
	for i := range r.points {
		p, s := &r.points[i], &h.Series
		s.In[i], s.Out[i], s.Delivered[i] = p.in, p.out, p.delivered
		s.P50[i], s.P99[i] = p.p50.Seconds(), p.p99.Seconds()
		s.Owed[i], s.Online[i], s.CPU[i], s.RSS[i] = p.owed, p.online, p.cpu, p.rss
		h.Until = p.at
	}
	return h
}
