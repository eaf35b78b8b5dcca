package appliance

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// BenchmarkPublish measures durable publishes through the Go API: each is on stable storage before
// the next of its publisher begins. rec/commit is what one fsync carried.
func BenchmarkPublish(b *testing.B) {
	for _, publishers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			a, err := New(Config{Data: b.TempDir(), HTTP: HTTPConfig{Addr: "127.0.0.1:0"}, MQTT: MQTTConfig{Addr: "127.0.0.1:0"}, Storage: StorageConfig{MaxBytes: 4 << 30}}, Options{})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			if err := a.Start(ctx); err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := a.Stop(ctx); err != nil {
					b.Error(err)
				}
			}()
			if _, err := a.core.c.Ensure(ctx, courier.Spec{Name: "device/a", Owner: "device/a", Kind: courier.Inbox, Filters: []message.Filter{"bench/#"}}); err != nil {
				b.Fatal(err)
			}
			publish(b, a, publishers)
			st := a.core.ob.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(st.Records)/float64(st.Commits), "rec/commit")
		})
	}
}

func publish(b *testing.B, a *Appliance, publishers int) {
	owner, body := a.core.Owner(), make([]byte, 256)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for p := range publishers {
		n := b.N / publishers
		if p == 0 {
			n += b.N % publishers
		}
		wg.Go(func() {
			for range n {
				if _, err := a.core.Publish(context.Background(), owner, message.New("bench/x", body)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}
