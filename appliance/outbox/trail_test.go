package outbox

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"edgepost/appliance/message"
)

// blind is what the whole log says of a message, without the trail.
func (x *box) blind(id message.ID) (Outcome, error) {
	x.mu.Lock()
	was := x.tables.trail
	x.tables.trail = trail{since: math.MaxUint64 - 1}
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.tables.trail = was
	}()
	return x.Outcome(id)
}

// TestTrailMissesNothing: what the trail has read of the log is all that the log says, through settlements in any order,
// second copies, withdrawals, cleaning and starts from every snapshot.
func TestTrailMissesNothing(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 3))
		x := newBox(t, func(o *Options) { o.RetainBytes = 48 << 10 })
		var ids []message.ID
		for range 50 {
			switch n := r.IntN(12); {
			case n < 5:
				ids = append(ids, x.many(1+r.IntN(40))...)
			case n < 8:
				var some []uint64
				for _, n := range x.owed() {
					if r.IntN(3) == 0 {
						some = append(some, n)
					}
				}
				r.Shuffle(len(some), func(i, k int) { some[i], some[k] = some[k], some[i] })
				x.end(message.Delivered, some...)
			case n < 9 && len(ids) > 0:
				if id := ids[r.IntN(len(ids))]; x.feed.has(id.Seq) {
					if err := x.Cancel(ctx, id.Seq); err != nil {
						t.Fatal(err)
					}
				}
			case n < 10 && len(ids) > 0:
				id := ids[r.IntN(len(ids))]
				if x.feed.has(id.Seq) {
					x.end(message.Dead, id.Seq)
				}
				if err := x.SettleNow(); err != nil {
					t.Fatal(err)
				}
				for _, d := range x.DeadLetters(0, 100) {
					if _, err := x.Requeue(ctx, d.Entry); err != nil {
						t.Fatal(err)
					}
				}
			case n < 11:
				x.snapshot()
				x.pass()
			default:
				x.crash()
			}
			x.asBlind(fmt.Sprint("seed ", seed), ids)
		}
	}
}

// many publishes n messages in one frame.
func (x *box) many(n int) (ids []message.ID) {
	x.t.Helper()
	ms := make([]*message.Message, n)
	for i := range ms {
		ms[i] = message.New("a", fmt.Appendf(nil, "%0100d", i))
	}
	as, err := x.PublishAll(ctx, ms)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, a := range as {
		ids = append(ids, a.ID)
	}
	return ids
}

func (x *box) asBlind(when string, ids []message.ID) {
	x.t.Helper()
	if err := x.SettleNow(); err != nil {
		x.t.Fatal(err)
	}
	for i := 0; i < len(ids); i += 1 + len(ids)/20 {
		got, err := x.Outcome(ids[i])
		want, wantErr := x.blind(ids[i])
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || fmt.Sprint(got.Settled, got.Copies, got.Cancelled) != fmt.Sprint(want.Settled, want.Copies, want.Cancelled) {
			x.t.Fatalf("%s: message %v: %+v, %v\nthe log says %+v, %v", when, ids[i], got, err, want, wantErr)
		}
	}
}

// TestTraceReadsAsMuchHoweverLongTheLogIs: counted in frames.
func TestTraceReadsAsMuchHoweverLongTheLogIs(t *testing.T) {
	x := newBox(t, func(o *Options) { o.Generation, o.Cache = 256<<10, 1 })
	early, late := x.publish("early").ID, x.publish("late").ID
	x.end(message.Delivered, early.Seq)
	frames := func(id message.ID, want int) int64 {
		t.Helper()
		before := x.log.Stats().Loaded
		o, err := x.Outcome(id)
		if err != nil || len(o.Settled) != want || o.Incomplete {
			t.Fatalf("outcome of %v: %+v, %v", id, o, err)
		}
		return x.log.Stats().Loaded - before
	}
	more := func(n int) {
		for range n {
			for _, id := range x.many(100) {
				x.end(message.Delivered, id.Seq)
			}
		}
		if err := x.SettleNow(); err != nil {
			t.Fatal(err)
		}
	}
	more(100)
	first, all := frames(early, 1), x.log.Stats().Commits
	more(300)
	if grown := x.log.Stats().Commits; grown < 3*all {
		t.Fatalf("%d frames, then %d", all, grown)
	}
	if n := frames(early, 1); n > first {
		t.Errorf("%d frames were read for a trace, and %d once the log was four times as long", first, n)
	}
	x.end(message.Delivered, late.Seq)
	if n := frames(late, 1); n > first {
		t.Errorf("%d frames were read for a message that was delivered late", n)
	}
	x.snapshot()
	x.crash()
	if n := frames(early, 1); n > first {
		t.Errorf("%d frames were read after a start", n)
	}
}

