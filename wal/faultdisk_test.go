package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// faultDisk is a disk whose operations fail when told to, and that knows what a power cut would leave: bytes that were
// not synced are torn off or garbled, directory entries that were not synced are undone.
type faultDisk struct {
	osDisk
	root  string
	trash string // removed files, until their removal is durable

	big       sync.Mutex // held during an operation, so that a power cut is before or after it
	mu        sync.Mutex
	ops       int
	fail      func(n int, op string) error // nil: no faults
	before    func(n int)                  // called before every operation, nothing else is going on then
	files     map[string]*faultFile        // by path
	undo      []undo                       // directory operations that are not durable, oldest first
	noroom    bool
	unlimited string // an operation that never fails
}

type faultFile struct{ written, synced int64 }

// undo is a directory operation that can be taken back in a copy of the log. Paths are relative to the log.
type undo struct {
	op   string
	dir  string // whose entry it changed
	path string
	from string // rename: the old name; remove: where the file is kept
}

func (u *undo) back(root string) {
	path := filepath.Join(root, u.path)
	switch u.op {
	case "mkdir":
		os.RemoveAll(path)
	case "create":
		os.Remove(path)
	case "rename":
		os.Rename(path, filepath.Join(root, u.from))
	case "rmdir":
		os.Mkdir(path, 0o700)
	case "remove":
		os.Link(u.from, path)
	}
}

func newFaultDisk(t testing.TB, root string) *faultDisk {
	return &faultDisk{root: root, trash: t.TempDir(), files: map[string]*faultFile{}}
}

// step counts an operation and says whether it fails. Who called it calls d.big.Unlock at the end.
func (d *faultDisk) step(op string) error {
	d.big.Lock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.before != nil {
		d.before(d.ops)
	}
	if d.fail == nil || op == d.unlimited {
		return nil
	}
	return d.fail(d.ops, op)
}

func (d *faultDisk) rel(path string) string {
	r, err := filepath.Rel(d.root, path)
	if err != nil {
		panic(err)
	}
	return r
}

func (d *faultDisk) did(op, path, from string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo = append(d.undo, undo{op: op, dir: d.rel(filepath.Dir(path)), path: d.rel(path), from: from})
}

func (d *faultDisk) Mkdir(path string) error {
	defer d.big.Unlock()
	if err := d.step("mkdir"); err != nil {
		return err
	}
	if err := d.osDisk.Mkdir(path); err != nil {
		return err
	}
	d.did("mkdir", path, "")
	return nil
}

func (d *faultDisk) Rename(from, to string) error {
	defer d.big.Unlock()
	if err := d.step("rename"); err != nil {
		return err
	}
	if err := d.osDisk.Rename(from, to); err != nil {
		return err
	}
	d.mu.Lock()
	for path, f := range d.files {
		if filepath.Dir(path) == from {
			d.files[filepath.Join(to, filepath.Base(path))] = f
			delete(d.files, path)
		}
	}
	a, b := d.rel(from), d.rel(to)
	for i, u := range d.undo {
		if u.dir == a {
			d.undo[i].dir, d.undo[i].path = b, filepath.Join(b, filepath.Base(u.path))
		}
	}
	d.mu.Unlock()
	d.did("rename", to, a)
	return nil
}

func (d *faultDisk) Remove(path string) error {
	defer d.big.Unlock()
	if err := d.step("remove"); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Remove(path); err != nil {
			return err
		}
		d.did("rmdir", path, "")
		return nil
	}
	kept := filepath.Join(d.trash, fmt.Sprint(rand.Uint64()))
	if err := os.Link(path, kept); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	d.did("remove", path, kept)
	return nil
}

func (d *faultDisk) SyncDir(path string) error {
	defer d.big.Unlock()
	if err := d.step("syncdir"); err != nil {
		return err
	}
	rel := d.rel(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo = slices.DeleteFunc(d.undo, func(u undo) bool { return u.dir == rel })
	return nil
}

func (d *faultDisk) Fill(path string, n int64) error {
	defer d.big.Unlock()
	if err := d.step("fill"); err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, 16), 0o600)
}

