package bridge

import "time"

// Limits of a window that finds its size itself.
const (
	MaxAdaptive = 1024 // what fills every upstream measured; what is on its way may come twice
	firstWindow = 16

	// A window grows while confirmations take less than prompt, and shrinks when they take more than late: so about a
	// second's worth is on its way at the most, which a device's new message does not have to wait behind for longer, and
	// no more comes twice after a lost connection. Upstreams that write in groups are the slower the more they get,
	// and do more: 876 messages a second of RabbitMQ one by one, 4,596 with 256 on their way, 55 ms each. So a rising
	// latency alone is no reason to shrink.
	prompt = 200 * time.Millisecond
	late   = time.Second
)

// window is how many messages of one connection may be on their way, unconfirmed. It is pure; the outlet's lock
// guards it.
//
// Confirmations are looked at in rounds: those of messages sent behind the last change of the size, half a window of
// them. The latency is set against the shortest that the way allows, so that a far upstream gets a wide window
// (2 s and 500 messages a second need 1,000); that is what a message takes which nothing else was on its way before.
//
// Invariant: 1 <= size <= MaxAdaptive, unless it is fixed.
type window struct {
	fixed bool
	size  int

	seeks bool          // it never was too wide: it doubles
	base  time.Duration // of the way; 0: not known
	since time.Time     // of the last change
	sum   time.Duration // of the round
	count int           // of the round
	full  bool          // something waited for room in this round
}

// newWindow makes one of a fixed size, or, with 0, one that begins at the size first, 0 when nothing is known.
func newWindow(fixed, first int) window {
	if fixed > 0 {
		return window{fixed: true, size: fixed}
	}
	if first == 0 {
		first = firstWindow
	}
	return window{size: min(max(first, 1), MaxAdaptive), seeks: true}
}

// answered notes a confirmation. alone: nothing else was on its way when the message was sent.
func (w *window) answered(now, sent time.Time, alone bool) {
	if w.fixed {
		return
	}
	took := now.Sub(sent)
	switch {
	case alone && (w.base == 0 || took < w.base):
		w.base = max(took, 1)
	case alone:
		w.base += (took - w.base) / 4 // the way may have become longer
	}
	if sent.Before(w.since) {
		return
	}
	w.sum += took
	if w.count++; w.count*2 < w.size {
		return
	}
	switch mean := w.sum / time.Duration(w.count); {
	case mean > max(late, 3*w.base):
		w.shrink(now, now)
	case mean < max(prompt, w.base+w.base/2) && w.full:
		step := w.size
		if !w.seeks {
			step = max(w.size/8, 1)
		}
		w.change(now, w.size+step)
	default:
		w.change(now, w.size)
	}
}

// shrink is for a round that was late, a message that the upstream had no room for, a connection that was lost: once
// for all that was sent before the last change.
func (w *window) shrink(now, sent time.Time) {
	if w.fixed || sent.Before(w.since) {
		return
	}
	w.seeks = false
	w.change(now, w.size*7/10)
}

func (w *window) change(now time.Time, size int) {
	w.size = min(max(size, 1), MaxAdaptive)
	w.since, w.sum, w.count, w.full = now, 0, 0, false
}
