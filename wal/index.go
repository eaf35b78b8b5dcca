package wal

import "slices"

// stretch is how many bytes of a sealed generation one entry of its index in memory is for. With a frame for each record
// all of them would take 16 bytes of memory for each 300 or so on disk: an outage of an hour at 1,000 messages a second, 50 MB.
const stretch = 16 << 10

// frameRef is the index entry of one frame: 16 bytes.
type frameRef struct {
	first uint64
	off   uint32
	count uint32
}

// thin keeps only landmarks of a sealed generation's index: its first frame, and then the first of each n bytes or so. What
// is between them is found by its headers (see find), or in the seal when those are damaged.
func (g *generation) thin(n int64) {
	if !g.sealed || g.sparse {
		return
	}
	var kept []frameRef
	for _, f := range g.frames {
		if len(kept) == 0 || int64(f.off-kept[len(kept)-1].off) >= n {
			kept = append(kept, f)
		}
	}
	if g.sparse = len(kept) < len(g.frames); g.sparse {
		g.frames = slices.Clone(kept) // it grew by doubling
	}
}

// stretch is that of this log: a small generation is worth several landmarks, too.
func (l *Log) stretch() int64 { return min(stretch, l.opt.Generation/16) }

// frameAt returns the index of the frame that holds seq or, if none does, of the next one. A cold frame is taken to
// reach up to its successor, and so is a landmark.
func (g *generation) frameAt(seq uint64) int {
	i, exact := slices.BinarySearchFunc(g.frames, seq, func(f frameRef, seq uint64) int {
		switch {
		case f.first < seq:
			return -1
		case f.first > seq:
			return 1
		}
		return 0
	})
	if exact || i == 0 {
		return i
	}
	if f := g.frames[i-1]; g.kind == Cold || g.sparse || seq-f.first < uint64(f.count) {
		return i - 1
	}
	return i
}

// place is where a frame is or, while it is sparse, a landmark.
type place struct {
	id       uint64
	name     string
	kind     Kind
	salt     uint64
	suite    Suite
	suiteKey uint16
	parts    []part
	bytes    int64 // of the generation
	ref      frameRef
	last     uint64 // no record of the frame, or up to the next landmark, has a higher number
	end      int64  // no byte of it lies behind
	sparse   bool   // the frame is at ref, or behind it
}

func (p *place) key() cacheKey { return cacheKey{p.id, p.ref.off} }

// locateLocked finds the frame that holds seq or, if none does, the next one; in a generation with a sparse index the
// landmark from where [frames.find] finds it.
func (l *Log) locateLocked(seq uint64) (place, bool) {
	i, _ := slices.BinarySearchFunc(l.gens, seq, func(g *generation, seq uint64) int {
		if max(g.first, g.last) < seq { // the open one may have no last yet
			return -1
		}
		return 1
	})
	for ; i < len(l.gens); i++ {
		if g := l.gens[i]; g.frameAt(seq) < len(g.frames) {
			return g.place(g.frames, g.frameAt(seq)), true
		}
	}
	return place{}, false
}

// place is that of the n-th of frames, which are the generation's index.
func (g *generation) place(frames []frameRef, n int) place {
	p := place{
		id: g.id, name: g.name, kind: g.kind, salt: g.salt, suite: g.suite, suiteKey: g.key, parts: g.parts, bytes: g.bytes,
		ref: frames[n], last: g.last, end: g.size, sparse: g.sparse,
	}
	p.bound(frames, n)
	return p
}

// bound sets where the n-th of frames ends. Behind the last one it stays as it is.
func (p *place) bound(frames []frameRef, n int) {
	p.ref = frames[n]
	if n+1 < len(frames) {
		p.last, p.end = frames[n+1].first-1, int64(frames[n+1].off)
	}
	if p.kind == Main && !p.sparse {
		p.last = p.ref.first + uint64(p.ref.count) - 1
	}
}

// nearby is where a search may begin: the frame at off holds no number below seq.
type nearby struct {
	off int64
	seq uint64
}

// find moves a sparse place from its landmark to the frame that holds seq or, if none does, to the next one before the next
// landmark; false: there is none.
func (f *frames) find(p *place, seq uint64) (bool, error) {
	if !p.sparse {
		return true, nil
	}
	if err := f.open(p); err != nil {
		return false, err
	}
	from := nearby{int64(p.ref.off), p.ref.first}
	if n := f.next; n.off > from.off && n.off < p.end && n.seq <= seq {
		from = n
	}
	s := scanner{r: f.r, size: p.end, salt: p.salt}
	for from.off < p.end {
		h, ok := s.at(from.off)
		if !ok {
			f.r.forget() // it may have been read ahead before it was written
			h, ok = s.at(from.off)
		}
		if !ok {
			return f.exact(p, from, seq), nil
		}
		behind := nearby{from.off + h.entryLen(), max(h.last+1, from.seq)}
		switch {
		case h.typ == typeSeal:
			return false, nil
		case h.typ == typeData && h.last >= seq:
			p.ref = frameRef{first: h.first, off: uint32(from.off), count: h.count}
			p.last, p.end, p.sparse = h.last, behind.off, false
			f.next = behind
			return true, nil
		}
		from = behind
	}
	return false, nil
}

// exact is find when a header between two landmarks is not readable: the seal has the whole index. Without it everything
// up to the next landmark is taken for one frame, which then cannot be read either.
func (f *frames) exact(p *place, from nearby, seq uint64) bool {
	_, m, ok := readSeal(f.r, p.bytes, p.salt)
	p.sparse = false
	if !ok {
		p.ref = frameRef{first: from.seq, off: uint32(from.off)}
		return true
	}
	for i, r := range m.frames {
		if int64(r.off) < from.off || int64(r.off) >= p.end {
			continue
		}
		q := *p
		q.bound(m.frames, i)
		if q.last >= seq {
			*p = q
			return true
		}
	}
	return false
}