// TestATraceThatWouldReadTooMuchSaysSo: every stretch tells of the message, because it goes to so many.
func TestATraceThatWouldReadTooMuchSaysSo(t *testing.T) {
	x := newBox(t, func(o *Options) { o.Generation = 1 << 20 })
	id := x.publish("to all").ID
	records := 0
	for records <= 3*outcomeRecords/2 {
		records += len(x.many(1000))
		x.Settle(Settlement{Sub: uint64(records + 1), Seq: id.Seq, State: message.Delivered, Attempts: 1})
		if err := x.SettleNow(); err != nil {
			t.Fatal(err)
		}
	}
	o, err := x.Outcome(id)
	if err != nil || !o.Incomplete || len(o.Settled) == 0 || len(o.Settled) >= records/1000 {
		t.Fatalf("%d of %d outcomes, incomplete: %t, %v", len(o.Settled), records/1000, o.Incomplete, err)
	}
}

// TestRunsAgainstMap: a set may grow by what lies between, and loses nothing.
func TestRunsAgainstMap(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s runs
		in := map[uint64]bool{}
		width := uint64(1) << (3 + r.IntN(12))
		for range 300 {
			n := 1 + r.Uint64N(width)
			s.add(n)
			in[n] = true
			if r.IntN(40) == 0 {
				s = slices.Concat(s, runs{{n, n + 3}}).sorted()
			}
		}
		for n := range in {
			if !s.has(n) {
				t.Fatalf("seed %d: %d is missing in %v", seed, n, s)
			}
		}
		for i := range s {
			if s[i].first > s[i].last || i > 0 && s[i].first <= s[i-1].last {
				t.Fatalf("seed %d: %v", seed, s)
			}
		}
		if len(s) > spanRuns {
			t.Fatalf("seed %d: %d intervals", seed, len(s))
		}
		if width <= spanRuns && s.has(width+10) {
			t.Fatalf("seed %d: has %d", seed, width+10)
		}
	}
}

// TestSpansComeBack: from a snapshot's section, and a damaged one is refused.
func TestSpansComeBack(t *testing.T) {
	s := span{first: 1000, last: 70_000, ended: runs{{1, 1}, {5, 900}, {math.MaxUint64 - 1, math.MaxUint64}}, moved: runs{{7, 7}}}
	b := s.section()
	got, err := decodeSpan(b[1:])
	if err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Fatalf("%+v, %v", got, err)
	}
	for n := range len(b) - 1 {
		if _, err := decodeSpan(b[1 : 1+n]); err == nil {
			t.Fatalf("%d bytes of %d are a span", n, len(b)-1)
		}
	}
	if _, err := decodeSpan([]byte{1, 1, 200}); err == nil {
		t.Fatal("200 intervals are a span")
	}
}

// TestTrailIsBounded: in the number of its stretches, and by what is left of the log.
func TestTrailIsBounded(t *testing.T) {
	var tr trail
	for i := range uint64(3 * maxSpans) {
		tr.note(&Entry{Seq: 1 + i*spanRecords, Kind: KindSettlement, Settled: []Settlement{{Seq: 1 + i}}})
	}
	if len(tr.spans) > maxSpans {
		t.Fatalf("%d stretches", len(tr.spans))
	}
	for _, seq := range []uint64{1, maxSpans, 2 * maxSpans, 3 * maxSpans} {
		at := 1 + (seq-1)*spanRecords
		if first, last, _ := tr.next(seq, seq, math.MaxUint64-1, map[uint64]bool{seq: true}); first > at || last < at {
			t.Errorf("of %d tells %d to %d, not %d", seq, first, last, at)
		}
	}
	tr.forget(func(s *span) bool { return s.first > 2*maxSpans*spanRecords })
	if n := len(tr.spans); n == 0 || n > maxSpans {
		t.Errorf("%d stretches are left", n)
	}
	x := newBox(t, small)
	x.settleAll()
	for range 4 {
		x.fill(100 << 10)
		x.settleAll()
		x.crash() // begins another stretch
	}
	had := len(x.tables.trail.spans)
	x.sweep()
	x.sweep()
	if n := len(x.tables.trail.spans); n >= had || n == 0 {
		t.Errorf("%d stretches of %d are left of a log that was cleaned", n, had)
	}
}

// FuzzSpan: a section of a trail that is read comes back the same when it is written again.
func FuzzSpan(f *testing.F) {
	f.Add((&span{first: 1, last: 5, ended: runs{{1, 1}, {3, 900}}, moved: runs{{7, 7}}}).section()[1:])
	f.Add([]byte{1, 1, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := decodeSpan(body)
		if err != nil {
			return
		}
		again, err := decodeSpan(s.section()[1:])
		if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%+v, then %+v, %v", s, again, err)
		}
		s.ended.has(7)
	})
}
