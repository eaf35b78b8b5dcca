package delivery

import "encoding/binary"

// run is a stretch of numbers without a gap, both ends included.
type run struct{ first, last uint64 }

func (r run) size() int64 { return int64(r.last-r.first) + 1 }

// maxBlock bounds a block's tokens in bytes: what a search walks through, a few hundred steps.
const maxBlock = 512

// block is a part of a [Set]: its first number and the tokens for the others (the package comment
// has their table). A single number and a run of any length take no more than a few bytes.
//
// Invariants: n numbers from first to last; tokens are in their shortest form, so a zero byte only
// ever begins a run and the last token can be found from behind.
type block struct {
	first, last uint64
	n           int64
	data        []byte
}

// cursor walks through a block's runs. The block must not change meanwhile.
type cursor struct {
	run              // the current run
	data      []byte // all tokens
	start, at int    // the current run's tokens
	i         int    // its index, from 1; 0 before the first
}

func (b *block) cursor() cursor {
	return cursor{run: run{b.first, b.first}, data: b.data}
}

func (c *cursor) next() bool {
	if c.i > 0 {
		if c.at == len(c.data) {
			return false
		}
		c.start = c.at
		c.first = c.last + 1 + c.token()
		c.last = c.first
	}
	c.i++
	if c.at < len(c.data) && c.data[c.at] == 0 {
		c.at++
		c.last += c.token()
	}
	return true
}

func (c *cursor) token() uint64 {
	d := c.data[c.at:]
	if d[0] < 0x80 {
		c.at++
		return uint64(d[0])
	}
	if len(d) > 1 && d[1] < 0x80 { // these two cases are nearly all
		c.at += 2
		return uint64(d[0]&0x7f) | uint64(d[1])<<7
	}
	v, n := binary.Uvarint(c.data[c.at:])
	c.at += n
	return v
}

// appendRun writes r's tokens; prev is the number before it.
func appendRun(dst []byte, prev uint64, r run) []byte {
	return appendLength(binary.AppendUvarint(dst, r.first-prev-1), r)
}

func appendLength(dst []byte, r run) []byte {
	if r.last > r.first {
		dst = binary.AppendUvarint(append(dst, 0), r.last-r.first)
	}
	return dst
}

// push adds a run that lies behind the block's last number; false when it does not fit any more.
func (b *block) push(r run) bool {
	var buf [24]byte
	tokens, keep := buf[:0], len(b.data)
	if r.first == b.last+1 { // the last run grows: its length is written anew
		begin := b.last
		if k := len(b.data); k > 0 {
			for k--; k > 0 && b.data[k-1] >= 0x80; k-- {
			}
			if k > 0 && b.data[k-1] == 0 {
				length, _ := binary.Uvarint(b.data[k:])
				begin, keep = b.last-length, k-1
			}
		}
		tokens = appendLength(tokens, run{begin, r.last})
	} else {
		tokens = appendRun(tokens, b.last, r)
		if keep+len(tokens) > maxBlock {
			return false
		}
	}
	b.splice(keep, len(b.data), tokens)
	b.last = r.last
	b.n += r.size()
	return true
}

// add puts the run's numbers into the block, whatever is there already, and returns how many are
// new. The block may be over its size afterwards.
func (b *block) add(r run) int64 {
	before := b.n
	if r.first > b.last && b.push(r) {
		return b.n - before
	}
	c, prev := b.cursor(), uint64(0)
	for c.next() && c.last+1 < r.first {
		prev = c.last
	}
	if c.last+1 < r.first { // behind all runs of a full block
		var buf [24]byte
		b.splice(len(b.data), len(b.data), appendRun(buf[:0], b.last, r))
		b.last = r.last
		b.n += r.size()
		return r.size()
	}
	from, head := c.start, c.i == 1
	out, to := append(make([]run, 0, 2), r), from
	for {
		if c.first > r.last+1 {
			out, to = append(out, c.run), c.at
			break
		}
		b.n -= c.size()
		out[0] = run{min(out[0].first, c.first), max(out[0].last, c.last)}
		to = c.at
		if !c.next() {
			break
		}
	}
	b.n += out[0].size()
	b.replace(from, to, head, prev, out)
	return b.n - before
}

