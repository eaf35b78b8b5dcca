package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// testClock is a stamp that grows by a second with every frame.
func testClock() func() Stamp {
	var mu sync.Mutex
	var n int64
	return func() Stamp {
		mu.Lock()
		defer mu.Unlock()
		n++
		return Stamp{Wall: 1_700_000_000_000_000_000 + n*1e9, Age: n * 1e9, Boot: 7}
	}
}

func testOptions() Options {
	return Options{Now: testClock(), Generation: 4 << 10, Reserve: -1, Skip: 100}
}

func start(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

func add(t testing.TB, l *Log, data ...string) uint64 {
	t.Helper()
	var recs []Record
	for _, d := range data {
		recs = append(recs, Record{Data: []byte(d)})
	}
	first, err := l.AppendWait(context.Background(), recs...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// contents reads every record by Scan and compares each with Read.
func contents(t testing.TB, l *Log) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	var last uint64
	err := l.Scan(0, ^uint64(0), func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq <= last {
			t.Fatalf("scan went from %d to %d", last, seq)
		}
		last = seq
		out[seq] = string(data)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range out {
		got, _, err := l.Read(seq)
		if err != nil || string(got) != want {
			t.Fatalf("read %d: %q, %v; scan gave %q", seq, got, err, want)
		}
	}
	return out
}

func same(t testing.TB, got, want map[uint64]string) {
	t.Helper()
	for seq, w := range want {
		if g, ok := got[seq]; !ok || g != w {
			t.Fatalf("record %d is %q (there: %v), want %q", seq, g, ok, w)
		}
	}
	for seq := range got {
		if _, ok := want[seq]; !ok {
			t.Fatalf("record %d should not be there", seq)
		}
	}
}

func TestAppendReadReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	want := map[uint64]string{}
	for run := range 4 {
		l := start(t, dir, testOptions())
		same(t, contents(t, l), want)
		for i := range 300 {
			a, b := fmt.Sprintf("run %d record %d", run, i), fmt.Sprintf("second of %d %d", run, i)
			first := add(t, l, a, b)
			want[first], want[first+1] = a, b
		}
		same(t, contents(t, l), want)
		if g := l.Generations(); len(g) < 5*(run+1) {
			t.Errorf("only %d generations", len(g))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	same(t, contents(t, l), want)
	if n := len(l.Losses()); n != 0 {
		t.Errorf("%d losses", n)
	}
	if _, _, err := l.Read(l.Head() + 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("read beyond head: %v", err)
	}
	if s, ok := l.Last(); !ok || s.Boot != 7 {
		t.Errorf("last stamp %v %v", s, ok)
	}
}

func TestCrashWithoutClose(t *testing.T) {
	dir := t.TempDir()
	want := map[uint64]string{}
	var seen uint64
	for run := range 3 {
		l := start(t, dir, testOptions())
		for i := range 50 {
			s := fmt.Sprintf("%d/%d", run, i)
			n := add(t, l, s)
			if n <= seen {
				t.Fatalf("number %d was used before", n)
			}
			seen = n
			want[n] = s
		}
		copyDir := t.TempDir()
		if err := os.CopyFS(copyDir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		dir = copyDir
	}
	l, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	same(t, contents(t, l), want)
	if len(l.Losses()) > 0 {
		t.Error(l.Losses())
	}
}

func TestGroupCommit(t *testing.T) {
	o := testOptions()
	o.Generation = 64 << 10
	var mu sync.Mutex
	seen := map[uint64]string{}
	const publishers = 32
	var l *Log
	var sizes []int // of the first frames
	o.Committed = func(b Batch) {
		mu.Lock()
		for i, r := range b.Records {
			seen[b.First+uint64(i)] = string(r.Data)
		}
		sizes = append(sizes, len(b.Records))
		first := len(sizes) == 1
		mu.Unlock()
		for n := 0; first && n < publishers-len(b.Records); { // while the first is under way the others queue up
			runtime.Gosched()
			n, _ = l.queue.waiting(1)
		}
	}
	l = start(t, t.TempDir(), o)
	var wg sync.WaitGroup
	for g := range publishers {
		wg.Go(func() {
			for i := range 50 {
				s := fmt.Sprintf("%d-%d", g, i)
				n, err := l.AppendWait(context.Background(), Record{Data: []byte(s)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[n] != s {
					t.Errorf("answered %d before Committed, or with other data (%q)", n, seen[n])
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	same(t, contents(t, l), seen)
	st := l.Stats()
	if st.Records != 1600 || sizes[1] < publishers-sizes[0] {
		t.Errorf("%d records in %d commits, the first of %v", st.Records, st.Commits, sizes[:2])
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBigAndTooLarge(t *testing.T) {
	dir := t.TempDir()
	l := start(t, dir, testOptions())
	big := bytes.Repeat([]byte("0123456789abcdef"), MaxAppend/16-1)
	n, err := l.AppendWait(context.Background(), Record{Data: big})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendWait(context.Background(), Record{Data: make([]byte, MaxAppend+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendWait(context.Background(), Record{}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	l, err = Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, _, err := l.Read(n); err != nil || !bytes.Equal(got, big) {
		t.Fatal(len(got), err)
	}
}

func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	l := start(t, dir, testOptions())
	begin := time.Now()
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if time.Since(begin) > time.Second {
		t.Error("it waited for the lock")
	}
	l.Close()
	l = start(t, dir, testOptions())
	l.Close()
}
