package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Open opens the log in dir, which it creates (mode 0700) if need be, takes its lock, and finds out what is in it.
// Damage is no error: what can be read is read, Losses says what cannot. The errors are ErrLocked, ErrForeign (dir is
// not empty and no log, or a newer program's), ErrKey (Options.Encryption does not have the key of a generation), and the operating system's: not a directory, not allowed.
// Until Start the log is only read.
func Open(dir string, o Options) (*Log, error) {
	return openOn(osDisk{}, dir, o)
}

func openOn(d disk, dir string, o Options) (*Log, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := makeDir(d, dir); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := acquireOwn(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{dir: dir, opt: o, disk: d, lock: lock, finished: make(chan struct{})}
	l.cache.limit = o.Cache
	l.queue.init()
	l.com.l = l
	if err := l.load(); err != nil {
		lock.release()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// Free reports whether nobody has the log in dir open: nil, ErrLocked, or the operating system's error. A directory
// that is no log or not there is free.
func Free(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, lockName)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	lock.release()
	return nil
}

func makeDir(d disk, dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is a file, not a folder", dir)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(d, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// acquireOwn locks dir after making sure that it is a log's or empty.
func acquireOwn(dir string) (lockFile, error) {
	mark, err := readMark(dir)
	if err != nil {
		return lockFile{}, err
	}
	if mark == "" {
		if err := checkForeign(dir); err != nil {
			return lockFile{}, err
		}
	}
	lock, err := acquire(dir)
	if err != nil {
		return lockFile{}, err
	}
	if mark == "" {
		// Without the mark the log works as well, so a full disk is no reason to stop here.
		_, _ = lock.f.WriteAt([]byte(lockMark), 0)
	}
	return lock, nil
}

// readMark returns the mark of a log, "" if there is none that can be read.
func readMark(dir string) (string, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", nil
	}
	var format, again int
	if n, _ := fmt.Sscanf(string(b), "edgepost wal, format %d, format %d\n", &format, &again); n != 2 || format != again {
		return "", nil
	}
	if format != 1 {
		return "", fmt.Errorf("%w: %s says format %d; this version reads format 1 only, a newer one wrote it", ErrForeign, path, format)
	}
	return lockMark, nil
}

// checkForeign refuses a folder without our mark that holds anything but what a log may consist of.
func checkForeign(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		_, generation := parseName("g", name)
		_, side := parseName("t", name)
		_, trash := parseName("x", name)
		if generation || side || trash || name == lockName || name == reserve || name == lostFolder ||
			name == "lost+found" || strings.HasPrefix(name, ".") {
			continue
		}
		return fmt.Errorf("%w: %s is not empty (it holds %q) and is no log; choose an empty or a new folder", ErrForeign, dir, name)
	}
	return nil
}

// survey is what a directory holds.
type survey struct {
	gens    []*loaded // by id
	strange []*loaded // copied or renamed directories, left alone
	sides   []string  // unfinished sides
	trash   []string  // generations whose removal was interrupted
}

// lookAround loads every generation in dir. deep reads and checks every byte; with enc it also decrypts every frame.
func lookAround(dir string, deep bool, enc *Encryption) (*survey, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var s survey
	for _, e := range entries {
		if err := s.add(dir, e); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.gens, func(a, b *loaded) int { return cmp.Compare(a.id, b.id) })
	attests := map[uint64]*attest{}
	newest := -1
	for i, g := range s.gens { // a later head knows better
		for _, a := range g.head.attests {
			attests[a.id] = &a
		}
		if g.kind == Main && g.salt != 0 {
			newest = i // what comes after it was not even begun
		}
	}
	for i, g := range s.gens {
		g.enc = enc
		err := g.secondLook(dir, attests[g.id], i >= newest, deep)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return &s, nil
}

// add takes a first look at one entry of the directory.
func (s *survey) add(dir string, e os.DirEntry) error {
	name := e.Name()
	if !e.IsDir() {
		return nil
	}
	if _, ok := parseName("t", name); ok {
		s.sides = append(s.sides, name)
	}
	if _, ok := parseName("x", name); ok {
		s.trash = append(s.trash, name)
	}
	id, ok := parseName("g", name)
	if !ok {
		return nil
	}
	g, err := firstLook(dir, name, id)
	switch {
	case errors.Is(err, os.ErrNotExist): // dropped while Verify looks
	case err != nil:
		return err
	case g.strange:
		s.strange = append(s.strange, g)
	default:
		s.gens = append(s.gens, g)
	}
	return nil
}

// load fills l from the directory and finishes what a crash interrupted.
func (l *Log) load() error {
	s, err := lookAround(l.dir, false, nil)
	if err != nil {
		return err
	}
	for _, g := range s.gens { // before anything is changed
		if g.records > 0 && !l.opt.Encryption.knows(g.key) {
			return fmt.Errorf("%s is encrypted with key %04x: %w", filepath.Join(l.dir, g.name), g.key, ErrKey)
		}
	}
	for _, name := range slices.Concat(s.sides, s.trash) { // never complete, or dropped
		if err := removeGeneration(l.disk, filepath.Join(l.dir, name)); err != nil {
			l.opt.Log.Warn("remove unfinished or dropped generation", "dir", name, "err", err)
		}
		id, _ := strconv.ParseUint(name[1:], 10, 63)
		l.nextID = max(l.nextID, id)
	}
	for _, g := range s.strange {
		l.opt.Log.Warn("ignored a folder that is a copy of another generation", "dir", g.name)
		l.nextID = max(l.nextID, g.id)
	}
	l.finishReplace(s)
	var highest, skips uint64
	for _, g := range s.gens {
		l.nextID = max(l.nextID, g.id)
		for _, a := range g.head.attests {
			highest = max(highest, a.last)
			l.nextID = max(l.nextID, a.id)
		}
		highest = max(highest, g.highest)
		if !g.headOK && g.kind == Main {
			skips += l.opt.Skip // its head may have declared a skip
		}
		l.adopt(g)
	}
	l.nextID++
	l.resolve()
	l.com.next = 1
	if len(s.gens) > 0 {
		l.com.skip = skips + l.opt.Skip
		l.com.next = highest + l.com.skip + 1
	}
	info, err := os.Stat(filepath.Join(l.dir, reserve))
	l.reserved = err == nil && info.Size() == l.opt.Reserve
	return nil
}

// adopt takes over one generation.
func (l *Log) adopt(g *loaded) {
	for _, d := range g.damage {
		l.stats.Damaged++
		l.loseLocked(d.lost)
		l.quarantine(g.generation, d.off, d.end)
		l.opt.Log.Error("log damaged", "generation", g.id, "offset", d.off, "bytes", d.end-d.off,
			"lost_first", d.lost.First, "lost_last", d.lost.Last, "why", d.why)
	}
	if g.torn > 0 {
		l.quarantine(g.generation, g.size, g.size+g.torn)
		l.opt.Log.Warn("unfinished write at the end of the log", "generation", g.id, "offset", g.size, "bytes", g.torn)
	}
	if g.kind == Main && !g.sealed && len(g.parts) > 0 {
		_ = l.disk.Trim(filepath.Join(l.dir, g.name, firstPart)) // else what a crash left reserved is lost until the generation goes
	}
	if (g.headOK || g.records > 0) && g.kind == Main {
		l.com.pred = g.id
		l.last, l.hasLast = g.lastStamp, true
	}
	switch {
	case g.kind == Snapshot:
		l.snaps = append(l.snaps, g.generation)
	case g.records == 0 && len(g.damage) > 0 && g.damage[len(g.damage)-1].lost.Last > 0:
		d := g.damage[len(g.damage)-1] // nothing of it is left; removing it is for the cleaning
		g.first, g.last = d.lost.First, d.lost.Last
		l.gens = append(l.gens, g.generation)
	case g.records == 0:
		l.idle = append(l.idle, g.generation)
	default:
		g.thin(l.stretch())
		l.gens = append(l.gens, g.generation)
		l.head = max(l.head, g.last)
	}
}

// finishReplace completes a Replace that a crash interrupted. The cold generation names those it replaces, and they
// still hold everything it does; so if it has been damaged since, it goes and they stay.
func (l *Log) finishReplace(s *survey) {
	gone := map[uint64]bool{}
	var remove []*generation
	for _, g := range s.gens {
		var still []*loaded
		for _, o := range s.gens {
			if slices.Contains(g.drops, o.id) && o.id < g.id && !gone[o.id] {
				still = append(still, o)
			}
		}
		if len(still) == 0 {
			continue
		}
		drop := still
		check := &loaded{generation: &generation{id: g.id, name: g.name, parts: g.parts, bytes: g.bytes, salt: g.salt, kind: g.kind}, headOK: g.headOK, base: g.base}
		if err := check.secondLook(l.dir, nil, false, true); err != nil || len(check.damage) > 0 {
			drop = []*loaded{g}
		}
		for _, o := range drop {
			gone[o.id] = true
			remove = append(remove, o.generation)
		}
	}
	if len(remove) > 0 {
		if err := l.unlink(remove); err != nil {
			l.opt.Log.Warn("remove replaced generations", "err", err)
		}
	}
	s.gens = slices.DeleteFunc(s.gens, func(g *loaded) bool { return gone[g.id] })
}

// resolve sorts the generations and makes their intervals disjoint. They are, unless the disk failed while a cold
// generation was committed and again while it was given up. The newer one was made from the older and has all that
// was needed later.
func (l *Log) resolve() {
	var keep []*generation
	slices.SortFunc(l.gens, func(a, b *generation) int { return cmp.Compare(b.id, a.id) })
	for _, g := range l.gens {
		i := slices.IndexFunc(keep, func(x *generation) bool { return g.first <= x.last && x.first <= g.last })
		if i < 0 {
			keep = append(keep, g)
			continue
		}
		l.opt.Log.Warn("ignored a generation that a newer one covers", "generation", g.id, "newer", keep[i].id)
		if keep[i].kind == Cold {
			l.doomed = append(l.doomed, g)
		}
	}
	slices.SortFunc(keep, func(a, b *generation) int { return cmp.Compare(a.first, b.first) })
	l.gens = keep
}

// quarantine keeps a copy of damaged bytes for a person to look at: at most 1 MiB in all, best effort.
func (l *Log) quarantine(g *generation, off, end int64) {
	const most = 1 << 20
	n := end - off
	folder := filepath.Join(l.dir, lostFolder)
	path := filepath.Join(folder, fmt.Sprintf("%s-%d", g.name, off))
	if _, err := os.Stat(path); err == nil || n <= 0 {
		return
	}
	if l.lostBytes == 0 {
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				l.lostBytes += info.Size()
			}
		}
	}
	if n > most-l.lostBytes {
		return
	}
	r, err := openReader(filepath.Join(l.dir, g.name), g.parts)
	if err != nil {
		return
	}
	defer r.Close()
	b := make([]byte, n)
	m, _ := readFull(r, b, off)
	if m == 0 || os.MkdirAll(folder, 0o700) != nil {
		return
	}
	if os.WriteFile(path, b[:m], 0o600) != nil {
		_ = os.Remove(path)
		return
	}
	l.lostBytes += int64(m)
}
