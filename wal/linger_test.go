package wal

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinger: a few publishers never wait for company; many share frames, and those who stay when the others
// leave wait a little at first, then no more. Only a commit's wait takes time in the bubble.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, t.TempDir(), Options{Now: testClock()})
		publish := func(publishers, each int) (took time.Duration, commits int64) {
			began, before := time.Now(), l.Stats().Commits
			var wg sync.WaitGroup
			for range publishers {
				wg.Go(func() {
					for range each {
						add(t, l, "x")
					}
				})
			}
			wg.Wait()
			return time.Since(began), l.Stats().Commits - before
		}
		if took, _ := publish(lingerFrom-1, 50); took != 0 {
			t.Errorf("%d publishers waited %v for company", lingerFrom-1, took)
		}
		if _, commits := publish(64, 20); commits > 20*8 {
			t.Errorf("1280 appends of 64 publishers took %d frames", commits)
		}
		if took, _ := publish(1, 50); took > 30*time.Millisecond {
			t.Errorf("who stayed alone waited %v in 50 appends", took)
		}
		if took, _ := publish(1, 50); took != 0 {
			t.Errorf("who is alone waits %v", took)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
