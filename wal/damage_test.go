package wal

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// history makes a log of several sealed generations and an unsealed one, as kill -9 leaves it, and returns its
// directory and what is in it.
func history(t testing.TB, o Options, runs, perRun int) (string, map[uint64]string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	want := map[uint64]string{}
	for run := range runs {
		l := start(t, dir, o)
		for i := range perRun {
			a, b := fmt.Sprintf("%d/%d", run, i), strings.Repeat("x", i%7)
			n := add(t, l, a, b)
			want[n], want[n+1] = a, b
		}
		l.retiring.Wait()
		if run == runs-1 {
			killed := filepath.Join(t.TempDir(), "killed")
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			dir = killed
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, want
}

// lastFile returns the file of the newest generation.
func lastFile(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "g*", "0*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names[len(names)-1]
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// In place: ext4 flushes a file that is truncated and written again, which takes a thousand times as long.
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
}

// dataEnd is where the data in a file that may have zeros behind it ends.
func dataEnd(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }

// inspect opens dir and returns what can be read and what is reported lost. top is the highest number that was ever used.
func inspect(t testing.TB, dir string, top uint64) (got map[uint64]string, lost []Range) {
	t.Helper()
	l, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	check(t, l)
	if l.com.next <= top {
		t.Fatalf("the next number is %d, %d was used", l.com.next, top)
	}
	got = contents(t, l)
	lost = l.Losses()
	for _, r := range lost {
		for seq := r.First; seq <= r.Last && seq < r.First+100; seq++ {
			if _, ok := got[seq]; ok {
				t.Fatalf("%d is reported lost and readable", seq)
			}
		}
	}
	return got, lost
}

// check holds l against its invariants.
func check(t testing.TB, l *Log) {
	t.Helper()
	l.mu.RLock()
	defer l.mu.RUnlock()
	var last uint64
	for _, g := range l.gens {
		if g.records == 0 {
			continue
		}
		if g.first <= last || g.last < g.first {
			t.Fatalf("generation %d is %d..%d after %d", g.id, g.first, g.last, last)
		}
		last = g.last
		at, off := uint64(0), uint32(0)
		for _, f := range g.frames {
			if f.first <= at || f.off <= off || f.first < g.first || f.first > g.last {
				t.Fatalf("generation %d: frame %+v after %d, %d", g.id, f, at, off)
			}
			at, off = f.first, f.off
		}
		if g.kind == Main && l.com.next <= g.last {
			t.Fatalf("next number is %d, used up to %d", l.com.next, g.last)
		}
	}
}

func TestTornAtEveryOffset(t *testing.T) {
	o := testOptions()
	o.Generation = 64 << 10
	dir, want := history(t, o, 2, 5)
	file := lastFile(t, dir)
	whole := read(t, file)
	end := dataEnd(whole)
	begin := bytes.LastIndex(whole, magic[:]) - 1
	head := slices.Max(keys(want))
	short := cloneWithout(want, head, head-1)
	for at := begin; at <= end; at++ {
		for _, tail := range []int{0, 5000} { // with zeros written ahead, and without
			write(t, file, append(slices.Clone(whole[:at]), make([]byte, tail)...))
			got, lost := inspect(t, dir, head)
			if len(lost) != 0 {
				t.Fatalf("torn at %d: %v reported lost", at-begin, lost)
			}
			if at == end {
				same(t, got, want)
			} else if len(got) != len(want) || at < end-5 { // (its last bytes may be zeros)
				same(t, got, short)
			}
		}
	}
	// A torn write is not in the way of anything: the next run goes on behind it, with numbers nobody has seen.
	write(t, file, whole[:end-1])
	l := start(t, dir, testOptions())
	n := add(t, l, "next")
	if n <= head {
		t.Errorf("number %d was used before", n)
	}
	short[n] = "next"
	same(t, contents(t, l), short)
	l.Close()
	got, lost := inspect(t, dir, n)
	same(t, got, short)
	if len(lost) != 0 {
		t.Error(lost)
	}
}

func keys(m map[uint64]string) []uint64 {
	var out []uint64
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func cloneWithout(m map[uint64]string, drop ...uint64) map[uint64]string {
	out := map[uint64]string{}
	for k, v := range m {
		if !slices.Contains(drop, k) {
			out[k] = v
		}
	}
	return out
}

// TestEveryBit flips bits of every file. Never a wrong byte, at most one frame (of two records here) is lost, and the
// losses are reported exactly; only in the last frame of an unsealed generation a flip looks like a torn write.
func TestEveryBit(t *testing.T) {
	o := testOptions()
	o.Generation = 900
	dir, want := history(t, o, 2, 8)
	last := lastFile(t, dir)
	files, _ := filepath.Glob(filepath.Join(dir, "g*", "0*"))
	if len(files) < 4 {
		t.Fatalf("only %d generations", len(files))
	}
	head := slices.Max(keys(want))
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 13
	}
	flips := 0
	for _, file := range append(files, filepath.Join(dir, lockName)) {
		whole := read(t, file)
		begin := bytes.LastIndex(whole, magic[:]) - 1
		for bit := 0; bit < 8*dataEnd(whole); bit += stride {
			flips++
			bad := slices.Clone(whole)
			bad[bit/8] ^= 1 << (bit % 8)
			write(t, file, bad)
			got, lost := inspect(t, dir, head)
			missing := 0
			for seq, w := range want {
				g, ok := got[seq]
				switch {
				case ok && g != w:
					t.Fatalf("%s bit %d: record %d is %q instead of %q", file, bit, seq, g, w)
				case !ok:
					missing++
					torn := file == last && bit/8 >= begin && seq >= head-1
					if !inRanges(lost, seq) && !torn {
						t.Fatalf("%s bit %d: record %d is lost, reported are %v", file, bit, seq, lost)
					}
				}
			}
			if len(got)+missing != len(want) || missing > 2 {
				t.Fatalf("%s bit %d: %d records, %d missing", file, bit, len(got), missing)
			}
			n := 0
			for _, r := range lost {
				n += int(r.Last - r.First + 1)
			}
			if n > missing {
				t.Fatalf("%s bit %d: %v reported lost, %d are", file, bit, lost, missing)
			}
		}
		write(t, file, whole)
	}
	t.Logf("%d flips in %d files", flips, len(files)+1)
}

// TestDamageIsReportedOnRead damages a frame after Open.
func TestDamageIsReportedOnRead(t *testing.T) {
	o := testOptions()
	dir, want := history(t, o, 1, 60)
	l := start(t, dir, o)
	defer l.Close()
	file := filepath.Join(dir, "g00000001", firstPart)
	whole := read(t, file)
	at := bytes.Index(whole, []byte("0/3")) // in the data of one frame
	whole[at] ^= 1
	write(t, file, whole)
	got := contents(t, l)
	lost := l.Losses()
	if len(lost) != 1 || lost[0] != (Range{7, 8}) {
		t.Fatalf("lost %v", lost)
	}
	same(t, got, cloneWithout(want, 7, 8))
	if _, _, err := l.Read(7); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, lostFolder, "*")); len(kept) != 1 {
		t.Errorf("kept %v", kept)
	}
	rep, err := Verify(dir, Encryption{}, io.Discard)
	if err != nil || rep.OK() || rep.Damaged != 1 || !slices.Equal(rep.Lost, lost) {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestLostSectors wipes or garbles every sector of a sealed and of an unsealed generation.
func TestLostSectors(t *testing.T) {
	o := testOptions()
	dir, want := history(t, o, 1, 60)
	files, _ := filepath.Glob(filepath.Join(dir, "g*", "0*"))
	for _, file := range files {
		whole := read(t, file)
		for at := 0; at < dataEnd(whole); at += 512 {
			for _, fill := range []byte{0, 0xff, 0xE5} {
				bad := slices.Clone(whole)
				for i := at; i < min(at+512, len(bad)); i++ {
					bad[i] = fill
				}
				write(t, file, bad)
				got, lost := inspect(t, dir, slices.Max(keys(want)))
				for seq, w := range want {
					if g, ok := got[seq]; ok && g != w {
						t.Fatalf("%s sector %d: record %d is %q instead of %q", file, at, seq, g, w)
					} else if !ok && !inRanges(lost, seq) && file != files[len(files)-1] {
						t.Fatalf("%s sector %d: record %d is gone, reported are %v", file, at, seq, lost)
					}
				}
				if len(want)-len(got) > 20 {
					t.Fatalf("%s sector %d: %d of %d records are left", file, at, len(got), len(want))
				}
			}
		}
		write(t, file, whole)
	}
}

// TestForgedFrames puts frames into payloads and breaks the real frame around them, so that the scanner looks inside.
func TestForgedFrames(t *testing.T) {
	o := testOptions()
	o.Generation = 64 << 10
	dir := t.TempDir()
	l := start(t, dir, o)
	add(t, l, "before")
	file := lastFile(t, dir)
	genuine := read(t, file)[headEntry:] // a copy of a real frame: right salt, wrong place
	genuine = genuine[:dataEnd(genuine)]
	forged := make([]byte, headerSize, 200)
	h := header{typ: typeData, kind: Main, count: 1, salt: 12345, first: 3, last: 3, offset: uint32(headEntry + len(genuine) + 86)}
	forged = encodeMain(forged, []Record{{Data: []byte("forged")}})
	h.finish(forged)
	var evil []byte
	for range 50 {
		evil = append(append(evil, genuine...), append([]byte{byte(len(forged))}, forged...)...)
	}
	n := add(t, l, string(evil))
	after := add(t, l, "after")
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	file = lastFile(t, killed)
	whole := read(t, file)
	whole[headEntry+len(genuine)+3] ^= 0x10 // in the magic of the outer frame
	write(t, file, whole)
	got, lost := inspect(t, killed, after)
	same(t, got, map[uint64]string{1: "before", after: "after"})
	if len(lost) != 1 || lost[0] != (Range{n, n}) {
		t.Error(lost)
	}
}

// TestMissingAndCopied deletes, empties, truncates and copies generations.
func TestMissingAndCopied(t *testing.T) {
	o := testOptions()
	dir, want := history(t, o, 1, 200)
	dirs, _ := filepath.Glob(filepath.Join(dir, "g*"))
	attack := func(name string, f func(gen string)) {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			f(filepath.Join(bad, filepath.Base(dirs[2])))
			got, _ := inspect(t, bad, slices.Max(keys(want)))
			for seq, g := range got {
				if want[seq] != g {
					t.Fatalf("record %d is %q", seq, g)
				}
			}
			if len(got) < len(want)-110 {
				t.Errorf("%d of %d records are left", len(got), len(want))
			}
			l := start(t, bad, testOptions())
			if n := add(t, l, "goes on"); n <= slices.Max(keys(want)) {
				t.Errorf("number %d again", n)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	attack("deleted", func(gen string) { os.RemoveAll(gen) })
	attack("emptied", func(gen string) { os.Remove(filepath.Join(gen, firstPart)) })
	attack("cut to nothing", func(gen string) { os.Truncate(filepath.Join(gen, firstPart), 0) })
	attack("cut", func(gen string) { os.Truncate(filepath.Join(gen, firstPart), 1500) })
	attack("copied", func(gen string) { os.CopyFS(filepath.Join(filepath.Dir(gen), "g00000099"), os.DirFS(gen)) })
	attack("garbage in it", func(gen string) { write(t, filepath.Join(gen, "note.txt"), []byte("hello")) })
	attack("garbage beside it", func(gen string) { write(t, gen+"x", []byte("hello")) })
	attack("a file of that name", func(gen string) { write(t, filepath.Join(filepath.Dir(gen), "g00000123"), nil) })
}

func TestForeignFolders(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "holiday.jpg"), []byte("jpg"))
	if _, err := Open(dir, testOptions()); err == nil || !strings.Contains(err.Error(), "holiday.jpg") {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(dir, "holiday.jpg"), testOptions()); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Error(err)
	}
	newer := t.TempDir()
	write(t, filepath.Join(newer, lockName), []byte("edgepost wal, format 2, format 2\n"))
	if _, err := Open(newer, testOptions()); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Error(err)
	}
	if _, err := Open(t.TempDir(), Options{}); err == nil {
		t.Error("Now may be missing")
	}
}

