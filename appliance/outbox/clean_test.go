package outbox

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// fill publishes n bytes.
func (x *box) fill(n int) (seqs []uint64) {
	x.t.Helper()
	for range n / 128 {
		seqs = append(seqs, x.publish("fill").Seq)
	}
	return seqs
}

// settleAll ends what the feed owes but keep, durably.
func (x *box) settleAll(keep ...uint64) {
	x.t.Helper()
	for _, n := range x.owed() {
		if !slices.Contains(keep, n) {
			x.end(message.Delivered, n)
		}
	}
	if err := x.SettleNow(); err != nil {
		x.t.Fatal(err)
	}
}

// sweep takes two snapshots, so that everything before them may go, and cleans.
func (x *box) sweep() {
	x.t.Helper()
	x.snapshot()
	x.snapshot()
	x.sealed()
	x.clock.move(time.Minute)
	x.keep.clean()
}

// sealed waits until the log has ended, in the background, all generations but the one it writes.
func (x *box) sealed() {
	x.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		open := 0
		for _, g := range x.log.Generations() {
			if g.Open {
				open++
			}
		}
		if open <= 1 {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("%d generations are open", open)
		}
	}
}

// kept reports whether the record can be read.
func (x *box) kept(seq uint64) bool {
	_, err := x.Read(seq)
	if err != nil && !Gone(err) {
		x.t.Fatal(err)
	}
	return err == nil
}

func small(o *Options) { o.RetainBytes = 1 } // nothing settled is retained

func TestCleaningKeepsWhatIsOwedAndCarriesTheRest(t *testing.T) {
	x := newBox(t, small)
	seqs := x.fill(100 << 10)
	last := seqs[len(seqs)-1]
	keep := []uint64{seqs[0], seqs[1], seqs[len(seqs)/2], last}
	before := map[uint64]string{}
	for _, n := range keep {
		e, err := x.Read(n)
		if err != nil {
			t.Fatal(err)
		}
		before[n] = fmt.Sprintf("%+v", *e.Msg)
	}
	x.settleAll(keep...)
	size := x.log.Size()
	x.sweep()
	if now := x.log.Size(); now > size/2 {
		t.Fatalf("%d of %d bytes are left", now, size)
	}
	for range 2 {
		for _, n := range keep {
			e, err := x.Read(n)
			if err != nil || fmt.Sprintf("%+v", *e.Msg) != before[n] {
				t.Fatalf("record %d: %v\n%+v\n%s", n, err, e.Msg, before[n])
			}
		}
		if x.kept(seqs[2]) || x.kept(seqs[len(seqs)/3]) {
			t.Fatal("settled records are still there")
		}
		if x.CleanedTo() < seqs[len(seqs)/3] || x.CleanedTo() > last {
			t.Fatalf("cleaned to %d, want between %d and %d", x.CleanedTo(), seqs[len(seqs)/3], last)
		}
		if !slices.ContainsFunc(x.log.Generations(), func(g wal.Generation) bool { return g.Kind == wal.Cold }) {
			t.Fatal("nothing was carried")
		}
		if got := x.owed(); !slices.Equal(got, keep) {
			t.Fatalf("owed %v, want %v", got, keep)
		}
		x.crash() // and all is the same after it, the horizon too
	}
	x.settleAll()
	x.sweep()
	x.sweep()
	if x.kept(seqs[0]) {
		t.Fatal("a cold generation that nobody needs stays")
	}
}

