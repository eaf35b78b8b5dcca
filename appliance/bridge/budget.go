package bridge

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// budget says when bytes may go out: so many a second, so many a day, at some hours only. It is pure; one goroutine
// uses it at a time. Bytes are those of the messages as they are handed over; what the protocols below add is not counted.
//
// A batch may overdraw the second and the day once; the next one waits for that.
type budget struct {
	rate  int64 // bytes a second, 0: any
	daily int64 // bytes a day of the wall clock, 0: any
	hours []hours

	tokens float64 // of rate
	at     time.Time
	day    uint32 // the day of used
	used   int64
}

// hours are a span of the day in minutes; to may be before from: over midnight.
type hours struct{ from, to int }

// parseHours reads "22:00-06:00".
func parseHours(s string) (hours, error) {
	bad := fmt.Errorf("%.40q are no hours; write two times of the day such as \"22:00-06:00\"", s)
	a, z, ok := strings.Cut(s, "-")
	from, err := time.Parse("15:04", strings.TrimSpace(a))
	to, err2 := time.Parse("15:04", strings.TrimSpace(z))
	if !ok || err != nil || err2 != nil {
		return hours{}, bad
	}
	h := hours{from.Hour()*60 + from.Minute(), to.Hour()*60 + to.Minute()}
	if h.from == h.to {
		return hours{}, bad
	}
	return h, nil
}

func newBudget(u *Up) budget {
	b := budget{rate: u.Rate, daily: u.DailyBudget}
	for _, s := range u.Schedule {
		if h, err := parseHours(s); err == nil { // Check has looked
			b.hours = append(b.hours, h)
		}
	}
	return b
}

func dayOf(t time.Time) uint32 { return uint32(t.Year()*1000 + t.YearDay()) }

// wait says how long nothing may go out, and why; 0: it may now.
func (b *budget) wait(now time.Time) (time.Duration, string) {
	if d := b.closed(now); d > 0 {
		return d, "outside of the hours in up.schedule"
	}
	if b.daily > 0 && b.day == dayOf(now) && b.used >= b.daily {
		y, m, d := now.Date()
		return max(time.Date(y, m, d+1, 0, 0, 0, 0, now.Location()).Sub(now), time.Second), "the day's budget of bytes is used up (up.daily_budget)"
	}
	b.refill(now)
	if b.rate > 0 && b.tokens <= 0 {
		return max(time.Duration(-b.tokens/float64(b.rate)*float64(time.Second)), time.Millisecond), ""
	}
	return 0, ""
}

// closed is how long until the hours begin; 0 inside of them.
func (b *budget) closed(now time.Time) time.Duration {
	if len(b.hours) == 0 {
		return 0
	}
	minute := now.Hour()*60 + now.Minute()
	least := 24 * 60
	for _, h := range b.hours {
		since, length := (minute-h.from+24*60)%(24*60), (h.to-h.from+24*60)%(24*60)
		if since < length {
			return 0
		}
		least = min(least, 24*60-since)
	}
	return time.Duration(least)*time.Minute - time.Duration(now.Second())*time.Second
}

func (b *budget) refill(now time.Time) {
	if b.at.IsZero() {
		b.tokens = float64(b.rate)
	} else {
		b.tokens = min(b.tokens+max(now.Sub(b.at).Seconds(), 0)*float64(b.rate), float64(b.rate))
	}
	b.at = now
}

// spend counts bytes that go out.
func (b *budget) spend(now time.Time, bytes int64) {
	if d := dayOf(now); d != b.day {
		b.day, b.used = d, 0
	}
	b.used += bytes
	b.tokens -= float64(bytes)
}

// note and recall keep the day's use over a restart.
func (b *budget) note() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, b.day), uint64(b.used))
}

func (b *budget) recall(note []byte) {
	if len(note) == 12 {
		b.day, b.used = binary.BigEndian.Uint32(note), int64(binary.BigEndian.Uint64(note[4:]))
	}
}
