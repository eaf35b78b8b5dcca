package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are 3 % wide. The zero value is empty.
type histogram struct {
	counts [64 * 32]int64
	n      int64
	most   time.Duration
}

// bucket keeps the five bits behind the highest one.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	e := bits.Len64(v)
	if e <= 5 {
		return int(v)
	}
	return (e-5)<<5 | int(v>>(e-6)&31)
}

// middle is a duration that falls into the bucket.
func middle(i int) time.Duration {
	if i < 32 {
		return time.Duration(i)
	}
	e := i>>5 + 5
	low := uint64(1)<<(e-1) | uint64(i&31)<<(e-6)
	return time.Duration(low + 1<<(e-6)/2)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.most = max(h.most, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.most = max(h.most, o.most)
}

// quantile is the duration below which the share q of all lies.
func (h *histogram) quantile(q float64) time.Duration {
	rest := int64(q * float64(h.n))
	for i, n := range h.counts {
		if rest -= n; rest < 0 {
			return min(middle(i), h.most)
		}
	}
	return h.most
}
