package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/wal"
)

// keepEvery is how often the keeper looks at the log's size when nothing else wakes it.
const keepEvery = time.Second

// keeper is the outbox's one background goroutine: it lets delayed messages go, ends expired ones,
// writes snapshots and cleans the log. Its fields below the line belong to that goroutine.
type keeper struct {
	cancel    context.CancelFunc
	done      sync.WaitGroup
	kick      chan struct{}
	dueAt     atomic.Int64  // when the tables want attention, on the age clock
	cleanedTo atomic.Uint64 // records below may be gone
	average   atomic.Int64  // bytes of a record on disk, of what the log holds now

	// ----
	b     *Outbox
	snaps []snapInfo // newest first, at most two

	cleanedAt int64     // rotations of the log at the last look for what can be cleaned
	cleaned   time.Time // when that was
}

// startSkip is how many sequence numbers each start leaves out (DESIGN §5).
const startSkip = 65_536

type snapInfo struct {
	id    uint64
	from  uint64
	size  int64
	bytes int64 // written to the log before it
}

func (k *keeper) start() {
	b := k.b
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	b.mu.Lock()
	k.dueAt.Store(b.tables.nextDue())
	b.mu.Unlock()
	k.done.Go(func() { k.run(ctx) })
}

func (k *keeper) stop() {
	if k.cancel != nil {
		k.cancel()
		k.done.Wait()
	}
}

// due says when the tables next want attention. Called by the committer: it must not block.
func (k *keeper) due(at int64) {
	if old := k.dueAt.Swap(at); at < old {
		k.wake()
	}
}

// wake gives the keeper a turn now. It never blocks.
func (k *keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.kick:
		case <-timer.C:
		}
		k.release(ctx)
		k.expire()
		k.snapshotIfDue()
		k.weigh()
		k.clean()
		wait := keepEvery
		if due := k.dueAt.Load(); due != math.MaxInt64 {
			wait = min(wait, max(time.Duration(due-k.b.Age()), 10*time.Millisecond))
		}
		timer.Reset(wait)
	}
}

// release lets the delayed messages go whose time has come.
func (k *keeper) release(ctx context.Context) {
	for {
		k.b.mu.Lock()
		var d delayed
		if list := k.b.tables.delayed; len(list) > 0 {
			d = list[0]
		}
		k.b.mu.Unlock()
		if d.Seq == 0 || d.Due > k.b.Age() {
			return
		}
		rec := wal.Record{Data: appendRelease(false, d.Seq), Tag: &Entry{Kind: KindRelease, release: d.Seq}}
		_, err := k.b.again(ctx, d.Seq, 0, rec)
		if errors.Is(err, wal.ErrNotFound) || errors.Is(err, wal.ErrDamaged) {
			k.b.o.Log.Error("delayed message lost on disk", "seq", d.Seq, "error", err)
			err = k.b.appendAndWait(rec)
		}
		if err != nil {
			if ctx.Err() == nil {
				k.b.o.Log.Warn("delayed message waits for storage", "seq", d.Seq, "error", err)
			}
			return
		}
	}
}

// expire finds the messages whose time to live is over and has their debts ended.
func (k *keeper) expire() {
	now := k.b.Age()
	k.b.mu.Lock()
	var due []lifetime
	for _, l := range k.b.tables.lifetimes {
		if l.Min <= now {
			due = append(due, l)
		}
	}
	k.b.mu.Unlock()
	for _, l := range due {
		seqs, next := k.overdue(l, now)
		if len(seqs) > 0 {
			k.b.feed.Expired(seqs)
		}
		k.b.reschedule(l, next, now)
	}
	if len(due) > 0 {
		k.b.mu.Lock()
		k.dueAt.Store(k.b.tables.nextDue())
		k.b.mu.Unlock()
	}
}

