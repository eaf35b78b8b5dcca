package delivery

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// check holds the set's invariants.
func (s *Set) check(tb testing.TB) {
	tb.Helper()
	var total int64
	prev := run{}
	for i := range s.blocks {
		b := &s.blocks[i]
		if b.n <= 0 || b.first == 0 || b.last > MaxSeq {
			tb.Fatalf("block %d is %d…%d with n %d", i, b.first, b.last, b.n)
		}
		if len(b.data) > maxBlock+32 {
			tb.Fatalf("block %d has %d bytes", i, len(b.data))
		}
		var n int64
		tokens, last := []byte(nil), prev
		c := b.cursor()
		for c.next() {
			if last.last > 0 && c.first <= last.last+1 || c.last < c.first {
				tb.Fatalf("run %v follows %v", c.run, last)
			}
			if c.i == 1 {
				tokens = appendLength(tokens, c.run)
			} else {
				tokens = appendRun(tokens, last.last, c.run)
			}
			n += c.size()
			last = c.run
		}
		if n != b.n || last.last != b.last || !bytes.Equal(tokens, b.data) {
			tb.Fatalf("block %d: n %d of %d, last %d of %d, tokens %x of %x", i, b.n, n, b.last, last.last, b.data, tokens)
		}
		prev = last
		total += n
	}
	if total != s.n {
		tb.Fatalf("n is %d, the blocks have %d", s.n, total)
	}
}

func (s *Set) numbers() []uint64 {
	var all []uint64
	s.Each(1, MaxSeq, func(first, last uint64) bool {
		for seq := first; seq <= last; seq++ {
			all = append(all, seq)
		}
		return true
	})
	return all
}

// naive is a set as simple as can be.
type naive map[uint64]bool

func (m naive) sorted() []uint64 {
	all := make([]uint64, 0, len(m))
	for seq := range m {
		all = append(all, seq)
	}
	slices.Sort(all)
	return all
}

func (s *Set) compare(tb testing.TB, m naive, r *rand.Rand, limit uint64) {
	tb.Helper()
	s.check(tb)
	all := m.sorted()
	if s.Len() != int64(len(all)) || !slices.Equal(s.numbers(), all) {
		tb.Fatalf("the set has %d numbers %v, want %d %v", s.Len(), s.numbers(), len(all), all)
	}
	first, ok := s.First()
	last, _ := s.Last()
	if ok != (len(all) > 0) || ok && (first != all[0] || last != all[len(all)-1]) {
		tb.Fatalf("first %d, last %d, %t", first, last, ok)
	}
	for range 20 {
		at := r.Uint64N(limit + 2)
		i, _ := slices.BinarySearch(all, at+1)
		next, ok := s.Next(at)
		if ok != (i < len(all)) || ok && next != all[i] {
			tb.Fatalf("Next(%d) is %d, %t", at, next, ok)
		}
		if s.Has(at) != m[at] {
			tb.Fatalf("Has(%d) is %t", at, s.Has(at))
		}
		to := at + r.Uint64N(limit/2+1)
		from, _ := slices.BinarySearch(all, at)
		end, _ := slices.BinarySearch(all, to+1)
		if n := s.CountIn(at, to); n != int64(end-from) {
			tb.Fatalf("CountIn(%d, %d) is %d, want %d", at, to, n, end-from)
		}
		var part []uint64
		s.Each(at, to, func(a, b uint64) bool {
			for ; a <= b; a++ {
				part = append(part, a)
			}
			return len(part) < 10
		})
		if len(part) < min(10, end-from) || !slices.Equal(part, all[from:from+len(part)]) {
			tb.Fatalf("Each(%d, %d) gives %v of %v", at, to, part, all[from:end])
		}
	}
	enc := s.AppendBinary([]byte("x"))
	var back Set
	rest, err := back.Decode(append(enc[1:], 7, 8))
	if err != nil || !bytes.Equal(rest, []byte{7, 8}) || !slices.Equal(back.numbers(), all) {
		tb.Fatalf("decode: %v, rest %v", err, rest)
	}
	back.check(tb)
}

