// Package logring keeps the last lines of the log in memory, for people who look for what happened: a gateway writes no log
// files. All methods are safe for concurrent use.
package logring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
)

// maxLine is the most that is kept of one line, in bytes.
const maxLine = 4 << 10

// Ring holds the newest lines, as many as fit.
type Ring struct {
	mu    sync.Mutex // guards the fields below
	room  int
	lines [][]byte // oldest first
	bytes int
}

// New makes a ring of so many bytes.
func New(room int) *Ring { return &Ring{room: max(room, maxLine)} }

// Resize changes how many bytes it holds.
func (r *Ring) Resize(room int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = max(room, maxLine)
	r.fitLocked()
}

// Write keeps one line. It never fails.
func (r *Ring) Write(p []byte) (int, error) {
	line := bytes.Clone(p[:min(len(p), maxLine)])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	r.bytes += len(line)
	r.fitLocked()
	return len(p), nil
}

func (r *Ring) fitLocked() {
	n := 0
	for r.bytes > r.room {
		r.bytes -= len(r.lines[n])
		n++
	}
	if n > 0 {
		r.lines = append(r.lines[:0], r.lines[n:]...)
	}
}

// WriteTo writes all lines, oldest first.
func (r *Ring) WriteTo(w io.Writer) (n int64, err error) {
	r.mu.Lock()
	lines := append([][]byte(nil), r.lines...) // the lines themselves do not change
	r.mu.Unlock()
	for _, line := range lines {
		k, err := w.Write(line)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Handler keeps what it logs, from level Info up, and hands it on.
func (r *Ring) Handler(next slog.Handler) slog.Handler {
	return tee{slog.NewTextHandler(r, nil), next}
}

// tee logs to two handlers.
type tee struct{ kept, next slog.Handler }

func (t tee) Enabled(ctx context.Context, l slog.Level) bool {
	return t.kept.Enabled(ctx, l) || t.next.Enabled(ctx, l)
}

func (t tee) Handle(ctx context.Context, r slog.Record) (err error) {
	for _, h := range [...]slog.Handler{t.kept, t.next} {
		if h.Enabled(ctx, r.Level) {
			err = errors.Join(err, h.Handle(ctx, r.Clone()))
		}
	}
	return err
}

func (t tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tee{t.kept.WithAttrs(attrs), t.next.WithAttrs(attrs)}
}

func (t tee) WithGroup(name string) slog.Handler {
	return tee{t.kept.WithGroup(name), t.next.WithGroup(name)}
}
