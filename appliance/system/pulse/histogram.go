package pulse

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets of a [Histogram]: four to each doubling from 8 µs, which no fsync beats, to 137 s. A quantile read from them
// is too high by a quarter at most.
const (
	lowest  = 13 // the first bucket ends near 2^13 ns
	octaves = 24
	steps   = 4
	buckets = octaves * steps
)

// Histogram counts durations. The zero value is ready. Observe is one atomic add of 32 bits, also on machines whose 64-bit
// atomics are slow; the counters wrap, which [Counts.Since] does not mind.
type Histogram struct{ counts [buckets]atomic.Uint32 }

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	top := bits.Len64(n) - 1
	if top < lowest {
		return 0
	}
	return min((top-lowest)*steps+int(n>>(top-2))&(steps-1), buckets-1)
}

// ceiling is the least duration above bucket i.
func ceiling(i int) time.Duration {
	return time.Duration(steps+i%steps+1) << (lowest + i/steps - 2)
}

// Counts returns the counters as they are now.
func (h *Histogram) Counts() (c Counts) {
	for i := range h.counts {
		c[i] = h.counts[i].Load()
	}
	return c
}

// Counts are the counters of a [Histogram] at one moment, or between two.
type Counts [buckets]uint32

// Since is what was counted after earlier.
func (c *Counts) Since(earlier *Counts) (d Counts) {
	for i := range c {
		d[i] = c[i] - earlier[i]
	}
	return d
}

// Quantile is the duration that the part q, from 0 to 1, of what was counted did not exceed; 0 when nothing was counted.
func (c *Counts) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range c {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	left := int64(q * float64(all))
	for i, n := range c {
		if left -= int64(n); left < 0 {
			return ceiling(i)
		}
	}
	return ceiling(buckets - 1)
}
