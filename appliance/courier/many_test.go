package courier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// TestManySubscriptionsWithDebts: ten thousand subscriptions, each with a hundred messages that wait, on generations of
// 256 KiB and a budget that has the log cleaned and carried meanwhile. Each owes after a crash what it owed before it, a second
// crash that damages nothing either, and everything owed can be read.
func TestManySubscriptionsWithDebts(t *testing.T) {
	subs, each := 10_000, 100
	if raceEnabled || testing.Short() {
		subs = 500
	}
	w := newWorldOf(t)
	w.o.Generation, w.o.MaxBytes, w.o.RetainBytes = 256<<10, 256<<20, 1
	w.start()
	defer w.stop()
	ctx := context.Background()
	name := func(i int) string { return fmt.Sprintf("s%05d", i) }
	var made sync.WaitGroup
	for k := range 256 {
		made.Go(func() {
			for i := k; i < subs; i += 256 {
				spec := Spec{Name: NamedAs("key/app", name(i)), Owner: fmt.Sprint("key/", i%7), Kind: Named, Filters: []message.Filter{"all/#", message.Filter("to/" + name(i))}}
				if _, err := w.c.Ensure(ctx, spec); err != nil {
					t.Error(err)
				}
			}
		})
	}
	made.Wait()
	w.storeMany(subs*each/2, func(i int) string { return "to/" + name(i%subs) })
	w.snapshot()
	w.storeMany(each/2, func(int) string { return "all/x" })
	w.storeMany(20_000, func(int) string { return "nobody/owes" }) // what cleaning is for
	for i := range subs / 10 {                                     // some take all they have
		w.takeAll(NamedAs("key/app", name(10*i)), each)
	}
	if err := w.ob.SettleNow(); err != nil {
		t.Fatal(err)
	}
	want := w.allOwed()
	if n := total(want); n != int64(subs-subs/10)*int64(each) {
		t.Fatalf("%d messages are owed", n)
	}
	size, _ := w.ob.Size()
	w.snapshot()
	w.snapshot()
	for within := time.Now().Add(time.Minute); w.ob.CleanedTo() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(within) {
			t.Fatal("nothing is cleaned")
		}
	}
	for round := range 2 {
		w.crash()
		if got := w.allOwed(); !maps.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("after crash %d: %d owed by %d subscriptions, want %d by %d", round, total(got), len(got), total(want), len(want))
		}
	}
	if l := w.ob.Losses(); len(l) > 0 {
		t.Fatalf("lost %v", l)
	}
	if now, _ := w.ob.Size(); now >= size {
		t.Errorf("the log has %d bytes, and had %d before it was cleaned", now, size)
	}
	for n, seqs := range want {
		for _, seq := range seqs {
			if _, err := w.ob.Read(seq); err != nil {
				t.Fatalf("%s owes %d: %v", n, seq, err)
			}
		}
		if n > NamedAs("key/app", name(20)) {
			break // each is read by some of the first
		}
	}
}

// storeMany stores n small messages in batches.
func (w *world) storeMany(n int, topic func(i int) string) {
	w.t.Helper()
	for i := 0; i < n; {
		var ms []*message.Message
		for ; i < n && len(ms) < 1000; i++ {
			ms = append(ms, message.New(message.Topic(topic(i)), fmt.Appendf(nil, "%d", i)))
		}
		if _, err := w.ob.PublishAll(context.Background(), ms); err != nil {
			w.t.Fatal(err)
		}
	}
}

// takeAll fetches and acknowledges n messages.
func (w *world) takeAll(name string, n int) {
	w.t.Helper()
	for n > 0 {
		got, err := w.c.Fetch(context.Background(), name, n, 0)
		if err != nil || len(got) == 0 {
			w.t.Fatalf("%s: %d are missing, %v", name, n, err)
		}
		var a Acks
		for _, d := range got {
			a.IDs = append(a.IDs, d.Msg.ID)
		}
		if res, err := w.c.Acknowledge(context.Background(), name, a); err != nil || res.Settled != len(got) {
			w.t.Fatalf("%s: %+v, %v", name, res, err)
		}
		n -= len(got)
	}
}

// allOwed is what every named subscription owes.
func (w *world) allOwed() map[string][]uint64 {
	w.t.Helper()
	out := map[string][]uint64{}
	if err := w.c.each(func(s *shard) {
		for _, sub := range s.subs {
			if sub.spec.Kind != Named {
				continue
			}
			seqs := []uint64{}
			sub.state.Each(0, ^uint64(0), func(first, last uint64) bool {
				for n := first; n <= last; n++ {
					seqs = append(seqs, n)
				}
				return true
			})
			out[sub.spec.Name] = seqs
		}
	}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func total(owed map[string][]uint64) (n int64) {
	for _, seqs := range owed {
		n += int64(len(seqs))
	}
	return n
}
