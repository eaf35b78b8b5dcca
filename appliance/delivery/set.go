package delivery

import (
	"encoding/binary"
	"errors"
	"slices"
	"unsafe"
)

// MaxSeq is the highest sequence number; the lowest is 1.
const MaxSeq = 1<<63 - 1

// Set is a set of sequence numbers from 1 to [MaxSeq], made for many sets with few numbers and for
// few sets with very many: about 1.1 to 2.3 bytes for a number that stands alone, a few bytes for a
// run of any length, 48 bytes for each 512 bytes of these. Adding in ascending order and removing
// from the front are cheapest; any order works. The zero Set is empty and ready. It is not safe for
// concurrent use, and must not be changed from inside [Set.Each].
//
// Invariants: blocks ascend and are not empty; between two runs, also of different blocks, at least
// one number is missing; n is the sum of the blocks' n.
type Set struct {
	blocks []block
	n      int64
}

// Len is how many numbers are in the set.
func (s *Set) Len() int64 { return s.n }

// Add puts one number in; false when it was there already or is out of range.
func (s *Set) Add(seq uint64) bool { return s.AddRange(seq, seq) > 0 }

// AddRange puts all numbers from first to last in, both included, and returns how many are new.
// Numbers out of range are left out.
func (s *Set) AddRange(first, last uint64) (added int64) {
	r := run{max(first, 1), min(last, MaxSeq)}
	if r.first > r.last {
		return 0
	}
	before := s.n
	if k := len(s.blocks) - 1; k < 0 || r.first > s.blocks[k].last {
		s.push(r)
		return s.n - before
	}
	i := s.find(r.first)
	r.last = s.absorb(i+1, r.last)
	s.n += s.blocks[i].add(r)
	s.limit(i)
	return s.n - before
}

// limit makes two of a block that has become too large.
func (s *Set) limit(i int) {
	if len(s.blocks[i].data) > maxBlock {
		s.blocks = slices.Insert(s.blocks, i+1, s.blocks[i].halve())
	}
}

// push adds a run behind everything.
func (s *Set) push(r run) {
	s.n += r.size()
	if k := len(s.blocks); k > 0 && s.blocks[k-1].push(r) {
		return
	}
	if k := len(s.blocks); k == cap(s.blocks) { // grows by an eighth: there are very many sets
		s.blocks = append(make([]block, 0, k+k/8+1), s.blocks...)
	}
	s.blocks = append(s.blocks, block{first: r.first, last: r.last, n: r.size(), data: appendLength(nil, r)})
}

// absorb takes out of the blocks from index i on all runs that a run ending at last overlaps or
// touches, and returns where the union ends.
func (s *Set) absorb(i int, last uint64) uint64 {
	j := i
	for ; j < len(s.blocks) && s.blocks[j].first <= last+1; j++ {
		b := &s.blocks[j]
		if b.last > last+1 {
			if c, n := b.lastRun(), b.n; c.first > last+1 {
				last = b.cut(last + 1)
				s.n -= n - b.n
				break
			}
		}
		last = max(last, b.last)
		s.n -= b.n
	}
	s.blocks = slices.Delete(s.blocks, i, j)
	return last
}

func (b *block) lastRun() run {
	c := b.cursor()
	for c.next() {
	}
	return c.run
}

// Remove takes one number out; false when it was not there.
func (s *Set) Remove(seq uint64) bool {
	i := s.find(seq)
	if i >= len(s.blocks) || !s.blocks[i].remove(seq) {
		return false
	}
	s.n--
	switch {
	case s.blocks[i].n == 0:
		s.blocks = slices.Delete(s.blocks, i, i+1)
	case i+1 < len(s.blocks) && s.small(i, i+1):
		s.blocks[i].join(&s.blocks[i+1])
		s.blocks = slices.Delete(s.blocks, i+1, i+2)
	case i > 0 && s.small(i-1, i):
		s.blocks[i-1].join(&s.blocks[i])
		s.blocks = slices.Delete(s.blocks, i, i+1)
	default:
		s.limit(i) // a run that became two needs more tokens
		return true
	}
	if len(s.blocks) == 0 {
		s.blocks = nil
	} else if cap(s.blocks) > 8 && len(s.blocks) < cap(s.blocks)/2 {
		s.blocks = append(make([]block, 0, len(s.blocks)), s.blocks...)
	}
	return true
}

// small reports whether two neighbours should be one block; half full, so that it does not come and
// go with every number.
func (s *Set) small(i, j int) bool {
	return len(s.blocks[i].data)+len(s.blocks[j].data) < maxBlock/2
}

// find returns the index of the last block that begins at or before seq, 0 when none does.
func (s *Set) find(seq uint64) int {
	lo, hi := 0, len(s.blocks) // the answer+1 is in lo…hi
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s.blocks[mid].first <= seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(lo-1, 0)
}

// Has reports whether seq is in the set.
func (s *Set) Has(seq uint64) bool {
	next, ok := s.from(seq)
	return ok && next == seq
}

// First returns the lowest number; false when the set is empty.
func (s *Set) First() (uint64, bool) {
	if len(s.blocks) == 0 {
		return 0, false
	}
	return s.blocks[0].first, true
}