// overdue reads the interval: what has expired by now, and when the next one does.
func (k *keeper) overdue(l lifetime, now int64) (seqs []uint64, next int64) {
	next = math.MaxInt64
	err := k.b.log.Scan(l.First, l.Last, func(seq uint64, data []byte, stamp wal.Stamp, _ bool) bool {
		if len(data) == 0 || Kind(data[0]) != KindMessage {
			return true
		}
		e, err := decode(seq, data, stamp, k.b.o.Epoch)
		switch {
		case err != nil || e.Held || e.Msg.Expires == 0:
		case e.Msg.Expires <= now:
			seqs = append(seqs, seq)
		default:
			next = min(next, e.Msg.Expires)
		}
		return true
	})
	if err != nil {
		k.b.o.Log.Error("expiry scan failed", "error", err)
		next = min(next, now+int64(time.Minute))
	}
	return seqs, next
}

// reschedule replaces an interval that was swept by what is left of it. An interval that grew
// meanwhile is swept again soon.
func (b *Outbox) reschedule(l lifetime, next, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.tables.lifetimes[:0:0]
	for _, have := range b.tables.lifetimes {
		if have.First == l.First {
			if have.Last != l.Last {
				next = min(next, now+int64(time.Second))
			}
			if have.Min = next; next == math.MaxInt64 {
				continue
			}
		}
		list = append(list, have)
	}
	b.tables.lifetimes = list
}

// weigh finds what one record takes on disk, for those who must tell bytes from a number of records.
func (k *keeper) weigh() {
	var bytes, records int64
	for _, g := range k.b.log.Generations() {
		if g.Kind != wal.Snapshot {
			bytes += g.Bytes
			records += g.Records
		}
	}
	if records > 0 {
		k.average.Store(bytes / records)
	}
}

// snapshotRatio: a snapshot is written when the log grew by this many times its size since the last
// one, so that snapshots cost at most an eighth of the writing.
const snapshotRatio = 8

func (k *keeper) snapshotIfDue() {
	written := k.b.log.Stats().Bytes
	need := k.generation()
	if len(k.snaps) > 0 {
		need = max(need, snapshotRatio*k.snaps[0].size)
		need = min(need, max(k.generation(), k.b.limit.Load()/4))
		written -= k.snaps[0].bytes
	}
	if written < need {
		return
	}
	if err := k.b.Snapshot(); err != nil {
		k.b.o.Log.Warn("snapshot failed, trying again later", "error", err)
	}
}

func (k *keeper) generation() int64 {
	if k.b.o.Generation > 0 {
		return k.b.o.Generation
	}
	return 1 << 20
}

// Snapshot writes a snapshot now and lets go of all but the last two. It is the keeper's business;
// others call it only before Start or in tests that stop the keeper.
func (b *Outbox) Snapshot() error {
	end, err := b.writeSnapshot()
	if err != nil {
		return err
	}
	k := &b.keep
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
	if len(k.snaps) > 2 {
		k.snaps = k.snaps[:2]
	}
	if len(ids) > 2 {
		return b.log.Drop(ids[2:])
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

// horizon finds, at a start, below which place records may be gone: what the last snapshot knew, what
// lies before the oldest generation or in a cold one, and holes wider than a start makes.
func (k *keeper) horizon() {
	to, prev := k.cleanedTo.Load(), uint64(0)
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

// AverageRecord is about how many bytes on disk one record takes.
func (b *Outbox) AverageRecord() int64 { return max(b.keep.average.Load(), 64) }

// Ages returns a function that says no later than when the record at a place was stored, on the age
// clock: the first stamp of its generation. It is a picture of the log at the time of the call.
func (b *Outbox) Ages() func(seq uint64) (age int64, ok bool) {
	gens := b.log.Generations()
	return func(seq uint64) (int64, bool) {
		for _, g := range gens {
			if g.Kind != wal.Snapshot && g.First <= seq && seq <= g.Last {
				return g.FirstStamp.Age, true
			}
		}
		return 0, false
	}
}

// Gone reports whether err means that a record cannot be had any more: cleaned away, or damaged by
// the disk.
func Gone(err error) bool {
	return errors.Is(err, wal.ErrNotFound) || errors.Is(err, wal.ErrDamaged)
}
