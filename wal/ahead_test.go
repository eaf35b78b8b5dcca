package wal

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roomDisk is a disk that overwrites in place and counts who has blocks reserved.
type roomDisk struct {
	osDisk
	free     int64
	refuse   error
	reserved []int64 // what was asked for
}

func (d *roomDisk) Free(string) (int64, bool, error) { return d.free, true, nil }

func (d *roomDisk) Create(dir string, part int64) (segment, error) {
	seg, err := d.osDisk.Create(dir, part)
	return &roomSegment{seg, d}, err
}

type roomSegment struct {
	segment
	d *roomDisk
}

func (s *roomSegment) Reserve(to int64) error {
	s.d.reserved = append(s.d.reserved, to)
	if s.d.refuse != nil {
		return s.d.refuse
	}
	return s.segment.Reserve(to)
}

// over is how much more than their contents the generations occupy.
func over(t *testing.T, dir string) (most int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "g*", firstPart))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, info.Sys().(*syscall.Stat_t).Blocks*512-info.Size())
	}
	return most
}

// TestReserve: with large frames the blocks of a generation are asked for once, and what is not used is given back at
// its end or, after a crash, at the next start; with small ones, or where space is short, nothing is asked for, and
// who gets nothing goes on.
func TestReserve(t *testing.T) {
	const size = 256 << 10
	for _, c := range []struct {
		name   string
		frame  int
		free   int64
		refuse error
		want   bool
	}{
		{"large", 60 << 10, 1 << 40, nil, true},
		{"small", 1 << 10, 1 << 40, nil, false},
		{"little space", 60 << 10, 4*size - 1, nil, false},
		{"refused", 60 << 10, 1 << 40, unix.ENOSPC, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &roomDisk{free: c.free, refuse: c.refuse}
			o := Options{Now: testClock(), Generation: size, Reserve: -1}
			l, err := openOn(d, dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			for l.Stats().Rotations < 5 {
				add(t, l, string(make([]byte, c.frame)))
			}
			want := contents(t, l)
			crashed := filepath.Join(t.TempDir(), "crashed")
			if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if got := len(d.reserved); c.want != (got >= 4 && got <= 5) || !c.want && got > 0 {
				t.Errorf("asked %d times in 5 generations", got)
			}
			for _, to := range d.reserved {
				if to != size+frameTarget {
					t.Errorf("asked for %d bytes", to)
				}
			}
			if n := over(t, dir); n > 8<<10 {
				t.Errorf("%d bytes are still reserved", n)
			}
			for _, dir := range []string{dir, crashed} {
				l, err := openOn(d, dir, o)
				if err != nil {
					t.Fatal(err)
				}
				same(t, contents(t, l), want)
				l.Close()
			}
		})
	}
}

// TestReserveCrash leaves blocks reserved behind the end of a generation, as a crash does.
func TestReserveCrash(t *testing.T) {
	dir := t.TempDir()
	d := &roomDisk{free: 1 << 40}
	l, err := openOn(d, dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	n := add(t, l, "kept")
	seg := l.com.cur.seg
	l.com.cur.seg = crashing{seg}
	if err := seg.Reserve(1 << 20); err != nil || over(t, dir) < 1<<19 {
		if os.Getenv("CI") == "true" {
			t.Fatal("the temporary directory's file system reserves no blocks:", err)
		}
		t.Skip("SKIP: the temporary directory's file system reserves no blocks: ", err)
	}
	if err := l.Close(); err == nil {
		t.Fatal("the crash was not noticed")
	}
	l, err = openOn(d, dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n := over(t, dir); n > 8<<10 {
		t.Errorf("%d bytes are still reserved", n)
	}
	if got, _, err := l.Read(n); err != nil || string(got) != "kept" {
		t.Error(string(got), err)
	}
}

// crashing lets go of its file as it is.
type crashing struct{ segment }

func (crashing) Write([]byte) error { return unix.EIO }
func (crashing) Close() error       { return unix.EIO } // its descriptors stay
