package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzGeneration opens, verifies and dumps a log whose only generation is the input.
func FuzzGeneration(f *testing.F) {
	o := testOptions()
	dir, _ := history(f, o, 2, 6)
	names, _ := filepath.Glob(filepath.Join(dir, "g*", "0*"))
	for _, name := range names {
		f.Add(read(f, name))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 2000))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, generationName(1)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, generationName(1), firstPart), b)
		l, err := Open(dir, testOptions())
		if errors.Is(err, ErrKey) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Scan(0, ^uint64(0), func(uint64, []byte, Stamp, bool) bool { return true }); err != nil && !errors.Is(err, ErrForged) {
			t.Fatal(err)
		}
		for _, id := range l.Snapshots() {
			_ = l.ReadSnapshot(id, func([]byte) error { return nil })
		}
		if _, err := Verify(dir, Encryption{}, io.Discard); err != nil {
			t.Fatal(err)
		}
		if err := Dump(dir, Encryption{}, io.Discard, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzPayload decodes payloads whose checksum is right.
func FuzzPayload(f *testing.F) {
	recs := []coldRecord{{seq: 5, stamp: Stamp{1, 2, 3}, data: []byte("a")}, {seq: 9, stamp: Stamp{4, 5, 6}, data: []byte("bc")}}
	cold, flags := encodeCold(nil, recs)
	f.Add(uint8(Cold), flags, uint32(2), uint64(5), uint64(9), cold)
	f.Add(uint8(Main), uint8(0), uint32(2), uint64(1), uint64(2), encodeMain(nil, []Record{{Data: []byte("x")}, {}}))
	f.Fuzz(func(t *testing.T, kind, flags uint8, count uint32, first, last uint64, p []byte) {
		h := header{typ: typeData, kind: Kind(kind), flags: flags, count: count, first: first, last: last}
		b, err := decode(&h, p)
		if err != nil {
			return
		}
		n := 0
		for i := range b.ends {
			n += len(b.record(i))
			b.stampOf(i)
			if j := b.find(b.seq(i)); b.seqs == nil && j != i && first+uint64(i) >= first {
				t.Fatalf("record %d is found at %d", i, j)
			}
		}
		if n != len(b.data) || len(b.ends) != int(count) {
			t.Fatalf("%d of %d bytes in %d of %d records", n, len(b.data), len(b.ends), count)
		}
		_, _ = decodeHead(p)
		_, _ = decodeSeal(p, int64(binary.LittleEndian.Uint32(append(p, 0, 0, 0, 0))))
	})
}
