package bridge

// flight is what one connection was given and not settled yet, in the order it was given. It is pure; the
// bridge's lock guards it.
//
// Invariant: the first one is unanswered, or there is none.
type flight struct {
	list  []*Outgoing
	open  int // unanswered ones
	bytes int // of all
}

type outcome uint8

const (
	unanswered outcome = iota
	confirmed
	aside // refused, and given back already
)

func (f *flight) add(o *Outgoing) {
	f.list = append(f.list, o)
	f.bytes += o.size
	f.open++
}

// answer notes how one ended and returns what may be settled as delivered now: everything confirmed that has
// nothing unanswered in front of it.
func (f *flight) answer(o *Outgoing, how outcome) (settled []uint64) {
	if o.state != unanswered {
		return nil
	}
	o.state = how
	f.open--
	for len(f.list) > 0 && f.list[0].state != unanswered {
		first := f.list[0]
		f.list[0] = nil
		f.list = f.list[1:]
		f.bytes -= first.size
		if first.state == confirmed {
			settled = append(settled, first.seq)
		}
	}
	return settled
}
