package wal

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

// cache keeps decoded frames, at most limit bytes of them, the least recently used ones go first.
type cache struct {
	limit int64

	mu    sync.Mutex
	size  int64
	order list.List // of *cached, the newest in front
	byKey map[cacheKey]*list.Element
}

type cacheKey struct {
	id  uint64
	off uint32
}

type cached struct {
	key cacheKey
	b   *block
}

func (c *cache) get(k cacheKey) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).b
}

func (c *cache) put(k cacheKey, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[cacheKey]*list.Element{}
	}
	if c.byKey[k] != nil || b.size() > c.limit/2 {
		return
	}
	c.byKey[k] = c.order.PushFront(&cached{k, b})
	c.size += b.size()
	for c.size > c.limit {
		e := c.order.Back()
		old := c.order.Remove(e).(*cached)
		delete(c.byKey, old.key)
		c.size -= old.b.size()
	}
}

// forget drops the frames of one generation.
func (c *cache) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.byKey {
		if k.id == id {
			c.size -= c.order.Remove(e).(*cached).b.size()
			delete(c.byKey, k)
		}
	}
}

// place is where a frame is.
type place struct {
	id    uint64
	name  string
	kind  Kind
	salt  uint64
	suite Suite
	key   uint16
	parts []part
	ref   frameRef
	last  uint64 // no record of the frame has a higher number
}

// locateLocked finds the frame that holds seq or, if none does, the next one.
func (l *Log) locateLocked(seq uint64) (place, bool) {
	i, _ := slices.BinarySearchFunc(l.gens, seq, func(g *generation, seq uint64) int {
		if max(g.first, g.last) < seq { // the open one may have no last yet
			return -1
		}
		return 1
	})
	for ; i < len(l.gens); i++ {
		g := l.gens[i]
		n := g.frameAt(seq)
		if n == len(g.frames) {
			continue
		}
		p := place{id: g.id, name: g.name, kind: g.kind, salt: g.salt, suite: g.suite, key: g.key, parts: g.parts, ref: g.frames[n], last: g.last}
		switch {
		case g.kind == Main:
			p.last = p.ref.first + uint64(p.ref.count) - 1
		case n+1 < len(g.frames):
			p.last = g.frames[n+1].first - 1
		}
		return p, true
	}
	return place{}, false
}

// frames reads frames of one generation after the other.
type frames struct {
	l     *Log
	ahead int // see reader
	id    uint64
	r     *reader
	crypt *crypter // of that generation, nil if it is plain
}

func (f *frames) Close() {
	if f.r != nil {
		f.r.Close()
		f.r = nil
	}
}

// load is read, and once more if what it read ahead is wrong.
func (f *frames) load(p *place) (*block, error) {
	f.l.loaded.Add(1)
	b, err := f.read(p)
	if errors.Is(err, ErrDamaged) && f.r != nil {
		f.r.forget()
		b, err = f.read(p)
	}
	return b, err
}

// read reads, checks and decrypts a frame. The error is ErrDamaged if what is on disk is wrong or cannot be read, ErrForged
// or ErrKey if it cannot be decrypted, fs.ErrNotExist if the generation was dropped meanwhile.
func (f *frames) read(p *place) (*block, error) {
	if f.r == nil || f.id != p.id {
		f.Close()
		r, err := openReader(filepath.Join(f.l.dir, p.name), p.parts)
		if err != nil {
			return nil, err
		}
		r.ahead = f.ahead
		if f.crypt, err = f.l.opt.Encryption.crypter(p.suite, p.key, p.id, p.salt); err != nil {
			r.Close()
			return nil, err
		}
		f.r, f.id = r, p.id
	}
	s := scanner{r: f.r, size: int64(p.ref.off) + maxPrefix + maxFrameLen, salt: p.salt}
	h, ok := s.at(int64(p.ref.off))
	if !ok || h.typ != typeData || h.first != p.ref.first || h.count != p.ref.count {
		return nil, ErrDamaged
	}
	b := make([]byte, h.stored)
	if n, err := readFull(f.r, b, int64(p.ref.off)+int64(prefixLen(&h))+headerSize); err != nil {
		if badMedium(err) {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, err
	} else if !h.checkPayload(b[:n]) {
		return nil, ErrDamaged
	}
	if b, err := f.crypt.decrypt(&h, b); err != nil {
		return nil, fmt.Errorf("generation %d, frame at %d: %w", p.id, p.ref.off, err)
	} else if blk, err := decode(&h, b); err == nil {
		return blk, nil
	}
	return nil, ErrDamaged
}

// damaged notes that the frame at p cannot be read.
func (l *Log) damaged(p *place, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.gens, func(g *generation) bool { return g.id == p.id })
	if i < 0 || !l.loseLocked(Range{p.ref.first, p.last}) {
		return
	}
	l.stats.Damaged++
	g := l.gens[i]
	end := g.size
	if n := g.frameAt(p.ref.first) + 1; n < len(g.frames) {
		end = int64(g.frames[n].off)
	}
	l.quarantine(g, int64(p.ref.off), end)
	l.opt.Log.Error("log damaged", "generation", p.id, "offset", p.ref.off, "lost_first", p.ref.first, "lost_last", p.last, "err", err)
}

