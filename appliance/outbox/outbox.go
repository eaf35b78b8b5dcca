package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// Feed is who delivers: the courier. The outbox hands it everything in sequence order.
type Feed interface {
	// Restore takes back one state that Lend put into a snapshot. Called before Start only.
	Restore(state []byte) error
	// Committed hands over what has just become durable, or is replayed, in sequence order. It is
	// called by the committer and must not block. Entries are shared and immutable.
	Committed(entries []Entry)
	// Lend puts the state of every durable subscription, each with its own applied position, and
	// returns the smallest applied position.
	Lend(put func(state []byte) error) (applied uint64, err error)
	// Live calls add with runs of sequence numbers in [first, last] that somebody owes; runs may
	// overlap and come in any order. An error says that some are missing.
	Live(first, last uint64, add func(first, last uint64)) error
	// Expired ends what is owed of these sequence numbers: their time to live is over.
	Expired(seqs []uint64)
}

// Clock tells time to the log. Age never goes back and survives restarts; Wall is 0 while it is not
// to be trusted.
type Clock interface {
	Now() wal.Stamp
	// Placed returns where an age that was read earlier lies on today's axis: there, or later. Ages are
	// kept as they were read, in memory and on disk, and placed when compared with the present.
	Placed(age int64) int64
}

// Options configure an outbox; zero values take the defaults.
type Options struct {
	Epoch       message.Epoch
	Clock       Clock
	Log         *slog.Logger
	MaxBytes    int64         // the log's budget on disk; 0: 64 MiB
	RetainBytes int64         // settled records kept for trace and history; 0: an eighth of MaxBytes
	RetainAge   time.Duration // settled records are kept no longer; 0: 7 days
	Generation  int64         // bytes; 0: by memory (wal.Options)
	Cache       int64         // bytes of decoded frames; 0: 1 MiB
	Linger      time.Duration // most a commit waits for company; 0: 1 ms
	Encryption  wal.Encryption

	// Took is told how long each publish took, from the call to the durable answer. The committer calls it, so it must
	// not block. nil: nobody measures.
	Took func(time.Duration)
}

// Outbox is the durable truth. All methods are safe for concurrent use.
type Outbox struct {
	o     Options
	log   *wal.Log
	feed  Feed
	limit atomic.Int64 // present byte budget
	full  atomic.Bool  // over the budget with nothing left to clean

	weighed atomic.Int64 // messages that weight counts
	weight  atomic.Int64 // bytes of their records

	forgotten uint64 // see [Outbox.Forgotten]

	unwatched int64 // bytes stored since the last look at the budget; the committer's

	mu       sync.Mutex // guards the tables below
	tables   tables
	pending  []Settlement  // waiting for a frame
	riding   []*Entry      // settlements in a frame that is being written; kept for traces until it is durable
	given    int64         // settlements handed over …
	durable  int64         // … and those of them in the log, since the outbox was opened
	progress chan struct{} // closed when durable grows; nil while nobody waits
	flush    *time.Timer   // runs while pending is not empty

	holds sync.RWMutex // read-locked by whoever relies on nothing being cleaned
	moves sync.Mutex   // held while a message gets a second copy, or is kept from getting one
	keep  keeper
	last  Counters
}

// Counters of an outbox since it was opened.
type Counters struct {
	Stored, Replayed atomic.Int64
	Payload          atomic.Int64 // bytes of the stored ones
}

