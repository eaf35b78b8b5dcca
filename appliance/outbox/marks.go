package outbox

import (
	"math/bits"
	"slices"
)

// pageBits is how many sequence numbers a page of marks covers.
const pageBits = 4096

type markPage [pageBits / 64]uint64

// marks is a set of sequence numbers: pages of bits. Unlike a delivery.Set it does not mind in what
// order, how often and by how many the same numbers are put in.
type marks struct {
	pages  map[uint64]*markPage
	sorted []uint64 // the pages' numbers, while nothing was put in since
	at     uint64   // the page used last …
	last   *markPage
}

// set puts the numbers from first to last in, both included.
func (m *marks) set(first, last uint64) {
	for first <= last {
		p := m.page(first / pageBits)
		bit := first % pageBits
		n := min(last-first+1, 64-bit%64)
		p[bit/64] |= ^uint64(0) >> (64 - n) << (bit % 64)
		if first += n; first == 0 {
			return // behind the highest number
		}
	}
}

func (m *marks) page(n uint64) *markPage {
	if m.last != nil && m.at == n {
		return m.last
	}
	p := m.pages[n]
	if p == nil {
		if m.pages == nil {
			m.pages = make(map[uint64]*markPage)
		}
		p = new(markPage)
		m.pages[n], m.sorted = p, nil
	}
	m.at, m.last = n, p
	return p
}

// each calls fn for the numbers from first to last, ascending, until it returns an error.
func (m *marks) each(first, last uint64, fn func(seq uint64) error) error {
	return m.words(first, last, func(base, w uint64) error {
		for ; w != 0; w &= w - 1 {
			if err := fn(base + uint64(bits.TrailingZeros64(w))); err != nil {
				return err
			}
		}
		return nil
	})
}

// count is how many numbers from first to last are in the set.
func (m *marks) count(first, last uint64) (n int64) {
	_ = m.words(first, last, func(_, w uint64) error { // never fails
		n += int64(bits.OnesCount64(w))
		return nil
	})
	return n
}

// words calls fn for the words that have a number from first to last, without the others' bits.
func (m *marks) words(first, last uint64, fn func(base, w uint64) error) error {
	if m.sorted == nil {
		for n := range m.pages {
			m.sorted = append(m.sorted, n)
		}
		slices.Sort(m.sorted)
	}
	from, _ := slices.BinarySearch(m.sorted, first/pageBits)
	for _, n := range m.sorted[from:] {
		if n > last/pageBits {
			return nil
		}
		for i, w := range m.pages[n] {
			base := n*pageBits + uint64(i)*64
			if w == 0 || base+63 < first || base > last {
				continue
			}
			if base < first {
				w &= ^uint64(0) << (first - base)
			}
			if last-base < 63 {
				w &= ^uint64(0) >> (63 - (last - base))
			}
			if w == 0 {
				continue
			}
			if err := fn(base, w); err != nil {
				return err
			}
		}
	}
	return nil
}
