package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// sparse fills a log with frames of one record each, about ten to a landmark, until several generations are sealed, and
// opens it again.
func sparse(t *testing.T, o Options) (l *Log, want map[uint64]string) {
	t.Helper()
	o.Generation = 16 << 10
	dir := t.TempDir()
	l = start(t, dir, o)
	want = make(map[uint64]string)
	for i := range 500 {
		s := fmt.Sprint("record ", i)
		want[add(t, l, s)] = s
	}
	l.Close()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, want
}

// middle is a sealed generation's frame that is no landmark and has no neighbour that is one.
func middle(t *testing.T, l *Log) (g *generation, off int64, seq uint64) {
	t.Helper()
	g = l.gens[1]
	if !g.sealed || !g.sparse || len(g.frames) < 3 {
		t.Fatalf("generation %d: sealed %v, sparse %v, %d landmarks", g.id, g.sealed, g.sparse, len(g.frames))
	}
	seq = g.frames[1].first + 2
	if seq+1 >= g.frames[2].first {
		t.Fatalf("landmarks %+v", g.frames)
	}
	p, _ := l.locateLocked(seq)
	f := frames{l: l}
	defer f.Close()
	if found, err := f.find(&p, seq); !found || p.ref.first != seq {
		t.Fatalf("%d is found at %+v, %v", seq, p.ref, err)
	}
	return g, int64(p.ref.off), seq
}

// TestSparseIndex: a few landmarks find every record, by a read and by a scan from each of them.
func TestSparseIndex(t *testing.T) {
	o := testOptions()
	o.Cache = 1 // nothing is kept
	l, want := sparse(t, o)
	for _, g := range l.gens {
		if n := int64(len(g.frames)); g.sealed && n > g.size/l.stretch()+1 {
			t.Errorf("generation %d of %d bytes has %d landmarks", g.id, g.size, n)
		}
	}
	for seq, s := range want {
		if got, _, err := l.Read(seq); err != nil || string(got) != s {
			t.Errorf("read %d: %.10q %v", seq, got, err)
		}
		err := l.Scan(seq, seq, func(at uint64, data []byte, _ Stamp, _ bool) bool {
			if at != seq || string(data) != s {
				t.Errorf("scan %d: %d %.10q", seq, at, data)
			}
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}
	if _, _, err := l.Read(l.Head() + 1); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	same(t, contents(t, l), want)
}

// TestSparseDamage: a header that cannot be read between two landmarks costs its own frame, because the seal has the
// whole index; and with the seal gone, too, what is up to the next landmark. Nothing else is lost, and nothing silently.
func TestSparseDamage(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("seal too %v", both), func(t *testing.T) {
			l, want := sparse(t, testOptions())
			g, off, seq := middle(t, l)
			file := filepath.Join(l.dir, g.name, firstPart)
			b := read(t, file)
			b[off+10] ^= 1
			lost := Range{seq, seq}
			if both {
				b[len(b)-20] ^= 1
				lost.Last = g.frames[2].first - 1
			}
			write(t, file, b)
			for n := lost.First; n <= lost.Last; n++ {
				if _, _, err := l.Read(n); !errors.Is(err, ErrDamaged) {
					t.Errorf("read %d: %v", n, err)
				}
				delete(want, n)
			}
			same(t, contents(t, l), want)
			if got := l.Losses(); len(got) != 1 || got[0] != lost {
				t.Errorf("lost %v, want %v", got, lost)
			}
		})
	}
}
