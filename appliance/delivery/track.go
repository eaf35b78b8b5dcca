package delivery

import "math"

// phase is where a tracked number stands.
type phase uint8

const (
	resting phase = iota // owed like any other, with counters from earlier
	flying               // sent or leased
	waiting              // for its retry
	due                  // its retry's time has come
)

// track is what is remembered of a number that was sent, or failed, and is still owed.
type track struct {
	seq    uint64
	at     int64 // flying: deadline, 0 none; waiting and due: when; on the live state's scale
	sends  uint16
	fails  uint16
	phase  phase
	urgent bool
	cancel bool // withdrawn while flying
}

func (t *track) countSend() {
	if t.sends < math.MaxUint16 {
		t.sends++
	}
}

// table holds tracks in ascending order. What is acknowledged is mostly at the front and what is
// sent mostly at the end, and both cost little there.
type table struct {
	buf  []track
	head int // what lies before it is free
}

func (t *table) all() []track { return t.buf[t.head:] }

// find returns the index of seq in all(), or where it belongs.
func (t *table) find(seq uint64) (int, bool) {
	all := t.all()
	lo, hi := 0, len(all)
	if hi > 0 && all[0].seq >= seq {
		return 0, all[0].seq == seq
	}
	if hi > 0 && all[hi-1].seq < seq {
		return hi, false
	}
	for lo < hi {
		mid := (lo + hi) / 2
		if all[mid].seq < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(all) && all[lo].seq == seq
}

// get returns the track of seq, or nil. It is valid until the next put or remove.
func (t *table) get(seq uint64) *track {
	if i, ok := t.find(seq); ok {
		return &t.all()[i]
	}
	return nil
}

// put returns the track of seq, a new one if there is none.
func (t *table) put(seq uint64) *track {
	i, ok := t.find(seq)
	if ok {
		return &t.all()[i]
	}
	if n := len(t.buf); n == cap(t.buf) {
		t.roomy()
	}
	t.buf = append(t.buf, track{})
	all := t.all()
	copy(all[i+1:], all[i:])
	all[i] = track{seq: seq}
	return &all[i]
}

// roomy makes room at the end, by moving everything to the front if there is much room there.
func (t *table) roomy() {
	n := len(t.all())
	if t.head > n/2 {
		copy(t.buf, t.all())
	} else {
		t.buf = append(make([]track, 0, n+n/2+4), t.all()...)
	}
	t.buf, t.head = t.buf[:n], 0
}

func (t *table) remove(seq uint64) {
	i, ok := t.find(seq)
	if !ok {
		return
	}
	all := t.all()
	if i < len(all)/2 {
		copy(all[1:], all[:i])
		t.head++
	} else {
		copy(all[i:], all[i+1:])
		t.buf = t.buf[:len(t.buf)-1]
	}
	if t.head == len(t.buf) {
		t.buf, t.head = t.buf[:0], 0
		if cap(t.buf) > busy {
			t.buf = nil
		}
	}
}

// What an empty table or heap keeps of its room, in elements: an idle connection should cost little, and what was
// busy once is mostly idle.
const (
	spare = 8
	busy  = 64 // until it is trimmed
)

// trim gives spare room back.
func (t *table) trim() {
	t.buf, t.head = append([]track(nil), t.all()...), 0
}

// timer says that something is to happen with seq. It is stale when the track of seq says otherwise.
type timer struct {
	at  int64
	seq uint64
}

func (a timer) before(b timer) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// timers is a heap, the earliest first.
type timers []timer

func (h *timers) push(t timer) {
	*h = append(*h, t)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s[i].before(s[up]) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (h *timers) pop() {
	s := *h
	last := len(s) - 1
	s[0] = s[last]
	*h = s[:last]
	if last == 0 {
		h.clear()
	}
	h.sink(0)
}

func (h *timers) clear() {
	if *h = (*h)[:0]; cap(*h) > spare {
		*h = nil
	}
}

func (h *timers) sink(i int) {
	s := *h
	for {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(s); k++ {
			if s[k].before(s[least]) {
				least = k
			}
		}
		if least == i {
			return
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}

// keep drops the timers that fresh refuses.
func (h *timers) keep(fresh func(timer) bool) {
	s := (*h)[:0]
	for _, t := range *h {
		if fresh(t) {
			s = append(s, t)
		}
	}
	*h = s
	for i := len(s)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}
