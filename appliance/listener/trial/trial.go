// Package trial is what the tests of the listeners share: scenarios from files, clients in another process, and
// what a process weighs. No other code imports it.
package trial

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Scenarios runs play as a subtest for every scenario of the files that the pattern matches, with the text that
// follows its line "== name". No scenario at all is a failure.
func Scenarios(t *testing.T, pattern string, play func(t *testing.T, body string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split("\n"+string(text), "\n== ")
		if len(parts) == 1 {
			t.Errorf("%s holds no scenario", file)
		}
		for _, part := range parts[1:] { // before the first one stands what the file is about
			name, body, _ := strings.Cut(part, "\n")
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+name, func(t *testing.T) { play(t, body) })
		}
	}
}

// Crowd runs the test TestClients of the same binary in another process, with these variables, and returns when it has
// printed "ready". It must end when its standard input does, which stop closes.
func Crowd(b *testing.B, env ...string) (stop func()) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestClients$")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		b.Fatalf("clients: %q %v", line, err)
	}
	return func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
}

// Memory is of this process, in bytes.
type Memory struct{ RSS, Heap, Stack uint64 }

// Weigh measures it after what can be given back has been.
func Weigh() Memory {
	for range 3 {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out := Memory{Heap: m.HeapAlloc, Stack: m.StackInuse}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseUint(strings.Fields(kb)[0], 10, 64)
			out.RSS = n << 10
		}
	}
	return out
}

// ReportMemory reports what each of n connections added to before.
func ReportMemory(b *testing.B, before Memory, n int) {
	after := Weigh()
	per := func(now, then uint64) float64 { return (float64(now) - float64(then)) / float64(n) / 1024 }
	b.ReportMetric(per(after.RSS, before.RSS), "KiB-rss/conn")
	b.ReportMetric(per(after.Heap, before.Heap), "KiB-heap/conn")
	b.ReportMetric(per(after.Stack, before.Stack), "KiB-stack/conn")
	b.ReportMetric(0, "ns/op")
}

// CPUTime is what this process has used so far.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ManyFiles lets this process open as many files as it may.
func ManyFiles() {
	limit := syscall.Rlimit{}
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
