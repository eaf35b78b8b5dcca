package wal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// committer is the one goroutine that writes main generations. Everything in it belongs to that goroutine.
type committer struct {
	l    *Log
	next uint64 // number of the next record
	skip uint64 // numbers skipped by this start, declared by its first generation
	pred uint64 // id of the main generation before cur
	cur  *current
	reqs []request
	buf  []byte

	riders     []Record // collected and not yet durable
	riderBytes int64
	expect     int   // waiters the next frame may hope for
	recent     int64 // moving average of frame sizes: decides about zeros ahead
	inPlace    bool  // the file system overwrites in place

	broken  error // why appends are refused now; nil if they are not
	stuck   bool  // broken, and riders could not be written either; recover tries again
	backoff time.Duration
	retry   *time.Timer
}

// current is the generation being written.
type current struct {
	*generation
	seg    segment
	zeroed int64 // zeros are written up to here
}

// Start begins this run's first generation, the committer, and the reserve file. A full or failing disk is no error here: appends are refused until it recovers (Health says why).
func (l *Log) Start() error {
	l.mu.Lock()
	if l.started || l.closed {
		l.mu.Unlock()
		return errors.New("start log: it was started or closed before")
	}
	l.started = true
	l.mu.Unlock()
	c := &l.com
	c.recent, c.expect = 1, 1
	c.retry = time.NewTimer(time.Hour)
	c.retry.Stop()
	if _, inPlace, err := l.disk.Free(l.dir); err == nil {
		c.inPlace = inPlace
	}
	err := c.begin()
	if err == nil {
		err = l.holdReserve()
	}
	if err != nil {
		c.breakDown(err)
	}
	go c.run()
	return nil
}

// Close commits what is queued, seals the generation and lets go of the directory. Appends that arrive later, or cannot
// be stored now, get ErrClosed or the error that stands in the way. The second call returns ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	started, closed := l.started, l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	l.queue.close()
	var err error
	if started {
		<-l.finished
		if c := &l.com; c.cur != nil {
			l.retiring.Add(1)
			err = l.retire(c.cur, true)
			c.cur = nil
		}
		if len(l.com.riders) > 0 {
			err = errors.Join(err, fmt.Errorf("%d riders were not stored: %w", len(l.com.riders), l.com.broken))
		}
		l.retiring.Wait()
	}
	l.lock.release()
	return err
}

// run is the committer's loop.
func (c *committer) run() {
	defer close(c.l.finished)
	defer c.retry.Stop()
	q := &c.l.queue
	for {
		if c.l.spent.Swap(false) && c.broken == nil {
			c.breakDown(fmt.Errorf("cleaning uses the reserve file: %w", unix.ENOSPC))
		}
		work, closed := q.state()
		if !work && !closed {
			select {
			case <-q.signal:
			case <-c.retry.C:
				c.recover()
			}
			continue
		}
		select {
		case <-c.retry.C: // also under a stream of appends that are refused
			c.recover()
		default:
		}
		if work {
			c.linger()
			c.reqs = q.take(c.reqs)
			c.commit(c.reqs)
			clear(c.reqs)
			continue
		}
		c.recover() // a last try for the riders
		for c.commit(nil); len(c.riders) > 0 && c.broken == nil; {
			c.commit(nil)
		}
		return
	}
}

// linger waits until as many appends are queued as the last commit lets expect, for Linger at most. A lone publisher
// never waits; many that publish again as soon as they are answered are all in one frame.
func (c *committer) linger() {
	q := &c.l.queue
	if c.expect <= 1 || c.l.opt.Linger < 0 || c.broken != nil {
		return
	}
	defer q.waiting(1)
	timer := time.NewTimer(c.l.opt.Linger)
	defer timer.Stop()
	for {
		if n, hurry := q.waiting(c.expect); hurry || n >= c.expect {
			return
		}
		select {
		case <-q.signal:
		case <-timer.C:
			return
		}
	}
}