// Last returns the highest number; false when the set is empty.
func (s *Set) Last() (uint64, bool) {
	if len(s.blocks) == 0 {
		return 0, false
	}
	return s.blocks[len(s.blocks)-1].last, true
}

// Next returns the lowest number above after; false when there is none.
func (s *Set) Next(after uint64) (uint64, bool) {
	if after >= MaxSeq {
		return 0, false
	}
	return s.from(after + 1)
}

// from returns the lowest number from seq on.
func (s *Set) from(seq uint64) (uint64, bool) {
	i := s.find(seq)
	if i < len(s.blocks) && seq > s.blocks[i].last {
		i++
	}
	if i >= len(s.blocks) {
		return 0, false
	}
	b := &s.blocks[i]
	if seq <= b.first {
		return b.first, true
	}
	if seq == b.last {
		return seq, true
	}
	c := b.cursor()
	for c.next() && c.last < seq {
	}
	return max(seq, c.first), true
}

// CountIn returns how many numbers from first to last are in the set, both included.
func (s *Set) CountIn(first, last uint64) int64 {
	if first > last {
		return 0
	}
	n := int64(0)
	for i := s.find(first); i < len(s.blocks) && s.blocks[i].first <= last; i++ {
		b := &s.blocks[i]
		if first <= b.first && b.last <= last {
			n += b.n
			continue
		}
		if b.last < first {
			continue
		}
		for c := b.cursor(); c.next() && c.first <= last; {
			if c.last >= first {
				n += run{max(first, c.first), min(last, c.last)}.size()
			}
		}
	}
	return n
}

// Each calls fn for the runs of numbers from…to, cut to these limits, ascending and as long as
// possible, until fn returns false.
func (s *Set) Each(from, to uint64, fn func(first, last uint64) bool) {
	if from > to {
		return
	}
	for i := s.find(from); i < len(s.blocks) && s.blocks[i].first <= to; i++ {
		for c := s.blocks[i].cursor(); c.next() && c.first <= to; {
			if c.last >= from && !fn(max(from, c.first), min(to, c.last)) {
				return
			}
		}
	}
}

// Bytes is what the set takes on the heap, beside itself, in bytes.
func (s *Set) Bytes() int64 {
	n := int64(cap(s.blocks)) * int64(unsafe.Sizeof(block{}))
	for i := range s.blocks {
		n += int64(cap(s.blocks[i].data))
	}
	return n
}

// AppendBinary appends the set's binary form (the package comment has its table).
func (s *Set) AppendBinary(dst []byte) []byte {
	size, prev := 0, uint64(0)
	for i := range s.blocks {
		size += uvarintLen(s.blocks[i].lead(i, prev)) + len(s.blocks[i].data)
		prev = s.blocks[i].last
	}
	dst = binary.AppendUvarint(dst, uint64(size))
	for i := range s.blocks {
		dst = binary.AppendUvarint(dst, s.blocks[i].lead(i, prev))
		dst = append(dst, s.blocks[i].data...)
		prev = s.blocks[i].last
	}
	return dst
}

// lead is the token that comes before a block's own: the set's first number, or the gap to the block
// before.
func (b *block) lead(i int, prev uint64) uint64 {
	if i == 0 {
		return b.first
	}
	return b.first - prev - 1
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

var (
	errShort  = errors.New("it ends too early")
	errBroken = errors.New("it is not in the form that AppendBinary writes")
)

// Decode makes s what [Set.AppendBinary] wrote at the beginning of b, and returns the bytes behind
// it. It takes no more memory than a small multiple of what it reads. After an error s is empty.
func (s *Set) Decode(b []byte) (rest []byte, err error) {
	*s = Set{}
	size, b, err := readUvarint(b)
	if err != nil {
		return nil, err
	}
	if size > uint64(len(b)) {
		return nil, errShort
	}
	b, rest = b[:size], b[size:]
	var got Set
	if err := got.decode(b); err != nil {
		return nil, err
	}
	if k := len(got.blocks); k > 0 { // most sets have one block and stay as they are
		last := &got.blocks[k-1]
		last.data = append([]byte(nil), last.data...)
	}
	*s = got
	return rest, nil
}

func (s *Set) decode(b []byte) (err error) {
	last := uint64(0)
	for len(b) > 0 {
		var gap, length uint64
		if gap, b, err = readUvarint(b); err != nil {
			return err
		}
		r := run{first: last + 1 + gap}
		if last == 0 {
			r.first = gap
		}
		if gap == 0 || gap > MaxSeq || r.first > MaxSeq {
			return errBroken
		}
		if len(b) > 0 && b[0] == 0 {
			if length, b, err = readUvarint(b[1:]); err != nil {
				return err
			}
			if length == 0 || length > MaxSeq-r.first {
				return errBroken
			}
		}
		r.last = r.first + length
		last = r.last
		s.push(r)
	}
	return nil
}

// readUvarint reads a number in its shortest form.
func readUvarint(b []byte) (v uint64, rest []byte, err error) {
	v, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return 0, nil, errShort
	case n < 0 || n > 1 && b[n-1] == 0:
		return 0, nil, errBroken
	}
	return v, b[n:], nil
}
