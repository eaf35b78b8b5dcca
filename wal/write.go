package wal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// write makes the batch durable: in the current generation or, if that fails, once more in a new one. After a failure
// the generation is never written again, and the numbers that the failed frame carried are not used again.
func (c *committer) write(b *Batch) error {
	b.Stamp = c.l.opt.Now()
	var errs [2]error
	for i := range errs {
		err := c.tryWrite(b)
		if err == nil {
			return nil
		}
		errs[i] = err
		c.count(func(s *Stats) { s.Failures++ })
		c.l.opt.Log.Warn("log write failed", "err", err, "attempt", i+1)
	}
	return cmp.Or(errs[1], errs[0])
}

func (c *committer) tryWrite(b *Batch) error {
	if c.cur == nil || c.cur.size >= c.l.opt.Generation {
		if err := c.begin(); err != nil {
			return err
		}
	}
	g := c.cur
	h := header{
		typ: typeData, kind: Main, count: uint32(len(b.Records)), offset: uint32(g.size), salt: g.salt,
		first: c.next, last: c.next + uint64(len(b.Records)) - 1, stamp: b.Stamp,
	}
	frame, err := g.crypt.encrypt(&h, encodeMain(g.crypt.room(c.buf), b.Records))
	if err != nil {
		c.poison()
		return fmt.Errorf("write log: %w", err)
	}
	c.buf = frame
	b.First, c.next = h.first, h.last+1
	n := h.entryLen()
	if err := c.append(c.buf, n); err != nil {
		c.poison()
		return fmt.Errorf("write log: %w", err)
	}
	if err := c.sync(); err != nil {
		return err
	}
	c.recent = (7*c.recent + n) / 8
	if c.unmarked = c.l.opt.Quiet > 0; c.unmarked {
		c.quiet.Reset(c.l.opt.Quiet)
	}
	l := c.l
	l.mu.Lock()
	g.note(&h, g.size)
	g.size += n
	g.bytes = max(g.size, c.cur.zeroed)
	l.head, l.last, l.hasLast = h.last, h.stamp, true
	l.stats.Commits++
	l.stats.Records += int64(h.count)
	l.stats.Bytes += n
	l.mu.Unlock()
	if cap(c.buf) > 4*frameTarget {
		c.buf = nil
	}
	return nil
}

