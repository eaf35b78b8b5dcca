package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// part is one file of a generation; its bytes begin at start of the generation.
type part struct {
	name  string
	start int64
	size  int64
}

// listParts returns the files that tidwall/wal wrote into dir, in order. A main generation has one; a side that grew
// beyond one generation has several, because tidwall/wal goes on to a new file rather than hold it all in memory.
func listParts(dir string) ([]part, int64, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, 0, err
	}
	var parts []part
	var size int64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err != nil || n == 0 || len(e.Name()) != 20 || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		parts = append(parts, part{name: e.Name(), start: size, size: info.Size()})
		size += info.Size()
	}
	return parts, size, nil
}

// reader reads a generation's files as one. It is for one goroutine.
type reader struct {
	dir    string
	parts  []part
	files  []*os.File
	ahead  int    // bytes to read at once when less is asked for
	window []byte // what was read ahead
	at     int64  // where window begins
}

func openReader(dir string, parts []part) (*reader, error) {
	r := &reader{dir: dir, parts: parts, files: make([]*os.File, len(parts))}
	if len(parts) == 0 {
		return nil, os.ErrNotExist
	}
	if _, err := r.file(0); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *reader) file(i int) (*os.File, error) {
	if r.files[i] == nil {
		f, err := os.Open(filepath.Join(r.dir, r.parts[i].name))
		if badMedium(err) { // once more
			f, err = os.Open(filepath.Join(r.dir, r.parts[i].name))
		}
		if err != nil {
			return nil, err
		}
		r.files[i] = f
	}
	return r.files[i], nil
}

func (r *reader) Close() {
	for _, f := range r.files {
		if f != nil {
			f.Close()
		}
	}
}

// ReadAt reads across files. The last file is read to its end, whatever size it had when it was listed. With ahead set it
// may give what stood there a while ago: who finds that wrong calls forget and reads again.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > r.ahead/2 {
		return r.readAt(p, off)
	}
	if from := off - r.at; from >= 0 && from+int64(len(p)) <= int64(len(r.window)) {
		return copy(p, r.window[from:]), nil
	}
	if cap(r.window) < r.ahead {
		r.window = make([]byte, r.ahead)
	}
	n, err := r.readAt(r.window[:r.ahead], off)
	r.window, r.at = r.window[:n], off
	if n < len(p) {
		return copy(p, r.window), err
	}
	return copy(p, r.window), nil
}

func (r *reader) forget() { r.window = r.window[:0] }

func (r *reader) readAt(p []byte, off int64) (int, error) {
	i, _ := slices.BinarySearchFunc(r.parts, off+1, func(x part, off int64) int {
		if x.start < off {
			return -1
		}
		return 1
	})
	n := 0
	for i = max(i-1, 0); n < len(p); i++ {
		if i == len(r.parts) {
			return n, io.EOF
		}
		f, err := r.file(i)
		if err != nil {
			return n, err
		}
		want := p[n:]
		at := off + int64(n) - r.parts[i].start
		if rest := r.parts[i].size - at; i < len(r.parts)-1 && rest < int64(len(want)) {
			want = want[:max(rest, 0)]
		}
		m, err := f.ReadAt(want, at)
		n += m
		if err != nil && (!errors.Is(err, io.EOF) || i < len(r.parts)-1 && m < len(want)) {
			return n, err
		}
		if m < len(want) {
			return n, io.EOF
		}
	}
	return n, nil
}

// scanner walks over the frames of one generation, whatever its state.
type scanner struct {
	r     io.ReaderAt
	size  int64  // bytes to look at
	salt  uint64 // frames with another salt are no frames
	pos   int64  // of the next entry
	bad   bool   // something could not be read, twice
	small [maxPrefix + headerSize]byte
}

// found is a frame that a scanner met.
type found struct {
	header
	off, end int64  // of its entry
	gap      int64  // unreadable bytes before it begin here; equal to off if there are none
	payload  []byte // nil if not read
	intact   bool   // the payload was read and its CRC is right
}

// at reads the frame header of the entry that begins at off. The entry's uvarint is not needed and not trusted.
func (s *scanner) at(off int64) (header, bool) {
	n, err := readFull(s.r, s.small[:min(int64(len(s.small)), max(s.size-off, 0))], off)
	s.bad = s.bad || err != nil
	b := s.small[:n]
	for p := 1; p <= maxPrefix && p < len(b); p++ {
		h, ok := parseHeader(b[p:])
		if ok && h.salt == s.salt && int64(h.offset) == off && prefixLen(&h) == p {
			return h, true
		}
	}
	return header{}, false
}

func prefixLen(h *header) int {
	return int(h.entryLen()) - headerSize - int(h.stored)
}

