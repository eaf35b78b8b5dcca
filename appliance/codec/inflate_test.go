package codec

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	stdzlib "compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"edgepost/appliance/message"
)

func pack(t testing.TB, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "gzip":
		w = stdgzip.NewWriter(&out)
	case "zlib":
		w = stdzlib.NewWriter(&out)
	default:
		w, _ = stdflate.NewWriter(&out, 1)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func inflate(encoding string, b []byte, limit int64) ([]byte, error) {
	r, err := Inflate(encoding, bytes.NewReader(b), limit)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(r)
	return out, errors.Join(err, r.Close())
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if p := message.ProblemOf(err); p == nil || p.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

var codings = []struct{ kind, encoding string }{
	{"gzip", "gzip"}, {"gzip", "X-GZIP"}, {"zlib", "deflate"}, {"raw", "deflate"},
}

func TestInflate(t *testing.T) {
	for _, c := range codings {
		for _, text := range []string{"", "a", "开灯", strings.Repeat("temperature ", 9000)} {
			packed := pack(t, c.kind, []byte(text))
			for range 2 { // the second time with a decoder from the pool
				got, err := inflate(c.encoding, packed, int64(len(text)))
				if err != nil || string(got) != text {
					t.Errorf("%s as %s: %d bytes became %d, %v", c.kind, c.encoding, len(text), len(got), err)
				}
			}
			r, _ := Inflate(c.encoding, iotest.OneByteReader(bytes.NewReader(packed)), 1<<20)
			if got, err := io.ReadAll(r); err != nil || string(got) != text {
				t.Errorf("%s byte by byte: %d bytes, %v", c.kind, len(got), err)
			}
		}
	}
	for _, encoding := range []string{"", "identity", "Identity"} {
		if got, err := inflate(encoding, []byte("abc"), 3); err != nil || string(got) != "abc" {
			t.Errorf("%q: %q, %v", encoding, got, err)
		}
		_, err := inflate(encoding, []byte("abcd"), 3)
		wantCode(t, err, message.CodeTooLarge)
	}
}

// TestBomb is 16 MiB of zeros against a limit of 64 KiB.
func TestBomb(t *testing.T) {
	zeros := make([]byte, 16<<20)
	for _, c := range codings[1:] {
		packed := pack(t, c.kind, zeros)
		got, err := inflate(c.encoding, packed, 64<<10)
		wantCode(t, err, message.CodeTooLarge)
		if len(got) != 64<<10 {
			t.Errorf("%s: %d bytes came through", c.kind, len(got))
		}
		r, err := Inflate(c.encoding, bytes.NewReader(packed), 16<<20)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != 16<<20 {
			t.Errorf("%s: exactly the limit: %d bytes, %v", c.kind, n, err)
		}
	}
}

func TestInflateDamaged(t *testing.T) {
	for _, c := range codings {
		packed := pack(t, c.kind, []byte(strings.Repeat("temperature 21.5 ", 100)))
		for _, cut := range []int{0, 1, 5, len(packed) / 2, len(packed) - 1} {
			_, err := inflate(c.encoding, packed[:cut], 1<<20)
			wantCode(t, err, message.CodeBadRequest)
		}
		_, err := inflate(c.encoding, append(bytes.Clone(packed), "more"...), 1<<20)
		wantCode(t, err, message.CodeBadRequest)
		if got, err := inflate(c.encoding, packed, 1<<20); err != nil || len(got) != 1700 {
			t.Errorf("%s: a pooled decoder is not clean: %d, %v", c.kind, len(got), err)
		}
	}
	_, err := Inflate("br", strings.NewReader(""), 1)
	wantCode(t, err, message.CodeBadMediaType)
}

func TestInflateOthersError(t *testing.T) {
	lost := errors.New("connection lost")
	packed := pack(t, "gzip", bytes.Repeat([]byte("abc"), 1000))
	for _, n := range []int{0, 3, 15} {
		r, err := Inflate("gzip", io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(lost)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(r); !errors.Is(err, lost) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if _, err = r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after close: %v", err)
		}
	}
}

func FuzzInflate(f *testing.F) {
	for _, c := range codings {
		f.Add(c.encoding, pack(f, c.kind, []byte("temperature")))
	}
	f.Fuzz(func(t *testing.T, encoding string, b []byte) {
		const limit = 4 << 10
		got, err := inflate(encoding, b, limit)
		if len(got) > limit {
			t.Errorf("%d bytes came through", len(got))
		}
		if err != nil && message.ProblemOf(err) == nil {
			t.Errorf("not a problem: %v", err)
		}
		if back, err := inflate("gzip", pack(t, "gzip", b), int64(len(b))); err != nil || !bytes.Equal(back, b) {
			t.Errorf("round trip: %v", err)
		}
	})
}
