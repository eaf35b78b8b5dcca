package outbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"edgepost/wal"
)

// Sections of a snapshot: the first byte of each of its records, see the package doc.
const (
	secHead      = 1
	secState     = 2
	secIdem      = 3
	secDead      = 4
	secDelayed   = 5
	secLifetimes = 6
	secEnd       = 7
	secPart      = 8
	secTrail     = 9
)

// partBytes bounds a record of a snapshot; a larger state comes in parts.
const partBytes = 512 << 10

const snapshotFormat = 1

type snapHead struct {
	Format int    `json:"format"`
	Epoch  string `json:"epoch"`
}

// snapEnd closes a snapshot: what it needs of the log to be completed.
type snapEnd struct {
	Applied uint64 `json:"applied"` // of the outbox's own sections
	From    uint64 `json:"from"`    // replay starts behind this record: the smallest applied of all
	NextDed uint64 `json:"next_dead"`
	Cleaned uint64 `json:"cleaned"` // records below may be gone
	Trail   uint64 `json:"trail"`   // one more than where the trail begins; 0: it was written without one
}

// writeSnapshot saves the tables and every subscription into a new side generation. On return the
// snapshot is durable, and so is every settlement that its states already show.
func (b *Outbox) writeSnapshot() (end snapEnd, err error) {
	side, err := b.log.NewSide(wal.Snapshot)
	if err != nil {
		return end, fmt.Errorf("begin snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			side.Abort()
		}
	}()
	stamp := b.o.Clock.Now()
	put := func(section byte, body []byte) error {
		return side.Append(0, append([]byte{section}, body...), stamp)
	}
	head, err := json.Marshal(snapHead{Format: snapshotFormat, Epoch: string(b.o.Epoch)})
	if err != nil {
		return end, err
	}
	if err := put(secHead, head); err != nil {
		return end, fmt.Errorf("write snapshot: %w", err)
	}
	from, err := b.feed.Lend(func(state []byte) error {
		for len(state) > partBytes {
			if err := put(secPart, state[:partBytes]); err != nil {
				return err
			}
			state = state[partBytes:]
		}
		return put(secState, state)
	})
	if err != nil {
		return end, fmt.Errorf("write snapshot: %w", err)
	}
	end, sections := b.ownSections(from)
	for _, s := range sections {
		if err := side.Append(0, s, stamp); err != nil {
			return end, fmt.Errorf("write snapshot: %w", err)
		}
	}
	if err := b.SettleNow(); err != nil {
		return end, fmt.Errorf("flush settlements: %w", err)
	}
	if err := side.Commit(); err != nil {
		return end, fmt.Errorf("commit snapshot: %w", err)
	}
	return end, nil
}

// ownSections copies the tables at one position.
func (b *Outbox) ownSections(from uint64) (snapEnd, [][]byte) {
	out, t, end := b.copyTables(from)
	for i := range t.dead.Entries {
		out = append(out, section(secDead, t.dead.Entries[i]))
	}
	for _, d := range t.delayed {
		out = append(out, section(secDelayed, d))
	}
	for _, l := range t.lifetimes {
		out = append(out, section(secLifetimes, l))
	}
	for i := range t.trail.spans {
		out = append(out, t.trail.spans[i].section())
	}
	return end, append(out, section(secEnd, end))
}

// copyTables copies what takes long to encode: shards and committer wait for the lock meanwhile. The
// idempotency keys are encoded at once.
func (b *Outbox) copyTables(from uint64) (idem [][]byte, t tables, end snapEnd) {
	b.mu.Lock()
	defer b.mu.Unlock()
	idem = b.tables.idem.sections(b.Age())
	t.dead.Entries = slices.Clone(b.tables.dead.Entries)
	t.delayed = slices.Clone(b.tables.delayed)
	t.lifetimes = slices.Clone(b.tables.lifetimes)
	t.trail.spans = slices.Clone(b.tables.trail.spans)
	if n := len(t.trail.spans); n > 0 { // the last one grows in place
		s := &t.trail.spans[n-1]
		s.ended, s.moved = slices.Clone(s.ended), slices.Clone(s.moved)
	}
	applied := b.tables.applied
	return idem, t, snapEnd{Applied: applied, From: min(from, applied), NextDed: b.tables.dead.next, Cleaned: b.keep.cleanedTo.Load(), Trail: b.tables.trail.since + 1}
}

// sections encodes the keys that are still in the window.
func (w *idemWindow) sections(now int64) [][]byte {
	out := make([][]byte, 0, len(w.by))
	for _, turn := range w.order {
		e, ok := w.by[turn.key]
		if !ok || e.seq != turn.seq || now-w.placed(e.age) > int64(idemAge) {
			continue
		}
		s := append([]byte{secIdem}, turn.key[:]...)
		s = append(s, e.body[:]...)
		s = binary.AppendUvarint(s, e.seq)
		out = append(out, binary.AppendVarint(s, e.age))
	}
	return out
}

func section(kind byte, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil { // plain structs of numbers and strings always marshal
		body = nil
	}
	return append([]byte{kind}, body...)
}

