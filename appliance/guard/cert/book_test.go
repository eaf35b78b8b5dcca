package cert

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// numbered is the certificate with that number in these tests.
func numbered(n int) (digest, entry) {
	return digest{byte(n), byte(n >> 8)}, entry{device: "d", serial: "4a", ca: "c", until: int64(n)}
}

// same compares what counts, not the order in which it came.
func same(a, b *book) bool {
	return maps.EqualFunc(a.entries, b.entries, func(x, y entry) bool { x.line, y.line = 0, 0; return x == y })
}

func open(t *testing.T, path string) *book {
	t.Helper()
	b, err := openBook(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The file says what the book says, through restarts and a disk that fails at times.
func TestBookModel(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test repeats itself
		path := filepath.Join(t.TempDir(), "devices")
		b, failing := open(t, path), false
		for n := range 200 {
			switch rnd.IntN(8) {
			case 0, 1, 2:
				d, e := numbered(n)
				if err := b.issue(d, e); (err != nil) != failing {
					t.Fatalf("seed %d: issue: %v, disk fails: %v", seed, err, failing)
				}
			case 3, 4:
				d, _ := numbered(rnd.IntN(n + 1))
				_, there := b.entries[d]
				if err := b.end([]digest{d}); (err != nil) != (failing && there) {
					t.Fatalf("seed %d: end: %v", seed, err)
				}
				if _, still := b.entries[d]; still {
					t.Fatalf("seed %d: it still counts", seed)
				}
			case 5:
				b.prune(func(e *entry) bool { return e.until%7 != 0 })
				if err := b.settle(); (err != nil) != (failing && b.behind) {
					t.Fatalf("seed %d: settle: %v", seed, err)
				}
			case 6:
				failing = !failing && path == b.path
				if b.path = path; failing {
					b.path = filepath.Join(path, "no", "directory")
				}
			case 7:
				if failing || b.settle() != nil {
					continue
				}
				again := open(t, path)
				if !same(again, b) || again.behind || again.damaged {
					t.Fatalf("seed %d: after a restart %d of %d count", seed, len(again.entries), len(b.entries))
				}
				b = again
			}
		}
	}
}

// At every length that a power cut can leave, each certificate whose issue returned before counts, and
// each that ended before does not.
func TestBookIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices")
	b := open(t, path)
	var sizes []int64
	for n := range 6 {
		d, e := numbered(n)
		if err := b.issue(d, e); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, b.size)
	}
	d0, _ := numbered(0)
	if err := b.end([]digest{d0}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(len(text)) + 1 {
		if err := os.WriteFile(path, text[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, path)
		want := 0
		for n, s := range sizes {
			d, _ := numbered(n)
			if _, ok := again.entries[d]; ok != (s <= size && (n > 0 || size < int64(len(text)))) {
				t.Fatalf("cut at %d: certificate %d counts: %v", size, n, ok)
			}
			if s <= size {
				want++
			}
		}
		if again.damaged {
			t.Fatalf("cut at %d is damage", size)
		}
		d9, e9 := numbered(9)
		if err := again.issue(d9, e9); err != nil { // what was torn is overwritten
			t.Fatal(err)
		}
		if last := open(t, path); !same(last, again) || last.behind {
			t.Fatalf("cut at %d: the next issue is not read back", size)
		}
	}
}

// A damaged line may have ended any certificate above it.
func TestBookIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices")
	b := open(t, path)
	for n := range 3 {
		d, e := numbered(n)
		if err := b.issue(d, e); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[b.size/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if !again.damaged || len(again.entries) != 1 {
		t.Errorf("damaged %v, %d count", again.damaged, len(again.entries))
	}
	if err := again.settle(); err != nil {
		t.Fatal(err)
	}
	if last := open(t, path); last.damaged || !same(last, again) {
		t.Error("the damage was not put aside")
	}
}

func FuzzBook(f *testing.F) {
	d, e := numbered(1)
	f.Add(appendLine(appendLine(nil, issueOf(d, &e)), event{End: d.String()}))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := &book{path: filepath.Join(t.TempDir(), "devices"), entries: make(map[digest]entry)}
		b.replay(text)
		if err := b.rewrite(); err != nil {
			t.Fatal(err)
		}
		if again := open(t, b.path); !same(again, b) || again.damaged || again.behind {
			t.Fatalf("written whole it reads as another: %d and %d", len(again.entries), len(b.entries))
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if req, err := readRequest(b); err == nil && goodKey(req.PublicKey) != nil {
			t.Fatal("a weak key is accepted")
		}
	})
}