// TestAMarkTellsDamageFromACrash: once a log has been quiet its last frame is as safe from being taken for a torn
// write as any other, whatever is flipped or lost of it; the mark itself costs nothing when it is damaged.
func TestAMarkTellsDamageFromACrash(t *testing.T) {
	o := testOptions()
	o.Quiet = time.Millisecond
	dir := filepath.Join(t.TempDir(), "log")
	l := start(t, dir, o)
	first := add(t, l, "before")
	last := add(t, l, "acknowledged", "too")
	want := map[uint64]string{first: "before", last: "acknowledged", last + 1: "too"}
	marked := func() bool { // the newest frame in the file
		b := read(t, lastFile(t, dir))
		at := bytes.LastIndex(b, magic[:])
		return at+5 < len(b) && b[at+5] == byte(typeMark)
	}
	for !marked() {
		time.Sleep(time.Millisecond)
	}
	st := l.Stats()
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	next := add(t, l, "behind a mark")
	if err := l.Close(); err != nil || st.Commits != 2 {
		t.Fatalf("%d commits, %v", st.Commits, err)
	}
	want2 := map[uint64]string{next: "behind a mark"}
	maps.Copy(want2, want)
	l = start(t, dir, o)
	same(t, contents(t, l), want2)
	if err := l.Close(); err != nil || len(l.Losses()) > 0 {
		t.Fatal(err, l.Losses())
	}

	file := lastFile(t, killed)
	whole := read(t, file)
	mark := bytes.LastIndex(whole, magic[:])
	victim := bytes.LastIndex(whole[:mark], magic[:]) - 1
	for bit := 8 * victim; bit < 8*(mark+headerSize); bit++ {
		bad := slices.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		write(t, file, bad)
		got, lost := inspect(t, killed, last+1)
		for seq, w := range want {
			if g, ok := got[seq]; ok && g != w || !ok && !inRanges(lost, seq) {
				t.Fatalf("bit %d: record %d is %q, reported lost %v", bit, seq, g, lost)
			}
		}
		if bit/8 >= mark && len(got) != len(want) {
			t.Fatalf("bit %d of the mark cost records: %v", bit, got)
		}
	}
	bad := slices.Clone(whole)
	clear(bad[victim : mark-1]) // a lost sector
	write(t, file, bad)
	if got, lost := inspect(t, killed, last+1); len(got) != 1 || len(lost) != 1 || lost[0] != (Range{last, last + 1}) {
		t.Fatalf("%v, lost %v", got, lost)
	}
}

// TestMarksAreWrittenOnce: a log that stays quiet, or holds nothing, writes no more.
func TestMarksAreWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		l := start(t, filepath.Join(t.TempDir(), "log"), o)
		defer l.Close()
		syncs := func() int64 { synctest.Wait(); return l.Stats().Fsyncs }
		before := syncs()
		time.Sleep(time.Hour)
		if n := syncs() - before; n != 0 {
			t.Errorf("%d fsyncs of a log without records", n)
		}
		add(t, l, "x")
		before = syncs()
		time.Sleep(defaultQuiet - time.Second)
		add(t, l, "y") // starts the wait again
		time.Sleep(defaultQuiet - time.Second)
		if n := syncs() - before; n != 1 {
			t.Errorf("%d fsyncs while it was not quiet, want one", n)
		}
		time.Sleep(time.Hour)
		if n := syncs() - before; n != 2 {
			t.Errorf("%d fsyncs after a quiet hour, want two", n)
		}
	})
}
