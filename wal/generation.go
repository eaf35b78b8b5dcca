package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// generation is one directory of frames. Its fields are guarded by Log.mu once it is listed there.
type generation struct {
	id          uint64
	kind        Kind
	name        string // of the directory
	salt        uint64
	suite       Suite
	key         uint16
	crypt       *crypter // while it is written, nil if plain; its writer's
	parts       []part
	frames      []frameRef // sorted by first; none for snapshots
	sparse      bool       // frames are landmarks only, see thin
	first, last uint64
	records     int64
	bytes       int64 // on disk
	size        int64 // where the data ends
	open        bool  // the committer writes it
	sealed      bool
	firstStamp  Stamp
	lastStamp   Stamp
}

const firstPart = "00000000000000000001" // the file tidwall/wal writes first

func generationName(id uint64) string { return fmt.Sprintf("g%08d", id) }
func sideName(id uint64) string       { return fmt.Sprintf("t%08d", id) } // until it is complete

func trashName(id uint64) string { return fmt.Sprintf("x%08d", id) } // while it is removed

// parseName reads a directory name made of prefix and a generation id.
func parseName(prefix, name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 63)
	return id, err == nil && id > 0
}

func (g *generation) describe() Generation {
	return Generation{
		ID: g.id, Kind: g.kind, First: g.first, Last: g.last, Records: g.records, Bytes: g.bytes, Open: g.open, Suite: g.suite,
		FirstStamp: g.firstStamp, LastStamp: g.lastStamp,
	}
}

// note adds a frame to the index.
func (g *generation) note(h *header, off int64) {
	if g.records == 0 {
		g.firstStamp = h.stamp
		if g.kind != Snapshot {
			g.first = h.first
		}
	}
	g.records += int64(h.count)
	g.lastStamp = h.stamp
	if g.kind == Snapshot {
		return
	}
	g.last = h.last
	g.frames = append(g.frames, frameRef{first: h.first, off: uint32(off), count: h.count})
}

// damage is a piece of a generation that cannot be read.
type damage struct {
	off, end int64
	lost     Range // zero if nothing acknowledged is known to have been there
	why      string
}

// loaded is what a look at a generation's directory found.
type loaded struct {
	*generation
	headOK     bool
	strange    bool   // its head belongs to another generation: somebody copied or renamed the directory
	base       uint64 // next number when the generation began; 0 if the head is unreadable
	head       headMeta
	drops      []uint64
	damage     []damage
	torn       int64       // bytes of an unfinished write at the end
	highest    uint64      // no record of this generation has a number above it
	enc        *Encryption // decrypts every frame that is read; nil: checksums only
	dataFrames int
	decrypted  int     // of dataFrames
	forged     []int64 // where data frames are that cannot be decrypted
}

// unreadable turns an error of the medium into damage. Other errors (not allowed, too many open files) are returned:
// they say nothing about what is on the disk.
func (g *loaded) unreadable(err error) error {
	if !badMedium(err) {
		return fmt.Errorf("read %s: %w", g.name, err)
	}
	g.damage = append(g.damage, damage{end: g.bytes, why: err.Error()})
	return nil
}

