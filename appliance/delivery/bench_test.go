package delivery

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// scattered makes what 10,000 subscriptions owe of a million messages, 100 each and each message
// owed once: the worst case for a set, its numbers lie 10,000 apart.
func scattered(owe func(i int, seq uint64)) {
	r := rand.New(rand.NewPCG(1, 1))
	for seq := range uint64(1_000_000) {
		owe(r.IntN(10_000), seq+1)
	}
}

func states(n int) []*State {
	all := make([]*State, n)
	for i := range all {
		all[i] = New(Policy{})
	}
	return all
}

// heapOf returns what build leaves on the heap, in bytes.
func heapOf(build func() any) int64 {
	before := heap()
	kept := build()
	size := heap() - before
	runtime.KeepAlive(kept)
	return size
}

func manySmall() any {
	all := states(10_000)
	scattered(func(i int, seq uint64) { all[i].Owe(seq, false) })
	return all
}

func oneDense() any {
	s := New(Policy{})
	for seq := range uint64(1_000_000) {
		s.Owe(seq+1, false)
	}
	return s
}

func oneSparse() any {
	s := New(Policy{})
	r := rand.New(rand.NewPCG(2, 2))
	for seq := uint64(1); s.Depth() < 1_000_000; seq += 1 + r.Uint64N(20) {
		s.Owe(seq, false)
	}
	return s
}

// reread builds the states by way of their binary form, as after a restart.
func reread() any {
	all := manySmall().([]*State)
	for i, s := range all {
		var err error
		if all[i], _, err = Decode(Policy{}, s.AppendBinary(nil)); err != nil {
			return err
		}
	}
	return all
}

// TestHeapBudget holds the budget of the design: a million debts of offline devices in 4 MiB.
func TestHeapBudget(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func() any
		limit int64
	}{
		{"10,000 states of 100 scattered debts", manySmall, 4 << 20},
		{"the same after a restart", reread, 4 << 20},
		{"one state of 1,000,000 dense debts", oneDense, 1 << 10},
		{"one state of 1,000,000 debts, one of ten", oneSparse, 2 << 20},
	} {
		if got := heapOf(c.build); got > c.limit {
			t.Errorf("%s take %d bytes, the limit is %d", c.name, got, c.limit)
		} else {
			t.Logf("%s: %d bytes", c.name, got)
		}
	}
}

func BenchmarkHeap(b *testing.B) {
	for _, c := range []struct {
		name  string
		build func() any
	}{{"10000x100", manySmall}, {"10000x100-reread", reread}, {"1x1M-dense", oneDense}, {"1x1M-sparse", oneSparse}} {
		b.Run(c.name, func(b *testing.B) {
			var size int64
			for b.Loop() {
				size = heapOf(c.build)
			}
			b.ReportMetric(float64(size)/(1<<20), "heap-MiB")
		})
	}
}

// BenchmarkCycle is the life of one message on an attached link: owed, offered, sent, acknowledged.
func BenchmarkCycle(b *testing.B) {
	now := time.Now()
	for _, c := range []struct {
		name    string
		backlog uint64
		step    uint64 // between two numbers owed
		timeout time.Duration
	}{{"empty", 0, 1, 0}, {"deadline", 0, 1, time.Minute}, {"scattered-64", 63, 10_000, 0}, {"scattered-1M", 1_000_000, 10_000, 0}} {
		b.Run(c.name, func(b *testing.B) {
			s := New(Policy{})
			seq := uint64(0)
			for range c.backlog {
				seq += c.step
				s.Owe(seq, false)
			}
			s.Open(0)
			deadline := time.Time{}
			b.ReportAllocs()
			for b.Loop() {
				seq += c.step
				s.Owe(seq, false)
				d, ok := s.Next(now)
				if !ok {
					b.Fatal("nothing to send")
				}
				if c.timeout > 0 {
					deadline = now.Add(c.timeout)
				}
				s.Sent(d.Seq, now, deadline)
				if s.Ack(d.Seq) == 0 {
					b.Fatal("it was not in flight")
				}
			}
		})
	}
}

// BenchmarkWindow keeps the window full: acknowledged are the oldest, or any.
func BenchmarkWindow(b *testing.B) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		window int
		random bool
	}{{"64-in-order", 64, false}, {"64-any-order", 64, true}, {"4096-in-order", 4096, false}, {"4096-any-order", 4096, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := New(Policy{Window: c.window})
			r := rand.New(rand.NewPCG(1, 1))
			for i := range uint64(200_000) {
				s.Owe(1+i*100, false)
			}
			seq, sent := uint64(1+200_000*100), make([]uint64, 0, c.window)
			s.Open(0)
			b.ReportAllocs()
			for b.Loop() {
				for d, ok := s.Next(now); ok; d, ok = s.Next(now) {
					s.Sent(d.Seq, now, now.Add(time.Minute))
					sent = append(sent, d.Seq)
				}
				i := 0
				if c.random {
					i = r.IntN(len(sent))
					sent[i], sent[0] = sent[0], sent[i]
				}
				s.Ack(sent[0])
				copy(sent, sent[1:])
				sent = sent[:len(sent)-1]
				seq += 100
				s.Owe(seq, false)
			}
		})
	}
}

func BenchmarkOweScattered(b *testing.B) {
	all, seq := states(1000), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		all[seq*7919%1000].Owe(seq, false)
	}
}

func BenchmarkDecode1M(b *testing.B) {
	enc := oneSparse().(*State).AppendBinary(nil)
	b.SetBytes(int64(len(enc)))
	for b.Loop() {
		if _, _, err := Decode(Policy{}, enc); err != nil {
			b.Fatal(err)
		}
	}
}
