package pulse

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestQuantilesAreNear compares with a sorted list: never below the true value, and a quarter above it at most.
func TestQuantilesAreNear(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var h Histogram
		var all []time.Duration
		for range 1 + rnd.IntN(500) {
			d := time.Duration(float64(10*time.Microsecond) * float64(uint64(1)<<rnd.IntN(20)) * (1 + rnd.Float64()))
			h.Observe(d)
			all = append(all, d)
		}
		slices.Sort(all)
		c := h.Counts()
		for _, q := range []float64{0, 0.5, 0.9, 0.99} {
			want := all[int(q*float64(len(all)))]
			if got := c.Quantile(q); got < want || got > want*5/4+1 {
				t.Fatalf("quantile %v of %d is %v, want %v or a little more", q, len(all), got, want)
			}
		}
	}
}

func TestHistogramEnds(t *testing.T) {
	var h Histogram
	before := h.Counts()
	if before.Quantile(0.5) != 0 {
		t.Error("of nothing there is a quantile")
	}
	for _, d := range []time.Duration{-time.Second, 0, 1, time.Microsecond, time.Hour, 1<<63 - 1} {
		h.Observe(d)
	}
	now := h.Counts()
	if now[0] != 4 || now[buckets-1] != 2 {
		t.Errorf("counts %v", now)
	}
	before[3] = 1<<32 - 2 // a counter that wrapped
	now[3] = 1
	if d := now.Since(&before); d[3] != 3 || d[0] != 4 {
		t.Errorf("since: %v", d)
	}
}

// fake is a source whose counters grow by so much a second.
type fake struct {
	began     time.Time
	reads     atomic.Int64
	described atomic.Int64
	ack       *Histogram
}

func (f *fake) Read() Reading {
	f.reads.Add(1)
	n := int64(time.Since(f.began) / time.Second)
	return Reading{In: 10 * n, Out: 20 * n, Delivered: 5 * n, Owed: n, Online: 3, CPU: time.Duration(n) * time.Second / 2, RSS: 7}
}

func (f *fake) Describe(t *Tick) {
	f.described.Add(1)
	t.Uptime = time.Since(f.began).Seconds()
}

func run(t *testing.T, cores int) (*fake, *Recorder) {
	t.Helper()
	f := &fake{began: time.Now(), ack: new(Histogram)}
	r := NewRecorder(f, f.ack, cores)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return f, r
}

func TestNothingIsComputedForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := run(t, 2)
		time.Sleep(time.Hour + time.Millisecond)
		if n := f.reads.Load(); n != 361 || f.described.Load() != 0 {
			t.Errorf("in an hour: %d readings and %d descriptions, want 361 and 0", n, f.described.Load())
		}
		ticks, stop, err := r.Watch("user/ann")
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			<-ticks
		}
		stop()
		time.Sleep(3 * time.Second)
		if n := f.described.Load(); n != 5 {
			t.Errorf("%d descriptions for a watcher who saw 5 ticks", n)
		}
	})
}

func TestTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := run(t, 2)
		time.Sleep(25 * time.Second)
		lazy, stopLazy, _ := r.Watch("user/bob")
		defer stopLazy()
		synctest.Wait()
		ticks, stop, _ := r.Watch("user/ann")
		defer stop()
		synctest.Wait()
		f.ack.Observe(3 * time.Millisecond)
		<-ticks // at once
		for i := range 15 {
			got := <-ticks
			if got.Rates != (Rates{In: 10, Out: 20, Delivered: 5}) || got.CPU != (CPU{Percent: 25, Cores: 2}) || got.Memory.RSS != 7 || got.Devices.Online != 3 {
				t.Fatalf("tick %d: %+v", i, got)
			}
			if i < 10 != (got.Ack.P99 > 0) {
				t.Errorf("%d s after the publish, p99 is %v", i+1, got.Ack.P99)
			}
		}
		if got := <-lazy; got.Uptime != 40 {
			t.Errorf("a watcher who came late sees %v, not the newest", got.Uptime)
		}
	})
}

func TestHistoryKeepsAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := run(t, 1)
		if h := r.History(); len(h.Series.In) != 0 || h.Series.In == nil {
			t.Errorf("at the start: %+v", h)
		}
		f.ack.Observe(time.Millisecond)
		time.Sleep(20*time.Second + 1)
		h := r.History()
		if len(h.Series.In) != 2 || h.Series.In[0] != 10 || h.Series.P50[0] == 0 || h.Series.P50[1] != 0 || h.Series.Owed[1] != 20 || h.Series.CPU[0] != 50 {
			t.Errorf("after 20 s: %+v", h)
		}
		time.Sleep(2 * time.Hour)
		h = r.History()
		if n := len(h.Series.RSS); n != maxPoints || h.Series.Owed[n-1]-h.Series.Owed[0] != 3590 || time.Since(h.Until) > Step {
			t.Errorf("after two hours: %d points, %+v", n, h.Until)
		}
	})
}

func TestKickAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := run(t, 1)
		ann, _, _ := r.Watch("user/ann")
		bob, _, _ := r.Watch("user/bob")
		<-ann
		<-bob
		r.Kick("user/ann")
		if _, open := <-ann; open {
			t.Error("a kicked feed goes on")
		}
		if _, open := <-bob; !open {
			t.Error("another's feed ended")
		}
		for range maxWatchers - 1 {
			if _, _, err := r.Watch("x"); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := r.Watch("x"); err == nil {
			t.Error("there is no limit")
		}
	})
}

func TestFlashYears(t *testing.T) {
	const gib = 1 << 30
	if FlashYears(gib, 1, time.Minute) != nil || FlashYears(0, 1, time.Hour) != nil || FlashYears(gib, 0, time.Hour) != nil {
		t.Error("an estimate from nothing")
	}
	// 8 GiB that take 4 TiB in all, written at 1 GiB an hour: 4,000 hours.
	if y := FlashYears(8*gib, gib, time.Hour); y == nil || *y < 0.45 || *y > 0.46 {
		t.Errorf("years %v", *y)
	}
	if y := FlashYears(64*gib, 1, time.Hour); *y != maxYears {
		t.Errorf("years %v", *y)
	}
}
