package outbox

import (
	"context"
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

	turn sync.Mutex // held for a pass, and for a snapshot that somebody else asks for; guards what follows

	// ----
	b     *Outbox
	snaps []snapInfo // newest first, at most two

	passed passed
	snapAt int64 // when the last snapshot was written, on the age clock

	roomCredit int64 // bytes of snapshots that may be written for room alone …
	roomAt     int64 // … when it was last counted, on the age clock
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
		released := k.pass()
		wait := keepEvery
		if due := k.dueAt.Load(); released && due != math.MaxInt64 {
			wait = min(wait, max(time.Duration(due-k.b.Age()), 10*time.Millisecond))
		}
		timer.Reset(wait)
	}
}

// pass does what is due; false when delayed messages wait for the storage.
func (k *keeper) pass() (released bool) {
	k.turn.Lock()
	defer k.turn.Unlock()
	released = k.release()
	k.expire()
	k.snapshotIfDue()
	k.clean()
	return released
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
		case k.b.Expiry(e.Msg) <= now:
			seqs = append(seqs, seq)
		default:
			next = min(next, k.b.Expiry(e.Msg))
		}
		return true
	})
	if err != nil {
		k.b.o.Log.Error("expiry scan failed", "error", err)
		next = min(next, now+int64(time.Minute))
	}
	return seqs, next
}

// sweepPause is the least time between two sweeps of one interval: under a stream of messages that
// expire one after the other each sweep ends many. Nothing expired is delivered meanwhile.
const sweepPause = time.Second

// reschedule replaces an interval that was swept by what is left of it. An interval that grew
// meanwhile is swept again soon.
func (b *Outbox) reschedule(l lifetime, next, now int64) {
	next = max(next, now+int64(sweepPause))
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.tables.lifetimes[:0:0]
	for _, have := range b.tables.lifetimes {
		if have.First == l.First {
			if have.Last != l.Last {
				next = now + int64(sweepPause)
			}
			if have.Min = next; next == math.MaxInt64 {
				continue
			}
		}
		list = append(list, have)
	}
	b.tables.lifetimes = list
}

// AverageRecord is about how many bytes one message takes in the log: of those that were stored
// lately, or a guess while those are few.
func (b *Outbox) AverageRecord() int64 {
	n := b.weighed.Load()
	if n < fewWeighed {
		return guessedRecord
	}
	return max(b.weight.Load()/n, 64)
}

const (
	guessedRecord = 512
	fewWeighed    = 64      // messages from which an average means something
	manyWeighed   = 1 << 16 // from here on the older half counts half
)

// weigh notes how large a message's record is. Called by the committer only.
func (b *Outbox) weigh(bytes int) {
	if b.weighed.Load() >= manyWeighed {
		b.weighed.Store(b.weighed.Load() / 2)
		b.weight.Store(b.weight.Load() / 2)
	}
	b.weighed.Add(1)
	b.weight.Add(int64(bytes))
}

// Ages returns a function that says no later than when the record at a place was stored, on the age
// clock: the first stamp of its generation. It is a picture of the log at the time of the call.
func (b *Outbox) Ages() func(seq uint64) (age int64, ok bool) {
	gens := b.log.Generations()
	return func(seq uint64) (int64, bool) {
		for _, g := range gens {
			if g.Kind != wal.Snapshot && g.First <= seq && seq <= g.Last {
				return b.Placed(g.FirstStamp.Age), true
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
