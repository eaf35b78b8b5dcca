package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wantNoStart starts the gateway and expects it to end by itself with the exit code and words.
func (g *gateway) wantNoStart(t *testing.T, code int, words ...string) {
	t.Helper()
	err := g.tryStart()
	if err == nil {
		g.kill()
		t.Fatalf("it started; want exit code %d", code)
	}
	select {
	case <-g.end:
	case <-time.After(5 * time.Second):
		g.kill()
		t.Fatalf("it neither started nor ended: %v\n%s", err, g.out)
	}
	out := g.out.String()
	if got := g.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d\n%s", got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
	if strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
		t.Errorf("it says it like a crash:\n%s", out)
	}
	g.cmd = nil
}

func TestTwoProcessesOnOneDirectory(t *testing.T) {
	g := startGateway(t, "")
	app := g.api(g.addFreeKey())
	second := newGateway(t)
	second.dir = g.dir
	second.wantNoStart(t, 1, g.dir)
	app.publish(t, "a", "the first still works")
	g.kill()
	second.start()
	second.stop()
}

func TestBadDataDirectory(t *testing.T) {
	t.Run("a file in its place", func(t *testing.T) {
		g := newGateway(t)
		g.dir = filepath.Join(g.dir, "file")
		if err := os.WriteFile(g.dir, []byte("holiday"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.wantNoStart(t, 1, g.dir)
	})
	t.Run("missing: serve makes it, the other commands say so", func(t *testing.T) {
		g := newGateway(t)
		g.dir = filepath.Join(g.dir, "new")
		r := g.run("status")
		if r.code != 3 || !strings.Contains(r.errout, g.dir) {
			t.Errorf("status on a missing directory: exit %d, %q", r.code, r.errout)
		}
		if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("status made the directory: %v", err)
		}
		g.start()
		info, err := os.Stat(g.dir)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("the data directory is readable by others: %v %v", info.Mode(), err)
		}
	})
	t.Run("foreign: another program's files", func(t *testing.T) {
		g := newGateway(t)
		photo := filepath.Join(g.dir, "holiday.jpg")
		if err := os.WriteFile(photo, []byte("sea"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.wantNoStart(t, 1, g.dir)
		left, err := os.ReadDir(g.dir)
		if err != nil || len(left) != 1 {
			t.Errorf("it left its own files there: %v %v", left, err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		g := newGateway(t)
		if err := exec.Command("mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", g.dir).Run(); err != nil {
			cannot(t, fmt.Sprintf("no read-only file system without mount: %v", err))
		}
		t.Cleanup(func() { exec.Command("umount", g.dir).Run() })
		g.wantNoStart(t, 1, g.dir, "read-only")
	})
}

func TestBusyPort(t *testing.T) {
	l, err := net.Listen("tcp", nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := newGateway(t)
	g.addr = l.Addr().String()
	g.wantNoStart(t, 1, g.addr, "-http")
}

// TestBadConfiguration makes one mistake of each kind; every one is named with its line.
func TestBadConfiguration(t *testing.T) {
	for _, c := range []struct{ what, text, word string }{
		{"unknown key", "[http]\nport = \":8088\"\n", ":2"},
		{"unknown section", "\n\n[htp]\naddr = \":8088\"\n", ":3"},
		{"wrong type", "[delivery]\nwindow = \"many\"\n", ":2"},
		{"out of range", "[delivery]\nwindow = 0\nmax_attempts = 100000\n", ":3"},
		{"bad duration", "[delivery]\nttl = \"a week\"\n", ":2"},
		{"bad size", "[storage]\nmax_bytes = \"big\"\n", ":2"},
		{"bad filter", "[access.anonymous]\nsubscribe = [\"a/#/b\"]\n", ":2"},
		{"bad address", "[http]\naddr = \"nowhere\"\n", ":2"},
		{"bad boolean", "wan = \"yes\"\n", ":1"},
		{"bad history", "[[history]]\nname = \"x\"\nfilter = \"#\"\nlast = 0\n", ":4"},
		{"two of one key", "wan = true\nwan = false\n", ":2"},
		{"syntax", "[http\n", ":1"},
		{"not UTF-8", "name = \"\xff\"\n", ":1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			g := newGateway(t)
			file := filepath.Join(t.TempDir(), "edgepost.toml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			g.args = []string{"-config", file}
			g.wantNoStart(t, 2, file+c.word)
		})
	}
	t.Run("no such file", func(t *testing.T) {
		g := newGateway(t, "-config", "/nonexistent/edgepost.toml")
		g.wantNoStart(t, 2, "/nonexistent/edgepost.toml")
	})
}
