package appliance

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/system/pulse"
)

// Diagnose writes a bundle for whoever is asked for help: a tar of small files without payloads, tokens, passwords or keys, and
// without the names of devices and topics, except where a log line has one.
func (k *core) Diagnose(ctx context.Context, g *auth.Grant, w io.Writer) (err error) {
	defer func() { k.audited(ctx, g, "diagnostics", "", err) }()
	if err := admin(g); err != nil {
		return err
	}
	st := k.glance()
	tick := pulse.Tick{Time: time.Now()}
	k.describe(&tick)
	tick.Backlog = nil // names devices
	var metrics, log bytes.Buffer
	k.WriteMetrics(&metrics)
	_, _ = k.kept.WriteTo(&log) // a buffer takes all
	now := time.Now().UTC()
	out := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		what any
	}{
		{"version.json", map[string]any{"version": st.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "time": now, "gateway": st.Gateway}},
		{"status.json", st},
		{"live.json", &tick},
		{"history.json", k.pulse.History()},
		{"config.json", k.settings()},
		{"metrics.txt", metrics.Bytes()},
		{"log.txt", log.Bytes()},
	} {
		body, raw := f.what.([]byte)
		if !raw {
			if body, err = json.MarshalIndent(f.what, "", "  "); err != nil {
				return fmt.Errorf("encode %s: %w", f.name, err)
			}
		}
		if err := out.WriteHeader(&tar.Header{Name: "edgepost/" + f.name, Mode: 0o600, Size: int64(len(body)), ModTime: now}); err != nil {
			return err
		}
		if _, err := out.Write(body); err != nil {
			return err
		}
	}
	return out.Close()
}
