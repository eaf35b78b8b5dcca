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
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// faultDisk is a disk whose operations fail when told to, and that knows what a power cut would leave: bytes that were
// not synced are torn off or garbled, directory entries that were not synced are undone.
type faultDisk struct {
	osDisk
	root  string
	trash string // removed files, until their removal is durable

	big    sync.Mutex // held during an operation, so that a power cut is before or after it
	mu     sync.Mutex
	ops    int
	fail   func(n int, op string) error // nil: no faults
	before func(n int)                  // called before every operation, nothing else is going on then
	files  map[string]*faultFile        // by path
	undo   []undo                       // directory operations that are not durable, oldest first
	noroom bool
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
	if d.fail == nil {
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

// ledger is what a caller of the log knows: which records it was told are durable, which were refused and may be there.
type ledger struct {
	t        testing.TB
	mu       sync.Mutex
	durable  map[uint64]string // Committed said so
	refused  map[string]bool   // an error was answered
	tried    map[string]bool
	optional map[uint64]string // cleaned away, but may still be there
	top      uint64
	riders   []string        // to be collected
	ridden   map[string]bool // committed riders
	lent     map[string]bool // handed to Collect in this run
}

func newLedger(t testing.TB) *ledger {
	return &ledger{t: t, durable: map[uint64]string{}, refused: map[string]bool{}, tried: map[string]bool{},
		optional: map[uint64]string{}, ridden: map[string]bool{}, lent: map[string]bool{}}
}

func (g *ledger) options() Options {
	o := testOptions()
	o.Generation = 1 << 10
	o.Reserve = 4 << 10
	o.Linger = -1
	o.Committed = g.committed
	o.Collect = g.collect
	return o
}

func (g *ledger) collect(add func(Record)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.riders {
		g.tried[r], g.lent[r] = true, true
		add(Record{Data: []byte(r), Tag: "rider"})
	}
	g.riders = nil
}

func (g *ledger) committed(b Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, r := range b.Records {
		seq := b.First + uint64(i)
		if seq <= g.top {
			g.t.Errorf("number %d after %d", seq, g.top)
		}
		g.top = seq
		g.durable[seq] = string(r.Data)
		if r.Tag == "rider" {
			if g.ridden[string(r.Data)] {
				g.t.Errorf("rider %s twice", r.Data)
			}
			g.ridden[string(r.Data)] = true
			delete(g.lent, string(r.Data))
		}
	}
}

// publish appends without waiting; the answer must fit what Committed said.
func (g *ledger) publish(l *Log, wg *sync.WaitGroup, data ...string) {
	var recs []Record
	g.mu.Lock()
	for _, s := range data {
		g.tried[s] = true
		recs = append(recs, Record{Data: []byte(s)})
	}
	g.mu.Unlock()
	wg.Add(1)
	l.Append(recs, func(first uint64, err error) {
		defer wg.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, s := range data {
			if err != nil {
				g.refused[s] = true
				if !errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) && !errors.Is(err, ErrClosed) {
					g.t.Errorf("refused with %v", err)
				}
			} else if g.durable[first+uint64(i)] != s {
				g.t.Errorf("answered %d for %q, Committed said %q", first+uint64(i), s, g.durable[first+uint64(i)])
			}
		}
	})
}

// verify compares a log with the ledger: everything durable is there and right, nothing was invented, nothing is lost.
func (g *ledger) verify(l *Log) {
	g.t.Helper()
	check(g.t, l)
	g.mu.Lock()
	defer g.mu.Unlock()
	got := contents(g.t, l)
	for seq, want := range g.durable {
		if s, ok := got[seq]; !ok || s != want {
			g.t.Fatalf("record %d is %q (there: %v), acknowledged was %q; generations %+v, losses %v", seq, s, ok, want, l.Generations(), l.Losses())
		}
	}
	for seq, s := range got {
		if g.durable[seq] != s && g.optional[seq] != s && !g.tried[s] {
			g.t.Fatalf("record %d is %q, which nobody wrote", seq, s)
		}
		if seq > g.top { // written, not acknowledged, and there after a crash
			g.top = seq
		}
		if _, ok := g.durable[seq]; !ok {
			g.optional[seq] = s
		}
	}
	if lost := l.Losses(); len(lost) > 0 {
		g.t.Fatalf("losses %v", lost)
	}
}

// scenario is a run with everything in it: appends, riders, a snapshot, cleaning, dropping.
func scenario(g *ledger, l *Log, run int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 24 {
		g.publish(l, &wg, fmt.Sprintf("%d/%d", run, i), fmt.Sprintf("%d/%d+", run, i))
		if i%3 == 0 {
			g.mu.Lock()
			g.riders = append(g.riders, fmt.Sprintf("rider %d/%d", run, i))
			g.mu.Unlock()
			l.Flush()
		}
		wg.Wait()
		switch i {
		case 10:
			if s, err := l.NewSide(Snapshot); err == nil {
				err := s.Append(0, []byte("state"), Stamp{})
				if err == nil {
					err = s.Commit()
				}
				if err != nil {
					s.Abort()
				}
			}
		case 16:
			g.carry(l)
		}
		time.Sleep(10 * time.Millisecond) // fake time
	}
}

// carry cleans the oldest two complete generations: odd numbers stay.
func (g *ledger) carry(l *Log) {
	var drop []uint64
	var from, to uint64
	for _, x := range l.Generations() {
		if x.Kind == Main && !x.Open && x.Records > 0 && len(drop) < 2 {
			if from == 0 {
				from = x.First
			}
			to = x.Last
			drop = append(drop, x.ID)
		} else if len(drop) > 0 {
			break
		}
	}
	if len(drop) == 0 {
		return
	}
	s, err := l.NewSide(Cold)
	if err != nil {
		return
	}
	defer s.Abort()
	err = l.Scan(from, to, func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq%2 == 1 {
			err = s.Append(seq, data, stamp)
		}
		return err == nil
	})
	if err != nil {
		return
	}
	g.mu.Lock() // from here on the even ones may be gone
	for seq := from; seq <= to; seq++ {
		if d, ok := g.durable[seq]; ok && seq%2 == 0 {
			g.optional[seq] = d
			delete(g.durable, seq)
		}
	}
	g.mu.Unlock()
	_ = l.Replace(s, drop)
}

