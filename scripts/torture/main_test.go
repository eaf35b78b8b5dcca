package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Ports that nothing listens on: the gateways of different tests must not meet.
const nowhere = "127.0.0.1:0"

var program string // the program under test, set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edgepost-torture-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
	code := 1
	if program, err = buildProgram(dir); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildProgram builds edgepost; EDGEPOST_TORTURE_BINARY tests that file instead.
func buildProgram(dir string) (string, error) {
	if b := os.Getenv("EDGEPOST_TORTURE_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	return build(filepath.Join(dir, "edgepost"))
}

// build builds edgepost for the machine that env describes.
func build(out string, env ...string) (string, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out, "../..")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build edgepost %v: %w\n%s", env, err, text)
	}
	return out, nil
}

// cannot skips a test that this machine cannot run, and says why; in CI it fails instead.
func cannot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("cannot run in CI: " + why)
	}
	t.Skip("SKIP: " + why)
}

// needs skips the test unless it is root and the machine has the commands.
func needs(t *testing.T, commands ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		cannot(t, "it mounts file systems, and only root may")
	}
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			cannot(t, c+" is not installed; scripts/setup installs it")
		}
	}
}

// long reports whether this is `make torture`.
func long() bool { return os.Getenv("TORTURE") != "" }

// plan says how often, with which numbers. Both are printed, so a failure can be repeated.
func plan(t *testing.T, short, torture int) (rounds int, rnd *rand.Rand) {
	t.Helper()
	if rounds = short; long() {
		rounds = torture
	}
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano()) % 1e9
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("repeat with: make torture RUN='^%s$' ROUNDS=%d SEED=%d", t.Name(), rounds, seed)
	return rounds, rand.New(rand.NewPCG(seed, 0))
}

// within polls until ok, and fails the test when it takes longer.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	if !soon(d, ok) {
		t.Fatalf("not within %v: %s", d, strings.TrimSpace(what))
	}
}

// soon polls until ok, at most for d.
func soon(d time.Duration, ok func() bool) bool {
	for until := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
