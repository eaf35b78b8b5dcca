package outbox

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

func newTables(budget int64) *tables {
	t := new(tables)
	t.init(budget, func(age int64) int64 { return age })
	return t
}

func keyOf(n uint64) (k [16]byte) {
	binary.BigEndian.PutUint64(k[:], n)
	return k
}

func TestWindowForgetsByNumberAndByAge(t *testing.T) {
	w := &newTables(64 << 20).idem
	age := int64(0)
	for n := range uint64(3 * idemKeys) {
		age += int64(time.Millisecond)
		w.put(keyOf(n), idemEntry{seq: n + 1, age: age})
		if len(w.by) > idemKeys || len(w.order) > idemKeys {
			t.Fatalf("after %d: %d keys, %d turns", n, len(w.by), len(w.order))
		}
	}
	for n := range uint64(3 * idemKeys) {
		_, ok := w.get(keyOf(n), age)
		if want := n >= 2*idemKeys; ok != want {
			t.Fatalf("key %d of %d: known %t", n, 3*idemKeys, ok)
		}
	}
	last := keyOf(3*idemKeys - 1)
	if _, ok := w.get(last, age+int64(idemAge)); !ok {
		t.Fatal("forgotten before ten minutes")
	}
	if _, ok := w.get(last, age+int64(idemAge)+1); ok {
		t.Fatal("known after ten minutes")
	}
	w.put(keyOf(1<<40), idemEntry{seq: 1 << 40, age: age + int64(idemAge) + 1})
	if len(w.by) != 1 || len(w.order) != 1 {
		t.Fatalf("%d keys, %d turns after ten minutes", len(w.by), len(w.order))
	}
}

func TestWindowWithAKeyPutAgain(t *testing.T) {
	w := &newTables(64 << 20).idem
	w.put(keyOf(1), idemEntry{seq: 1, age: 0})
	w.put(keyOf(2), idemEntry{seq: 2, age: int64(idemAge)})
	w.put(keyOf(1), idemEntry{seq: 3, age: int64(idemAge) + 1}) // its first life is over
	w.put(keyOf(3), idemEntry{seq: 4, age: 2 * int64(idemAge)})
	if e, ok := w.get(keyOf(1), 2*int64(idemAge)); !ok || e.seq != 3 {
		t.Fatalf("%+v, %t", e, ok)
	}
	again := &newTables(64 << 20).idem
	for _, s := range w.sections(2 * int64(idemAge)) {
		r := reader{b: s[1:]}
		k, v := [16]byte(r.take(16)), [16]byte(r.take(16))
		seq := r.uvarint()
		age, _ := binary.Varint(r.b)
		again.put(k, idemEntry{body: v, seq: seq, age: age})
	}
	if late := w.sections(4 * int64(idemAge)); len(late) != 0 {
		t.Fatalf("a snapshot keeps %d keys that are too old", len(late))
	}
	if len(again.by) != len(w.by) {
		t.Fatalf("%d keys of %d come back", len(again.by), len(w.by))
	}
	for k, e := range w.by {
		if again.by[k] != e {
			t.Fatalf("%v: %+v, want %+v", k, again.by[k], e)
		}
	}
}

func TestDeadLettersKeepToTheirShare(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 13))
	tab := newTables(deadShare * 100_000)
	for n := range uint64(3000) {
		e := &Entry{Seq: n + 1, Kind: KindSettlement, Settled: []Settlement{{Sub: 1, Seq: n, State: message.Dead, Bytes: r.Int64N(3000)}}}
		tab.apply(e, wal.Stamp{})
		tab.apply(e, wal.Stamp{}) // a second time changes nothing
		if list := tab.dead.Entries; r.IntN(10) == 0 {
			tab.dead.remove(list[r.IntN(len(list))].Entry)
		}
		var bytes int64
		for _, d := range tab.dead.Entries {
			bytes += d.Bytes
		}
		if bytes != tab.dead.bytes || bytes > tab.dead.limit {
			t.Fatalf("%d bytes, the table says %d, the limit is %d", bytes, tab.dead.bytes, tab.dead.limit)
		}
		if !slices.IsSortedFunc(tab.dead.Entries, func(a, b deadEntry) int { return int(a.Entry) - int(b.Entry) }) {
			t.Fatal("entries are out of order")
		}
	}
	if tab.dead.dropped == 0 || tab.dead.next != 3000 {
		t.Fatalf("dropped %d, next %d", tab.dead.dropped, tab.dead.next)
	}
	tab.dead.add(Settlement{Seq: 1, Bytes: 1 << 40}, wal.Stamp{})
	if len(tab.dead.Entries) != 1 {
		t.Fatalf("%d entries beside one that is larger than all room", len(tab.dead.Entries))
	}
}

