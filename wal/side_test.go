package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// carried makes a log whose first two generations were carried into a cold one that keeps every third number.
func carried(t *testing.T, dir string) (l *Log, want map[uint64]string, stamps map[uint64]Stamp) {
	t.Helper()
	l = start(t, dir, testOptions())
	want, stamps = map[uint64]string{}, map[uint64]Stamp{}
	for i := range 150 {
		s := fmt.Sprintf("record %d", i)
		want[add(t, l, s)] = s
	}
	l.retiring.Wait()
	gens := l.Generations()
	drop := []uint64{gens[0].ID, gens[1].ID}
	side, err := l.NewSide(Cold)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Scan(gens[0].First, gens[1].Last, func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq%3 != 0 {
			delete(want, seq)
			return true
		}
		stamps[seq] = stamp
		if err := side.Append(seq, data, stamp); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(side, drop); err != nil {
		t.Fatal(err)
	}
	if len(stamps) < 20 {
		t.Fatalf("only %d records carried", len(stamps))
	}
	return l, want, stamps
}

func TestColdKeepsNumbersAndStamps(t *testing.T) {
	dir := t.TempDir()
	l, want, stamps := carried(t, dir)
	for range 2 {
		check(t, l)
		same(t, contents(t, l), want)
		for seq, stamp := range stamps {
			if _, got, err := l.Read(seq); err != nil || got != stamp {
				t.Errorf("record %d: %v %v, want %v", seq, got, err, stamp)
			}
			if _, _, err := l.Read(seq + 1); !errors.Is(err, ErrNotFound) {
				t.Errorf("record %d was cleaned away: %v", seq+1, err)
			}
		}
		g := l.Generations()[0]
		if g.Kind != Cold || g.Records != int64(len(stamps)) || g.FirstStamp != stamps[g.First] || g.LastStamp == (Stamp{}) {
			t.Errorf("%+v", g)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = start(t, dir, testOptions())
	}
	l.Close()
}

func TestReplaceRefuses(t *testing.T) {
	l, want, _ := carried(t, t.TempDir())
	defer l.Close()
	gens := l.Generations()
	newest := gens[len(gens)-1].ID
	side, err := l.NewSide(Cold)
	if err != nil {
		t.Fatal(err)
	}
	seq := gens[1].First
	if err := side.Append(seq, []byte("x"), Stamp{}); err != nil {
		t.Fatal(err)
	}
	if err := side.Append(seq, []byte("x"), Stamp{}); err == nil {
		t.Error("the same number twice")
	}
	if err := l.Replace(side, nil); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("overlap: %v", err)
	}
	side.Abort()
	if err := l.Drop([]uint64{newest}); err == nil {
		t.Error("the newest generation was dropped")
	}
	// With nothing left to carry the generations just go.
	side, err = l.NewSide(Cold)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(side, []uint64{gens[1].ID}); err != nil {
		t.Fatal(err)
	}
	for seq := gens[1].First; seq <= gens[1].Last; seq++ {
		delete(want, seq)
	}
	same(t, contents(t, l), want)
	if left, _ := filepath.Glob(filepath.Join(l.dir, "[tx]*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if _, err := l.NewSide(Main); err == nil {
		t.Error("a main side")
	}
}

// TestColdEveryBit flips every bit of a cold generation, the commit frame included: what is not in the damaged frame
// stays readable, and the loss is reported.
func TestColdEveryBit(t *testing.T) {
	dir := t.TempDir()
	l, want, stamps := carried(t, dir)
	id := l.Generations()[0].ID
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, generationName(id), firstPart)
	whole := read(t, file)
	stride := 3
	if testing.Short() || raceEnabled {
		stride = 41
	}
	for bit := 0; bit < 8*len(whole); bit += stride {
		bad := slices.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		write(t, file, bad)
		got, lost := inspect(t, dir, slices.Max(keys(want)))
		for seq, w := range want {
			if g, ok := got[seq]; ok && g != w {
				t.Fatalf("bit %d: record %d is %q", bit, seq, g)
			} else if !ok && (!inRanges(lost, seq) || stamps[seq] == (Stamp{})) {
				t.Fatalf("bit %d: record %d is gone, reported %v", bit, seq, lost)
			}
		}
	}
}

func putSnapshot(t *testing.T, l *Log, name string, n int) uint64 {
	t.Helper()
	s, err := l.NewSide(Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := s.Append(0, fmt.Appendf(nil, "%s %d", name, i), Stamp{Wall: 5}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); !errors.Is(err, ErrClosed) {
		t.Errorf("commit twice: %v", err)
	}
	s.Abort() // nothing happens
	return s.g.id
}

func snapshotText(l *Log, id uint64) (string, error) {
	var b strings.Builder
	err := l.ReadSnapshot(id, func(data []byte) error {
		fmt.Fprintf(&b, "%s\n", data)
		return nil
	})
	return b.String(), err
}

func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	l := start(t, dir, testOptions())
	add(t, l, "x")
	one := putSnapshot(t, l, "one", 3)
	two := putSnapshot(t, l, "two", 20_000) // several files
	unfinished, err := l.NewSide(Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if err := unfinished.Append(0, make([]byte, 100_000), Stamp{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := l.Snapshots(); !slices.Equal(got, []uint64{two, one}) {
			t.Fatalf("snapshots %v", got)
		}
		if got, err := snapshotText(l, one); err != nil || got != "one 0\none 1\none 2\n" {
			t.Fatalf("%q %v", got, err)
		}
		if got, err := snapshotText(l, two); err != nil || strings.Count(got, "\n") != 20_000 || !strings.HasSuffix(got, "two 19999\n") {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		stop := errors.New("stop")
		if err := l.ReadSnapshot(one, func([]byte) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
		l.Close()
		l = start(t, dir, testOptions())
	}
	defer l.Close()
	if left, _ := filepath.Glob(filepath.Join(dir, "t*")); len(left) > 0 {
		t.Errorf("unfinished side is still there: %v", left)
	}
	if parts, _ := filepath.Glob(filepath.Join(dir, generationName(two), "0*")); len(parts) < 5 {
		t.Errorf("%d files: the writer holds too much in memory", len(parts))
	}
	if err := l.Drop([]uint64{one}); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshotText(l, one); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestSnapshotEveryBit(t *testing.T) {
	dir := t.TempDir()
	l := start(t, dir, testOptions())
	id := putSnapshot(t, l, "state", 30)
	want, err := snapshotText(l, id)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, generationName(id), firstPart)
	whole := read(t, file)
	harmless := 0
	for bit := 0; bit < 8*len(whole); bit++ {
		bad := slices.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		write(t, file, bad)
		got, err := snapshotText(l, id)
		switch {
		case err == nil && got != want:
			t.Fatalf("bit %d: wrong state without an error", bit)
		case err != nil && !errors.Is(err, ErrDamaged):
			t.Fatalf("bit %d: %v", bit, err)
		case err == nil:
			harmless++
		}
	}
	if harmless > 8*(headEntry+2*maxPrefix) { // the head and the writer's own length prefixes are not needed
		t.Errorf("%d flips were not noticed", harmless)
	}
	for n := range whole {
		write(t, file, whole[:n])
		if got, err := snapshotText(l, id); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %q %v", n, got, err)
		}
	}
}

func TestVerifyAndDump(t *testing.T) {
	dir := t.TempDir()
	l, want, _ := carried(t, dir)
	putSnapshot(t, l, "state", 3)
	var out bytes.Buffer
	rep, err := Verify(dir, Encryption{}, &out) // beside the one who holds the lock
	if err != nil || !rep.OK() || rep.Records != int64(len(want))+3 {
		t.Fatalf("%+v %v\n%s", rep, err, out.String())
	}
	for _, text := range []string{"cold", "main", "snapshot", "sealed", "OK: "} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is missing:\n%s", text, out.String())
		}
	}
	l.Close()
	out.Reset()
	seen := map[uint64]string{}
	err = Dump(dir, Encryption{}, &out, func(seq uint64, data []byte) string {
		if strings.HasPrefix(string(data), "record") {
			seen[seq] = string(data)
		}
		return strings.ToUpper(string(data))
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, seen, want)
	for _, text := range []string{"RECORD 149", "STATE 2", "head", "seal", "boot 7"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is missing", text)
		}
	}
	if _, err := Verify(t.TempDir(), Encryption{}, io.Discard); !errors.Is(err, ErrForeign) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := Dump(filepath.Join(dir, "nothing"), Encryption{}, io.Discard, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
