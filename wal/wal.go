package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is the time a frame was sealed, on both clocks. The log stores stamps and never interprets them.
type Stamp struct {
	Wall int64  // unix time in nanoseconds; 0 while the clock is not trusted
	Age  int64  // nanoseconds on the age clock (see the outbox), which also runs while the wall clock is wrong
	Boot uint32 // which boot of the machine Age belongs to
}

// Kind says what a generation holds.
type Kind uint8

// The kinds of generations. Their numbers are part of the format.
const (
	Main     Kind = 1 // records in the order in which they were appended
	Cold     Kind = 2 // records carried forward by cleaning; they keep their numbers and stamps
	Snapshot Kind = 3 // opaque state; its records have no sequence numbers
)

// String returns "main", "cold" or "snapshot".
func (k Kind) String() string {
	switch k {
	case Main:
		return "main"
	case Cold:
		return "cold"
	case Snapshot:
		return "snapshot"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Record is one opaque record. Data is stored; Tag is handed back in Options.Committed and never stored.
type Record struct {
	Data []byte
	Tag  any
}

// Batch is one committed frame: Records[i] has sequence number First+i.
type Batch struct {
	First   uint64
	Records []Record
	Stamp   Stamp
}

// Range is the sequence numbers First..Last, both included.
type Range struct{ First, Last uint64 }

// Generation describes one generation on disk.
type Generation struct {
	ID                    uint64
	Kind                  Kind
	First, Last           uint64 // of its records; both 0 when it has none, and for snapshots
	Records               int64
	Bytes                 int64 // on disk
	Open                  bool  // still written, or the newest: it cannot be dropped
	Suite                 Suite // how its records are encrypted
	FirstStamp, LastStamp Stamp
}

// Stats counts since Open.
type Stats struct {
	Commits   int64 // frames made durable by the committer
	Records   int64 // records in those frames
	Bytes     int64 // bytes of frames and zeros handed to the file system, sides included
	Fsyncs    int64
	Rotations int64 // main generations begun
	Failures  int64 // writes, fsyncs and creations that failed
	Damaged   int64 // damaged frames or regions met
	Loaded    int64 // frames that were read from disk, for reads and scans
}

// Options for Open. Now is required; every other zero value is usable.
type Options struct {
	Generation int64         // bytes per generation; 0 = RAM/256 clamped to 128 KiB..1 MiB
	Cache      int64         // bytes of decoded frames kept for reads; 0 = 1 MiB
	Reserve    int64         // bytes of the reserve file that is released when the disk is full; 0 = 1.25 MiB, <0 = none
	Linger     time.Duration // longest wait of a commit for company, eight of them while they bring much or a crowd is missing; 0 = 1 ms, <0 = none. A few waiters never wait
	Quiet      time.Duration // after so long without a commit a mark proves that the last one was synced; 0 = 30 s, <0 = never
	Skip       uint64        // sequence numbers skipped at each start; 0 = 65,536
	Now        func() Stamp  // required; called by the committer

	// Collect is called by the committer just before it seals a frame: what it adds rides along. An added record is
	// never lost while the process lives: if the frame fails it rides in the next one that succeeds. At most
	// MaxAppend bytes per record. Collect must not call the log.
	Collect func(add func(Record))
	// Committed is called by the committer in sequence order, after the fsync and before the waiters are answered.
	// It must not block for long, and must not call Append (reading is fine).
	Committed  func(Batch)
	Log        *slog.Logger // nil = discard
	Encryption Encryption   // zero = plain
}

// MaxAppend is the most bytes of data one Append may carry; more is ErrTooLarge.
const MaxAppend = 4 << 20

// Errors to test for with errors.Is.
var (
	ErrLocked   = errors.New("log is in use by another process")
	ErrFull     = errors.New("storage is full")
	ErrFailed   = errors.New("storage fails")
	ErrClosed   = errors.New("log is closed")
	ErrTooLarge = errors.New("record is too large")
	ErrNotFound = errors.New("no such record")
	ErrDamaged  = errors.New("record is damaged")
	ErrForeign  = errors.New("folder holds something else")
	// ErrKey: the log is encrypted with a key that is not at hand. Nothing is damaged.
	ErrKey = errors.New("the log is encrypted and its key is not here")
	// ErrForged: the checksum is right, but the authenticated decryption fails. Somebody changed the file on purpose, or
	// the key is another one. It is no damage: nothing is given up for lost or removed for it.
	ErrForged = errors.New("a frame cannot be decrypted though its checksum is right: the key is another one, or somebody changed the log on purpose")
)

const (
	frameTarget   = 64 << 10 // raw bytes after which a frame takes no further append
	queueLimit    = 4 << 20  // bytes queued before Append blocks
	defaultSkip   = 65_536
	defaultLinger = time.Millisecond
	// defaultQuiet costs at worst, with a commit every 31 s, one more commit each: 50 MB of flash a day on ext4.
	defaultQuiet = 30 * time.Second
	defaultCache = 1 << 20
	// defaultReserve is one generation of 1 MiB and a quarter, enough for the side a cleaning of one generation writes.
	defaultReserve = 1<<20 + 1<<18
	maxBackoff     = time.Second
	minBackoff     = 50 * time.Millisecond
)

func (o *Options) fill() error {
	if o.Now == nil {
		return errors.New("options: Now is required")
	}
	if o.Generation <= 0 {
		o.Generation = generationSize()
	}
	if o.Generation > 1<<30 {
		o.Generation = 1 << 30
	}
	if o.Cache <= 0 {
		o.Cache = defaultCache
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.Linger == 0 {
		o.Linger = defaultLinger
	}
	if o.Quiet == 0 {
		o.Quiet = defaultQuiet
	}
	if o.Skip == 0 {
		o.Skip = defaultSkip
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// generationSize is RAM/256 clamped to 128 KiB..1 MiB: tidwall/wal keeps the generation it writes in memory.
func generationSize() int64 {
	const least, most = 128 << 10, 1 << 20
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return least
	}
	ram := int64(uint64(info.Totalram) * uint64(info.Unit) / 256)
	return min(max(ram, least), most)
}

// Log is a log in one directory. All methods are safe for concurrent use.
//
// Invariants (checked by the tests): gens is sorted by first and the intervals of the generations in it are disjoint;
// the frames of a generation are sorted by first; a record is indexed only after its fsync; l.next is greater than any
// sequence number ever written to this directory.
type Log struct {
	dir   string
	opt   Options
	disk  disk
	lock  lockFile
	cache cache
	queue queue
	com   committer // owned by the committer's goroutine after Start

	finished chan struct{}  // closed when the committer has returned
	retiring sync.WaitGroup // generations being sealed in the background
	spent    atomic.Bool    // a side has released the reserve file; the committer looks
	loaded   atomic.Int64   // Stats.Loaded

	mu        sync.RWMutex
	gens      []*generation // main and cold generations
	snaps     []*generation // complete snapshots, oldest first
	idle      []*generation // main generations that are over and never held a record; begin removes them
	doomed    []*generation // dropped, but the disk would not rename them
	trash     []string      // renamed, but the disk would not remove them
	nextID    uint64        // generation id to use next
	head      uint64
	last      Stamp
	hasLast   bool
	losses    []Range
	health    error
	started   bool
	closed    bool
	reserved  bool // the reserve file exists
	lostBytes int64
	stats     Stats
}

// Head returns the number of the last committed record, 0 if there is none.
func (l *Log) Head() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head
}

// Tail returns the lowest number that can be read, 0 if there is none.
func (l *Log) Tail() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, g := range l.gens {
		if len(g.frames) > 0 {
			return g.first
		}
	}
	return 0
}

// Last returns the stamp of the newest durable frame, found at Open or committed since; false if there is none.
func (l *Log) Last() (Stamp, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last, l.hasLast
}

// Generations lists every complete generation and the open one, sorted by First (snapshots come first).
func (l *Log) Generations() []Generation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]Generation, 0, len(l.snaps)+len(l.gens))
	for _, g := range l.snaps {
		out = append(out, g.describe())
	}
	newest := l.newestLocked()
	for _, g := range l.gens {
		d := g.describe()
		d.Open = d.Open || g.id == newest
		out = append(out, d)
	}
	return out
}

