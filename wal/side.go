package wal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Side is a generation written beside the log: a cold one by cleaning, or a snapshot. Nothing of it is visible until
// Commit or Replace; a crash before removes it. A Side is for one goroutine; several may be written at the same time.
type Side struct {
	l    *Log
	g    *generation
	seg  segment
	cold []coldRecord
	snap []Record
	size int64 // raw bytes in cold or snap
	buf  []byte
	err  error
	done bool
}

// NewSide begins a generation of kind Cold or Snapshot.
func (l *Log) NewSide(kind Kind) (*Side, error) {
	if kind != Cold && kind != Snapshot {
		return nil, fmt.Errorf("begin side: it cannot be %s", kind)
	}
	if err := l.usable(); err != nil {
		return nil, err
	}
	l.makeRoom(headEntry)
	g, seg, err := l.create(kind)
	if err != nil {
		return nil, l.sideError("begin side", err)
	}
	return &Side{l: l, g: g, seg: seg}, nil
}

func (l *Log) usable() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed || !l.started {
		return ErrClosed
	}
	return nil
}

// makeRoom releases the reserve file when less than n bytes and a margin are left: cleaning must be able to go on when
// publishing no longer is.
func (l *Log) makeRoom(n int64) {
	const margin = 256 << 10
	free, _, err := l.disk.Free(l.dir)
	if err != nil || free > n+margin {
		return
	}
	l.spend()
}

func (l *Log) spend() {
	if l.releaseReserve() {
		l.spent.Store(true)
		l.queue.wake()
	}
}

// sideError makes an error of the disk one of ours. A full disk also releases the reserve file, so that trying again helps.
func (l *Log) sideError(what string, err error) error {
	kind := ErrFailed
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		kind = ErrFull
		l.spend()
	}
	return fmt.Errorf("%s: %w: %w", what, kind, err)
}

// Append adds a record. In a cold side numbers must ascend, and number and stamp are those of the original; in a
// snapshot seq is ignored. data is copied before the frame it is in is full. After an error the side can only be aborted.
func (s *Side) Append(seq uint64, data []byte, stamp Stamp) error {
	switch {
	case s.done:
		return ErrClosed
	case s.err != nil:
		return s.err
	case len(data)+4 > MaxAppend:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxAppend-4)
	}
	if s.g.kind == Cold {
		last := s.g.last
		if n := len(s.cold); n > 0 {
			last = s.cold[n-1].seq
		}
		if seq <= last {
			return fmt.Errorf("append %d to cold side: it must be above %d", seq, last)
		}
	}
	if s.size > 0 && s.size+int64(len(data)) > frameTarget {
		if err := s.flush(); err != nil {
			return err
		}
	}
	data = slices.Clone(data)
	if s.g.kind == Cold {
		s.cold = append(s.cold, coldRecord{seq: seq, stamp: stamp, data: data})
	} else {
		if len(s.snap) == 0 {
			s.g.lastStamp = stamp
		}
		s.snap = append(s.snap, Record{Data: data})
	}
	s.size += int64(len(data)) + 4
	return nil
}

// flush writes the frame that is being filled.
func (s *Side) flush() error {
	if s.err != nil || len(s.cold)+len(s.snap) == 0 {
		return s.err
	}
	h := header{typ: typeData, kind: s.g.kind}
	s.buf = s.g.crypt.room(s.buf)
	if s.g.kind == Cold {
		h.count, h.stamp = uint32(len(s.cold)), s.cold[0].stamp
		h.first, h.last = s.cold[0].seq, s.cold[len(s.cold)-1].seq
		s.buf, h.flags = encodeCold(s.buf, s.cold)
	} else {
		h.count, h.stamp = uint32(len(s.snap)), s.g.lastStamp
		s.buf = encodeMain(s.buf, s.snap)
	}
	if s.err = s.head(h.first, h.stamp); s.err == nil {
		s.err = s.write(&h)
	}
	clear(s.cold)
	clear(s.snap)
	s.cold, s.snap, s.size = s.cold[:0], s.snap[:0], 0
	return s.err
}

