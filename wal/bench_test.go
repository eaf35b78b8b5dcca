package wal

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkAppendWait measures durable appends of 256 bytes: every one is fsynced before it returns. The device bytes
// are for whoever runs it on a device of its own; here only what we hand to the file system is reported.
func BenchmarkAppendWait(b *testing.B) {
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			l := start(b, b.TempDir(), Options{Now: testClock()})
			defer l.Close()
			data := make([]byte, 256)
			b.SetBytes(256)
			b.ReportAllocs()
			b.SetParallelism(n)
			work := make(chan struct{})
			done := make(chan struct{})
			for range n {
				go func() {
					for range work {
						if _, err := l.AppendWait(context.Background(), Record{Data: data}); err != nil {
							b.Error(err)
						}
					}
					done <- struct{}{}
				}()
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range n {
				<-done
			}
			b.StopTimer()
			s := l.Stats()
			b.ReportMetric(float64(s.Records)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(s.Records)/float64(max(s.Commits, 1)), "records/commit")
			b.ReportMetric(float64(s.Bytes)/float64(max(s.Records*256, 1)), "bytes/byte")
		})
	}
}