// commit writes one frame of reqs and what Collect adds, and answers.
func (c *committer) commit(reqs []request) {
	reqs = c.answerRefused(reqs)
	if c.broken != nil {
		c.refuse(reqs)
		if reqs = nil; c.stuck || !errors.Is(c.broken, ErrFull) {
			return // riders wait for recover
		}
	}
	c.collect()
	if len(reqs) == 0 && len(c.riders) == 0 {
		return
	}
	batch, riders := c.batch(reqs)
	if err := c.write(&batch); err != nil {
		c.stuck = c.broken != nil
		c.breakDown(err)
		c.refuse(reqs)
		if riders > 0 && !c.stuck {
			c.l.Flush() // what the reserve file gave back is for the riders
		}
		return
	}
	c.riders = slices.Delete(c.riders, 0, riders)
	c.riderBytes = rawSize(c.riders)
	if len(c.riders) > 0 {
		c.l.Flush()
	}
	if f := c.l.opt.Committed; f != nil {
		f(batch)
	}
	first := batch.First
	for i := range reqs {
		reqs[i].done(first, nil)
		first += uint64(len(reqs[i].recs))
	}
	queued, _ := c.l.queue.waiting(1)
	c.expect = len(reqs) + queued
}

// answerRefused answers requests that carry their error already, or nothing, and returns the others.
func (c *committer) answerRefused(reqs []request) []request {
	return slices.DeleteFunc(reqs, func(r request) bool {
		switch {
		case r.err != nil:
			r.done(0, r.err)
		case len(r.recs) == 0:
			r.done(c.l.Head(), nil)
		default:
			return false
		}
		return true
	})
}

func (c *committer) refuse(reqs []request) {
	for i := range reqs {
		reqs[i].done(0, c.broken)
	}
}

// collect asks for riders, unless enough of them wait already.
func (c *committer) collect() {
	if c.l.opt.Collect == nil || c.riderBytes >= frameTarget {
		return
	}
	c.l.opt.Collect(func(r Record) {
		if int64(len(r.Data))+4 > MaxAppend {
			c.l.opt.Log.Error("rider refused", "bytes", len(r.Data), "most", MaxAppend)
			return
		}
		c.riders = append(c.riders, r)
		c.riderBytes += int64(len(r.Data)) + 4
	})
}

// batch lays out the next frame: the requests, then as many riders as fit (at least one if they are alone).
func (c *committer) batch(reqs []request) (b Batch, riders int) {
	n := 0
	for i := range reqs {
		n += len(reqs[i].recs)
	}
	b.Records = make([]Record, 0, n+len(c.riders))
	var size int64
	for i := range reqs {
		b.Records = append(b.Records, reqs[i].recs...)
		size += reqs[i].size
	}
	for _, r := range c.riders {
		size += int64(len(r.Data)) + 4
		if len(b.Records) > 0 && size > max(frameTarget, maxPayload-MaxAppend/4) {
			break
		}
		b.Records = append(b.Records, r)
		riders++
	}
	return b, riders
}

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
	c.buf = encodeMain(append(c.buf[:0], make([]byte, headerSize)...), b.Records)
	h.finish(c.buf)
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

// zeroBelow is the average frame size below which zeros are written ahead. Measured on ext4: overwriting zeros that are
// on disk costs one write of the data, appending also a journal commit for the new size; but every byte is written
// twice. The two cross at about 100 records of 256 bytes.
const zeroBelow = 24 << 10

// append writes one entry of n bytes at the end of the current generation, after zeros if they pay.
func (c *committer) append(frame []byte, n int64) error {
	g := c.cur
	if end := g.size + n; c.inPlace && c.recent < zeroBelow && end > g.zeroed {
		// Not beyond the generation's end; and in steps, so that one fsync never has much more to write than its frame.
		ahead := min(max(16*c.recent, 64<<10), 256<<10)
		to := min(end+ahead, max(c.l.opt.Generation, end))
		if to > end {
			// An error is no reason to fail: zeros are only for speed, and there may be space for the frame itself.
			if err := g.seg.Zero(end, to-end); err == nil {
				c.count(func(s *Stats) { s.Bytes += to - end })
			}
			g.zeroed = to
		}
	}
	return g.seg.Write(frame)
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
	go c.l.retire(g, false)
}

