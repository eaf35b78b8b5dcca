package wal

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowDisk is a disk on which an fsync takes a millisecond, and nothing else takes time.
type slowDisk struct{ osDisk }

func (slowDisk) SyncDir(string) error             { return nil }
func (slowDisk) Free(string) (int64, bool, error) { return 1 << 40, true, nil }

func (d slowDisk) Create(dir string, part int64) (segment, error) {
	seg, err := d.osDisk.Create(dir, part)
	return slowSegment{seg}, err
}

type slowSegment struct{ segment }

func (slowSegment) Sync() error {
	time.Sleep(time.Millisecond) // of the bubble
	return nil
}

// busy is the processors that publishers and log share. Publishing through a protocol needs one three times: for the
// answer, for its receiver, and for the next request.
type busy struct {
	turn chan struct{} // as many as there are processors
	each time.Duration
}

func (p *busy) work() {
	for range 3 {
		p.turn <- struct{}{}
		time.Sleep(p.each) // of the bubble
		<-p.turn
	}
}

// TestCrowd counts what many publishers share who publish again as soon as they are answered, also where answering all of
// them takes longer than an fsync and what they send is more than a frame: a commit for what was left of the one
// before, while everybody else is being answered, would be as dear as one for all.
func TestCrowd(t *testing.T) {
	const each, payload = 30, 301 // with its topic a message of 256 bytes
	for _, c := range []struct {
		publishers int
		each       time.Duration // of processor time
		least      float64       // messages a frame
		most       float64       // bytes in the log for one published, with the zeros written ahead of small frames
	}{
		{8, 10 * time.Microsecond, 7.5, 3},
		{64, time.Microsecond, 60, 2.3}, {64, 20 * time.Microsecond, 60, 2.3},
		{128, 20 * time.Microsecond, 110, 1.4},
		{256, time.Microsecond, 190, 1.25}, {256, 10 * time.Microsecond, 190, 1.25}, {256, 20 * time.Microsecond, 190, 1.25},
		{512, 20 * time.Microsecond, 170, 1.15},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, err := openOn(slowDisk{}, t.TempDir(), Options{Now: testClock(), Reserve: -1})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			before := l.Stats()
			p := busy{make(chan struct{}, 2), c.each}
			var wg sync.WaitGroup
			for range c.publishers {
				wg.Go(func() {
					for range each {
						p.work()
						add(t, l, string(make([]byte, payload)))
					}
				})
			}
			wg.Wait()
			st := l.Stats()
			n := float64(st.Records - before.Records)
			frame, bytes := n/float64(st.Commits-before.Commits), float64(st.Bytes-before.Bytes)/n/payload
			t.Logf("%d publishers, %v each: %.1f messages a frame, %.2f bytes in the log for one published", c.publishers, 3*c.each, frame, bytes)
			if frame < c.least || bytes > c.most {
				t.Errorf("want at least %v messages a frame, at most %v bytes", c.least, c.most)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
