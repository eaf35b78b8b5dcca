package courier

import "slices"

// Window is what one session was sent on one subscription and has not acknowledged, in send order.
// Sessions use it to check acks before they reach the shard, and to count credit. Not safe for
// concurrent use.
//
// Invariant: a sequence number is in the window at most once.
type Window struct{ seqs []uint64 }

// Sent adds a transmission; a retransmission moves to the end.
func (w *Window) Sent(seq uint64) {
	if i := slices.Index(w.seqs, seq); i >= 0 {
		w.seqs = slices.Delete(w.seqs, i, i+1)
	}
	w.seqs = append(w.seqs, seq)
}

// Len is the number of unacknowledged transmissions.
func (w *Window) Len() int { return len(w.seqs) }

// Take removes seq; false when it is not unacknowledged here.
func (w *Window) Take(seq uint64) bool {
	i := slices.Index(w.seqs, seq)
	if i < 0 {
		return false
	}
	w.seqs = slices.Delete(w.seqs, i, i+1)
	return true
}

// TakeUpTo removes and returns everything sent up to and including seq, in send order; nil when
// seq is not unacknowledged here.
func (w *Window) TakeUpTo(seq uint64) []uint64 {
	i := slices.Index(w.seqs, seq)
	if i < 0 {
		return nil
	}
	taken := slices.Clone(w.seqs[:i+1])
	w.seqs = slices.Delete(w.seqs, 0, i+1)
	return taken
}
