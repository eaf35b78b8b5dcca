// Package web is the dashboard: its source in TypeScript, its tests, and the embedding of its build.
//
// `make build` compiles src/ into dist/, each file gzip-compressed, where Node is there; without it, and with a plain go build,
// only dist/unbuilt.html is embedded, which says how to build the rest. The page needs nothing from outside the gateway and
// runs under the strict policy that guard.Web sends: no inline script or style. What is embedded has a limit ([MaxBytes]).
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// MaxBytes is the most that the dashboard may add to the binary, compressed: what a phone on a slow link loads in a few
// seconds, and what a flash of 8 MB can spare. A test holds it.
const MaxBytes = 120 << 10

const (
	unbuilt = "unbuilt.html"
	index   = "index.html"

	writeTimeout = time.Minute // 120 KB at 16 kbit/s
)

//go:embed dist
var dist embed.FS

// file is one embedded file as it is answered.
type file struct {
	packed      []byte // gzip; nil: plain is all there is
	plain       []byte
	contentType string
	tag         string
}

type site struct{ files map[string]*file }

// Handler serves the dashboard: its page at /, the files that the page names below /assets/. It is safe for concurrent use. The
// error says what is wrong with the embedded files; a test makes sure that there is none.
func Handler() (http.Handler, error) {
	built, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	return newSite(built)
}

func newSite(built fs.FS) (*site, error) {
	s := &site{files: make(map[string]*file)}
	err := fs.WalkDir(built, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(built, name)
		if err != nil {
			return err
		}
		f := &file{plain: b}
		if plain, ok := strings.CutSuffix(name, ".gz"); ok {
			name, f.packed, f.plain = plain, b, nil
		}
		sum := sha256.Sum256(b)
		f.tag = hex.EncodeToString(sum[:8])
		if f.contentType = contentTypes()[path.Ext(name)]; f.contentType == "" {
			return fmt.Errorf("embedded dashboard: %s: what type is that?", name)
		}
		s.files[name] = f
		return nil
	})
	if err == nil && s.files[index] == nil && s.files[unbuilt] == nil {
		err = fmt.Errorf("embedded dashboard: neither %s nor %s", index, unbuilt)
	}
	return s, err
}

// contentTypes are fixed: what package mime says depends on the machine.
func contentTypes() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	}
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	name := strings.TrimPrefix(r.URL.Path, "/")
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable") // the names of the other files hold their hash
	if name == "" {
		h.Set("Cache-Control", "no-cache") // ask each time: an update of the appliance changes it
		if name = index; s.files[index] == nil {
			name = unbuilt
		}
	}
	f := s.files[name]
	if f == nil {
		h.Set("Cache-Control", "no-store")
		http.Error(w, "there is no such file; the page was updated: load it again", http.StatusNotFound)
		return
	}
	f.serve(w, r)
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	body, tag := f.plain, f.tag
	if f.packed != nil {
		h.Set("Vary", "Accept-Encoding")
		if takesGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body = f.packed
		} else {
			tag += "-plain"
			body = unpack(f.packed)
		}
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// unpack is for clients that cannot; browsers all can.
func unpack(packed []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil // a test unpacks every embedded file
	}
	b, _ := io.ReadAll(io.LimitReader(z, 8*MaxBytes))
	return b
}

// takesGzip reads Accept-Encoding (RFC 9110, §12.5.3).
func takesGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "*":
			q := strings.TrimLeft(strings.ReplaceAll(weight, " ", ""), "q=")
			return strings.Trim(q, "0.") != "" || q == ""
		}
	}
	return false
}
