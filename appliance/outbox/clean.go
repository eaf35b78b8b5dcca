package outbox

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"edgepost/wal"
)

// carryAtOnce bounds the generations that one pass carries together.
const carryAtOnce = 16

// A pass over all debts is not free. While the log is within its budget there is one when a
// generation or a snapshot was finished, and otherwise every cleanEvery.
const cleanEvery = 10 * time.Second

// patience is how many passes give way to whoever holds the log before one waits for its turn.
const patience = 5

// genNeed is a closed generation and how many of its records somebody owes or needs.
type genNeed struct {
	wal.Generation
	need int64
}

// passed is what the log looked like at the last pass.
type passed struct {
	head  uint64
	gens  int
	snap  uint64
	age   int64
	yield int // passes that gave way
}

// clean removes the generations that nobody needs and carries what is left of mostly dead ones into
// cold generations. It never touches anything that the older of the last two snapshots would
// replay.
func (k *keeper) clean() {
	b := k.b
	over := k.pressed()
	defer func() { b.full.Store(b.log.Size() > b.limit.Load()) }()
	if len(k.snaps) < 2 || !k.worthAPass(over) {
		return
	}
	if k.passed.yield < patience {
		if !b.holds.TryLock() {
			k.passed.yield++
			return
		}
	} else {
		b.holds.Lock()
	}
	defer b.holds.Unlock()
	k.passed = passed{head: b.log.Head(), gens: len(b.log.Generations()), snap: k.snaps[0].id, age: b.Age()}
	gens, empty, live, err := k.needs()
	if err != nil {
		return // the feed is stopping: what is owed is not known
	}
	drop, carry := k.choose(gens, k.snaps[1].from, over)
	if drop = append(drop, empty...); len(drop) > 0 {
		k.gone(gens, drop)
		if err := b.log.Drop(drop); err != nil {
			b.o.Log.Warn("cleaning the log failed, trying again later", "error", err)
		}
		b.forgetTrail()
	}
	if len(carry) == 0 {
		return
	}
	if err := k.carry(carry, live); err != nil {
		b.o.Log.Warn("carrying records forward failed, trying again later", "error", err)
	} else if over {
		// One pass carries neighbours only. There may be more, and while publishers are refused nothing else
		// would start the next pass. It ends: what was carried holds nothing to carry.
		k.passed.head = math.MaxUint64
		k.wake()
	}
}

// forgetTrail drops what the trail says of records that are gone. What was carried tells of nothing but itself.
func (b *Outbox) forgetTrail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	gens := b.log.Generations()
	b.tables.trail.forget(func(s *span) bool {
		return slices.ContainsFunc(gens, func(g wal.Generation) bool {
			there := g.Records > 0 && g.First <= s.last && (s.first <= g.Last || g.Open)
			return there && (g.Kind == wal.Main || g.Kind == wal.Cold && len(s.moved) > 0)
		})
	})
}

// worthAPass reports whether a pass may find anything new.
func (k *keeper) worthAPass(over bool) bool {
	p, b := &k.passed, k.b
	age := b.Age()
	changed := b.log.Head() != p.head || p.yield > 0 || k.snaps[0].id != p.snap
	return changed && (over || p.yield > 0 || k.snaps[0].id != p.snap || len(b.log.Generations()) != p.gens) ||
		changed && age-p.age >= int64(cleanEvery) || age-p.age >= int64(time.Minute)
}

// gone makes durable how far records are gone before the first of them goes, so that a reader who
// comes after a crash is told of the gap too.
func (k *keeper) gone(gens []genNeed, drop []uint64) {
	to := k.cleanedTo.Load()
	for _, g := range gens {
		if slices.Contains(drop, g.ID) {
			to = max(to, g.Last)
		}
	}
	if k.cleanedTo.Swap(to) == to {
		return
	}
	rec := wal.Record{Data: appendCleaned(to), Tag: &Entry{Kind: KindCleaned, cleaned: to}}
	if err := k.b.appendAndWait(rec); err != nil {
		// Space matters more: on a full disk this is how there will be some again.
		k.b.o.Log.Warn("cleaning goes on without its mark in the log", "error", err)
	}
}