// Read returns the record seq and the stamp of its frame. data is shared with the cache and must not be modified. The
// error is ErrNotFound if there was never such a record or it was dropped, ErrDamaged if it is lost (see Losses), ErrForged or
// ErrKey if it is encrypted and cannot be decrypted, or the
// operating system's (too many open files).
func (l *Log) Read(seq uint64) (data []byte, stamp Stamp, err error) {
	for {
		l.mu.RLock()
		p, ok := l.locateLocked(seq)
		lost := inRanges(l.losses, seq)
		l.mu.RUnlock()
		switch {
		case lost:
			return nil, Stamp{}, fmt.Errorf("read %d: %w", seq, ErrDamaged)
		case !ok || seq < p.ref.first || seq > p.last:
			return nil, Stamp{}, fmt.Errorf("read %d: %w", seq, ErrNotFound)
		}
		b, err := l.block(&p)
		if errors.Is(err, fs.ErrNotExist) {
			if l.gone(p.id) {
				continue // dropped or replaced meanwhile: look again
			}
			err = fmt.Errorf("%w: %w", ErrDamaged, err) // somebody else removed the file
		}
		if errors.Is(err, ErrDamaged) {
			l.damaged(&p, err)
		}
		if err != nil {
			return nil, Stamp{}, fmt.Errorf("read %d: %w", seq, err)
		}
		i := b.find(seq)
		if i == len(b.ends) || b.seq(i) != seq {
			return nil, Stamp{}, fmt.Errorf("read %d: %w", seq, ErrNotFound)
		}
		return b.record(i), b.stampOf(i), nil
	}
}

// gone reports whether a generation is no longer listed.
func (l *Log) gone(id uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !slices.ContainsFunc(l.gens, func(g *generation) bool { return g.id == id })
}

// block returns a frame through the cache.
func (l *Log) block(p *place) (*block, error) {
	key := cacheKey{p.id, p.ref.off}
	if b := l.cache.get(key); b != nil {
		return b, nil
	}
	f := frames{l: l}
	defer f.Close()
	b, err := f.load(p)
	if err == nil {
		l.cache.put(key, b)
	}
	return b, err
}

// Scan calls fn for the records from..to, both included, in ascending order; cold tells whether a record was carried
// forward. Damaged records are left out (and noted in Losses); a frame that cannot be decrypted is an error. It ends early when fn returns false. Appends, drops and
// replacements may go on meanwhile; records that are committed after Scan began may be seen. data may be kept but not
// modified. Whole frames that are passed over once do not go through the cache.
func (l *Log) Scan(from, to uint64, fn func(seq uint64, data []byte, stamp Stamp, cold bool) bool) error {
	f := frames{l: l, ahead: 32 << 10}
	defer f.Close()
	for pos := max(from, 1); pos <= to; {
		l.mu.RLock()
		p, ok := l.locateLocked(pos)
		lost := ok && inRanges(l.losses, p.ref.first)
		l.mu.RUnlock()
		if !ok || p.ref.first > to {
			return nil
		}
		if lost { // a known loss is a whole frame
			if p.last >= to {
				return nil
			}
			pos = p.last + 1
			continue
		}
		key := cacheKey{p.id, p.ref.off}
		b := l.cache.get(key)
		if b == nil {
			var err error
			b, err = f.load(&p)
			if errors.Is(err, fs.ErrNotExist) {
				if l.gone(p.id) {
					continue
				}
				err = fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			if errors.Is(err, ErrDamaged) {
				l.damaged(&p, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("scan at %d: %w", pos, err)
			}
		}
		for i := b.find(pos); i < len(b.ends); i++ {
			seq := b.seq(i)
			if seq > to || !fn(seq, b.record(i), b.stampOf(i), p.kind == Cold) {
				l.cache.put(key, b) // who stopped within it will come back for the rest
				return nil
			}
		}
		if p.last == ^uint64(0) {
			return nil
		}
		pos = p.last + 1
	}
	return nil
}
