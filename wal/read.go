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
	byKey map[cacheKey][]*list.Element
}

// cacheKey is the place of a frame or, in a generation with a sparse index, of the landmark before it.
type cacheKey struct {
	id  uint64
	off uint32
}

type cached struct {
	key cacheKey
	b   *block
}

// get returns the frame at that place; of those behind a landmark the one that seq is in.
func (c *cache) get(p *place, seq uint64) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.byKey[p.key()] {
		if b := e.Value.(*cached).b; !p.sparse || b.first <= seq && seq <= b.last {
			c.order.MoveToFront(e)
			return b
		}
	}
	return nil
}

func (c *cache) put(k cacheKey, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[cacheKey][]*list.Element{}
	}
	there := func(e *list.Element) bool { return e.Value.(*cached).b.first == b.first }
	if slices.ContainsFunc(c.byKey[k], there) || b.size() > c.limit/2 {
		return
	}
	c.byKey[k] = append(c.byKey[k], c.order.PushFront(&cached{k, b}))
	c.size += b.size()
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	old := c.order.Remove(e).(*cached)
	c.size -= old.b.size()
	if rest := slices.DeleteFunc(c.byKey[old.key], func(x *list.Element) bool { return x == e }); len(rest) > 0 {
		c.byKey[old.key] = rest
	} else {
		delete(c.byKey, old.key)
	}
}

// forget drops the frames of one generation.
func (c *cache) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, list := range c.byKey {
		if k.id != id {
			continue
		}
		for _, e := range slices.Clone(list) {
			c.remove(e)
		}
	}
}

// frames reads frames of one generation after the other.
type frames struct {
	l     *Log
	ahead int // see reader
	id    uint64
	r     *reader
	crypt *crypter // of that generation, nil if it is plain
	next  nearby   // behind the frame that was found last
}

func (f *frames) Close() {
	if f.r != nil {
		f.r.Close()
		f.r = nil
	}
}

// open opens the files of a generation, if they are not.
func (f *frames) open(p *place) error {
	if f.r != nil && f.id == p.id {
		return nil
	}
	f.Close()
	r, err := openReader(filepath.Join(f.l.dir, p.name), p.parts)
	if err != nil {
		return err
	}
	if r.ahead = f.ahead; p.sparse {
		r.ahead = max(r.ahead, stretch)
	}
	if f.crypt, err = f.l.opt.Encryption.crypter(p.suite, p.suiteKey, p.id, p.salt); err != nil {
		r.Close()
		return err
	}
	f.r, f.id, f.next = r, p.id, nearby{}
	return nil
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
	if err := f.open(p); err != nil {
		return nil, err
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
	l.quarantine(l.gens[i], int64(p.ref.off), p.end)
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
		b, err := l.block(&p, seq)
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
		i := 0
		if b != nil {
			i = b.find(seq)
		}
		if b == nil || i == len(b.ends) || b.seq(i) != seq {
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

// block returns the frame at p through the cache, nil if there is none that holds seq. p is moved to it when it is read.
func (l *Log) block(p *place, seq uint64) (*block, error) {
	if b := l.cache.get(p, seq); b != nil {
		return b, nil
	}
	key := p.key()
	f := frames{l: l}
	defer f.Close()
	found, err := f.find(p, seq)
	if err != nil || !found || p.ref.first > seq {
		return nil, err
	}
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
		l.mu.RUnlock()
		if !ok || p.ref.first > to {
			return nil
		}
		key := p.key()
		b, err := f.at(&p, pos)
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
		if b != nil {
			for i := b.find(pos); i < len(b.ends); i++ {
				seq := b.seq(i)
				if seq > to || !fn(seq, b.record(i), b.stampOf(i), p.kind == Cold) {
					l.cache.put(key, b) // who stopped within it will come back for the rest
					return nil
				}
			}
		}
		if p.last >= to {
			return nil
		}
		pos = p.last + 1
	}
	return nil
}

// at reads the frame that holds seq or, if none does, the next one, and moves p to it. There is none (nil) when it is known
// to be lost, or when the next one is behind p.last.
func (f *frames) at(p *place, seq uint64) (*block, error) {
	if b := f.l.cache.get(p, seq); b != nil {
		if p.sparse {
			p.last = b.last
		}
		return b, nil
	}
	if found, err := f.find(p, seq); err != nil || !found {
		return nil, err
	}
	f.l.mu.RLock()
	lost := inRanges(f.l.losses, p.ref.first) // a known loss is a whole frame
	f.l.mu.RUnlock()
	if lost {
		return nil, nil
	}
	return f.load(p)
}