func TestNothingBehindTheOlderSnapshotGoes(t *testing.T) {
	x := newBox(t, small)
	a := x.fill(40 << 10)
	x.settleAll()
	x.snapshot()
	b := x.fill(40 << 10)
	x.settleAll()
	x.sealed()
	x.clock.move(time.Minute)
	x.keep.clean()
	if !x.kept(a[0]) {
		t.Fatal("cleaned with one snapshot only")
	}
	x.snapshot()
	from := x.keep.snaps[1].from
	x.sealed()
	x.clock.move(time.Minute)
	x.keep.clean()
	if x.kept(a[0]) || !x.kept(b[len(b)/2]) || from > b[0] {
		t.Fatalf("kept %t, %t; the older snapshot begins at %d", x.kept(a[0]), x.kept(b[len(b)/2]), from)
	}
	for seq := from + 1; seq <= x.Head(); seq++ {
		if !x.kept(seq) {
			t.Fatalf("record %d behind %d is gone", seq, from)
		}
	}
}

func TestTailIsRetainedBySizeAndAge(t *testing.T) {
	x := newBox(t, func(o *Options) { o.RetainBytes, o.RetainAge = 50<<10, time.Hour })
	seqs := x.fill(200 << 10)
	x.settleAll()
	x.sweep()
	kept := 0
	for i, n := range seqs {
		if x.kept(n) {
			kept++
		} else if kept > 0 {
			t.Fatalf("record %d of %d is gone behind a kept one", i, len(seqs))
		}
	}
	if share := float64(kept) / float64(len(seqs)); share < 0.08 || share > 0.4 {
		t.Fatalf("%.2f of the records are retained, want 50 of about 400 KiB", share)
	}
	x.clock.move(2 * time.Hour)
	x.publish("later")
	x.sweep()
	if x.kept(seqs[len(seqs)*9/10]) {
		t.Fatal("retained beyond its age")
	}
}

// TestABroadcastPinsOneRecord: however many owe a record, it is one record.
func TestABroadcastPinsOneRecord(t *testing.T) {
	x := newBox(t, small)
	x.feed.fan = 5000
	seqs := x.fill(60 << 10)
	x.settleAll(seqs[3])
	size := x.log.Size()
	x.sweep()
	if now := x.log.Size(); now > size/2 || !x.kept(seqs[3]) {
		t.Fatalf("%d of %d bytes are left; kept %t", now, size, x.kept(seqs[3]))
	}
}

func TestHoldBlocksCleaning(t *testing.T) {
	x := newBox(t, small)
	seqs := x.fill(60 << 10)
	x.settleAll()
	release := x.Hold()
	x.sweep()
	if !x.kept(seqs[0]) {
		t.Fatal("cleaned what was held")
	}
	release()
	release() // a second call does nothing
	x.keep.clean()
	if x.kept(seqs[0]) {
		t.Fatal("not cleaned after the hold")
	}
}

// TestCleaningStopsWithTheFeed: who cannot say any more what is owed must not look like nobody owing
// anything.
func TestCleaningStopsWithTheFeed(t *testing.T) {
	x := newBox(t, small)
	seqs := x.fill(60 << 10)
	x.snapshot()
	x.snapshot()
	x.feed.mu.Lock()
	x.feed.stopping = true
	x.feed.mu.Unlock()
	x.clock.move(time.Hour)
	x.pass()
	for _, n := range seqs {
		if !x.kept(n) {
			t.Fatalf("record %d is owed and gone", n)
		}
	}
}

func TestDelayedAndDeadRecordsAreNeeded(t *testing.T) {
	x := newBox(t, small)
	late := x.publish("late", func(m *message.Message) { m.Delay = time.Hour })
	dead := x.publish("dead")
	loose := x.publish("loose")
	x.end(message.Dead, dead.Seq)
	x.fill(60 << 10)
	x.settleAll(loose.Seq)
	x.snapshot()
	x.snapshot()
	x.sealed()
	x.end(message.Dead, loose.Seq) // no longer owed, and not yet in the log
	x.keep.clean()
	for name, as := range map[string]message.StoredAs{"delayed": late, "dead": dead, "loose": loose} {
		if !x.kept(as.Seq) {
			t.Errorf("the %s record is gone", name)
		}
	}
	x.crash()
	list := x.DeadLetters(0, 10)
	for _, d := range list {
		if d.Message == nil {
			t.Fatalf("dead letter %d has lost its message", d.Entry)
		}
	}
	if ends := len(list) + len(x.owed()); ends != 2 || list[0].Message.ID != dead.ID {
		t.Fatalf("after a crash: %+v, owed %v", list, x.owed())
	}
}

