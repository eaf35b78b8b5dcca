package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func pack(t *testing.T, text string) *fstest.MapFile {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: b.Bytes()}
}

func ask(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestBuiltSite(t *testing.T) {
	s, err := newSite(fstest.MapFS{
		"unbuilt.html": {Data: []byte("unbuilt")}, "index.html.gz": pack(t, "the page"), "assets/a-1f.js.gz": pack(t, "code()"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, accept, body, encoding, cache, kind string }{
		{"/", "", "the page", "", "no-cache", "text/html; charset=utf-8"},
		{"/", "br", "the page", "", "no-cache", "text/html; charset=utf-8"},
		{"/", "br, gzip;q=0", "the page", "", "no-cache", "text/html; charset=utf-8"},
		{"/", "gzip, deflate, br", "", "gzip", "no-cache", "text/html; charset=utf-8"},
		{"/assets/a-1f.js", "*", "", "gzip", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8"},
		{"/assets/a-1f.js", "identity", "code()", "", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8"},
	} {
		w := ask(s, c.path, "Accept-Encoding", c.accept)
		h := w.Header()
		if w.Code != 200 || c.body != "" && w.Body.String() != c.body || h.Get("Content-Encoding") != c.encoding ||
			h.Get("Cache-Control") != c.cache || h.Get("Content-Type") != c.kind || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s, %q: %d %q %v", c.path, c.accept, w.Code, w.Body, h)
		}
		if again := ask(s, c.path, "Accept-Encoding", c.accept, "If-None-Match", h.Get("ETag")); again.Code != 304 || again.Body.Len() > 0 {
			t.Errorf("%s again: %d", c.path, again.Code)
		}
	}
	for _, path := range []string{"/assets/b.js", "/assets/", "/index.html.gz", "/assets/../unbuilt.html"} {
		if w := ask(s, path); w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}

func TestUnbuiltSite(t *testing.T) {
	page, err := dist.ReadFile("dist/" + unbuilt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSite(fstest.MapFS{unbuilt: {Data: page}})
	if err != nil {
		t.Fatal(err)
	}
	if w := ask(s, "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "make build") || !strings.Contains(w.Body.String(), "管理页面") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, err := newSite(fstest.MapFS{}); err == nil {
		t.Error("a site without a page was made")
	}
	if _, err := newSite(fstest.MapFS{"index.html.gz": pack(t, ""), "x.what": {}}); err == nil {
		t.Error("a file of an unknown type was taken")
	}
}

// TestEmbedded checks what this binary really holds.
func TestEmbedded(t *testing.T) {
	if _, err := Handler(); err != nil {
		t.Fatal(err)
	}
	total := 0
	inline := regexp.MustCompile(`<style|<script>|\sstyle=|\son[a-z]+=|https?://`)
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		total += len(b)
		if strings.HasSuffix(name, ".gz") && len(unpack(b)) == 0 {
			t.Errorf("%s cannot be unpacked", name)
		}
		if strings.HasSuffix(name, ".html.gz") {
			b = unpack(b)
		}
		if strings.Contains(name, ".html") && inline.Match(b) {
			t.Errorf("%s has %q, which the policy forbids", name, inline.Find(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > MaxBytes {
		t.Errorf("the dashboard has %d bytes; the limit is %d", total, MaxBytes)
	}
	if _, err := dist.Open("dist/" + index + ".gz"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("cannot run in CI: the dashboard is not built")
		}
		t.Skip("SKIP: the dashboard is not built here: make build")
	}
	t.Logf("%d bytes of %d", total, MaxBytes)
}