// remove takes one number out; false when it is not there. A block that becomes empty has n 0.
func (b *block) remove(seq uint64) bool {
	if seq < b.first || seq > b.last {
		return false
	}
	if seq == b.first && len(b.data) > 0 && b.data[0] == 0 { // the most frequent case: the first run gets shorter
		var buf [12]byte
		c := b.cursor()
		c.next()
		b.first, b.n = seq+1, b.n-1
		b.splice(0, c.at, appendLength(buf[:0], run{b.first, c.last}))
		b.shrink()
		return true
	}
	c, prev := b.cursor(), uint64(0)
	for c.next() && c.last < seq {
		prev = c.last
	}
	if seq < c.first {
		return false
	}
	if b.n--; b.n == 0 {
		return true
	}
	from, head, out := c.start, c.i == 1, make([]run, 0, 3)
	if c.first < seq {
		out = append(out, run{c.first, seq - 1})
	}
	if seq < c.last {
		out = append(out, run{seq + 1, c.last})
	}
	to := c.at
	if c.next() {
		out, to = append(out, c.run), c.at
	}
	b.replace(from, to, head, prev, out)
	b.shrink()
	return true
}

// cut takes out all runs that begin at or before limit and returns the last number taken or, if
// that is higher, limit-1. The block must have a run behind it.
func (b *block) cut(limit uint64) (reached uint64) {
	reached = limit - 1
	c := b.cursor()
	for c.next() && c.first <= limit {
		b.n -= c.size()
		reached = max(reached, c.last)
	}
	b.replace(0, c.at, true, 0, []run{c.run})
	b.shrink()
	return reached
}

// replace writes the runs out over the tokens from…to. They follow the number prev, or begin the
// block when head is set. They reach to the block's end when to is there.
func (b *block) replace(from, to int, head bool, prev uint64, out []run) {
	var buf [72]byte
	tokens, end := buf[:0], to == len(b.data)
	for i, r := range out {
		if i == 0 && head {
			b.first = r.first
			tokens = appendLength(tokens, r)
		} else {
			tokens = appendRun(tokens, prev, r)
		}
		prev = r.last
	}
	if end {
		b.last = prev
	}
	b.splice(from, to, tokens)
}

// splice replaces data[from:to] and keeps the spare room small: there are very many blocks.
func (b *block) splice(from, to int, tokens []byte) {
	size := len(b.data) - (to - from) + len(tokens)
	if size > cap(b.data) {
		data := append([]byte(nil), make([]byte, size+size/8)...) // rounds up to what is allocated anyway
		copy(data, b.data[:from])
		copy(data[from+len(tokens):], b.data[to:])
		b.data = data[:size]
	} else {
		tail := b.data[to:]
		b.data = b.data[:size]
		copy(b.data[from+len(tokens):], tail)
	}
	copy(b.data[from:], tokens)
}

// shrink gives room back after removals.
func (b *block) shrink() {
	switch {
	case len(b.data) == 0:
		b.data = nil
	case cap(b.data) > 64 && len(b.data) < cap(b.data)/2:
		b.data = append([]byte(nil), b.data...)
	}
}

// halve moves the runs of the second half to a new block.
func (b *block) halve() block {
	c, n, prev := b.cursor(), int64(0), uint64(0)
	for c.next() && (c.start < len(b.data)/2 || c.i == 1) {
		n += c.size()
		prev = c.last
	}
	tokens := appendLength(nil, c.run)
	upper := block{first: c.first, last: b.last, n: b.n - n, data: append(tokens, b.data[c.at:]...)}
	b.data, b.last, b.n = append([]byte(nil), b.data[:c.start]...), prev, n
	return upper
}

// join puts the numbers of upper, which lie behind b's, into b.
func (b *block) join(upper *block) {
	gap := binary.AppendUvarint(make([]byte, 0, len(upper.data)+10), upper.first-b.last-1)
	b.splice(len(b.data), len(b.data), append(gap, upper.data...))
	b.last = upper.last
	b.n += upper.n
}