func TestSetRandomEvents(t *testing.T) {
	for seed := range uint64(seeds(150)) {
		r := rand.New(rand.NewPCG(seed, 2))
		// narrow spaces make runs, wide ones many bytes a number, and the scale both
		scale := []uint64{1, 3, 200, 30_000}[r.IntN(4)]
		limit := (50 + r.Uint64N(1500)) * scale
		var s Set
		m := naive{}
		tail := uint64(1)
		for range 2000 {
			seq := 1 + r.Uint64N(limit)
			switch op := r.IntN(20); {
			case op < 8: // ascending, as the log gives them
				tail += 1 + r.Uint64N(scale)*r.Uint64N(2)
				if got := s.Add(tail); got == m[tail] {
					t.Fatalf("seed %d: Add(%d) is %t", seed, tail, got)
				}
				m[tail] = true
			case op < 12:
				if got := s.Add(seq); got == m[seq] {
					t.Fatalf("seed %d: Add(%d) is %t", seed, seq, got)
				}
				m[seq] = true
			case op == 12:
				last, n := seq+r.Uint64N(60*uint64(1+r.IntN(3))), int64(0)
				if seed%10 == 3 && r.IntN(20) == 0 { // over whole blocks
					last = seq + r.Uint64N(4_000)
				}
				for q := seq; q <= last; q++ {
					if !m[q] {
						m[q] = true
						n++
					}
				}
				if got := s.AddRange(seq, last); got != n {
					t.Fatalf("seed %d: AddRange(%d, %d) is %d, want %d", seed, seq, last, got, n)
				}
			case op < 17:
				if first, ok := s.First(); ok { // acknowledged in order
					seq = first
				}
				fallthrough
			default:
				if next, ok := s.Next(seq - 1); ok && r.IntN(4) > 0 {
					seq = next
				}
				if got := s.Remove(seq); got != m[seq] {
					t.Fatalf("seed %d: Remove(%d) is %t", seed, seq, got)
				}
				delete(m, seq)
			}
		}
		s.compare(t, m, r, limit)
		for i, seq := range m.sorted() {
			if (i+int(seed))%7 != 0 && !s.Remove(seq) {
				t.Fatalf("seed %d: Remove(%d) finds nothing", seed, seq)
			} else if (i+int(seed))%7 != 0 {
				delete(m, seq)
			}
		}
		s.compare(t, m, r, limit)
		if most := int64(len(m))*10 + 4*maxBlock; s.Bytes() > most {
			t.Fatalf("seed %d: %d numbers keep %d bytes", seed, len(m), s.Bytes())
		}
		for seq := range m {
			s.Remove(seq)
		}
		if s.Len() != 0 || s.Bytes() != 0 {
			t.Fatalf("seed %d: an emptied set has %d numbers and %d bytes", seed, s.Len(), s.Bytes())
		}
	}
}

func TestSetEdges(t *testing.T) {
	var s Set
	if s.Add(0) || s.Add(MaxSeq+1) || s.AddRange(5, 4) != 0 || s.Remove(0) || s.Remove(1) || s.Has(0) {
		t.Fatal("what is out of range was taken")
	}
	if _, ok := s.Next(0); ok || s.CountIn(0, MaxSeq) != 0 || len(s.AppendBinary(nil)) != 1 {
		t.Fatal("the empty set is not empty")
	}
	if n := s.AddRange(0, 1<<64-1); n != MaxSeq {
		t.Fatalf("everything is %d numbers", n)
	}
	if s.Add(MaxSeq) || !s.Has(MaxSeq) || !s.Remove(MaxSeq) || !s.Remove(1) || !s.Remove(77) || s.Len() != MaxSeq-3 {
		t.Fatalf("%d numbers left", s.Len())
	}
	if next, ok := s.Next(76); !ok || next != 78 {
		t.Fatalf("after 76 comes %d", next)
	}
	if _, ok := s.Next(MaxSeq - 1); ok {
		t.Fatal("something follows the last")
	}
	s.check(t)
	var one Set
	one.Add(MaxSeq)
	var back Set
	if _, err := back.Decode(one.AppendBinary(nil)); err != nil || !back.Has(MaxSeq) {
		t.Fatalf("the highest number alone: %v", err)
	}
}