func TestDelayedAreSortedByTime(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 15))
	tab := newTables(1)
	if tab.nextDue() != math.MaxInt64 {
		t.Fatal("something is due in nothing")
	}
	for n := range uint64(500) {
		m := message.New("a", nil)
		m.Delay = time.Duration(1 + r.IntN(50))
		tab.apply(&Entry{Seq: 3*n + 1, Kind: KindMessage, Msg: m, Held: true}, wal.Stamp{Age: int64(n)})
		if r.IntN(3) == 0 {
			tab.apply(&Entry{Seq: 3*n + 2, Kind: KindCancel, Cancel: 3*r.Uint64N(n+1) + 1}, wal.Stamp{})
		}
		if r.IntN(3) == 0 && len(tab.delayed) > 0 {
			first := tab.delayed[0]
			if tab.nextDue() != first.Due {
				t.Fatalf("due %d, want %d", tab.nextDue(), first.Due)
			}
			tab.apply(&Entry{Seq: 3*n + 3, Kind: KindRelease, release: first.Seq}, wal.Stamp{})
			if slices.Contains(tab.delayed, first) {
				t.Fatal("released and still there")
			}
		}
		if !slices.IsSortedFunc(tab.delayed, func(a, b delayed) int { return int(a.Due - b.Due) }) {
			t.Fatalf("out of order: %v", tab.delayed)
		}
	}
}

// TestLifetimesCoverEverything: whatever is merged, every message that expires lies in an interval that
// is due no later than it.
func TestLifetimesCoverEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(16, 17))
	tab := newTables(1)
	at := map[uint64]int64{}
	seq := uint64(0)
	for range 40_000 {
		seq += 1 + r.Uint64N(2*lifetimeSpan)*r.Uint64N(2)
		age := r.Int64N(1 << 40)
		tab.expires(seq, age)
		at[seq] = age
	}
	if len(tab.lifetimes) > maxLifetimes {
		t.Fatalf("%d intervals", len(tab.lifetimes))
	}
	for seq, age := range at {
		if !slices.ContainsFunc(tab.lifetimes, func(l lifetime) bool { return l.First <= seq && seq <= l.Last && l.Min <= age }) {
			t.Fatalf("%d expires at %d and is in no interval", seq, age)
		}
	}
}

// TestCausesAreBounded counts what has no place among the reasons under none.
func TestCausesAreBounded(t *testing.T) {
	b := &Outbox{}
	b.tables.init(64<<20, func(age int64) int64 { return age })
	for i := range 3 * maxCauses {
		reason := fmt.Sprint("reason ", i)
		if i%3 == 0 {
			reason = "often"
		}
		b.tables.dead.add(Settlement{Reason: reason}, wal.Stamp{Wall: int64(i + 1)})
	}
	got := b.DeadCauses()
	var all int64
	for _, c := range got {
		all += c.Count
	}
	if all != 3*maxCauses || len(got) != maxCauses+1 || got[0].Reason != "" && got[0].Reason != "often" {
		t.Errorf("%d in %d causes, the first is %+v", all, len(got), got[0])
	}
	i := slices.IndexFunc(got, func(c message.DeadCause) bool { return c.Reason == "often" })
	if c := got[i]; c.Count != maxCauses || c.Oldest.UnixNano() != 1 || c.Newest.UnixNano() != 3*maxCauses-2 || c.Example != 3*maxCauses-2 {
		t.Errorf("%+v", c)
	}
	if n := len(b.DeadEntries("often", 1)); n != maxCauses-1 {
		t.Errorf("%d entries", n)
	}
}
