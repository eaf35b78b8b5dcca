package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuantiles compares with sorting.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h histogram
	all := make([]time.Duration, 100_000)
	for i := range all {
		all[i] = time.Duration(math.Exp(r.Float64() * 24)) // 1 ns to 26 s
		h.add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0, .1, .5, .9, .99, .999, .99999} {
		got, want := float64(h.quantile(q)), float64(all[int(q*float64(len(all)))])
		if math.Abs(got-want) > want*.03+1 {
			t.Errorf("quantile %v is %v, want %v", q, time.Duration(got), time.Duration(want))
		}
	}
	if h.quantile(1) != all[len(all)-1] {
		t.Errorf("the longest is %v, want %v", h.quantile(1), all[len(all)-1])
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]string{0: "0", .0312: "0.03", .999: "1", 2: "2", 99.96: "100", 1234.5: "1,234", 1e6: "1,000,000", -2.55: "−2.5"} {
		if got := round(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