func TestSetDenseIsOneRange(t *testing.T) {
	var s Set
	for seq := uint64(1000); seq < 1_001_000; seq++ {
		s.Add(seq)
	}
	s.check(t)
	if s.Len() != 1_000_000 || s.Bytes() > 128 {
		t.Fatalf("%d numbers in %d bytes", s.Len(), s.Bytes())
	}
	for seq := uint64(1000); seq < 501_000; seq++ {
		if !s.Remove(seq) {
			t.Fatalf("%d is missing", seq)
		}
	}
	s.check(t)
	if s.Len() != 500_000 || s.Bytes() > 128 {
		t.Fatalf("%d numbers in %d bytes", s.Len(), s.Bytes())
	}
}

// A range swallows blocks whole and the beginning of one more.
func TestSetRangeOverBlocks(t *testing.T) {
	for _, last := range []uint64{1, 9, 10, 1700, 6_001, 12_000, 19_998, 19_999, 20_000, 30_000} {
		var s Set
		m := naive{}
		for seq := uint64(10); seq < 20_000; seq += 2 + seq%3 {
			s.Add(seq)
			m[seq] = true
		}
		if len(s.blocks) < 8 {
			t.Fatalf("only %d blocks", len(s.blocks))
		}
		for first := uint64(1); first <= last; first += 1 + last/2 {
			s.AddRange(first, last)
			for seq := first; seq <= last; seq++ {
				m[seq] = true
			}
			s.check(t)
			if !slices.Equal(s.numbers(), m.sorted()) {
				t.Fatalf("after AddRange(%d, %d): %d numbers, want %d", first, last, s.Len(), len(m))
			}
		}
	}
}

func TestSetDecodeRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":            {},
		"short":              {3, 1, 1},
		"half a number":      {1, 0x80},
		"a long form":        {2, 0x81, 0x00},
		"first is 0":         {2, 0, 1},
		"length 0":           {3, 1, 0, 0},
		"a run without size": {2, 1, 0},
		"two lengths":        {5, 1, 0, 1, 0, 1},
		"too high":           append([]byte{10}, binary.AppendUvarint(nil, 1<<63)...),
		"grows too high":     append([]byte{11, 1}, binary.AppendUvarint(nil, 1<<63)...),
		"runs too high":      append([]byte{12, 2, 0}, binary.AppendUvarint(nil, 1<<63)...),
		"an endless length":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1},
	} {
		s := Set{n: 7}
		if _, err := s.Decode(b); err == nil {
			t.Errorf("%s: %x was read as %v", name, b, s.numbers())
		}
		if s.Len() != 0 {
			t.Errorf("%s: the set is not empty after the error", name)
		}
	}
}

func FuzzSetDecode(f *testing.F) {
	var s Set
	f.Add(s.AppendBinary(nil))
	s.AddRange(5, 500)
	s.Add(502)
	s.AddRange(70_000, 1<<40)
	f.Add(s.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Set
		rest, err := s.Decode(b)
		if err != nil {
			return
		}
		s.check(t)
		if again := append(s.AppendBinary(nil), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x was written as %x", b, again)
		}
		if s.Bytes() > int64(4*len(b)+128) {
			t.Fatalf("%d bytes became %d", len(b), s.Bytes())
		}
		first, ok := s.First()
		if !ok {
			return
		}
		last, _ := s.Last()
		n := s.Len()
		if s.CountIn(first, last) != n || !s.Remove(first) || s.Len() != n-1 || s.AddRange(first, last) != int64(last-first)+2-n {
			t.Fatalf("%x does not behave", b)
		}
		s.check(t)
	})
}

// FuzzSet reads events out of bytes: op and number.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 3, 1, 2, 2, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Set
		m := naive{}
		for ; len(b) >= 3; b = b[3:] {
			seq := uint64(b[1])*uint64(b[0]>>2)*17 + uint64(b[2]) + 1
			switch b[0] & 3 {
			case 0, 1:
				if s.Add(seq) == m[seq] {
					t.Fatalf("Add(%d)", seq)
				}
				m[seq] = true
			case 2:
				s.AddRange(seq, seq+uint64(b[1]))
				for q := seq; q <= seq+uint64(b[1]); q++ {
					m[q] = true
				}
			default:
				if s.Remove(seq) != m[seq] {
					t.Fatalf("Remove(%d)", seq)
				}
				delete(m, seq)
			}
		}
		s.check(t)
		if !slices.Equal(s.numbers(), m.sorted()) {
			t.Fatalf("%v, want %v", s.numbers(), m.sorted())
		}
	})
}