// begin makes a new main generation the current one: head, file and directories are durable when it returns. They must
// be, before a record is: once the generation is listed its predecessor may be dropped, and then this head alone knows
// which numbers have been used.
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
	h := header{kind: Main, salt: g.salt, first: c.next, stamp: l.opt.Now()}
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
		go l.retire(old, true)
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
	h := header{typ: typeSeal, kind: g.kind, offset: uint32(g.size), salt: g.salt, first: g.last + 1, stamp: g.lastStamp}
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
	g.open = false
	if m.records == 0 {
		l.gens = slices.DeleteFunc(l.gens, func(x *generation) bool { return x == g.generation })
		l.idle = append(l.idle, g.generation)
	}
	if seal && err == nil && m.records > 0 {
		g.sealed, g.bytes = true, size
		l.stats.Fsyncs++
	}
	return err
}

func (c *committer) count(f func(*Stats)) {
	c.l.mu.Lock()
	f(&c.l.stats)
	c.l.mu.Unlock()
}

// breakDown refuses appends from now on, and sets the time of the next try.
func (c *committer) breakDown(err error) {
	l := c.l
	kind := ErrFailed
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		kind = ErrFull
		l.releaseReserve()
	}
	if c.broken == nil {
		l.opt.Log.Error("log refuses appends", "why", kind, "err", err)
	}
	c.broken = fmt.Errorf("%w: %w", kind, err)
	l.mu.Lock()
	l.health = c.broken
	l.mu.Unlock()
	c.backoff = min(max(2*c.backoff, minBackoff), maxBackoff)
	c.retry.Reset(c.backoff)
}

// recover tries whether the disk works again.
func (c *committer) recover() {
	if c.broken == nil {
		return
	}
	l := c.l
	c.stuck = false
	err := l.holdReserve()
	if err == nil && (c.cur == nil || c.cur.size >= l.opt.Generation) {
		err = c.begin()
	}
	if err != nil {
		c.breakDown(err)
		c.commit(nil) // the riders, if there is space for them
		return
	}
	l.opt.Log.Info("log accepts appends again", "was", c.broken)
	c.broken, c.backoff = nil, 0
	l.mu.Lock()
	l.health = nil
	l.mu.Unlock()
	l.Flush() // riders may wait
}

// holdReserve makes sure that the reserve file exists. Space is checked first, so that a full disk is not written to
// again and again.
func (l *Log) holdReserve() error {
	l.mu.RLock()
	held := l.reserved
	l.mu.RUnlock()
	if held {
		return nil
	}
	free, _, err := l.disk.Free(l.dir)
	if err != nil {
		return fmt.Errorf("look for space: %w", err)
	}
	if need := max(l.opt.Reserve, 0) + l.opt.Generation; free < need {
		return fmt.Errorf("%d bytes are free, %d are needed: %w", free, need, unix.ENOSPC)
	}
	if l.opt.Reserve < 0 {
		return nil
	}
	path := filepath.Join(l.dir, reserve)
	if err := l.disk.Fill(path, l.opt.Reserve); err != nil {
		_ = l.disk.Remove(path)
		return fmt.Errorf("write reserve file: %w", err)
	}
	l.mu.Lock()
	l.reserved = true
	l.mu.Unlock()
	return nil
}

// releaseReserve gives the space of the reserve file to riders and sides. It reports whether there was one.
func (l *Log) releaseReserve() bool {
	l.mu.Lock()
	held := l.reserved
	l.reserved = false
	l.mu.Unlock()
	if held {
		if err := l.disk.Remove(filepath.Join(l.dir, reserve)); err != nil {
			l.opt.Log.Warn("release reserve file", "err", err)
		}
	}
	return held
}