func (d *faultDisk) Free(string) (int64, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.noroom {
		return 0, true, nil
	}
	return 1 << 40, true, nil
}

func (d *faultDisk) Create(dir string, part int64) (segment, error) {
	defer d.big.Unlock()
	if err := d.step("create"); err != nil {
		return nil, err
	}
	seg, err := d.osDisk.Create(dir, part)
	if err != nil {
		return nil, err
	}
	d.did("create", filepath.Join(dir, firstPart), "")
	f := &faultFile{}
	d.mu.Lock()
	d.files[filepath.Join(dir, firstPart)] = f
	d.mu.Unlock()
	return &faultSegment{segment: seg, d: d, f: f, path: filepath.Join(dir, firstPart), side: part > 0}, nil
}

type faultSegment struct {
	segment
	d    *faultDisk
	f    *faultFile
	path string
	side bool
}

var errShort = fmt.Errorf("short write: %w", unix.ENOSPC)

func (s *faultSegment) Write(frame []byte) error {
	defer s.d.big.Unlock()
	if err := s.d.step("write"); err != nil {
		if errors.Is(err, errShort) && !s.side {
			w := s.segment.(*writer)
			w.file.WriteAt(append([]byte{byte(len(frame)) | 0x80, byte(len(frame) >> 7)}, frame[:len(frame)*2/3]...), s.f.written)
		}
		return err
	}
	if err := s.segment.Write(frame); err != nil {
		return err
	}
	s.d.mu.Lock()
	s.f.written += entryLen(len(frame))
	s.d.mu.Unlock()
	return nil
}

func (s *faultSegment) Zero(off, n int64) error {
	defer s.d.big.Unlock()
	if err := s.d.step("zero"); err != nil {
		return err
	}
	return s.segment.Zero(off, n)
}

func (s *faultSegment) Reserve(to int64) error {
	defer s.d.big.Unlock()
	if err := s.d.step("reserve"); err != nil {
		return err
	}
	return s.segment.Reserve(to)
}

// Sync does not sync, which would only take time; it notes what would be durable.
func (s *faultSegment) Sync() error {
	defer s.d.big.Unlock()
	if err := s.d.step("sync"); err != nil {
		return err
	}
	s.d.mu.Lock()
	s.f.synced = s.f.written
	s.d.mu.Unlock()
	return nil
}

func (s *faultSegment) Truncate(size int64) error {
	defer s.d.big.Unlock()
	if err := s.d.step("truncate"); err != nil {
		return err
	}
	return s.segment.Truncate(size)
}

func (s *faultSegment) Close() error {
	defer s.d.big.Unlock()
	err := s.d.step("close")
	if err == nil {
		s.d.mu.Lock()
		s.f.synced = s.f.written
		s.d.mu.Unlock()
	}
	w := s.segment.(*writer)
	if w.file != nil {
		w.file.Close()
	}
	return errors.Join(err, s.closeLog())
}

func (s *faultSegment) closeLog() error { return s.segment.(*writer).log.Close() }

// powerCut copies what a power cut would leave now into a new directory.
func (d *faultDisk) powerCut(t testing.TB, rng *rand.Rand) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "cut")
	if err := os.CopyFS(to, os.DirFS(d.root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[path]
		name := filepath.Join(to, d.rel(path))
		b, err := os.ReadFile(name)
		if err != nil || f.written == f.synced || int64(len(b)) < f.written {
			continue
		}
		// Sectors that were not synced are there, not there, or something else.
		for at := f.synced; at < f.written; at = (at/512 + 1) * 512 {
			end := min((at/512+1)*512, f.written)
			switch rng.IntN(3) {
			case 0:
				clear(b[at:end])
			case 1:
				for i := at; i < end; i++ {
					b[i] = byte(rng.Uint32())
				}
			}
		}
		if rng.IntN(2) == 0 {
			b = b[:f.synced+rng.Int64N(f.written-f.synced+1)]
		}
		write(t, name, b)
	}
	odds := rng.IntN(3) // none of them, half, all
	for _, u := range slices.Backward(d.undo) {
		if rng.IntN(2) < odds {
			u.back(to)
		}
	}
	return to
}
