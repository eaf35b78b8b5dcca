package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// New messages overtake the backlog of an outage, which follows at its rate, marked.
func TestFreshFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm, b.down = true, true
		_, stop := start(t, b, h, func(c *Config) { c.Up.Order, c.Up.BackfillRate, c.Up.Format = freshFirst, 10, "structured" })
		for i := range 100 {
			h.publish(fmt.Sprintf(`"old%d"`, i))
		}
		time.Sleep(time.Hour)
		b.mu.Lock()
		b.down = false
		b.mu.Unlock()
		for !func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.link != nil }() {
			time.Sleep(time.Second)
		}
		h.publish(`"new0"`)
		time.Sleep(3 * time.Second)
		h.publish(`"new1"`)
		time.Sleep(time.Second)
		synctest.Wait()
		b.mu.Lock()
		so := len(b.got)
		at := slices.IndexFunc(b.got, func(s string) bool { return strings.Contains(s, "aaaaaaaa-102") })
		b.mu.Unlock()
		if so < 30 || so > 60 || at < 0 {
			t.Errorf("four to five seconds after the outage %d have come, the new one is number %d", so, at)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(b.got) != 102 {
			t.Errorf("%d have come", len(b.got))
		}
		for _, s := range b.got {
			fresh := strings.Contains(s, `"aaaaaaaa-101"`) || strings.Contains(s, `"aaaaaaaa-102"`)
			if marked := strings.Contains(s, `"epbackfill":"true"`); marked == fresh {
				t.Errorf("marked %t: %s", marked, s)
			}
		}
		stop()
	})
}

// No more goes out than the rate, the day and the hours allow; the bridge says why it holds; a restart does not begin the
// day anew.
func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := newBroker(1), newHome()
		b.calm = true
		change := func(c *Config) {
			c.Up.Rate, c.Up.DailyBudget, c.Up.Schedule, c.Up.Batch = 1000, 20_000, []string{"22:00-06:00"}, 1
		}
		br, stop := start(t, b, h, change)
		for range 300 {
			h.publish(strings.Repeat("x", 100))
		}
		bytes := func() int64 { synctest.Wait(); return br.Counters().SentBytes }
		time.Sleep(10 * time.Second) // the bubble begins at midnight
		if n := bytes(); n < 9_000 || n > 11_500 {
			t.Errorf("%d bytes in ten seconds at a thousand a second", n)
		}
		time.Sleep(time.Hour)
		if n := bytes(); n < 20_000 || n > 20_500 || !strings.Contains(br.Status().Holds, "daily_budget") {
			t.Errorf("%d bytes of 20,000 for the day; holds: %s", n, br.Status().Holds)
		}
		stop()
		br, stop = start(t, b, h, change)
		time.Sleep(time.Hour)
		if n := bytes(); n != 0 {
			t.Errorf("%d more bytes on the same day after a restart", n)
		}
		time.Sleep(10 * time.Hour)
		if !strings.Contains(br.Status().Holds, "schedule") {
			t.Errorf("at noon: %s", br.Status().Holds)
		}
		time.Sleep(9*time.Hour + 50*time.Minute) // 21:50
		if n := bytes(); n != 0 {
			t.Errorf("%d bytes before the hours", n)
		}
		time.Sleep(3 * time.Hour) // the next day
		if n := bytes(); n < 10_000 {
			t.Errorf("%d bytes on the next day", n)
		}
		stop()
	})
}

func TestHours(t *testing.T) {
	day := time.Date(2026, 11, 29, 0, 0, 30, 0, time.UTC)
	for _, c := range []struct {
		hours string
		at    time.Duration
		want  time.Duration // until they begin
	}{
		{"22:00-06:00", 0, 0},
		{"22:00-06:00", 6 * time.Hour, 16*time.Hour - 30*time.Second},
		{"22:00-06:00", 22 * time.Hour, 0},
		{"08:00-09:30", 8*time.Hour + 29*time.Minute, 0},
		{"08:00-09:30", 9*time.Hour + 30*time.Minute, 22*time.Hour + 30*time.Minute - 30*time.Second},
		{"08:00-09:30", 7*time.Hour + 59*time.Minute, 30 * time.Second},
	} {
		b := newBudget(&Up{Schedule: []string{c.hours}})
		if got := b.closed(day.Add(c.at)); got != c.want {
			t.Errorf("%s at %v: %v, want %v", c.hours, c.at, got, c.want)
		}
	}
	for _, s := range []string{"", "22:00", "22:00-22:00", "24:00-01:00", "x-y"} {
		if _, err := parseHours(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
