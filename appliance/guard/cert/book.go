package cert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// digest is the SHA-256 of a certificate.
type digest [sha256.Size]byte

func (p digest) String() string { return hex.EncodeToString(p[:]) }

// entry is a certificate that counts.
type entry struct {
	device string
	serial string // hex
	ca     string // hex, of the authority's fingerprint: another authority's certificates do not count
	until  int64  // unix time
	line   int    // order of issue
}

// event is one line of the book.
type event struct {
	Issue  string `json:"issue,omitempty"`
	End    string `json:"end,omitempty"`
	Device string `json:"device,omitempty"`
	Serial string `json:"serial,omitempty"`
	CA     string `json:"ca,omitempty"`
	Until  int64  `json:"until,omitempty"`
}

// book is the list of the certificates that count, and the file that keeps it.
//
// Invariants: what is in entries was written and not ended since; an end is in effect even when it
// cannot be written, and then behind is set until the file was written whole.
type book struct {
	path    string
	entries map[digest]entry
	next    int   // order of the next issue
	size    int64 // of the file's good part
	behind  bool  // the file lacks an end, or holds the rest of a failed write
	damaged bool  // a line was unreadable: everything before it was ended
}

// openBook reads the book; a missing one is empty.
func openBook(path string) (*book, error) {
	b := &book{path: path, entries: make(map[digest]entry)}
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the book of device certificates: %w", err)
	}
	b.replay(text)
	return b, nil
}

func (b *book) replay(text []byte) {
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		e, ok := readLine(line)
		switch {
		case ok && whole:
			b.apply(e)
		case len(rest) == 0: // torn: nobody was told of it
			b.behind = true
			return
		default:
			clear(b.entries)
			b.damaged, b.behind = true, true
		}
		b.size += int64(len(line)) + 1
		text = rest
	}
}

func (b *book) apply(e event) {
	if p, ok := readDigest(e.End); ok {
		delete(b.entries, p)
	}
	if p, ok := readDigest(e.Issue); ok {
		b.entries[p] = entry{device: e.Device, serial: e.Serial, ca: e.CA, until: e.Until, line: b.next}
		b.next++
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func readLine(line []byte) (event, bool) {
	var e event
	sum, text, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(sum) != 8 {
		return e, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(text, castagnoli) {
		return e, false
	}
	return e, json.Unmarshal(text, &e) == nil
}

func appendLine(b []byte, e event) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		return b // strings and a number always marshal
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, castagnoli))
	return append(append(b, text...), '\n')
}

func readDigest(s string) (p digest, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(p) {
		return p, false
	}
	return digest(b), true
}

// issue writes the certificate down; it counts from the return on.
func (b *book) issue(p digest, e entry) error {
	if err := b.append(appendLine(nil, issueOf(p, &e))); err != nil {
		return err
	}
	e.line = b.next
	b.next++
	b.entries[p] = e
	return nil
}

func issueOf(p digest, e *entry) event {
	return event{Issue: p.String(), Device: e.device, Serial: e.serial, CA: e.ca, Until: e.until}
}

// end strikes certificates out, at once. The error says that it is not yet on disk; settle tries again.
func (b *book) end(list []digest) error {
	var lines []byte
	for _, p := range list {
		if _, ok := b.entries[p]; ok {
			delete(b.entries, p)
			lines = appendLine(lines, event{End: p.String()})
		}
	}
	if lines == nil {
		return nil
	}
	if b.behind {
		return b.settle()
	}
	err := b.append(lines)
	b.behind = err != nil
	return err
}

// append adds lines durably. What a failed write left is overwritten by the next.
func (b *book) append(lines []byte) (err error) {
	if b.behind {
		if err := b.settle(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write the book of device certificates: %w", err)
	}
	_, err = f.WriteAt(lines, b.size)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && b.size == 0 {
		err = syncDir(filepath.Dir(b.path))
	}
	if err != nil {
		b.behind = true
		return fmt.Errorf("write the book of device certificates: %w", err)
	}
	b.size += int64(len(lines))
	return nil
}

// settle writes the book whole when the file is behind.
func (b *book) settle() error {
	if !b.behind {
		return nil
	}
	return b.rewrite()
}

func (b *book) rewrite() error {
	var text []byte
	for _, p := range b.sorted(func(*entry) bool { return true }) {
		e := b.entries[p]
		text = appendLine(text, issueOf(p, &e))
	}
	if err := writeFile(b.path, text); err != nil {
		return err
	}
	b.size, b.behind = int64(len(text)), false
	return nil
}

// sorted are the certificates that want selects, oldest first.
func (b *book) sorted(want func(e *entry) bool) []digest {
	var list []digest
	for p, e := range b.entries {
		if want(&e) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, c digest) int { return b.entries[a].line - b.entries[c].line })
	return list
}

// prune forgets what keep refuses, and writes the book whole when most of the file is about what
// ended.
func (b *book) prune(keep func(e *entry) bool) {
	for p, e := range b.entries {
		if !keep(&e) {
			delete(b.entries, p)
			b.behind = true
		}
	}
	const line = 256 // about the bytes of one
	if b.size > 64<<10 && b.size > 2*line*int64(len(b.entries)) {
		b.behind = true
	}
}
