package outbox

import (
	"cmp"
	"math"
	"slices"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// The idempotency window: DESIGN §6. A snapshot has all the keys and the log keeps two or three, so on a budget below
// 12 MiB there are fewer: one for every idemBudget bytes, which is a sixteenth of the budget in each snapshot.
const (
	idemKeys   = 16_384
	idemBudget = 768
	idemAge    = 10 * time.Minute
)

// deadShare is the part of the log's budget that dead letters may keep: 5 %.
const deadShare = 20

// tables is what the outbox itself remembers between records. It is a pure function of the records
// up to applied: apply brings it forward, a snapshot saves it, replay rebuilds it. Guarded by
// Outbox.mu.
type tables struct {
	applied   uint64
	idem      idemWindow
	running   map[[16]byte]*twins // keys on their way to disk; not part of the replayed state
	dead      deadTable
	delayed   []delayed // sorted by due
	lifetimes []lifetime
	trail     trail
	cleaned   uint64 // settled records up to here may be gone

	placed func(age int64) int64 // see [Clock]
}

type twins struct {
	body    [16]byte
	waiting []func(message.StoredAs, error)
}

// delayed is a stored message that nobody owes before its time.
type delayed struct {
	Seq uint64 `json:"seq"`
	Due int64  `json:"due"`           // on the age clock as it was read when the message was stored
	Age int64  `json:"age,omitempty"` // when that was
}

// due is when the message goes out, on today's age axis; not before Due.
func (t *tables) due(d delayed) int64 { return later(d.Due, t.placed(d.Age)-d.Age) }

func (t *tables) init(budget int64, placed func(int64) int64) {
	t.placed, t.idem.placed = placed, placed
	t.running = make(map[[16]byte]*twins)
	t.idem.by, t.idem.limit = make(map[[16]byte]idemEntry), int(max(1, min(idemKeys, budget/idemBudget)))
	t.dead.limit = budget / deadShare
}

// apply brings the tables forward by one record.
func (t *tables) apply(e *Entry, stamp wal.Stamp) {
	if e.Seq <= t.applied {
		return
	}
	t.applied = e.Seq
	t.trail.note(e)
	switch e.Kind {
	case KindMessage:
		if e.idem != nil {
			t.idem.put(e.idem.key, idemEntry{body: e.idem.body, seq: e.Seq, age: stamp.Age})
		}
		if e.Held {
			t.delay(delayed{Seq: e.Seq, Due: later(stamp.Age, int64(e.Msg.Delay)), Age: stamp.Age})
		} else if e.Msg.Expires != 0 {
			t.expires(e.Seq, e.Msg.Expires)
		}
	case KindSettlement:
		for _, s := range e.Settled {
			if s.givenUp() {
				t.dead.add(s, stamp)
			}
		}
	case KindCancel:
		t.undelay(e.Cancel)
	case KindRelease:
		if e.dead {
			t.dead.remove(e.release)
		} else {
			t.undelay(e.release)
		}
	case KindCleaned:
		t.cleaned = max(t.cleaned, e.cleaned)
	case KindChange, KindNote, KindMove: // the courier's
	}
}

func (t *tables) delay(d delayed) {
	i, _ := slices.BinarySearchFunc(t.delayed, d, func(a, b delayed) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Seq, b.Seq))
	})
	t.delayed = slices.Insert(t.delayed, i, d)
}

func (t *tables) undelay(seq uint64) {
	t.delayed = slices.DeleteFunc(t.delayed, func(d delayed) bool { return d.Seq == seq })
}

// nextDue is the earliest moment on the age clock at which something is to be done; MaxInt64: none.
func (t *tables) nextDue() int64 {
	due := int64(math.MaxInt64)
	for _, d := range t.delayed {
		if d.Due >= due {
			break // those behind are due later still
		}
		due = min(due, t.due(d))
	}
	for _, l := range t.lifetimes {
		due = min(due, l.Min)
	}
	return due
}

