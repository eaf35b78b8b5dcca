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

func (a *api) openAPI(c *call) error { return c.file("application/yaml", openAPIFile) }

// file answers with an embedded file, or 304 when the client has it.
func (c *call) file(contentType string, b []byte) error {
	sum := sha256.Sum256(b)
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache") // ask each time: an update of the appliance changes the files
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.a.WriteTimeout))
	http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(b))
	return nil
}