// Open opens or creates the log in dir and reads nothing yet; follow with [Outbox.Replay] and
// [Outbox.Start]. Errors are those of wal.Open: the directory is locked, foreign, or unusable.
func Open(dir string, o Options) (*Outbox, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.RetainBytes == 0 {
		o.RetainBytes = o.MaxBytes / 8
	}
	if o.RetainAge == 0 {
		o.RetainAge = 7 * 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Outbox{o: o}
	b.keep.b, b.keep.kick, b.keep.roomCredit = b, make(chan struct{}, 1), snapshotBurst
	b.limit.Store(o.MaxBytes)
	b.tables.init(o.MaxBytes, o.Clock.Placed)
	b.flush = time.AfterFunc(time.Hour, func() { b.log.Flush() })
	b.flush.Stop()
	log, err := wal.Open(dir, wal.Options{
		Generation: o.Generation, Cache: o.Cache, Linger: o.Linger, Now: o.Clock.Now,
		Skip: startSkip, Collect: b.collect, Committed: b.committed, Log: o.Log, Encryption: o.Encryption,
	})
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	b.log = log
	return b, nil
}

// Encrypted is how much of the log on disk is encrypted.
func (b *Outbox) Encrypted() wal.Share { return b.log.Encrypted() }

// Last returns the stamp of the newest durable record, for the clock to go on from.
func (b *Outbox) Last() (wal.Stamp, bool) { return b.log.Last() }

// Start begins this run: from here on publishes are taken. The housekeeping begins with
// [Outbox.Keep].
func (b *Outbox) Start() error {
	if err := b.log.Start(); err != nil {
		return fmt.Errorf("start outbox: %w", err)
	}
	return nil
}

// Keep begins the housekeeping: delayed messages go out, others expire, snapshots are written, the log
// is cleaned. The feed calls it once it takes calls from other goroutines.
func (b *Outbox) Keep() { b.keep.start() }

// Close commits what is waiting and closes the log.
func (b *Outbox) Close() error {
	b.keep.stop()
	b.flush.Stop()
	b.log.Flush()
	return b.log.Close()
}

// Head is the last durable sequence number.
func (b *Outbox) Head() uint64 { return b.log.Head() }

// Tail is the oldest sequence number that is still kept.
func (b *Outbox) Tail() uint64 { return b.log.Tail() }

// CleanedTo is a sequence number below which settled records may be gone: a reader that starts there
// or later misses nothing.
func (b *Outbox) CleanedTo() uint64 { return b.keep.cleanedTo.Load() }

// Age is the present on the age clock, in nanoseconds.
func (b *Outbox) Age() int64 { return b.o.Clock.Now().Age }

// Since is how much time has passed on the age clock since an age was read on it.
func (b *Outbox) Since(age int64) time.Duration { return time.Duration(b.Age() - b.Placed(age)) }

// Placed returns where an age that was read earlier lies on today's axis; see [Clock].
func (b *Outbox) Placed(age int64) int64 { return b.o.Clock.Placed(age) }

// Expiry is when the message's own time to live ends, on today's age axis; 0 never.
func (b *Outbox) Expiry(m *message.Message) int64 {
	if m.Expires == 0 {
		return 0
	}
	return later(m.Expires, b.Placed(m.Age)-m.Age)
}

// Wall is the present, zero while the clock is not trusted.
func (b *Outbox) Wall() time.Time { return wallTime(b.o.Clock.Now()) }

// Epoch names this log's life.
func (b *Outbox) Epoch() message.Epoch { return b.o.Epoch }

// Size is what the log takes on disk, and its budget, in bytes.
func (b *Outbox) Size() (used, budget int64) { return b.log.Size(), b.limit.Load() }

// Budget is how many bytes the log may take on disk.
func (b *Outbox) Budget() int64 { return b.limit.Load() }

// Stats returns the log's own counters.
func (b *Outbox) Stats() wal.Stats { return b.log.Stats() }

// Counters returns how many messages were stored, and how many publishes were answered from memory.
func (b *Outbox) Counters() (stored, replayed int64) {
	return b.last.Stored.Load(), b.last.Replayed.Load()
}

// Payload is how many bytes of payload were stored.
func (b *Outbox) Payload() int64 { return b.last.Payload.Load() }

// Health is nil, or the [message.Problem] that publishers are refused with at the moment.
func (b *Outbox) Health() error {
	if err := b.log.Health(); err != nil {
		return storageProblem(err)
	}
	if b.full.Load() {
		return b.overBudget()
	}
	return nil
}

func (b *Outbox) overBudget() error {
	return message.Problemf(message.CodeStorageFull, "the log holds its whole budget of %d MiB with messages that devices still owe; take in devices' backlog, cancel messages, or raise [storage] max_bytes", b.limit.Load()>>20)
}

// storageProblem turns the log's refusals into what a publisher is told.
func storageProblem(err error) error {
	switch {
	case errors.Is(err, wal.ErrFull):
		return message.Problemf(message.CodeStorageFull, "the disk is full; publishing resumes by itself when there is space")
	case errors.Is(err, wal.ErrFailed):
		return message.Problemf(message.CodeStorageFailed, "the disk does not take writes; publishing resumes by itself when it does")
	case errors.Is(err, wal.ErrClosed):
		return message.Problemf(message.CodeUnavailable, "the appliance is stopping")
	case errors.Is(err, wal.ErrTooLarge):
		return message.Problemf(message.CodeTooLarge, "the messages of one request are larger than one commit may be (4 MiB)")
	}
	return err
}

func wallTime(s wal.Stamp) time.Time {
	if s.Wall == 0 {
		return time.Time{}
	}
	return time.Unix(0, s.Wall)
}

// committed runs on the committer: numbers the entries, applies them to the tables, hands them on.
func (b *Outbox) committed(batch wal.Batch) {
	entries := make([]Entry, len(batch.Records))
	settled := 0
	b.mu.Lock()
	for i, r := range batch.Records {
		e := r.Tag.(*Entry)
		e.Seq = batch.First + uint64(i)
		if e.Kind == KindMessage {
			if e.origin == 0 {
				e.origin = e.Seq
			}
			stampMessage(e.Msg, e.Seq, e.origin, batch.Stamp, b.o.Epoch)
			if e.origin == e.Seq {
				b.last.Stored.Add(1)
				b.last.Payload.Add(int64(len(e.Msg.Payload)))
			}
		}
		if e.Kind == KindChange {
			e.Age = batch.Stamp.Age
		}
		if e.Kind == KindSettlement {
			b.landedLocked(e)
			settled += len(e.Settled)
		}
		b.tables.apply(e, batch.Stamp)
		entries[i] = *e
	}
	wake := b.tables.nextDue()
	b.mu.Unlock()
	b.feed.Committed(entries)
	b.settled(settled)
	b.keep.due(wake)
	b.watchBudget(batch.Records)
}

// watchEvery is how many bytes of records are stored between two looks at the budget.
const watchEvery = 128 << 10

// watchBudget refuses publishers as soon as the log is over its budget; the keeper takes them in again
// after cleaning. Called by the committer only.
func (b *Outbox) watchBudget(recs []wal.Record) {
	for _, r := range recs {
		b.unwatched += int64(len(r.Data))
		if Kind(r.Data[0]) == KindMessage {
			b.weigh(len(r.Data))
		}
	}
	if b.unwatched < watchEvery {
		return
	}
	b.unwatched = 0
	if b.log.Size() > b.limit.Load() {
		b.full.Store(true)
		b.keep.wake()
	}
}

// Change makes one change of the subscription table durable and returns the sequence number at
// which it is effective; the feed has been handed it by then.
func (b *Outbox) Change(ctx context.Context, c *Change) (uint64, error) {
	data, err := encodeChange(c)
	if err != nil {
		return 0, err
	}
	seq, err := b.log.AppendWait(ctx, wal.Record{Data: data, Tag: &Entry{Kind: KindChange, Change: c}})
	if err != nil {
		return 0, storageProblem(err)
	}
	return seq, nil
}

// Cancel withdraws what is stored at the sequence numbers. One record each, effective for all
// subscriptions; see [Feed] for what they do with it.
func (b *Outbox) Cancel(ctx context.Context, seqs ...uint64) error {
	recs := make([]wal.Record, len(seqs))
	for i, s := range seqs {
		recs[i] = wal.Record{Data: appendCancel(s), Tag: &Entry{Kind: KindCancel, Cancel: s}}
	}
	if _, err := b.log.AppendWait(ctx, recs...); err != nil {
		return storageProblem(err)
	}
	return nil
}

// Read returns the record at seq, decoded; wal.ErrNotFound when it is no longer kept,
// wal.ErrDamaged when the disk damaged it.
func (b *Outbox) Read(seq uint64) (Entry, error) {
	data, stamp, err := b.log.Read(seq)
	if err != nil {
		return Entry{}, err
	}
	return decode(seq, data, stamp, b.o.Epoch)
}

// Hold keeps the log from being cleaned until the returned function is called: for a scan whose
// result is about to become debts.
func (b *Outbox) Hold() (release func()) {
	b.holds.RLock()
	return sync.OnceFunc(b.holds.RUnlock)
}

// Each decodes the records in [from, to] in sequence order and calls fn until it returns false;
// unreadable ones are logged and skipped. A shard that missed a batch reads it so.
func (b *Outbox) Each(from, to uint64, fn func(Entry) bool) error {
	return b.eachStamped(from, to, func(e Entry, _ wal.Stamp) bool { return fn(e) })
}

func (b *Outbox) eachStamped(from, to uint64, fn func(Entry, wal.Stamp) bool) error {
	return b.log.Scan(from, to, func(seq uint64, data []byte, stamp wal.Stamp, cold bool) bool {
		e, err := decode(seq, data, stamp, b.o.Epoch)
		if err != nil {
			b.o.Log.Error("record unreadable, skipped", "seq", seq, "error", err)
			return true
		}
		e.Cold = cold
		return fn(e, stamp)
	})
}