// TestFullBudgetRefusesAndResumesByItself: while messages wait the log is full; when they are taken in
// it takes publishes again, without anything else being published.
func TestFullBudgetRefusesAndResumesByItself(t *testing.T) {
	x := newBox(t, func(o *Options) { o.MaxBytes, o.RetainBytes, o.Generation = 256<<10, 100<<10, 16<<10 })
	for refused := false; !refused; {
		s := <-x.publishing(message.New("fill", make([]byte, 500)))
		switch {
		case code(s.err) == message.CodeStorageFull:
			refused = true
		case s.err != nil:
			t.Fatal(s.err)
		}
		x.pass()
	}
	if size, budget := x.Size(); size > budget+budget/4 {
		t.Fatalf("%d bytes in a budget of %d", size, budget)
	}
	if code(x.Health()) != message.CodeStorageFull {
		t.Fatal(x.Health())
	}
	if _, err := x.PublishAll(ctx, []*message.Message{message.New("a", nil)}); code(err) != message.CodeStorageFull {
		t.Fatal(err)
	}
	owed := x.owed()
	for _, n := range owed {
		if !x.kept(n) {
			t.Fatalf("record %d is owed and gone", n)
		}
	}
	x.settleAll()
	for i := 0; x.Health() != nil; i++ {
		if i == 20 {
			size, budget := x.Size()
			t.Fatalf("still full after %d passes: %d of %d bytes", i, size, budget)
		}
		x.clock.move(time.Second)
		x.pass()
	}
	x.publish("again")
}

// TestCleanedToIsKnownAfterACrash: a reader that comes back after a crash is told of the gap.
func TestCleanedToIsKnownAfterACrash(t *testing.T) {
	x := newBox(t, small)
	first := x.publish("first") // owed for ever, so that the log does not begin later
	seqs := x.fill(60 << 10)
	x.settleAll(first.Seq)
	x.sweep()
	to := x.CleanedTo()
	if to < seqs[0] {
		t.Fatalf("cleaned to %d, nothing of %d..%d", to, seqs[0], seqs[len(seqs)-1])
	}
	x.crash()
	if got := x.CleanedTo(); got < to {
		t.Fatalf("cleaned to %d after a crash, %d before", got, to)
	}
	x.close()
	x.open()
	if got := x.CleanedTo(); got < to || got >= x.Head() {
		t.Fatalf("cleaned to %d after a restart, %d before, head %d", got, to, x.Head())
	}
}

// TestSnapshotsForRoomArePaced: the first come as soon as they help, later ones at a pace that a flash
// chip lives with.
func TestSnapshotsForRoomArePaced(t *testing.T) {
	x := newBox(t, func(o *Options) { o.MaxBytes = 1 })
	k := &x.keep
	for x.Stats().Rotations < 3 {
		x.full.Store(false)
		x.publish("a")
	}
	const size = snapshotBurst / 2
	k.snaps = []snapInfo{{size: size}, {size: size}}
	written := 0
	const span = 10 * time.Minute
	for range span / time.Second {
		x.clock.move(time.Second)
		if k.makesRoom() {
			written++
			k.snapAt = x.Age()
			k.roomCredit -= size
			if written == 2 && x.Age() > int64(time.Hour+time.Minute) {
				t.Fatal("the second snapshot for room came late")
			}
		}
	}
	most := snapshotBurst/size + int(span/time.Second)*snapshotPace/size + 1
	if written > most || written < most-2 {
		t.Fatalf("%d snapshots of %d bytes in %v, want about %d", written, size, span, most)
	}
}

