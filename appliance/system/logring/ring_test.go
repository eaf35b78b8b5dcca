package logring

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func text(r *Ring) string {
	var b bytes.Buffer
	_, _ = r.WriteTo(&b)
	return b.String()
}

func TestRingKeepsTheNewest(t *testing.T) {
	r := New(maxLine)
	for i := range 1000 {
		fmt.Fprintf(r, "line %d\n", i)
	}
	got := text(r)
	if len(got) > maxLine || len(got) < maxLine-10 || !strings.HasSuffix(got, "line 998\nline 999\n") || !strings.HasPrefix(got, "line ") {
		t.Errorf("%d bytes: %.40q…", len(got), got)
	}
	fmt.Fprint(r, strings.Repeat("x", 2*maxLine))
	if got := text(r); got != strings.Repeat("x", maxLine) {
		t.Errorf("a long line leaves %d bytes", len(got))
	}
	r.Resize(1 << 20)
	fmt.Fprint(r, "more\n")
	if got := text(r); !strings.HasPrefix(got, "xx") || !strings.HasSuffix(got, "more\n") {
		t.Errorf("after growing: %d bytes", len(got))
	}
	r.Resize(0)
	if got := text(r); got != "more\n" {
		t.Errorf("after shrinking: %.40q", got)
	}
}

// TestHandlerHandsOn keeps what the other handler's level leaves out, with attributes and groups, and the other gets its own.
func TestHandlerHandsOn(t *testing.T) {
	var out bytes.Buffer
	r := New(0)
	log := slog.New(r.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("a", 1).WithGroup("g")
	log.Debug("no")
	log.Info("kept", "b", 2)
	log.Warn("both")
	if got := text(r); strings.Contains(got, "no") || !strings.Contains(got, "msg=kept a=1 g.b=2") || !strings.Contains(got, "msg=both") {
		t.Errorf("kept %q", got)
	}
	if got := out.String(); strings.Contains(got, "kept") || !strings.Contains(got, "msg=both a=1") {
		t.Errorf("handed on %q", got)
	}
}