// head writes the head, before anything else.
func (s *Side) head(first uint64, stamp Stamp) error {
	if s.g.size > 0 {
		return nil
	}
	if s.g.kind == Snapshot { // one more place that remembers which numbers have been used
		first = s.l.Head() + 1
	}
	frame := headFrame(header{kind: s.g.kind, salt: s.g.salt, suite: s.g.suite, key: s.g.key, first: first, stamp: stamp}, &headMeta{id: s.g.id})
	if err := s.seg.Write(frame); err != nil {
		return s.l.sideError("write side", err)
	}
	s.g.size = headEntry
	return nil
}

// write finishes and writes the frame in s.buf.
func (s *Side) write(h *header) error {
	l := s.l
	h.salt, h.suite, h.key, h.offset = s.g.salt, s.g.suite, s.g.key, uint32(s.g.size)
	if h.typ == typeData {
		var err error
		if s.buf, err = s.g.crypt.encrypt(h, s.buf); err != nil {
			return fmt.Errorf("write side: %w", err)
		}
	} else {
		h.finish(s.buf)
	}
	n := h.entryLen()
	if s.g.size+n > 1<<31 {
		return fmt.Errorf("write side: %w: more than 2 GiB", ErrTooLarge)
	}
	l.makeRoom(n)
	if err := s.seg.Write(s.buf); err != nil {
		return l.sideError("write side", err)
	}
	if h.typ == typeData {
		s.g.note(h, s.g.size)
	}
	s.g.size += n
	l.mu.Lock()
	l.stats.Bytes += n
	l.mu.Unlock()
	return nil
}

// Commit makes the side durable and visible: the commit frame, the file, its directory, the new name, the log's
// directory, in this order. A cold side that replaces other generations is committed by Replace instead.
func (s *Side) Commit() error { return s.commit(nil) }

func (s *Side) commit(drop []uint64) error {
	if s.done {
		return ErrClosed
	}
	if err := s.l.usable(); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.err = s.finish(drop); s.err != nil {
		return s.err
	}
	s.done = true
	if gone := s.l.show(s.g, drop); len(gone) > 0 {
		return s.l.unlink(gone)
	}
	return nil
}

func (s *Side) finish(drop []uint64) error {
	l, g := s.l, s.g
	if g.kind == Cold {
		if err := l.checkInterval(g, drop); err != nil {
			return err
		}
	}
	stamp, _ := l.Last()
	if err := s.head(g.first, stamp); err != nil {
		return err
	}
	m := sealMeta{
		first: g.first, last: g.last, records: g.records, firstStamp: g.firstStamp, lastStamp: g.lastStamp,
		drops: drop, frames: g.frames,
	}
	s.buf = m.encode(append(s.buf[:0], make([]byte, headerSize)...), g.size)
	if err := s.write(&header{typ: typeSeal, kind: g.kind, first: g.last + 1, stamp: g.lastStamp}); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, g.name)
	err := s.seg.Close() // it syncs
	s.seg = nil
	if err == nil {
		err = l.disk.SyncDir(dir)
	}
	if err == nil {
		g.parts, g.bytes, err = listParts(dir)
	}
	if err == nil {
		err = l.disk.Rename(dir, filepath.Join(l.dir, generationName(g.id)))
	}
	if err != nil {
		return l.sideError("commit side", err)
	}
	g.name, g.sealed, g.crypt = generationName(g.id), true, nil
	if err := l.disk.SyncDir(l.dir); err != nil {
		return l.sideError("commit side", err)
	}
	return nil
}