// TestEveryFault lets every operation on the disk fail, in every way, once and for a while, and looks at the log as it
// goes on, after a power cut and after a clean stop.
func TestEveryFault(t *testing.T) {
	kinds := map[string]error{"eio": unix.EIO, "enospc": unix.ENOSPC, "short": errShort}
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 5
	}
	for name, fault := range kinds {
		for _, length := range []int{1, 2, 7} {
			t.Run(fmt.Sprintf("%s for %d", name, length), func(t *testing.T) {
				for at := 1; ; at += stride {
					if !faultRun(t, fault, at, length) {
						t.Logf("%d operations", at)
						return
					}
				}
			})
		}
	}
}

// faultRun reports whether the fault was reached.
func faultRun(t *testing.T, fault error, at, length int) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(at), uint64(length)))
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		d.fail = func(n int, op string) error {
			if n >= at && n < at+length {
				return fmt.Errorf("%s (operation %d): %w", op, n, fault)
			}
			return nil
		}
		g := newLedger(t)
		l, err := openOn(d, dir, g.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		scenario(g, l, 1)
		time.Sleep(time.Minute) // long enough to recover from everything
		if err := l.Health(); err != nil {
			t.Fatalf("operation %d: still %v", at, err)
		}
		l.Flush()
		synctest.Wait()
		if len(g.lent) > 0 || len(g.riders) > 0 {
			t.Fatalf("operation %d: riders %v %v are lost", at, g.lent, g.riders)
		}
		g.verify(l)
		reached = d.ops >= at
		cut := d.powerCut(t, rng)
		if err := l.Close(); err != nil && d.ops < at {
			t.Fatal(err)
		}
		for _, dir := range []string{cut, dir} {
			again := newFaultDisk(t, dir)
			l, err := openOn(again, dir, g.options())
			if err != nil {
				t.Fatal(err)
			}
			g.verify(l)
			l.Close()
		}
	})
	return reached
}

// TestPowerCut cuts the power before every operation, in several ways each, and looks whether everything acknowledged by
// then is there.
func TestPowerCut(t *testing.T) {
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 3
	}
	for at := 1; cutRun(t, at); at += stride {
	}
}

func cutRun(t *testing.T, at int) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(uint64(at), 0))
		dir := t.TempDir()
		d := newFaultDisk(t, dir)
		g := newLedger(t)
		then := newLedger(t)
		var cuts []string
		d.before = func(n int) {
			if n != at {
				return
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			then.durable, then.optional, then.tried = maps.Clone(g.durable), maps.Clone(g.optional), maps.Clone(g.tried)
			then.top = g.top
			for range 4 {
				cuts = append(cuts, d.powerCut(t, rng))
			}
		}
		l, err := openOn(d, dir, g.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		scenario(g, l, 1)
		l.Close()
		for _, cut := range cuts {
			reached = true
			one := newLedger(t)
			one.durable, one.optional = maps.Clone(then.durable), maps.Clone(then.optional)
			one.tried, one.top = then.tried, then.top
			l, err := openOn(newFaultDisk(t, cut), cut, one.options())
			if err != nil {
				t.Fatal(err)
			}
			one.verify(l)
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			for range 3 { // numbers go on above all that was ever seen, or Committed complains
				if _, err := l.AppendWait(t.Context(), Record{Data: []byte("after")}); err != nil {
					t.Fatal(err)
				}
			}
			one.verify(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	return reached
}