// Replay rebuilds the tables and the feed's states: the newest readable snapshot, then every record
// behind it. Called once, between Open and Start, by one goroutine. Damage is reported and skipped:
// what a damaged record was is in [Outbox.Losses].
func (b *Outbox) Replay(feed Feed) error {
	b.feed = feed
	var end snapEnd
	ids := b.log.Snapshots()
	for i, id := range ids {
		e, err := b.loadSnapshot(id)
		if err == nil {
			end = e
			b.keep.loaded(ids[i:], e)
			break
		}
		b.o.Log.Error("snapshot unreadable, using the one before", "generation", id, "error", err)
		if !errors.Is(err, errBeforeStates) {
			return fmt.Errorf("load snapshot %d: %w", id, err)
		}
	}
	if err := b.replayFrom(end.From + 1); err != nil {
		return err
	}
	b.keep.horizon()
	if len(b.keep.snaps) == 0 && b.cleanedBefore() {
		b.forgotten = b.log.Head()
		b.o.Log.Error("no snapshot of the log is left; what was owed of the records up to this one is forgotten, but for what the rest of the log tells", "seq", b.forgotten)
	}
	return nil
}

// cleanedBefore reports whether the log was ever cleaned: then it had two snapshots.
func (b *Outbox) cleanedBefore() bool {
	return b.tables.cleaned > 0 || slices.ContainsFunc(b.log.Generations(), func(g wal.Generation) bool { return g.Kind == wal.Cold })
}

// Forgotten is the sequence number up to which nobody knows what was owed, because every snapshot is
// lost and older records were cleaned away; 0 when nothing was forgotten. Subscriptions that were
// made before may be missing, or made anew and owe nothing older. Valid after Replay.
func (b *Outbox) Forgotten() uint64 { return b.forgotten }

// errBeforeStates says that a snapshot failed its check before anything of it was used.
var errBeforeStates = errors.New("snapshot is damaged")

func (b *Outbox) loadSnapshot(id uint64) (snapEnd, error) {
	var end snapEnd
	// A first pass proves that the whole snapshot is there, so that a damaged one leaves no trace.
	err := b.log.ReadSnapshot(id, func(data []byte) error {
		if len(data) > 0 && data[0] == secEnd {
			return json.Unmarshal(data[1:], &end)
		}
		return nil
	})
	if errors.Is(err, wal.ErrForged) || errors.Is(err, wal.ErrKey) {
		return end, err // an older one would bring back debts that were settled
	}
	if err != nil {
		return end, fmt.Errorf("%w: %w", errBeforeStates, err)
	}
	t := &b.tables
	var parts []byte
	err = b.log.ReadSnapshot(id, func(data []byte) error {
		switch {
		case len(data) == 0:
			return errShort
		case data[0] == secPart:
			parts = append(parts, data[1:]...)
			return nil
		case data[0] == secState && len(parts) > 0:
			data = append([]byte{secState}, append(parts, data[1:]...)...)
			parts = nil
		}
		return b.loadSection(t, data[0], data[1:])
	})
	t.applied = end.Applied
	if t.trail.since = end.Trail - 1; end.Trail == 0 {
		t.trail.since = end.Applied
	}
	t.dead.next = end.NextDed
	return end, err
}

func (b *Outbox) loadSection(t *tables, kind byte, body []byte) error {
	switch kind {
	case secHead:
		var h snapHead
		if err := json.Unmarshal(body, &h); err != nil {
			return err
		}
		if h.Format != snapshotFormat {
			return fmt.Errorf("snapshot format %d is not known; it was written by a newer version", h.Format)
		}
	case secState:
		return b.feed.Restore(body)
	case secIdem:
		r := reader{b: body}
		k, v := [16]byte(r.take(16)), [16]byte(r.take(16))
		seq := r.uvarint()
		age, n := binary.Varint(r.b)
		if r.err != nil || n <= 0 {
			return errShort
		}
		t.idem.put(k, idemEntry{body: v, seq: seq, age: age})
	case secDead:
		var e deadEntry
		if err := json.Unmarshal(body, &e); err != nil {
			return err
		}
		t.dead.Entries = append(t.dead.Entries, e)
		t.dead.bytes += e.Bytes
	case secDelayed:
		var d delayed
		if err := json.Unmarshal(body, &d); err != nil {
			return err
		}
		t.delay(d)
	case secLifetimes:
		var l lifetime
		if err := json.Unmarshal(body, &l); err != nil {
			return err
		}
		t.lifetimes = append(t.lifetimes, l)
	case secTrail:
		s, err := decodeSpan(body)
		if err != nil {
			return err
		}
		t.trail.spans = append(t.trail.spans, s)
	case secEnd:
	default:
		return fmt.Errorf("snapshot section %d is not known; it was written by a newer version", kind)
	}
	return nil
}

// replayBatch is how many records the feed is handed at once during replay.
const replayBatch = 512

func (b *Outbox) replayFrom(first uint64) error {
	batch := make([]Entry, 0, replayBatch)
	err := b.eachStamped(first, math.MaxUint64, func(e Entry, stamp wal.Stamp) bool {
		switch {
		case !e.Cold:
			b.tables.apply(&e, stamp)
		case e.Seq > b.tables.applied: // no snapshot is left
			b.tables.trail.note(&e)
		}
		if batch = append(batch, e); len(batch) == replayBatch {
			b.feed.Committed(batch)
			batch = make([]Entry, 0, replayBatch)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if len(batch) > 0 {
		b.feed.Committed(batch)
	}
	b.tables.applied = max(b.tables.applied, b.log.Head())
	return nil
}

// LostBehind reports whether the disk has lost records behind seq.
func (b *Outbox) LostBehind(seq uint64) bool {
	l := b.log.Losses()
	return len(l) > 0 && l[len(l)-1].Last > seq
}

// Losses lists the sequence numbers that the disk is known to have lost since the log was opened.
func (b *Outbox) Losses() []wal.Range { return b.log.Losses() }