// needs lists the closed generations in sequence order with what still needs each, the ids of those
// without a record, and what is needed.
func (k *keeper) needs() (gens []genNeed, empty []uint64, live *marks, err error) {
	for _, g := range k.b.log.Generations() {
		switch {
		case g.Kind == wal.Snapshot || g.Open:
		case g.Records == 0:
			empty = append(empty, g.ID)
		default:
			gens = append(gens, genNeed{Generation: g})
		}
	}
	live = new(marks)
	if len(gens) == 0 {
		return nil, empty, live, nil
	}
	slices.SortFunc(gens, func(a, b genNeed) int { return cmp.Compare(a.First, b.First) })
	first, last := gens[0].First, gens[len(gens)-1].Last
	if err := k.b.feed.Live(first, last, live.set); err != nil {
		return nil, nil, nil, err
	}
	k.b.ownNeeds(first, last, func(seq uint64) { live.set(seq, seq) })
	for i := range gens {
		gens[i].need = live.count(gens[i].First, gens[i].Last)
	}
	return gens, empty, live, nil
}

// ownNeeds calls fn with what the outbox's own tables need in [first, last].
func (b *Outbox) ownNeeds(first, last uint64, fn func(seq uint64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.tables.dead.Entries {
		if first <= e.Seq && e.Seq <= last {
			fn(e.Seq)
		}
	}
	onTheWay := func(list []Settlement) {
		for i := range list {
			if s := &list[i]; s.givenUp() && first <= s.Seq && s.Seq <= last {
				fn(s.Seq)
			}
		}
	}
	onTheWay(b.pending) // no longer owed and not yet a dead letter
	for _, e := range b.riding {
		onTheWay(e.Settled)
	}
	for _, d := range b.tables.delayed {
		if first <= d.Seq && d.Seq <= last {
			fn(d.Seq)
		}
	}
}

// choose decides what goes and what is carried. The newest settled generations, up to the retained
// bytes and age, stay for traces, history and rewind; over the budget none does. safe is where replay
// may start.
func (k *keeper) choose(gens []genNeed, safe uint64, over bool) (drop []uint64, carry []genNeed) {
	oldest := k.b.Age() - int64(k.b.o.RetainAge)
	tail := k.b.o.RetainBytes
	if over {
		tail = 0
	}
	for _, g := range slices.Backward(gens) {
		if k.b.Placed(g.LastStamp.Age) < oldest {
			tail = 0
		}
		tail -= g.Bytes
		switch {
		case g.Last > safe || tail >= 0:
		case g.need == 0:
			drop = append(drop, g.ID)
		case worthCarrying(g, over):
			carry = append(carry, g)
		}
	}
	slices.Reverse(carry)
	return drop, carry[:min(len(carry), carryAtOnce)]
}

// worthCarrying: a generation is carried when less than a quarter of its records is still needed;
// when the budget is exceeded, when less than three quarters are.
func worthCarrying(g genNeed, over bool) bool {
	if over {
		return g.need*4 < g.Records*3
	}
	return g.need*4 < g.Records
}

// carry copies what is live in the generations into one cold generation, in sequence order, keeping
// the numbers, and then lets go of them. Neighbours only, so that intervals stay disjoint.
func (k *keeper) carry(gens []genNeed, live *marks) error {
	gens = k.neighbours(gens)
	drop := make([]uint64, len(gens))
	for i, g := range gens {
		drop[i] = g.ID
	}
	side, err := k.b.log.NewSide(wal.Cold)
	if err != nil {
		return err
	}
	err = live.each(gens[0].First, gens[len(gens)-1].Last, func(seq uint64) error {
		data, stamp, err := k.b.log.Read(seq)
		if Gone(err) {
			return nil // reported in Losses; its debts end as lost when they are read
		}
		if err != nil {
			return fmt.Errorf("read record %d: %w", seq, err)
		}
		return side.Append(seq, data, stamp)
	})
	if err != nil {
		side.Abort()
		return err
	}
	k.gone(gens, drop)
	if err := k.b.log.Replace(side, drop); err != nil {
		side.Abort()
		return err
	}
	k.b.forgetTrail()
	return nil
}

// neighbours cuts the list where a generation that stays lies between: a cold generation must not
// span it.
func (k *keeper) neighbours(gens []genNeed) []genNeed {
	all := k.b.log.Generations()
	for i := 1; i < len(gens); i++ {
		for _, g := range all {
			if g.Kind != wal.Snapshot && g.Records > 0 && g.First > gens[i-1].Last && g.Last < gens[i].First {
				return gens[:i]
			}
		}
	}
	return gens
}
