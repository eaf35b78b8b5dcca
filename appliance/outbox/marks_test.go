package outbox

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMarksAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		var m marks
		want := map[uint64]bool{}
		base := r.Uint64N(1 << 40)
		if r.IntN(4) == 0 {
			base = math.MaxUint64 - 40_000
		}
		for range r.IntN(60) {
			first := base + r.Uint64N(30_000)
			last := first + r.Uint64N(300)*r.Uint64N(2)
			m.set(first, last)
			for n := first; ; n++ {
				want[n] = true
				if n == last {
					break
				}
			}
			if r.IntN(10) == 0 {
				m.count(first, last) // between two changes
			}
		}
		for range 20 {
			from := base + r.Uint64N(32_000)
			to := from + r.Uint64N(9000)
			var list, got []uint64
			for n := range want {
				if from <= n && n <= to {
					list = append(list, n)
				}
			}
			slices.Sort(list)
			if err := m.each(from, to, func(n uint64) error { got = append(got, n); return nil }); err != nil || !slices.Equal(got, list) {
				t.Fatalf("%d..%d: got %v want %v", from, to, got, list)
			}
			if n := m.count(from, to); n != int64(len(list)) {
				t.Fatalf("%d..%d: counted %d, want %d", from, to, n, len(list))
			}
		}
	}
}

func TestMarksToTheEnd(t *testing.T) {
	var m marks
	m.set(math.MaxUint64-70, math.MaxUint64)
	m.set(0, 0)
	if n := m.count(0, math.MaxUint64); n != 72 {
		t.Fatal(n)
	}
	stop := errors.New("enough")
	n := 0
	err := m.each(1, math.MaxUint64, func(uint64) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		t.Fatal(n, err)
	}
}