// Share is how much of a log on disk is encrypted, and with which keys.
type Share struct {
	Encrypted, Plain int64    // bytes of generations
	Keys             []uint16 // ids of the keys that are needed to read it; an id may come twice
}

// Encrypted tells how much of the log is encrypted. Plain generations without records count for nothing.
func (l *Log) Encrypted() Share {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var s Share
	for _, list := range [][]*generation{l.gens, l.snaps} {
		for _, g := range list {
			switch {
			case g.suite != Plain: // also without records: it may be about to get some
				s.Keys = append(s.Keys, g.key)
				s.Encrypted += g.bytes
			case g.records > 0:
				s.Plain += g.bytes
			}
		}
	}
	return s
}

// Size returns the bytes of all generations on disk, without the reserve file.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var n int64
	for _, g := range l.gens {
		n += g.bytes
	}
	for _, g := range l.snaps {
		n += g.bytes
	}
	return n
}

// Losses lists the sequence numbers known to be lost: damage found by Open and by reads since. Ranges are sorted and
// do not touch. In a cold generation a range may include numbers that had been cleaned away before; it never misses one.
func (l *Log) Losses() []Range {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return append([]Range(nil), l.losses...)
}

// Health returns nil, or why appends are refused now: an error that is ErrFull, ErrFailed or ErrClosed and says more.
func (l *Log) Health() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	return l.health
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.stats
	s.Loaded = l.loaded.Load()
	return s
}

// lose notes that the numbers first..last are lost. It reports whether that was news.
func (l *Log) loseLocked(r Range) bool {
	if r.First == 0 || r.Last < r.First {
		return false
	}
	out, news := addRange(l.losses, r)
	l.losses = out
	return news
}

// addRange merges r into the sorted, disjoint rs and reports whether it added a number.
func addRange(rs []Range, r Range) ([]Range, bool) {
	var out []Range
	placed := false
	for _, x := range rs {
		switch {
		case x.First <= r.First && r.Last <= x.Last:
			return rs, false
		case x.Last < r.First && x.Last+1 != r.First:
			out = append(out, x)
		case r.Last < x.First && r.Last+1 != x.First:
			if !placed {
				out = append(out, r)
				placed = true
			}
			out = append(out, x)
		default:
			r = Range{min(x.First, r.First), max(x.Last, r.Last)}
		}
	}
	if !placed {
		out = append(out, r)
	}
	return out, true
}

// inRanges reports whether seq lies in one of rs, which are sorted.
func inRanges(rs []Range, seq uint64) bool {
	for _, r := range rs {
		if seq <= r.Last {
			return seq >= r.First
		}
	}
	return false
}