// mark writes a frame without records behind the last one, so that damage to that one is not taken for a write
// that a crash tore. When it fails the generation is finished like after any failed write; nobody waits for it.
func (c *committer) mark() {
	if !c.unmarked || c.cur == nil || c.broken != nil {
		return
	}
	c.unmarked = false
	g := c.cur
	h := header{typ: typeMark, kind: Main, offset: uint32(g.size), salt: g.salt, first: c.next, stamp: c.l.opt.Now()}
	c.buf = append(c.buf[:0], make([]byte, headerSize)...)
	h.finish(c.buf)
	n := h.entryLen()
	if err := c.append(c.buf, n); err != nil {
		c.poison()
		return
	}
	if c.sync() != nil {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	g.size += n
	g.bytes = max(g.size, g.zeroed)
	c.l.stats.Bytes += n
}

// zeroBelow is the average frame size below which zeros are written ahead. Measured on ext4: overwriting zeros that are
// on disk costs one write of the data and one flush, but every byte is written twice; appending costs also a journal
// commit and its flush. In bytes the two cross where the journal does: at 20 KiB, or 12 with blocks reserved. Up to
// this size the rate of the zeros is worth more.
const zeroBelow = 24 << 10

// append writes one entry of n bytes at the end of the current generation. What makes the fsync behind it cheaper comes
// first, unless space is short: then it would take what the reserve file gave back.
func (c *committer) append(frame []byte, n int64) error {
	g := c.cur
	switch end := g.size + n; {
	case !c.inPlace || c.broken != nil:
	case c.recent >= zeroBelow:
		c.reserve(end)
	case end > g.zeroed:
		c.zeroAhead(end)
	}
	return g.seg.Write(frame)
}

// zeroAhead writes zeros behind the entry that ends at end: not beyond the generation's end; and in steps, so that one
// fsync never has much more to write than its frame.
func (c *committer) zeroAhead(end int64) {
	g := c.cur
	ahead := min(max(16*c.recent, 64<<10), 256<<10)
	to := min(end+ahead, max(c.l.opt.Generation, end))
	if to == end {
		return
	}
	// An error is no reason to fail: zeros are only for speed, and there may be space for the frame itself.
	if err := g.seg.Zero(end, to-end); err == nil {
		c.count(func(s *Stats) { s.Bytes += to - end })
	}
	g.zeroed = to
}

// reserve has the file system find all blocks of the generation now, with those of the frame that reaches over its end
// and of the seal: an fsync then journals the file's size alone, and not every time the maps of free blocks too (8 of 20
// KiB on ext4). It is tried once for a generation, and not on a disk that has no more than a few of them left.
func (c *committer) reserve(end int64) {
	g, size := c.cur, c.l.opt.Generation
	to := size + frameTarget
	if g.reserved || end <= g.zeroed || end > to {
		return
	}
	g.reserved = true
	if free, _, err := c.l.disk.Free(c.l.dir); err == nil && free >= 4*size {
		_ = g.seg.Reserve(to) // as with zeros: only for speed
	}
}

// sync makes the current generation durable.
func (c *committer) sync() error {
	err := c.cur.seg.Sync()
	c.count(func(s *Stats) { s.Fsyncs++ })
	if err != nil {
		c.poison()
		return fmt.Errorf("sync log: %w", err)
	}
	return nil
}

// poison finishes the current generation after an error: what an fsync that failed has left in it is anybody's guess
// (a second fsync would succeed and hide the loss), so only what was synced before counts, as the next head will say.
func (c *committer) poison() {
	g := c.cur
	c.cur = nil
	c.l.retiring.Add(1)
	go func() { _ = c.l.retire(g, false) }() // without a seal the next start reads it whole
}

// begin makes a new main generation the current one: head, file and directories are durable when it returns. They must
// be, before a record is: once the generation is listed its predecessor may be dropped, and then this head alone knows
// which numbers have been used. The generation before is never written again, whether begin succeeds or not: a head that
// says how long it is may be on disk.
func (c *committer) begin() error {
	l := c.l
	g, seg, err := l.create(Main)
	if err != nil {
		return err
	}
	meta := headMeta{id: g.id, pred: c.pred, skip: c.skip}
	l.mu.RLock()
	for _, s := range l.snaps[max(len(l.snaps)-2, 0):] {
		meta.snapshots = append(meta.snapshots, s.id)
	}
	meta.attests = l.attestsLocked()
	l.mu.RUnlock()
	h := header{kind: Main, salt: g.salt, suite: g.suite, key: g.key, first: c.next, stamp: l.opt.Now()}
	err = seg.Write(headFrame(h, &meta))
	if err == nil {
		err = seg.Sync()
	}
	if err == nil {
		err = l.disk.SyncDir(filepath.Join(l.dir, g.name))
	}
	if err == nil {
		err = l.disk.SyncDir(l.dir)
	}
	if err != nil {
		seg.Close()
		_ = removeGeneration(l.disk, filepath.Join(l.dir, g.name))
		return fmt.Errorf("begin generation %d: %w", g.id, err)
	}
	g.firstStamp, g.lastStamp = h.stamp, h.stamp
	g.size, g.bytes, g.open = headEntry, headEntry, true
	old := c.cur
	c.unmarked = false // the head says how much of the one before was synced
	c.cur, c.pred, c.skip = &current{generation: g, seg: seg}, g.id, 0
	l.mu.Lock()
	g.first = c.next
	l.gens = append(l.gens, g)
	l.stats.Rotations++
	l.stats.Fsyncs += 3
	l.stats.Bytes += headEntry
	l.mu.Unlock()
	if old != nil {
		l.retiring.Add(1)
		go func() { _ = l.retire(old, true) }() // as above
	}
	l.removeIdle()
	return nil
}

// removeIdle removes generations that never held a record. It comes after a newer one is durable, which remembers the
// numbers, and says that nothing in them counts.
func (l *Log) removeIdle() {
	l.mu.Lock()
	gone := l.idle
	l.idle = nil
	l.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	if err := l.unlink(gone); err != nil {
		l.opt.Log.Warn("remove empty generations", "err", err)
	}
}

// create makes the directory and the file of a new generation; a side's stays unlisted until it is complete.
func (l *Log) create(kind Kind) (*generation, segment, error) {
	l.mu.Lock()
	id := l.nextID
	l.nextID++
	l.mu.Unlock()
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	g := &generation{id: id, kind: kind, name: generationName(id), salt: binary.LittleEndian.Uint64(salt[:]) | 1}
	g.suite, g.key = l.opt.Encryption.current()
	var err error
	if g.crypt, err = l.opt.Encryption.crypter(g.suite, g.key, id, g.salt); err != nil {
		return nil, nil, fmt.Errorf("begin generation: %w", err)
	}
	g.parts = []part{{name: firstPart}}
	size := int64(0)
	if kind != Main {
		g.name, size = sideName(id), l.opt.Generation
	}
	dir := filepath.Join(l.dir, g.name)
	if err := l.disk.Mkdir(dir); err != nil {
		return nil, nil, fmt.Errorf("begin generation %d: %w", id, err)
	}
	seg, err := l.disk.Create(dir, size)
	if err != nil {
		_ = removeGeneration(l.disk, dir)
		return nil, nil, fmt.Errorf("begin generation %d: %w", id, err)
	}
	return g, seg, nil
}

// attestsLocked lists the main generations without a seal, the newest first. Those that could not be removed count: the
// next start finds them again.
func (l *Log) attestsLocked() []attest {
	var out []attest
	for _, g := range slices.Backward(slices.Concat(l.doomed, l.idle, l.gens)) {
		if g.kind == Main && !g.sealed {
			a := attest{id: g.id, length: g.size, salt: g.salt}
			if g.records > 0 {
				a.first, a.last = g.first, g.last
			}
			out = append(out, a)
		}
	}
	return out
}

// retire ends a generation that is no longer written: with a seal, so that the next start need not read it, unless it
// is poisoned. Nothing depends on that to succeed.
func (l *Log) retire(g *current, seal bool) error {
	defer l.retiring.Done()
	l.mu.RLock()
	m := sealMeta{first: g.first, last: g.last, records: g.records, firstStamp: g.firstStamp, lastStamp: g.lastStamp, frames: g.frames}
	h := header{typ: typeSeal, kind: g.kind, suite: g.suite, key: g.key, offset: uint32(g.size), salt: g.salt, first: g.last + 1, stamp: g.lastStamp}
	size := g.size
	l.mu.RUnlock()
	var err error
	if seal && m.records > 0 {
		frame := m.encode(make([]byte, headerSize), size)
		h.finish(frame)
		if err = g.seg.Write(frame); err == nil {
			size += h.entryLen()
			if g.zeroed > size {
				err = g.seg.Truncate(size)
			}
		}
	}
	err = errors.Join(err, g.seg.Close())
	l.mu.Lock()
	defer l.mu.Unlock()
	g.open, g.crypt = false, nil
	g.frames = slices.Clone(g.frames) // it grew by doubling
	if m.records == 0 {
		l.gens = slices.DeleteFunc(l.gens, func(x *generation) bool { return x == g.generation })
		l.idle = append(l.idle, g.generation)
	}
	if seal && err == nil && m.records > 0 {
		g.sealed, g.bytes = true, size
		g.thin(l.stretch())
		l.stats.Fsyncs++
	}
	return err
}

func (c *committer) count(f func(*Stats)) {
	c.l.mu.Lock()
	f(&c.l.stats)
	c.l.mu.Unlock()
}
