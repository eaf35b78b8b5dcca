package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed static/openapi.yaml
var openAPIFile []byte

//go:embed static/page.html
var pageHTML []byte

//go:embed static/page.css
var pageStyle []byte

//go:embed static/page.js
var pageScript []byte

// pagePolicy lets the page load its own files and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func (a *api) page(c *call) error { return c.file("text/html; charset=utf-8", pageHTML) }

func (a *api) pageCSS(c *call) error { return c.file("text/css; charset=utf-8", pageStyle) }

func (a *api) pageJS(c *call) error { return c.file("text/javascript; charset=utf-8", pageScript) }

func (a *api) openAPI(c *call) error { return c.file("application/yaml", openAPIFile) }

// file answers with an embedded file, or 304 when the client has it.
func (c *call) file(contentType string, b []byte) error {
	sum := sha256.Sum256(b)
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache") // ask each time: an update of the appliance changes the files
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.a.WriteTimeout))
	http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(b))
	return nil
}