// checkInterval makes sure that a cold generation overlaps nothing but what it replaces.
func (l *Log) checkInterval(g *generation, drop []uint64) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if id := l.newestLocked(); slices.Contains(drop, id) {
		return fmt.Errorf("replace: generation %d is the newest", id)
	}
	for _, x := range l.gens {
		if slices.Contains(drop, x.id) {
			continue
		}
		if g.records > 0 && x.last > 0 && g.first <= x.last && x.first <= g.last {
			return fmt.Errorf("replace: records %d..%d overlap generation %d (%d..%d), which stays", g.first, g.last, x.id, x.first, x.last)
		}
	}
	return nil
}

// show lists g in place of the dropped generations, for readers in one step. It returns those.
func (l *Log) show(g *generation, drop []uint64) (gone []*generation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.kind == Snapshot {
		l.snaps = append(l.snaps, g)
		slices.SortFunc(l.snaps, func(a, b *generation) int { return cmp.Compare(a.id, b.id) })
		return nil
	}
	gone = l.unlistLocked(drop)
	if g.records > 0 {
		g.thin(l.stretch())
		l.gens = append(l.gens, g)
		slices.SortFunc(l.gens, func(a, b *generation) int { return cmp.Compare(a.first, b.first) })
	}
	return gone
}

// Abort gives up a side that is not committed and removes it; otherwise it does nothing.
func (s *Side) Abort() {
	if s.done {
		return
	}
	s.done = true
	if s.seg != nil {
		_ = s.seg.Close()
	}
	if err := removeGeneration(s.l.disk, filepath.Join(s.l.dir, s.g.name)); err != nil {
		s.l.mu.Lock()
		s.l.doomed = append(s.l.doomed, s.g) // it may be complete but for an fsync: it must not come back
		s.l.mu.Unlock()
	}
}

// Replace commits cold, which holds what is still needed of the generations in drop, and only then removes those. A
// crash at any point leaves every record of cold readable; the next Open finishes the rest. After an error before the
// commit nothing has changed and cold can be aborted; an error after it says so, and the next Open or Drop removes
// what is left.
func (l *Log) Replace(cold *Side, drop []uint64) error {
	if cold.g.kind != Cold {
		return fmt.Errorf("replace: the side is a %s", cold.g.kind)
	}
	if cold.g.records == 0 && len(cold.cold) == 0 { // nothing is needed any more
		cold.Abort()
		return l.Drop(drop)
	}
	return cold.commit(drop)
}

// newestLocked returns the id of the newest main generation. It must stay even if nobody writes it any more: when all
// others are gone it alone knows which numbers have been used.
func (l *Log) newestLocked() uint64 {
	var id uint64
	for _, g := range l.gens {
		if g.kind == Main {
			id = max(id, g.id)
		}
	}
	return id
}

// Drop removes generations (not the open one): they are unlisted at once, then unlinked, then the directory is synced.
// Ids that are not listed are ignored.
func (l *Log) Drop(ids []uint64) error {
	if err := l.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	if id := l.newestLocked(); slices.Contains(ids, id) {
		l.mu.Unlock()
		return fmt.Errorf("drop generation %d: it is the newest", id)
	}
	gone := l.unlistLocked(ids)
	l.mu.Unlock()
	return l.unlink(gone)
}

// unlistLocked takes generations out of the lists and returns them.
func (l *Log) unlistLocked(ids []uint64) (gone []*generation) {
	gone, l.doomed = l.doomed, nil // try these again
	drop := func(g *generation) bool {
		if slices.Contains(ids, g.id) {
			gone = append(gone, g)
			return true
		}
		return false
	}
	l.gens = slices.DeleteFunc(slices.Clone(l.gens), drop)
	l.snaps = slices.DeleteFunc(slices.Clone(l.snaps), drop)
	return gone
}

