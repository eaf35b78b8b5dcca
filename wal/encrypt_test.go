package wal

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// testKeys has one secret for each id. The newest is the one that was set last.
type testKeys struct {
	suite   Suite
	current uint16
	secrets map[uint16]string
}

func (k *testKeys) Current() (uint16, Suite) { return k.current, k.suite }

func (k *testKeys) Derive(id uint16, context []byte) ([]byte, bool) {
	s, ok := k.secrets[id]
	if !ok {
		return nil, false
	}
	key, err := hkdf.Key(sha256.New, []byte(s), nil, string(context), 32)
	return key, err == nil
}

func oneKey(s Suite) *testKeys {
	return &testKeys{suite: s, current: 7, secrets: map[uint16]string{7: "one secret"}}
}

func encrypted(k Keys) Options {
	o := testOptions()
	o.Encryption = Encryption{Log: "test", Keys: k}
	return o
}

var suites = []Suite{AES256GCM, XChaCha20Poly1305}

// planted is in every record of these tests; it must be in no file.
const planted = "planted-plaintext"

// encryptedHistory makes a log with main, cold and snapshot generations. It is closed.
func encryptedHistory(t testing.TB, o Options) (dir string, want map[uint64]string) {
	t.Helper()
	dir, want = t.TempDir(), map[uint64]string{}
	l := start(t, dir, o)
	for i := range 120 {
		s := fmt.Sprintf("%s %d", planted, i)
		want[add(t, l, s)] = s
	}
	l.retiring.Wait()
	gens := l.Generations()
	side, err := l.NewSide(Cold)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Scan(gens[0].First, gens[1].Last, func(seq uint64, data []byte, stamp Stamp, cold bool) bool {
		if seq%2 != 0 {
			delete(want, seq)
			return true
		}
		err = side.Append(seq, data, stamp)
		return err == nil
	})
	if err == nil {
		err = l.Replace(side, []uint64{gens[0].ID, gens[1].ID})
	}
	if err != nil {
		t.Fatal(err)
	}
	snap, err := l.NewSide(Snapshot)
	if err == nil {
		err = snap.Append(0, []byte(planted+" state"), Stamp{Wall: 5})
	}
	if err == nil {
		err = snap.Commit()
	}
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// allBytes is everything in the files below dir.
func allBytes(t testing.TB, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, read(t, path)...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEncryptedLog(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			o := encrypted(oneKey(suite))
			dir, want := encryptedHistory(t, o)
			if bytes.Contains(allBytes(t, dir), []byte("planted")) {
				t.Error("the plain text is on the disk")
			}
			l := start(t, dir, o)
			same(t, contents(t, l), want)
			if text, err := snapshotText(l, l.Snapshots()[0]); err != nil || text != planted+" state\n" {
				t.Errorf("%q %v", text, err)
			}
			for _, g := range l.Generations() {
				if g.Suite != suite {
					t.Errorf("generation %d is %s", g.ID, g.Suite)
				}
			}
			l.Close()
			for _, e := range []Encryption{o.Encryption, {}} {
				var out bytes.Buffer
				rep, err := Verify(dir, e, &out)
				records := int64(len(want)) + 1
				if err != nil || !rep.OK() || rep.Plain != 0 || rep.Encrypted != records || rep.Records != records {
					t.Errorf("%+v %v\n%s", rep, err, out.String())
				}
				if (rep.Keyless == 0) != (e.Keys != nil) || (rep.Decrypted > 0) != (e.Keys != nil) {
					t.Errorf("with keys %v: %+v", e.Keys != nil, rep)
				}
				out.Reset()
				if err := Dump(dir, e, &out, func(_ uint64, data []byte) string { return string(data) }); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(out.String(), planted) != (e.Keys != nil) {
					t.Errorf("with keys %v the dump shows the records: %v", e.Keys != nil, e.Keys == nil)
				}
			}
		})
	}
}