// readFull is io.ReadFull for a ReaderAt: fewer bytes without an error at the end of the file. A read that fails for
// another reason is tried once more.
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		n, err = r.ReadAt(p, off)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// next returns the next frame at or after s.pos, false at the end of the data. buf is used for the payload if deep and
// large enough. At the end s.pos is where the readable data ends; tail tells what is behind it.
func (s *scanner) next(deep bool, buf []byte) (found, bool) {
	start := s.pos
	h, ok := s.at(start)
	off := start
	if !ok {
		if h, off, ok = s.resync(start + 1); !ok {
			return found{}, false
		}
	}
	f := found{header: h, off: off, end: off + h.entryLen(), gap: start}
	if deep {
		if cap(buf) < int(h.stored) {
			buf = make([]byte, h.stored)
		}
		n, err := readFull(s.r, buf[:h.stored], off+int64(prefixLen(&h))+headerSize)
		s.bad = s.bad || err != nil
		f.payload = buf[:n]
		f.intact = err == nil && f.end <= s.size && h.checkPayload(f.payload)
	}
	s.pos = f.end
	return f, true
}

// resync looks for the next frame that begins at or after from.
func (s *scanner) resync(from int64) (header, int64, bool) {
	const window, overlap = 64 << 10, maxPrefix + headerSize
	buf := make([]byte, window)
	var step int64
	for base := from; base < s.size; base += step {
		n, err := readFull(s.r, buf[:min(window, s.size-base)], base)
		if step = window - overlap; err != nil { // go on behind the block that cannot be read
			s.bad = true
			step = max(int64(n)-overlap, 0) + 4096
		}
		b := buf[:n]
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], magic[:])
			if j < 0 {
				break
			}
			i += j
			h, ok := parseHeader(b[i:])
			if !ok || s.salt != 0 && h.salt != s.salt {
				continue
			}
			if off := base + int64(i) - int64(prefixLen(&h)); off >= from && off == int64(h.offset) {
				return h, off, true
			}
		}
	}
	return header{}, 0, false
}

// tail returns how many bytes behind s.pos, up to the last one that is not zero, belong to no frame. Zeros are written
// ahead on purpose and mean the end of the data.
func (s *scanner) tail() int64 {
	var buf [4096]byte
	var last int64
	for off := s.pos; off < s.size; off += int64(len(buf)) {
		n, err := readFull(s.r, buf[:min(int64(len(buf)), s.size-off)], off)
		for i := n - 1; i >= 0; i-- {
			if buf[i] != 0 {
				last = off + int64(i) + 1 - s.pos
				break
			}
		}
		s.bad = s.bad || err != nil
		if err != nil || n == 0 {
			break
		}
	}
	return last
}

// findSalt learns salt, kind and suite of a generation whose head is unreadable: from the first data frame, which begins
// at a fixed place, else from the first thing that looks like a frame and knows where it stands.
func findSalt(r io.ReaderAt, size int64) header {
	s := scanner{r: r, size: size}
	n, _ := readFull(r, s.small[:], headEntry)
	for p := 1; p <= maxPrefix && p < n; p++ {
		if h, ok := parseHeader(s.small[p:n]); ok && h.offset == headEntry {
			return h
		}
	}
	if h, _, ok := s.resync(0); ok {
		return h
	}
	return header{kind: Main}
}

// readHead reads the head of a generation.
func readHead(r io.ReaderAt) (header, headMeta, bool) {
	var b [headEntry]byte
	if n, err := readFull(r, b[:], 0); n < headEntry || err != nil {
		return header{}, headMeta{}, false
	}
	h, ok := parseHeader(b[2:])
	if !ok || h.typ != typeHead || h.offset != 0 || h.entryLen() != headEntry || !h.checkPayload(b[2+headerSize:]) {
		return header{}, headMeta{}, false
	}
	m, ok := decodeHead(b[2+headerSize:])
	return h, m, ok
}

// readSeal reads the seal at the end of a generation.
func readSeal(r io.ReaderAt, size int64, salt uint64) (header, sealMeta, bool) {
	var end [8]byte
	if size < headEntry+8 {
		return header{}, sealMeta{}, false
	}
	if n, err := readFull(r, end[:], size-8); n < len(end) || err != nil || [4]byte(end[4:]) != sealTrailer {
		return header{}, sealMeta{}, false
	}
	off := int64(binary.LittleEndian.Uint32(end[:]))
	s := scanner{r: r, size: size, salt: salt, pos: off}
	h, ok := s.at(off)
	if !ok || h.typ != typeSeal || off+h.entryLen() != size {
		return header{}, sealMeta{}, false
	}
	p := make([]byte, h.stored)
	if _, err := readFull(r, p, off+int64(prefixLen(&h))+headerSize); err != nil || !h.checkPayload(p) {
		return header{}, sealMeta{}, false
	}
	m, ok := decodeSeal(p, off)
	return h, m, ok
}