// unlink removes generations that are no longer listed. It renames them first, and syncs that: a generation that has lost
// its file to a removal that a crash interrupted must not look like one that has lost it to an accident.
func (l *Log) unlink(gone []*generation) error {
	var errs []error
	var failed []*generation
	l.mu.Lock()
	trash := l.trash
	l.trash = nil
	l.mu.Unlock()
	for _, g := range gone {
		l.cache.forget(g.id)
		to := trashName(g.id)
		if err := l.disk.Rename(filepath.Join(l.dir, g.name), filepath.Join(l.dir, to)); err == nil {
			trash = append(trash, to)
		} else if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("drop generation %d: %w", g.id, err))
			failed = append(failed, g)
		}
	}
	if err := l.disk.SyncDir(l.dir); err != nil {
		errs = append(errs, fmt.Errorf("drop: %w", err))
	} else {
		trash = slices.DeleteFunc(trash, func(name string) bool {
			err := removeGeneration(l.disk, filepath.Join(l.dir, name))
			if err != nil {
				errs = append(errs, fmt.Errorf("drop: %w", err))
			}
			return err == nil
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doomed = append(l.doomed, failed...)
	l.trash = append(l.trash, trash...)
	return errors.Join(errs...)
}

// Snapshots lists the complete snapshots, the newest first.
func (l *Log) Snapshots() []uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []uint64
	for _, g := range slices.Backward(l.snaps) {
		out = append(out, g.id)
	}
	return out
}

// ReadSnapshot calls fn for every record of a snapshot, in order, after all of it was checked: ErrDamaged if a frame is
// bad or the commit frame is missing, ErrForged or ErrKey if one cannot be decrypted, ErrNotFound if there is no such snapshot, or what fn returns. data is valid during fn.
func (l *Log) ReadSnapshot(id uint64, fn func(data []byte) error) error {
	l.mu.RLock()
	i := slices.IndexFunc(l.snaps, func(g *generation) bool { return g.id == id })
	var g generation
	if i >= 0 {
		g = *l.snaps[i]
	}
	l.mu.RUnlock()
	if i < 0 {
		return fmt.Errorf("read snapshot %d: %w", id, ErrNotFound)
	}
	r, err := openReader(filepath.Join(l.dir, g.name), g.parts)
	if err != nil {
		return fmt.Errorf("read snapshot %d: %w", id, err)
	}
	defer r.Close()
	crypt, err := l.opt.Encryption.crypter(g.suite, g.key, g.id, g.salt)
	if err != nil {
		return fmt.Errorf("read snapshot %d: %w", id, err)
	}
	for _, f := range []func([]byte) error{func([]byte) error { return nil }, fn} {
		if err := readSnapshot(r, &g, crypt, f); err != nil {
			return fmt.Errorf("read snapshot %d: %w", id, err)
		}
	}
	return nil
}

func readSnapshot(r *reader, g *generation, crypt *crypter, fn func([]byte) error) error {
	_, m, ok := readSeal(r, g.bytes, g.salt)
	if !ok {
		return fmt.Errorf("%w: the commit frame is missing", ErrDamaged)
	}
	s := scanner{r: r, size: g.bytes, salt: g.salt, pos: headEntry}
	var records int64
	buf := make([]byte, frameTarget+frameTarget/4)
	for {
		f, ok := s.next(true, buf)
		if !ok || !f.intact || f.gap < f.off {
			return fmt.Errorf("%w: the frame at %d", ErrDamaged, s.pos)
		}
		if f.typ == typeSeal {
			break
		}
		buf = f.payload[:cap(f.payload)]
		p, err := crypt.decrypt(&f.header, f.payload)
		if err != nil {
			return fmt.Errorf("the frame at %d: %w", f.off, err)
		}
		b, err := decode(&f.header, p)
		if err != nil {
			return fmt.Errorf("%w: the frame at %d", ErrDamaged, f.off)
		}
		records += int64(len(b.ends))
		for i := range b.ends {
			if err := fn(b.record(i)); err != nil {
				return err
			}
		}
	}
	if records != m.records {
		return fmt.Errorf("%w: %d of %d records", ErrDamaged, records, m.records)
	}
	return nil
}
