package wal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkAppendWait measures durable appends of 256 bytes: each is fsynced before it returns. "device" is what the
// block device of the temporary directory wrote meanwhile, journal included, whoever caused it: run it with TMPDIR on a
// device of its own to believe it.
func BenchmarkAppendWait(b *testing.B) {
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			dir := b.TempDir()
			l := start(b, dir, Options{Now: testClock()})
			defer l.Close()
			data := make([]byte, 256)
			var left atomic.Int64
			left.Store(int64(b.N))
			var slowest atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			before := deviceBytes(dir)
			b.ResetTimer()
			for range n {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						begin := time.Now()
						if _, err := l.AppendWait(context.Background(), Record{Data: data}); err != nil {
							b.Error(err)
							return
						}
						if d := int64(time.Since(begin)); d > slowest.Load() {
							slowest.Store(d)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			s := l.Stats()
			payload := float64(s.Records * 256)
			b.ReportMetric(float64(s.Records)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(s.Records)/float64(s.Commits), "records/commit")
			b.ReportMetric(float64(s.Bytes)/payload, "written/byte")
			b.ReportMetric(float64(slowest.Load())/1e6, "ms-slowest")
			if now := deviceBytes(dir); now > before {
				b.ReportMetric(float64(now-before)/payload, "device/byte")
			}
		})
	}
}

// BenchmarkEncryption measures durable appends of 256 bytes, plain and with every suite, in turns.
func BenchmarkEncryption(b *testing.B) {
	for _, n := range []int{1, 64} {
		for _, suite := range []Suite{Plain, AES256GCM, XChaCha20Poly1305} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", suite, n), func(b *testing.B) {
				l := start(b, b.TempDir(), Options{Now: testClock(), Encryption: Encryption{Log: "test", Keys: oneKey(suite)}})
				defer l.Close()
				data := make([]byte, 256)
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range n {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := l.AppendWait(context.Background(), Record{Data: data}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// deviceBytes returns the bytes ever written to the block device of dir, 0 if the system does not tell.
func deviceBytes(dir string) int64 {
	unix.Sync()
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	b, _ := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))))
	f := bytes.Fields(b)
	if len(f) < 7 {
		return 0
	}
	n, _ := strconv.ParseInt(string(f[6]), 10, 64)
	return n * 512
}

// BenchmarkOpen measures a start over a million records of 256 bytes in frames of 64.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l := start(b, dir, Options{Now: testClock(), Generation: 1 << 20})
	recs := make([]Record, 64)
	for i := range recs {
		recs[i].Data = make([]byte, 256)
	}
	var wg sync.WaitGroup
	for range 1 << 20 / 64 {
		wg.Add(1)
		l.Append(recs, func(_ uint64, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		l, err := Open(dir, Options{Now: testClock()})
		if err != nil {
			b.Fatal(err)
		}
		if n := l.Head() - l.Tail() + 1; n != 1<<20 {
			b.Fatal(n)
		}
		l.Close()
	}
}
