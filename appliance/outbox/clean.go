package outbox

import (
	"cmp"
	"math"
	"slices"
	"time"

	"edgepost/wal"
)

// carryAtOnce bounds the generations that one pass carries together.
const carryAtOnce = 16

// genNeed is a closed generation and how many debts, dead letters and delayed messages are in it.
type genNeed struct {
	wal.Generation
	need int64
}

// clean removes the generations that nobody needs and carries what is left of mostly dead ones into
// cold generations. It never touches anything that the older of the last two snapshots would
// replay.
func (k *keeper) clean() {
	b := k.b
	over := b.log.Size() > b.limit.Load()
	defer func() { b.full.Store(b.log.Size() > b.limit.Load()) }()
	if len(k.snaps) < 2 || !over && !k.worthLooking() || !b.holds.TryLock() {
		return
	}
	defer b.holds.Unlock()
	safe := k.snaps[1].from
	tail := b.o.RetainBytes
	if over {
		tail = 0
	}
	gens, empty := k.needs()
	drop, carry := k.choose(gens, safe, tail)
	if drop = append(drop, empty...); len(drop) > 0 {
		k.gone(gens, drop)
		if err := b.log.Drop(drop); err != nil {
			b.o.Log.Warn("cleaning the log failed, trying again later", "error", err)
		}
	}
	if len(carry) > 0 {
		if err := k.carry(carry); err != nil {
			b.o.Log.Warn("carrying records forward failed, trying again later", "error", err)
		}
	}
}

// cleanEvery is how often the log is cleaned when no generation was added.
const cleanEvery = 10 * time.Second

// worthLooking spares the shards the counting of their debts: a new generation or time makes it worth
// while.
func (k *keeper) worthLooking() bool {
	n := k.b.log.Stats().Rotations
	if n == k.cleanedAt && time.Since(k.cleaned) < cleanEvery {
		return false
	}
	k.cleanedAt, k.cleaned = n, time.Now()
	return true
}

func (k *keeper) gone(gens []genNeed, drop []uint64) {
	for _, g := range gens {
		if slices.Contains(drop, g.ID) {
			k.cleanedTo.Store(max(k.cleanedTo.Load(), g.Last))
		}
	}
}

// needs lists the closed generations in sequence order with what still needs each, and those
// without a record.
func (k *keeper) needs() (gens []genNeed, empty []uint64) {
	for _, g := range k.b.log.Generations() {
		if g.Kind == wal.Snapshot {
			continue
		}
		if g.Open {
			continue
		}
		if g.Records == 0 {
			empty = append(empty, g.ID)
		} else {
			gens = append(gens, genNeed{Generation: g})
		}
	}
	if len(gens) == 0 {
		return nil, empty
	}
	slices.SortFunc(gens, func(a, b genNeed) int { return cmp.Compare(a.First, b.First) })
	bounds := make([]uint64, 0, len(gens)+1)
	for _, g := range gens {
		bounds = append(bounds, g.First)
	}
	bounds = append(bounds, gens[len(gens)-1].Last+1)
	for i, n := range k.b.feed.Debts(bounds) {
		gens[i].need = n
	}
	k.b.ownNeeds(0, math.MaxUint64, func(seq uint64) {
		i, ok := slices.BinarySearch(bounds, seq)
		if !ok {
			i--
		}
		if i >= 0 && i < len(gens) {
			gens[i].need++
		}
	})
	return gens, empty
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
	for _, d := range b.tables.delayed {
		if first <= d.Seq && d.Seq <= last {
			fn(d.Seq)
		}
	}
}

// choose decides what goes and what is carried. The newest settled generations, up to tail bytes and
// within the retained age, stay for traces, history and rewind.
func (k *keeper) choose(gens []genNeed, safe uint64, tail int64) (drop []uint64, carry []genNeed) {
	oldest := k.b.Age() - int64(k.b.o.RetainAge)
	hard := tail == 0
	for i := len(gens) - 1; i >= 0; i-- {
		g := gens[i]
		retained := tail >= g.Bytes && g.LastStamp.Age >= oldest
		if retained {
			tail -= g.Bytes
		}
		switch {
		case g.Last > safe || retained:
		case g.need == 0:
			drop = append(drop, g.ID)
		case worthCarrying(g, hard):
			carry = append(carry, g)
		}
	}
	slices.Reverse(carry)
	return drop, carry[:min(len(carry), carryAtOnce)]
}

// worthCarrying: a generation is carried when less than a quarter of its records is still needed;
// when the budget is exceeded, when less than three quarters are.
func worthCarrying(g genNeed, hard bool) bool {
	if hard {
		return g.need*4 < g.Records*3
	}
	return g.need*4 < g.Records
}

// carry copies what is live in the generations into one cold generation, in sequence order, keeping
// the numbers, and then lets go of them. Neighbours only, so that intervals stay disjoint.
func (k *keeper) carry(gens []genNeed) error {
	gens = k.neighbours(gens)
	first, last := gens[0].First, gens[len(gens)-1].Last
	side, err := k.b.log.NewSide(wal.Cold)
	if err != nil {
		return err
	}
	for _, r := range k.live(first, last) {
		for seq := r[0]; seq <= r[1]; seq++ {
			data, stamp, err := k.b.log.Read(seq)
			if err != nil {
				continue // reported in Losses; its debts end as lost when they are read
			}
			if err := side.Append(seq, data, stamp); err != nil {
				side.Abort()
				return err
			}
		}
	}
	drop := make([]uint64, len(gens))
	for i, g := range gens {
		drop[i] = g.ID
	}
	k.cleanedTo.Store(max(k.cleanedTo.Load(), last))
	return k.b.log.Replace(side, drop)
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

// live lists what is needed in [first, last] as ascending, disjoint runs.
func (k *keeper) live(first, last uint64) [][2]uint64 {
	var runs [][2]uint64
	k.b.feed.Live(first, last, func(a, z uint64) { runs = append(runs, [2]uint64{a, z}) })
	k.b.ownNeeds(first, last, func(seq uint64) { runs = append(runs, [2]uint64{seq, seq}) })
	slices.SortFunc(runs, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	out := runs[:0]
	for _, r := range runs {
		if n := len(out); n > 0 && r[0] <= out[n-1][1] {
			out[n-1][1] = max(out[n-1][1], r[1])
		} else {
			out = append(out, r)
		}
	}
	return out
}
