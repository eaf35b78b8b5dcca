package appliance

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a duration the way every interface writes it: plain seconds ("90"), Go's
// units ("10m", "1h30m", "250ms") and days ("7d", "1d12h"). It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := func() (time.Duration, error) {
		return 0, fmt.Errorf("%.40q is not a duration; write seconds (\"90\") or units (\"250ms\", \"10m\", \"1h30m\", \"7d\")", s)
	}
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		if n > math.MaxInt64/uint64(time.Second) {
			return bad()
		}
		return time.Duration(n) * time.Second, nil
	}
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "", s
	}
	var d time.Duration
	if found {
		n, err := strconv.ParseUint(days, 10, 63)
		if err != nil || n > math.MaxInt64/uint64(day) {
			return bad()
		}
		d = time.Duration(n) * day
	}
	if !found || rest != "" {
		part, err := time.ParseDuration(rest)
		if err != nil || part < 0 || rest[0] == '-' || rest[0] == '+' || d > math.MaxInt64-part {
			return bad()
		}
		d += part
	}
	return d, nil
}

// FormatDuration writes d so that [ParseDuration] reads it back, in the largest units: "7d",
// "1h30m", "10s".
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "-" + FormatDuration(-max(d, -math.MaxInt64))
	}
	out := ""
	if d >= day {
		out = strconv.FormatInt(int64(d/day), 10) + "d"
		if d %= day; d == 0 {
			return out
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return out + s
}

// sizeUnits are the units of [ParseSize], largest first within each family.
var sizeUnits = [...]struct {
	name string
	unit int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// ParseSize reads a number of bytes: "4096", "64KiB", "1.5 GiB", "200MB". It is never negative.
func ParseSize(s string) (int64, error) {
	bad := func() (int64, error) {
		return 0, fmt.Errorf("%.40q is not a size; write bytes (\"4096\") or units (\"64KiB\", \"16MiB\", \"2GiB\", \"200MB\")", s)
	}
	number, unit := s, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimRight(n, " "), u.unit
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		if n > uint64(math.MaxInt64/unit) {
			return bad()
		}
		return int64(n) * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" || f*float64(unit) >= math.MaxInt64 {
		return bad()
	}
	return int64(f * float64(unit)), nil
}

// FormatSize writes n bytes in the largest binary unit that divides it, so that [ParseSize] reads
// it back: "64MiB", "1000B".
func FormatSize(n int64) string {
	for _, u := range sizeUnits[:4] {
		if n >= u.unit && n%u.unit == 0 {
			return strconv.FormatInt(n/u.unit, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