// TestEncryptedWrongKey: without the key the log does not open, and is not changed; with another one under the same id every
// read says so, and nothing counts as lost.
func TestEncryptedWrongKey(t *testing.T) {
	k := oneKey(AES256GCM)
	dir, want := encryptedHistory(t, encrypted(k))
	before := allBytes(t, dir)
	for _, keys := range []Keys{nil, &testKeys{suite: AES256GCM, current: 8, secrets: map[uint16]string{8: "another"}}} {
		if l, err := Open(dir, encrypted(keys)); !errors.Is(err, ErrKey) || errors.Is(err, ErrDamaged) {
			t.Fatalf("%v %v", l, err)
		}
	}
	if !bytes.Equal(before, allBytes(t, dir)) {
		t.Error("opening without the key changed the log")
	}
	wrong := &testKeys{suite: AES256GCM, current: 7, secrets: map[uint16]string{7: "another secret"}}
	l, err := Open(dir, encrypted(wrong))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for seq := range want {
		if _, _, err := l.Read(seq); !errors.Is(err, ErrForged) {
			t.Fatalf("read %d: %v", seq, err)
		}
	}
	if err := l.Scan(0, ^uint64(0), func(uint64, []byte, Stamp, bool) bool { return true }); !errors.Is(err, ErrForged) {
		t.Errorf("scan: %v", err)
	}
	if _, err := snapshotText(l, l.Snapshots()[0]); !errors.Is(err, ErrForged) || errors.Is(err, ErrDamaged) {
		t.Errorf("snapshot: %v", err)
	}
	if len(l.Losses()) > 0 || l.Stats().Damaged > 0 {
		t.Errorf("%v lost, %+v", l.Losses(), l.Stats())
	}
	rep, err := Verify(dir, Encryption{Log: "test", Keys: wrong}, io.Discard)
	if err != nil || rep.OK() || rep.Forged == 0 || rep.Damaged != 0 {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestEncryptedTampering changes frames and puts the checksums right again, as only somebody who means it does.
func TestEncryptedTampering(t *testing.T) {
	for _, suite := range suites {
		o := encrypted(oneKey(suite))
		o.Generation = 64 << 10
		tamper := func(name string, change func(h *header, payload []byte)) {
			t.Run(suite.String()+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				l := start(t, dir, o)
				first := add(t, l, "one")
				second := add(t, l, "two")
				third := add(t, l, "three")
				l.Close()
				file := lastFile(t, dir)
				b := read(t, file)
				l, err := Open(dir, o)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				p, _ := l.locateLocked(second)
				search := frames{l: l}
				defer search.Close()
				if found, err := search.find(&p, second); !found {
					t.Fatal("the frame is not found: ", err)
				}
				frame := b[p.ref.off+1:] // its length fits one byte of uvarint
				h, ok := parseHeader(frame)
				if !ok {
					t.Fatal("no frame there")
				}
				change(&h, frame[headerSize:headerSize+h.stored])
				h.sum(frame[:headerSize+h.stored])
				write(t, file, b)
				if _, _, err := l.Read(second); !errors.Is(err, ErrForged) {
					t.Errorf("read: %v", err)
				}
				if len(l.Losses()) > 0 {
					t.Error(l.Losses())
				}
				for seq, want := range map[uint64]string{first: "one", third: "three"} {
					if got, _, err := l.Read(seq); err != nil || string(got) != want {
						t.Errorf("%q %v", got, err)
					}
				}
				rep, err := Verify(dir, o.Encryption, io.Discard)
				if err != nil || rep.Forged != 1 || rep.Damaged != 0 || rep.OK() {
					t.Errorf("%+v %v", rep, err)
				}
			})
		}
		tamper("payload", func(_ *header, p []byte) { p[len(p)-1] ^= 1 })
		tamper("beginning", func(_ *header, p []byte) { p[0] ^= 1 })
		tamper("time", func(h *header, _ []byte) { h.stamp.Wall++ })
		tamper("boot", func(h *header, _ []byte) { h.stamp.Boot++ })
		tamper("flags", func(h *header, _ []byte) { h.flags ^= 2 })
		tamper("key", func(h *header, _ []byte) { h.key ^= 1 })
		tamper("plain", func(h *header, p []byte) { // a frame of the attacker's own, as long as the stored one
			clear(p)
			h.suite, h.key, h.raw = Plain, 0, h.stored
			copy(p, encodeMain(nil, []Record{{Data: make([]byte, len(p)-1)}}))
		})
	}
}

// TestEncryptedDamage: a flipped bit is damage as without encryption, found without the key, and costs its frame only.
func TestEncryptedDamage(t *testing.T) {
	o := encrypted(oneKey(AES256GCM))
	dir, want := encryptedHistory(t, o)
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	g := l.gens[1] // a main one, sealed
	f := g.frames[1]
	l.Close()
	file := filepath.Join(dir, g.name, firstPart)
	b := read(t, file)
	b[f.off+headerSize+10] ^= 4
	write(t, file, b)
	rep, err := Verify(dir, Encryption{}, io.Discard)
	if err != nil || rep.Damaged != 1 || rep.Forged != 0 || len(rep.Lost) != 1 || rep.Lost[0] != (Range{f.first, f.first + uint64(f.count) - 1}) {
		t.Errorf("%+v %v", rep, err)
	}
	if l, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	delete(want, f.first)
	same(t, contents(t, l), want)
	if len(l.Losses()) != 1 {
		t.Error(l.Losses())
	}
}

// TestEncryptedElsewhere: a generation of one log is none of another, with the same keys and under the same number.
func TestEncryptedElsewhere(t *testing.T) {
	o := encrypted(oneKey(AES256GCM))
	dir, want := encryptedHistory(t, o)
	o.Encryption.Log = "registry"
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for seq := range want {
		if _, _, err := l.Read(seq); !errors.Is(err, ErrForged) {
			t.Fatal(err)
		}
	}
}

// TestEncryptionSwitched goes from plain to one suite, to another key and suite, and back to plain: all stays readable.
func TestEncryptionSwitched(t *testing.T) {
	dir, want := t.TempDir(), map[uint64]string{}
	k := oneKey(AES256GCM)
	for i, step := range []func(){
		func() { k.suite = Plain },
		func() { k.suite = AES256GCM },
		func() { k.suite, k.current, k.secrets[9] = XChaCha20Poly1305, 9, "the next" },
		func() { k.suite = Plain },
	} {
		step()
		l := start(t, dir, encrypted(k))
		for j := range 60 {
			s := fmt.Sprintf("%s %d %d", planted, i, j)
			want[add(t, l, s)] = s
		}
		same(t, contents(t, l), want)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := Verify(dir, Encryption{Log: "test", Keys: k}, io.Discard)
	if err != nil || !rep.OK() || rep.Plain != 120 || rep.Encrypted != 120 || rep.Keyless != 0 {
		t.Errorf("%+v %v", rep, err)
	}
	delete(k.secrets, 7)
	if _, err := Open(dir, encrypted(k)); !errors.Is(err, ErrKey) {
		t.Errorf("without the first key: %v", err)
	}
}

// nonceDisk remembers key and nonce of every frame that is handed to the disk, whether the disk took it or not.
type nonceDisk struct {
	disk
	t    testing.TB
	mu   sync.Mutex
	seen map[string][]byte // key and nonce: the frame
}

type nonceSegment struct {
	segment
	d  *nonceDisk
	id string
}

func (d *nonceDisk) Create(dir string, part int64) (segment, error) {
	s, err := d.disk.Create(dir, part)
	if err != nil {
		return nil, err
	}
	return &nonceSegment{s, d, filepath.Base(dir)[1:]}, nil
}

func (s *nonceSegment) Write(frame []byte) error {
	if h, ok := parseHeader(frame); ok && h.typ == typeData {
		f := found{header: h, payload: frame[headerSize:]}
		key := fmt.Sprintf("%s %s %04x %016x %x", s.id, h.suite, h.key, h.salt, f.nonceOf())
		s.d.mu.Lock()
		if s.d.seen[key] != nil {
			s.d.t.Errorf("key and nonce %s again", key)
		}
		s.d.seen[key] = bytes.Clone(frame)
		s.d.mu.Unlock()
	}
	return s.segment.Write(frame)
}

// TestNoNonceTwice writes to a disk that fails now and then, cuts the power, starts again on what is left, and so on.
func TestNoNonceTwice(t *testing.T) {
	for _, suite := range suites {
		synctest.Test(t, func(t *testing.T) {
			rng, faults := rand.New(rand.NewPCG(1, uint64(suite))), rand.New(rand.NewPCG(2, uint64(suite)))
			dir := t.TempDir()
			spy := &nonceDisk{t: t, seen: map[string][]byte{}}
			for range 10 {
				d := newFaultDisk(t, dir)
				d.fail = func(n int, op string) error {
					if faults.IntN(12) == 0 {
						return fmt.Errorf("%s: %w", op, unix.EIO)
					}
					return nil
				}
				spy.disk = d
				l, err := openOn(spy, dir, encrypted(oneKey(suite)))
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Start(); err != nil {
					t.Fatal(err)
				}
				for i := range 30 {
					if _, err := l.AppendWait(context.Background(), Record{Data: fmt.Appendf(nil, "record %d", i)}); err != nil {
						time.Sleep(2 * time.Second)
					}
				}
				synctest.Wait()
				dir = d.powerCut(t, rng)
				_ = l.Close() // it may fail, on this disk
			}
			if len(spy.seen) < 200 {
				t.Errorf("only %d frames", len(spy.seen))
			}
		})
	}
}

// TestNonceGuard: an offset that was used is refused, whatever the caller does.
func TestNonceGuard(t *testing.T) {
	e := Encryption{Log: "test", Keys: oneKey(AES256GCM)}
	x, err := e.crypter(AES256GCM, 7, 1, 99)
	if err != nil {
		t.Fatal(err)
	}
	h := header{typ: typeData, kind: Main, count: 1, first: 1, last: 1, offset: 512, salt: 99}
	for i, want := range []error{nil, errNonce} {
		if _, err := x.encrypt(&h, append(x.room(nil), "text"...)); !errors.Is(err, want) {
			t.Errorf("time %d: %v", i, err)
		}
	}
}

// TestEncryptAllocates nothing for a frame.
func TestEncryptAllocates(t *testing.T) {
	for _, suite := range suites {
		e := Encryption{Log: "test", Keys: oneKey(suite)}
		x, err := e.crypter(suite, 7, 1, 99)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, 8<<10)
		h := header{typ: typeData, kind: Main, count: 1, first: 1, last: 1, salt: 99}
		data := make([]byte, 4<<10)
		n := testing.AllocsPerRun(100, func() {
			h.offset += 8 << 10
			frame, err := x.encrypt(&h, append(x.room(buf), data...))
			if err != nil || len(frame) != headerSize+int(h.stored) {
				t.Fatal(len(frame), err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations", suite, n)
		}
	}
}

// TestSeed: the checksum of the salt is that of its eight bytes.
func TestSeed(t *testing.T) {
	for _, salt := range []uint64{0, 1, 0x0123456789ABCDEF, ^uint64(0)} {
		b := binary.LittleEndian.AppendUint64(nil, salt)
		if got, want := seed(salt), crc32.Update(0, castagnoli, b); got != want {
			t.Errorf("%x: %x, want %x", salt, got, want)
		}
	}
}

// FuzzDecrypt feeds frames whose checksum is right to the decryption: none is accepted, none makes trouble.
func FuzzDecrypt(f *testing.F) {
	f.Add(uint8(1), uint32(512), []byte("sixteen bytes or more of it"))
	f.Add(uint8(2), uint32(512), make([]byte, 64))
	f.Add(uint8(0), uint32(512), []byte("x"))
	f.Fuzz(func(t *testing.T, s uint8, offset uint32, p []byte) {
		h := header{typ: typeData, kind: Main, suite: Suite(s), key: 7, count: 1, first: 1, last: 1, offset: offset, salt: 99}
		h.stored, h.raw = uint32(len(p)), uint32(len(p))-Suite(s).overhead()
		frame := append(make([]byte, headerSize), p...)
		h.sum(frame)
		got, ok := parseHeader(frame)
		if !ok {
			return
		}
		e := Encryption{Log: "test", Keys: oneKey(AES256GCM)}
		x, err := e.crypter(AES256GCM, 7, 1, binary.LittleEndian.Uint64(make([]byte, 8)))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := x.decrypt(&got, frame[headerSize:]); !errors.Is(err, ErrForged) {
			t.Fatalf("%q %v", plain, err)
		}
	})
}