// TestCarryingGoesOnWhileThereIsNoRoom: mostly dead generations that are no neighbours are all carried
// while nothing is stored and no time passes.
func TestCarryingGoesOnWhileThereIsNoRoom(t *testing.T) {
	x := newBox(t, func(o *Options) { o.MaxBytes = 1; o.RetainBytes = 1 })
	const dead = 4 // every other generation keeps one of its records, those between keep all
	for n := range 2 * dead {
		var seqs []uint64
		for begun := x.Stats().Rotations; x.Stats().Rotations == begun || len(seqs) < 2; {
			x.full.Store(false)
			seqs = append(seqs, x.publish("a").Seq)
		}
		if n%2 == 0 {
			x.end(message.Delivered, seqs[1:len(seqs)-1]...) // the last is the next generation's first
		}
	}
	x.snapshot()
	x.snapshot()
	carried := func() (n int) {
		for _, g := range x.log.Generations() {
			if g.Kind == wal.Cold {
				n++
			}
		}
		return n
	}
	owed := x.owed()
	k := &x.keep
	k.roomCredit = math.MinInt64 / 2 // no snapshots for room either
	for range 2 * dead {
		x.pass()
		if k.passed.head != math.MaxUint64 { // on a full disk what the pass notes does not come into the log
			k.passed.head = x.Head()
		}
	}
	if n := carried(); n < dead-1 {
		t.Fatalf("%d cold generations, want one for each of the %d that are mostly dead", n, dead)
	}
	before := x.Stats().Bytes
	for range 3 {
		x.pass()
	}
	if x.Stats().Bytes != before {
		t.Fatal("what was carried is carried again and again")
	}
	for _, seq := range owed {
		if _, err := x.Read(seq); err != nil {
			t.Fatalf("%d is owed: %v", seq, err)
		}
	}
}

// TestKeysLeaveASmallLogItsRoom: on a budget of 1 MiB ten thousand idempotency keys in ten minutes leave the log to the messages, and
// the last of them are known, after a crash too.
func TestKeysLeaveASmallLogItsRoom(t *testing.T) {
	x := newBox(t, small, func(o *Options) { o.MaxBytes = 1 << 20 })
	limit := x.tables.idem.limit
	if limit < 1000 || limit >= 10_000 {
		t.Fatalf("%d keys on 1 MiB", limit)
	}
	var ids []message.ID
	put := func(n int) (message.StoredAs, error) {
		m := message.New("a", fmt.Appendf(nil, "%0200d", n))
		m.Key, m.From = fmt.Sprint("key ", n), "app"
		as, err := x.PublishAll(ctx, []*message.Message{m})
		if err != nil {
			return message.StoredAs{}, err
		}
		return as[0], nil
	}
	for range 100 { // 2.6 MB
		ms := make([]*message.Message, 100)
		for i := range ms {
			n := len(ids) + i
			ms[i] = message.New("a", fmt.Appendf(nil, "%0200d", n))
			ms[i].Key, ms[i].From = fmt.Sprint("key ", n), "app"
		}
		as, err := x.PublishAll(ctx, ms)
		if err != nil {
			t.Fatalf("after %d messages that nobody owes any more: %v", len(ids), err)
		}
		for _, a := range as {
			ids = append(ids, a.ID)
		}
		x.settleAll()
		x.pass()
	}
	x.snapshot()
	if size := x.keep.snaps[0].size; size > 1<<20/8 {
		t.Errorf("a snapshot takes %d bytes of a log of 1 MiB", size)
	}
	for range 2 {
		for _, n := range []int{len(ids) - 1, len(ids) - limit/2, len(ids) - limit} {
			if as, err := put(n); err != nil || !as.Replayed || as.ID != ids[n] {
				t.Fatalf("key %d of %d again: %+v, %v", n, len(ids), as, err)
			}
		}
		x.crash()
	}
	if as, err := put(0); err != nil || as.Replayed {
		t.Errorf("the first key is known: %+v, %v", as, err)
	}
}