// badMedium reports whether err means that the disk cannot give back what was written.
func badMedium(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// firstLook reads what can be had cheaply: the files and the head.
func firstLook(root, name string, id uint64) (*loaded, error) {
	dir := filepath.Join(root, name)
	g := &loaded{generation: &generation{id: id, kind: Main, name: name}}
	parts, size, err := listParts(dir)
	if badMedium(err) { // as everything that is read: once more
		parts, size, err = listParts(dir)
	}
	if err != nil {
		return g, g.unreadable(err)
	}
	g.parts, g.bytes = parts, size
	if size == 0 {
		return g, nil
	}
	r, err := openReader(dir, parts)
	if err != nil {
		return g, g.unreadable(err)
	}
	defer r.Close()
	h, m, ok := readHead(r)
	if !ok {
		h := findSalt(r, size)
		g.salt, g.kind, g.suite, g.key = h.salt, h.kind, h.suite, h.key
		return g, nil
	}
	if m.id != id {
		g.strange = true
		g.salt, g.highest = h.salt, max(h.first, 1)-1
		return g, nil
	}
	g.headOK, g.head, g.base = true, m, h.first
	g.kind, g.salt, g.suite, g.key = h.kind, h.salt, h.suite, h.key
	g.highest = max(h.first, 1) - 1
	g.firstStamp, g.lastStamp = h.stamp, h.stamp
	return g, nil
}

// secondLook fills the index: from the seal, or if there is none (or deep) by reading every frame. att is what a newer
// head says about this generation, nil if nothing does; newest is true for the last main generation, whose end may be torn.
func (g *loaded) secondLook(root string, att *attest, newest, deep bool) error {
	if len(g.parts) == 0 || g.bytes == 0 {
		g.attested(att, 0)
		return nil
	}
	r, err := openReader(filepath.Join(root, g.name), g.parts)
	if err != nil {
		g.attested(att, 0)
		return g.unreadable(err)
	}
	defer r.Close()
	if att != nil {
		g.salt = att.salt
	}
	if g.salt == 0 {
		switch {
		case att != nil && att.last == 0: // a newer head says that nothing in it counts
		case att == nil && newest:
			g.torn = g.bytes // a crash while it was created
			g.highest += uint64(g.bytes)
		case !g.attested(att, 0):
			g.damage = append(g.damage, damage{end: g.bytes, why: "nothing in it is readable"})
		}
		return nil
	}
	h, m, ok := readSeal(r, g.bytes, g.salt)
	if ok {
		g.kind, g.suite, g.key, g.sealed, g.size = h.kind, h.suite, h.key, true, g.bytes
		g.drops = m.drops
		g.highest = max(g.highest, m.last)
		if !deep {
			g.first, g.last, g.records, g.frames = m.first, m.last, m.records, m.frames
			g.firstStamp, g.lastStamp = m.firstStamp, m.lastStamp
			return nil
		}
		att = &attest{id: g.id, first: m.first, last: m.last, length: int64(h.offset), salt: g.salt}
	}
	g.walk(r, att, newest)
	return nil
}

// walk reads every frame.
func (g *loaded) walk(r *reader, att *attest, newest bool) {
	size := g.bytes
	if att != nil {
		size = min(size, att.length)
	}
	s := scanner{r: r, size: size, salt: g.salt}
	w := walker{g: g, expect: g.base, enc: g.enc}
	if w.expect == 0 && att != nil {
		w.expect = att.first
	}
	if g.headOK {
		s.pos = headEntry
	}
	buf := make([]byte, frameTarget+frameTarget/4)
	for {
		f, ok := s.next(true, buf)
		if !ok {
			break
		}
		buf = f.payload[:cap(f.payload)]
		w.frame(&f)
	}
	torn := s.tail()
	g.size = s.pos
	switch {
	case att != nil:
		w.flush()
		if !g.attested(att, w.expect) && torn > 0 {
			g.damage = append(g.damage, damage{off: g.size, end: g.size + torn, why: "unreadable"})
		}
	case newest && s.bad: // a write that a crash interrupted can be read; this was perhaps acknowledged, nobody knows its numbers
		w.flush()
		g.damage = append(g.damage, damage{off: g.size, end: g.bytes, why: "unreadable, and no newer head tells how much was synced"})
		g.highest += uint64(g.bytes - g.size)
	case newest && (torn > 0 || w.pending != nil):
		g.tornEnd(&w, torn)
	default:
		w.flush()
		if torn > 0 {
			// Nothing tells whether this had been acknowledged, so it counts as damage; nobody knows its numbers.
			g.damage = append(g.damage, damage{off: g.size, end: g.size + torn, why: "unreadable, and no newer head tells how much was synced"})
			g.highest += uint64(torn)
		}
	}
}

// attested compares what was found with what a newer head says was acknowledged, and reports whether something is
// missing; expect is the next number not accounted for.
func (g *loaded) attested(att *attest, expect uint64) bool {
	if att == nil || att.last == 0 {
		return false
	}
	g.highest = max(g.highest, att.last)
	if g.records == 0 {
		expect = att.first
	}
	if expect > att.last {
		return false
	}
	g.damage = append(g.damage, damage{off: g.size, end: max(g.size, att.length), lost: Range{max(expect, att.first), att.last}, why: "missing"})
	return true
}

// tornEnd handles the end of the newest generation: an unfinished write is not damage, it was never acknowledged.
func (g *loaded) tornEnd(w *walker, torn int64) {
	if p := w.pending; p != nil {
		g.size = p.off
		g.torn = p.end - p.off
		w.pending = nil
	}
	g.torn += torn
	g.highest += uint64(g.torn) // it may have held that many records at most
}

// walker notes the frames of one generation in order. A bad frame is damage only once a valid one follows, because one
// frame is written at a time: its successor proves that it had been synced.
type walker struct {
	g       *loaded
	expect  uint64 // number of the next record, 0 while unknown
	pending *damage
	enc     *Encryption // nil: checksums only
	crypt   *crypter    // from the first encrypted data frame on
}

func (w *walker) flush() {
	if w.pending == nil {
		return
	}
	w.g.damage = append(w.g.damage, *w.pending)
	w.pending = nil
}

func (w *walker) frame(f *found) {
	w.flush()
	g := w.g
	if f.gap < f.off {
		g.damage = append(g.damage, w.before(f))
	}
	if f.last != 0 {
		g.highest = max(g.highest, f.last)
		w.expect = f.last + 1
	} else if f.first > 0 && f.kind == Main {
		w.expect = f.first
	}
	if !g.headOK {
		g.kind = f.kind
		if f.suite != Plain && g.suite == Plain {
			g.suite, g.key = f.suite, f.key
		}
	}
	if !f.intact {
		d := damage{off: f.off, end: min(f.end, g.bytes), why: "checksum is wrong"}
		if f.typ == typeData && f.kind != Snapshot {
			d.lost = Range{f.first, f.last}
		}
		w.pending = &d
		return
	}
	if f.typ == typeData {
		g.note(&f.header, f.off)
		g.dataFrames++
		w.decrypt(f)
	} else if f.typ == typeHead {
		g.lastStamp = f.stamp
	}
}

// before is what could not be read between a frame and the one before it.
func (w *walker) before(f *found) damage {
	d := damage{off: f.gap, end: f.off, why: "unreadable"}
	switch {
	case f.kind == Snapshot:
	case w.expect != 0 && f.first > w.expect:
		d.lost = Range{w.expect, f.first - 1}
	case w.expect == 0 && f.off > headEntry:
		// The head is unreadable too. A record takes at least a byte, so this is too wide rather than too narrow.
		d.lost = Range{f.first - min(f.first-1, uint64(f.off-headEntry)), f.first - 1}
	}
	return d
}

// decrypt tries a data frame, if there is a key for it. The payload is used up.
func (w *walker) decrypt(f *found) {
	g := w.g
	if w.enc != nil && w.crypt == nil && g.suite != Plain {
		if w.crypt, _ = w.enc.crypter(g.suite, g.key, g.id, g.salt); w.crypt == nil {
			w.enc = nil // no key
		}
	}
	if w.enc == nil || g.suite == Plain && f.suite == Plain {
		return
	}
	if _, err := w.crypt.decrypt(&f.header, f.payload); err != nil {
		g.forged = append(g.forged, f.off)
		return
	}
	g.decrypted++
}

// removeGeneration unlinks the files in a directory, and it.
func removeGeneration(d disk, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := d.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
