package outbox

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgepost/appliance/message"
	"edgepost/wal"
)

// noFiles lets nothing be opened any more until the returned function is called.
func noFiles(t *testing.T) (again func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 0
	again = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(again) // before the directories of the test are removed
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	return again
}

// TestOutOfFiles: when no file can be opened, publishers are refused once a generation is full, cleaning, carrying and snapshots
// wait, no record counts as damaged, and all of it goes on by itself afterwards.
func TestOutOfFiles(t *testing.T) {
	x := newBox(t, small, func(o *Options) { o.Cache = 1 })
	seqs := x.fill(100 << 10)
	keep := []uint64{seqs[0], seqs[1], seqs[len(seqs)/2], seqs[len(seqs)-1]}
	x.settleAll(keep...)
	x.snapshot()
	x.snapshot()
	size := x.log.Size()

	again := noFiles(t)
	stored := slices.Clone(keep)
	var refused error
	for range 1000 {
		s := <-x.publishing(message.New("t/while", make([]byte, 200)))
		if s.err != nil {
			refused = s.err
			break
		}
		stored = append(stored, s.as.Seq)
	}
	if code(refused) != message.CodeStorageFailed {
		t.Fatalf("%d publishes while no generation can begin: %v", len(stored)-len(keep), refused)
	}
	ended := stored[len(stored)-1]
	stored = stored[:len(stored)-1]
	x.end(message.Delivered, ended) // which has to wait for a generation
	for range 3 {
		x.clock.move(time.Minute)
		x.pass()
	}
	if err := x.Snapshot(); err == nil {
		t.Fatal("a snapshot was written without a file")
	}
	if _, err := x.Read(keep[0]); err == nil || Gone(err) || !errors.Is(err, unix.EMFILE) {
		t.Fatalf("reading without a file: %v", err)
	}
	if o, err := x.Outcome(message.ID{Epoch: testEpoch, Seq: keep[0]}); err == nil {
		t.Fatalf("traced without a file: %+v", o)
	}
	again()

	for within := time.Now().Add(time.Minute); x.Health() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(within) {
			t.Fatalf("files can be opened again: %v", x.Health())
		}
	}
	stored = append(stored, x.publish("t/after").Seq)
	if err := x.SettleNow(); err != nil {
		t.Fatal(err)
	}
	if o, err := x.Outcome(message.ID{Epoch: testEpoch, Seq: ended}); err != nil || len(o.Settled) != 1 {
		t.Fatalf("what was settled meanwhile: %+v, %v", o, err)
	}
	if l := x.Losses(); len(l) > 0 {
		t.Fatalf("lost %v", l)
	}
	x.sweep()
	if now := x.log.Size(); now > size/2 {
		t.Errorf("%d bytes, %d before: cleaning did not go on", now, size)
	}
	if !slices.ContainsFunc(x.log.Generations(), func(g wal.Generation) bool { return g.Kind == wal.Cold }) {
		t.Error("nothing was carried")
	}
	for range 2 {
		for _, seq := range stored {
			if _, err := x.Read(seq); err != nil {
				t.Fatalf("record %d: %v", seq, err)
			}
		}
		x.crash()
	}
}
