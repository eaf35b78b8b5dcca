package outbox

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

func settlementKey(s Settlement) Settlement {
	s.Wall = 0
	return s
}

// once is the settlements without repetitions, in one order.
func once(list []Settlement) []Settlement {
	set := map[Settlement]bool{}
	for _, s := range list {
		set[settlementKey(s)] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b Settlement) int {
		return cmp.Or(cmp.Compare(a.Sub, b.Sub), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.State, b.State), cmp.Compare(a.Attempts, b.Attempts),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Bytes, b.Bytes))
	})
}

func TestSettlementsComeBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		var list []Settlement
		base := r.Uint64N(1 << uint(1+r.IntN(62)))
		for range 1 + r.IntN(200) {
			s := Settlement{
				Sub: r.Uint64N(4) * r.Uint64N(1<<40), Seq: base + r.Uint64N(100), State: message.State(r.IntN(9)),
				Attempts: r.IntN(3), Bytes: r.Int64N(2) * r.Int64N(1<<40),
			}
			if r.IntN(4) == 0 {
				s.Attempts = r.IntN(1 << 16)
			}
			if r.IntN(3) == 0 {
				s.Reason = pickReason(r)
			}
			list = append(list, s)
			if r.IntN(5) == 0 {
				list = append(list, s) // twice
			}
		}
		want := once(list)
		data := encodeSettlements(list)
		got, err := decodeSettlements(data[1:])
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(once(got), want) {
			t.Fatalf("got  %v\nwant %v", once(got), want)
		}
	}
}

func pickReason(r *rand.Rand) string {
	return []string{"rejected: no", "overflow", strings.Repeat("x", maxReason)}[r.IntN(3)]
}

func TestSettlementsAtTheEnds(t *testing.T) {
	list := []Settlement{{Sub: math.MaxUint64, Seq: math.MaxUint64, State: message.Sent, Attempts: 1}, {Sub: 1, Seq: 1, State: message.Lost}}
	want := once(list)
	got, err := decodeSettlements(encodeSettlements(list)[1:])
	if err != nil || !slices.Equal(once(got), want) {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestSettlementsAreSmall: 200 devices acknowledge a mix of broadcasts and messages of their own, out of
// order, a second's worth to a record: at most 8 bytes each (DESIGN §6).
func TestSettlementsAreSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var bytes, count int
	seq := uint64(5_000_000)
	for range 50 {
		var list []Settlement
		for range 40 + r.IntN(400) {
			seq++
			if r.IntN(20) == 0 { // a broadcast
				for sub := range uint64(200) {
					list = append(list, Settlement{Sub: 900_000 + sub*3, Seq: seq, State: message.Delivered, Attempts: 1})
				}
				continue
			}
			attempts := 1
			if r.IntN(30) == 0 {
				attempts = 2
			}
			list = append(list, Settlement{Sub: 900_000 + r.Uint64N(200)*3, Seq: seq, State: message.Delivered, Attempts: attempts})
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		count += len(list)
		bytes += len(encodeSettlements(list))
	}
	if average := float64(bytes) / float64(count); average > 8 {
		t.Fatalf("%.2f bytes for a settlement, %d of them", average, count)
	}
}

func TestReasonsAreCutBetweenSigns(t *testing.T) {
	for n := range 12 {
		long := strings.Repeat("x", maxReason-6+n) + strings.Repeat("世", 5)
		got := cut(long)
		if len(got) > maxReason || !strings.HasPrefix(long, got) || strings.ContainsRune(got, '\uFFFD') || len(got) < maxReason-3 {
			t.Fatalf("%d bytes: %q", len(got), got[maxReason-10:])
		}
	}
}

func FuzzSettlements(f *testing.F) {
	f.Add(encodeSettlements([]Settlement{{Sub: 1, Seq: 2, State: message.Dead, Attempts: 8, Reason: "no", Bytes: 9}})[1:])
	f.Add([]byte{1, 2, 3, 1, 0, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := decodeSettlements(data)
		if err != nil || len(list) == 0 {
			return
		}
		if len(list) > maxRun+len(data) {
			t.Fatalf("%d settlements from %d bytes", len(list), len(data))
		}
		for i := range list {
			list[i].Reason = cut(list[i].Reason)
		}
		want := once(list)
		again, err := decodeSettlements(encodeSettlements(list)[1:])
		if err != nil || !slices.Equal(once(again), want) {
			t.Fatalf("got  %v\nwant %v (%v)", once(again), want, err)
		}
	})
}

// TestSettleNowIsBehindTheFeed: who settled and waited sees the feed without the debts, however late
// the committer comes to the feed after the fsync.
func TestSettleNowIsBehindTheFeed(t *testing.T) {
	x := newBox(t)
	var seqs []uint64
	for range 20 {
		seqs = append(seqs, x.publish("a").Seq)
	}
	waiting := make(chan error, 1)
	for _, seq := range seqs {
		early := false
		x.feed.before = func() {
			select {
			case err := <-waiting: // it had the whole time of the fsync and of this to return
				early = true
				waiting <- err
			case <-time.After(time.Millisecond):
			}
		}
		x.Settle(Settlement{Sub: 1, Seq: seq, State: message.Delivered, Attempts: 1})
		go func() { waiting <- x.SettleNow() }()
		if err := <-waiting; err != nil {
			t.Fatal(err)
		}
		if early || x.feed.has(seq) {
			t.Fatalf("SettleNow returned before the feed was told of %d", seq)
		}
	}
}
