package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"math"

	"edgepost/appliance/message"
	"edgepost/wal"
)

const (
	leastLedger = 64 << 10 // bytes behind the last snapshot before another is worth its writes
	ledgerRatio = 4        // and this many times its size: the snapshot's share of all writes stays below a quarter
	manyStarts  = 16       // generations (one a start) before another snapshot lets them go
	maxDamage   = 20       // reports kept
)

// ledger keeps tables durable. Its owner calls it from one goroutine at a time.
type ledger struct {
	log  *wal.Log
	slog *slog.Logger

	base     uint64 // snapshot that was read or written last; 0 none
	covers   uint64 // what it covers
	size     int64  // bytes of its records
	since    int64  // bytes of records behind it
	patience int64  // grows after a failed snapshot, so that not every change tries again

	damage  []string
	damaged int
}

func openLedger(dir string, o wal.Options) (*ledger, error) {
	log, err := wal.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return &ledger{log: log, slog: o.Log, patience: 1}, nil
}

// load reads everything. The error is an unknown record or a disk that cannot be read; damage is
// only reported.
func (l *ledger) load() (*tables, error) {
	t := newTables()
	for _, id := range l.log.Snapshots() {
		candidate := newTables()
		err := l.readSnapshot(id, candidate)
		if err == nil {
			t = candidate
			break
		}
		if _, ok := errors.AsType[unknownKind](err); ok || errors.Is(err, wal.ErrForged) || errors.Is(err, wal.ErrKey) {
			return nil, fmt.Errorf("read snapshot %d: %w", id, err)
		}
		l.report("snapshot %d cannot be read, going back to the one before it: %v", id, err)
	}
	var unknown error
	err := l.log.Scan(l.covers+1, math.MaxUint64, func(seq uint64, data []byte, _ wal.Stamp, _ bool) bool {
		r, err := decode(data)
		if _, ok := errors.AsType[unknownKind](err); ok {
			unknown = fmt.Errorf("read record %d: %w", seq, err)
			return false
		}
		if err != nil || r.kind == covers {
			l.report("record %d is left out: %v", seq, errors.Join(err, errRecord))
			return true
		}
		t.apply(&r)
		l.since += int64(len(data))
		return true
	})
	if err = errors.Join(err, unknown); err != nil {
		return nil, err
	}
	for _, lost := range l.log.Losses() {
		if lost.Last > l.covers {
			l.report("records %d to %d are damaged on disk; changes made by them are undone", lost.First, lost.Last)
		}
	}
	return t, nil
}

func (l *ledger) readSnapshot(id uint64, t *tables) error {
	first, size, covered := true, int64(0), uint64(0)
	err := l.log.ReadSnapshot(id, func(data []byte) error {
		r, err := decode(data)
		if err == nil && first != (r.kind == covers) {
			err = errRecord
		}
		if err != nil {
			return err
		}
		if first {
			first, covered = false, r.covers
			return nil
		}
		size += int64(len(data))
		t.apply(&r)
		return nil
	})
	if err == nil && first {
		err = errors.New("it is empty")
	}
	if err != nil {
		return err
	}
	l.base, l.covers, l.size = id, covered, size
	return nil
}

func (l *ledger) report(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	l.damaged++
	if len(l.damage) < maxDamage {
		l.damage = append(l.damage, s)
	}
	l.slog.Error("registry is damaged", "what", s)
}

// append makes records durable, all or none.
func (l *ledger) append(records []*record) error { return l.write(l.log.Append, records) }

// appendUrgent is append also on a full disk, in space that is kept for it.
func (l *ledger) appendUrgent(records []*record) error { return l.write(l.log.AppendUrgent, records) }

func (l *ledger) write(to func([]wal.Record, func(uint64, error)), records []*record) error {
	recs := make([]wal.Record, len(records))
	var n int64
	for i, r := range records {
		recs[i].Data = r.encode()
		n += int64(len(recs[i].Data))
	}
	done := make(chan error, 1)
	to(recs, func(_ uint64, err error) { done <- err })
	if err := <-done; err != nil {
		return storageProblem(err)
	}
	l.since += n
	return nil
}

func storageProblem(err error) error {
	switch {
	case errors.Is(err, wal.ErrFull):
		return message.Problemf(message.CodeStorageFull, "the registry cannot be written: no space is left on the gateway; nothing was changed")
	case errors.Is(err, wal.ErrClosed):
		return message.Problemf(message.CodeUnavailable, "the appliance is stopping")
	case errors.Is(err, wal.ErrFailed):
		return message.Problemf(message.CodeStorageFailed, "the registry cannot be written: the gateway's storage fails; nothing was changed")
	default:
		return fmt.Errorf("write registry: %w", err)
	}
}

// tidy writes a snapshot when the ledger has grown enough, and lets go of what the one before it covers.
// A failure is logged and costs nothing: the ledger still says everything.
func (l *ledger) tidy(t *tables) {
	if l.since < l.patience*max(leastLedger, ledgerRatio*l.size) && l.generations() <= int(l.patience)*manyStarts {
		return
	}
	if err := l.snapshot(t); err != nil {
		l.patience *= 2
		l.slog.Warn("cannot write registry snapshot", "error", err)
		return
	}
	l.patience = 1
}

func (l *ledger) generations() int {
	n := 0
	for _, g := range l.log.Generations() {
		if g.Kind == wal.Main {
			n++
		}
	}
	return n
}

func (l *ledger) snapshot(t *tables) error {
	head := l.log.Head()
	stamp, _ := l.log.Last()
	side, err := l.log.NewSide(wal.Snapshot)
	if err != nil {
		return err
	}
	defer side.Abort()
	if err := side.Append(0, (&record{kind: covers, covers: head}).encode(), stamp); err != nil {
		return err
	}
	var size int64
	err = t.each(func(r *record) error {
		b := r.encode()
		size += int64(len(b))
		return side.Append(0, b, stamp)
	})
	if err != nil {
		return err
	}
	if err := side.Commit(); err != nil {
		return err
	}
	older, olderCovers := l.base, l.covers
	l.base, l.covers, l.size, l.since = l.log.Snapshots()[0], head, size, 0
	return l.letGo(older, olderCovers)
}

// letGo removes every snapshot but the newest and the one that it was built on, and the ledger that
// the older one covers.
func (l *ledger) letGo(older, olderCovers uint64) error {
	var drop []uint64
	for _, g := range l.log.Generations() {
		switch {
		case g.Open:
		case g.Kind == wal.Snapshot && g.ID != l.base && g.ID != older,
			g.Kind == wal.Main && g.Records > 0 && g.Last <= olderCovers:
			drop = append(drop, g.ID)
		}
	}
	if len(drop) == 0 {
		return nil
	}
	return l.log.Drop(drop)
}