// lifetime is an interval of sequence numbers, and no message in it expires before Min. Together
// the intervals cover every message that was published with a time to live and may be owed.
type lifetime struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Min   int64  `json:"min"`
}

// An interval closes at lifetimeSpan numbers; past maxLifetimes the two oldest are merged, which
// costs a wider scan and nothing else.
const (
	lifetimeSpan = 4096
	maxLifetimes = 1024
)

func (t *tables) expires(seq uint64, at int64) {
	if n := len(t.lifetimes); n > 0 && seq-t.lifetimes[n-1].First < lifetimeSpan {
		l := &t.lifetimes[n-1]
		l.Last, l.Min = seq, min(l.Min, at)
		return
	}
	t.lifetimes = append(t.lifetimes, lifetime{First: seq, Last: seq, Min: at})
	if len(t.lifetimes) > maxLifetimes {
		a, b := t.lifetimes[0], t.lifetimes[1]
		t.lifetimes[1] = lifetime{First: a.First, Last: b.Last, Min: min(a.Min, b.Min)}
		t.lifetimes = slices.Delete(t.lifetimes, 0, 1)
	}
}

// idemWindow remembers the last idempotency keys, up to its limit, for at most idemAge.
//
// Invariant: order holds every key of by once per put, oldest first; a key put twice is dropped at
// its first turn only if the map still shows that turn.
type idemWindow struct {
	by     map[[16]byte]idemEntry
	order  []idemTurn
	limit  int
	placed func(age int64) int64
}

type idemEntry struct {
	body [16]byte
	seq  uint64
	age  int64
}

type idemTurn struct {
	key [16]byte
	seq uint64
}

func (w *idemWindow) put(k [16]byte, e idemEntry) {
	w.by[k] = e
	w.order = append(w.order, idemTurn{k, e.seq})
	for len(w.order) > 0 {
		first := w.order[0]
		old, ok := w.by[first.key]
		if stale := !ok || old.seq != first.seq; !stale && len(w.by) <= w.limit && w.placed(e.age)-w.placed(old.age) <= int64(idemAge) {
			return
		} else if !stale {
			delete(w.by, first.key)
		}
		w.order = w.order[1:]
	}
}

func (w *idemWindow) get(k [16]byte, now int64) (idemEntry, bool) {
	e, ok := w.by[k]
	return e, ok && now-w.placed(e.age) <= int64(idemAge)
}

// deadTable is the list of dead letters, oldest first.
//
// Invariant: entries ascend in Entry; bytes is the sum of their Bytes and at most limit.
type deadTable struct {
	Entries []deadEntry
	next    uint64
	bytes   int64
	limit   int64
	dropped int64
}

type deadEntry struct {
	Entry    uint64 `json:"entry"`
	Sub      uint64 `json:"sub"`
	Seq      uint64 `json:"seq"`
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
	Bytes    int64  `json:"bytes"`
	Wall     int64  `json:"wall"`
}

// deadOverhead is what an entry is charged beside its record.
const deadOverhead = 128

func (d *deadTable) add(s Settlement, stamp wal.Stamp) {
	d.next++
	e := deadEntry{Entry: d.next, Sub: s.Sub, Seq: s.Seq, Attempts: s.Attempts, Reason: s.Reason, Bytes: s.Bytes + deadOverhead, Wall: stamp.Wall}
	d.Entries = append(d.Entries, e)
	d.bytes += e.Bytes
	for d.bytes > d.limit && len(d.Entries) > 1 {
		d.bytes -= d.Entries[0].Bytes
		d.Entries = d.Entries[1:]
		d.dropped++
	}
}

func (d *deadTable) find(entry uint64) (int, bool) {
	return slices.BinarySearchFunc(d.Entries, entry, func(e deadEntry, n uint64) int { return cmp.Compare(e.Entry, n) })
}

func (d *deadTable) remove(entry uint64) {
	if i, ok := d.find(entry); ok {
		d.bytes -= d.Entries[i].Bytes
		d.Entries = slices.Delete(slices.Clone(d.Entries), i, i+1)
	}
}
