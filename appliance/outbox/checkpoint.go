package outbox

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// snapshotRatio: a snapshot is written when the log grew by this many times its size since the last
// one, so that snapshots cost at most an eighth of the writing.
const snapshotRatio = 8

func (k *keeper) snapshotIfDue() {
	if errors.Is(k.b.log.Health(), wal.ErrFailed) {
		return // its settlements could not be flushed
	}
	written := k.b.log.Stats().Bytes
	need := k.generation()
	if len(k.snaps) > 0 {
		need = max(need, snapshotRatio*k.snaps[0].size)
		need = min(need, max(k.generation(), k.b.limit.Load()/4))
		written -= k.snaps[0].bytes
	}
	room := written < need
	if room && !k.makesRoom() {
		return
	}
	err := k.snapshot()
	if room && err == nil {
		k.roomCredit -= k.snaps[0].size
	}
	if p := message.ProblemOf(err); p != nil && p.Code == message.CodeUnavailable {
		return // stopping
	}
	if err != nil {
		k.b.o.Log.Warn("snapshot failed, trying again later", "error", err)
	}
}

// snapshotPace bounds the snapshots that are written for room alone, in bytes a second: a disk that is
// full for months must not be worn out by them. The first snapshotBurst bytes need not wait: a disk that
// is full for once has publishers refused no longer than it takes. At worst, on a disk that is filled and
// emptied all day long, it is 11 GB a day.
const (
	snapshotPace  = 128 << 10
	snapshotBurst = 2 << 20
)

// pressed reports whether the log must become smaller: it is over its budget, or the disk is full
// before that.
func (k *keeper) pressed() bool {
	return k.b.log.Size() > k.b.limit.Load() || errors.Is(k.b.log.Health(), wal.ErrFull)
}

// makesRoom reports whether a snapshot now is what it takes to get below the budget. What the older
// snapshot would replay cannot be cleaned, and while publishers are refused the log does not grow, so
// that no snapshot would ever be due.
func (k *keeper) makesRoom() bool {
	b := k.b
	if !k.pressed() {
		return false
	}
	if len(k.snaps) < 2 {
		return true
	}
	now := b.Age()
	k.roomCredit = min(snapshotBurst, k.roomCredit+(now-k.roomAt)/int64(time.Second/snapshotPace))
	if k.roomAt = now; k.roomCredit <= 0 || now-k.snapAt < int64(time.Second) {
		return false
	}
	for _, g := range b.log.Generations() {
		if g.Kind == wal.Main && !g.Open && g.Records > 0 && g.Last > k.snaps[1].from {
			return true
		}
	}
	return false
}

func (k *keeper) generation() int64 {
	if k.b.o.Generation > 0 {
		return k.b.o.Generation
	}
	return 1 << 20
}

// Snapshot writes a snapshot now and lets go of all but the last two. The housekeeping does that when
// it is due.
func (b *Outbox) Snapshot() error {
	b.keep.turn.Lock()
	defer b.keep.turn.Unlock()
	return b.keep.snapshot()
}

func (k *keeper) snapshot() error {
	b := k.b
	end, err := b.writeSnapshot()
	if err != nil {
		return err
	}
	ids := b.log.Snapshots()
	if len(ids) == 0 {
		return errors.New("snapshot is not listed after its commit")
	}
	var size int64
	for _, g := range b.log.Generations() {
		if g.ID == ids[0] {
			size = g.Bytes
		}
	}
	k.snaps = append([]snapInfo{{id: ids[0], from: end.From, size: size, bytes: b.log.Stats().Bytes}}, k.snaps...)
	k.snaps = k.snaps[:min(len(k.snaps), 2)]
	k.snapAt = b.Age()
	// Not simply all but the newest two: one that turned out to be unreadable is among them.
	ids = slices.DeleteFunc(ids, func(id uint64) bool {
		return slices.ContainsFunc(k.snaps, func(s snapInfo) bool { return s.id == id })
	})
	if len(ids) > 0 && len(k.snaps) == 2 {
		return b.log.Drop(ids)
	}
	return nil
}

// loaded notes the snapshots that a start found: end belongs to the first id.
func (k *keeper) loaded(ids []uint64, end snapEnd) {
	k.snaps = []snapInfo{{id: ids[0], from: end.From}}
	k.cleanedTo.Store(end.Cleaned)
	for _, id := range ids[1:min(len(ids), 2)] {
		older, err := k.endOf(id)
		if err != nil {
			continue // without a second good one nothing is dropped until the next is written
		}
		k.snaps = append(k.snaps, snapInfo{id: id, from: older.From})
	}
}

// horizon finds, at a start, below which place records may be gone: what the log and its last snapshot
// say, what lies before the oldest generation or in a cold one, and holes wider than a start makes.
func (k *keeper) horizon() {
	to, prev := max(k.cleanedTo.Load(), k.b.tables.cleaned), uint64(0)
	for _, g := range k.b.log.Generations() {
		switch {
		case g.Kind == wal.Snapshot || g.Records == 0:
			continue
		case g.Kind == wal.Cold:
			to = max(to, g.Last)
		case prev == 0 && g.First > startSkip+1, prev != 0 && g.First > prev+startSkip+1:
			to = max(to, g.First-1)
		}
		prev = g.Last
	}
	k.cleanedTo.Store(to)
}

func (k *keeper) endOf(id uint64) (end snapEnd, err error) {
	err = k.b.log.ReadSnapshot(id, func(data []byte) error {
		if len(data) > 0 && data[0] == secEnd {
			return json.Unmarshal(data[1:], &end)
		}
		return nil
	})
	return end, err
}
