package e2e

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pasted finds the three lines that serve prints for pasting: add a device, listen as it, send to it.
func pasted(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		for _, command := range []string{" device add ", " listen ", " send "} {
			if strings.Contains(" "+line, command) && strings.Contains(line, "edgepost") {
				lines = append(lines, line)
				break
			}
		}
	}
	return lines
}

// TestThreeLines pastes the lines that serve prints, as they are, into one shell, where `make run`
// would have left a person: beside bin/edgepost, with the data in ./data.
func TestThreeLines(t *testing.T) {
	g := newGateway(t)
	g.dir = "data"
	g.cwd = copyBinary(t)
	g.start()
	var lines []string
	within(t, 5*time.Second, "serve does not print three lines to paste", func() bool {
		lines = pasted(g.out.String())
		return len(lines) == 3
	})
	if !strings.Contains(g.out.String(), g.addr) {
		t.Errorf("serve does not print its address %s:\n%s", g.addr, g.out)
	}
	t.Logf("pasting\n%s", strings.Join(lines, "\n"))
	readme, err := os.ReadFile("../../README.md")
	if err != nil || !strings.Contains(string(readme), strings.Join(lines, "\n")) {
		t.Errorf("README.md does not show these three lines (%v)", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", strings.Join(lines, "\n")+"\nsleep 1")
	shell.Dir = g.cwd
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // listen goes on in the background
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	out := &buffer{}
	shell.Stdout, shell.Stderr = out, out
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shell.Cancel(); shell.Wait() })

	id := regexp.MustCompile(`\b[a-z2-9]{8}-[1-9][0-9]*\b`)
	within(t, 20*time.Second, "the lines did not print an id and the message", func() bool {
		text := out.String()
		return id.MatchString(text) && strings.Contains(text, "device/lamp1/in/")
	})
	t.Logf("printed\n%s", out)
	sent := id.FindString(out.String())
	within(t, 5*time.Second, "trace does not say delivered", func() bool {
		r := runIn(t, g.cwd, "trace", sent, "-data", "data")
		return r.code == 0 && strings.Contains(r.out, "delivered") && strings.Contains(r.out, "device/lamp1")
	})
}

// copyBinary gives the program a directory of its own, as bin/edgepost.
func copyBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("sh", "-c", `mkdir "$1/bin" && cp "$2" "$1/bin/edgepost"`, "sh", dir, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}
